"""What a run is about: where its servers are, its configuration, its topics, and the stream that is fed to it."""

import json
import random
from pathlib import Path
from typing import NamedTuple

from kafka import KafkaAdminClient
from kafka.admin import MemberToRemove

from connectors.kafka_client import KafkaLogClient
from streamd import config as configuration
from streamd import wiring
from streamd.cli.topics import create
from streamd.config import Config
from streamd.ports import Output

PARTITIONS = 2
START = 1_700_000_000_000  # milliseconds since 1970

SETTINGS = """
group = "{group}"
[log]
kind = "kafka"
brokers = ["{broker}"]
client = "{client}"
client_settings = {client_settings}
session_timeout = "{session}"
transaction_timeout = "{request}"
request_timeout = "{request}"
[store]
kind = "redis"
url = "{redis}"
timeout = "1s"
connect_timeout = "1s"
[epoch]
interval = "20ms"
max_records = 60
[snapshot]
interval = "50ms"
work = 1
keep = 2
[worker]
name = "{worker}"
give_up = "60s"
[pipeline.risk]
task = "classify"
events = "{group}-events"
labels = "{group}-labels"
learner = {{ kind = "linear", eta = 0.2 }}
pending = {{ max_events = 200, max_age = "600s", remember = 100, early_age = "30d" }}
quality = {{ drift = "adwin" }}
"""
CLIENT_SETTINGS = {  # partitions that were added are noticed within a second
    "kafka-python": "{ metadata_max_age_ms = 1000 }",
    "confluent": '{ "topic.metadata.refresh.interval.ms" = 1000 }',
}


class World(NamedTuple):
    """broker: host:port; folder: for the workers' status files; session, request: the log's time-outs."""

    broker: str
    redis: str
    client: str
    group: str
    folder: Path
    session: str = "3s"
    request: str = "5s"

    def config(self, worker: str) -> Config:
        text = SETTINGS.format(worker=worker, client_settings=CLIENT_SETTINGS[self.client], **self._asdict())
        return configuration.resolve(configuration.parse(text), self.folder)


def make_topics(world: World) -> None:
    config = world.config("feeder")
    client = wiring.client(config)
    create(config, client, PARTITIONS)
    client.close()


def add_partition(world: World) -> None:
    """To the outputs first, then to the inputs, the events last."""
    pipeline = world.config("feeder").pipeline["risk"]
    admin = KafkaAdminClient(bootstrap_servers=world.broker)
    for topic in (pipeline.dead_letters_topic, pipeline.predictions_topic, pipeline.labels, pipeline.events):
        admin.create_partitions({topic: PARTITIONS + 1})
    admin.close()


def append(world: World, first: int, last: int) -> None:
    """Events first to last with their labels: inside, late, early, corrected, refused."""
    pipeline = world.config("feeder").pipeline["risk"]
    client = KafkaLogClient([world.broker])
    rng = random.Random(first)
    events, labels = [], []
    for i in range(first, last):
        ts, key = START + i * 1000, b"k%d" % (i % 40)
        age = rng.gauss(40, 12)
        y = "high" if age + rng.gauss(0, 5) > 45 else "low"
        event: dict[str, object] = {"id": f"e{i}", "ts": ts, "features": {"age": age, "job": rng.choice("abc")}}
        if i % 4 == 0:
            event["label"] = y
        if i % 40 == 39:
            event["features"] = "none"
        events.append(Output("", key, json.dumps(event).encode(), ts))
        if i % 4 == 1:
            labels.append(Output("", key, json.dumps({"id": f"e{i}", "label": y}).encode(), ts))
        if i % 4 == 2:
            late = max(first, i - 30)
            body = json.dumps({"id": f"e{late}", "label": y}).encode()
            labels.append(Output("", b"k%d" % (late % 40), body, ts))
    client.append(pipeline.events, events)
    client.append(pipeline.labels or "", labels)
    client.close()


def lose_snapshots(world: World, all_of_them: bool) -> None:
    store = wiring.store(world.config("feeder"))
    for shard in store.shards():
        if shard.startswith(f"{world.group}."):
            for info in list(store.list(shard))[: None if all_of_them else 1]:
                store.delete(shard, info.sequence)
    store.close()


def expire_offsets(world: World) -> None:
    """Delete the group's committed offsets, as a broker does when nobody has been there for long."""
    group = f"{world.config('feeder').group}.risk"
    admin = KafkaAdminClient(bootstrap_servers=world.broker)
    members = admin.describe_groups([group])[group]["members"]
    if members:
        seats = [MemberToRemove(group_instance_id=member["group_instance_id"]) for member in members]
        admin.remove_group_members(group, seats)
    committed = admin.list_group_offsets(group)
    partitions = list(committed.get(group, committed))
    if not partitions:
        raise RuntimeError(f"group {group} has no committed offsets to lose")
    admin.delete_group_offsets(group, partitions)
    left = admin.list_group_offsets(group)
    if any(at.offset >= 0 for at in left.get(group, left).values()):
        raise RuntimeError(f"group {group} still has offsets")
    admin.close()
