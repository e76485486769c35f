"""Three brokers, everything on three disks: the one that leads it all dies under load, and no output tells."""

import json
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaProducer

from connectors.kafka_protocol import JOURNAL_CONFIGS
from streamd import config as configuration
from streamd import wiring
from streamd.config import Config
from streamd.sight import Sight
from tests.integration.engines import run_engine
from tests.servers import Unavailable, kafka
from tests.servers.fixtures import missing

pytestmark = pytest.mark.kafka
BROKERS = 3
CLIENTS = ("kafka-python", "confluent")
EVENTS = 600
PATIENCE = 120.0  # seconds; 15 on two busy cores, more where ten other programs want them
REPLICATED = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "transaction.state.log.num.partitions": "1",
    "replica.lag.time.max.ms": "3000",
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "num.io.threads": "2",
    "log.cleaner.enable": "false",
}
COORDINATING = {  # what a broker keeps of groups and of transactions, as it would make it itself
    name: {"cleanup.policy": "compact", "segment.bytes": "104857600", "compression.type": codec}
    for name, codec in (("__consumer_offsets", "producer"), ("__transaction_state", "uncompressed"))
}
KEYS = """
group = "{client}"
[log]
kind = "kafka"
client = "{client}"
brokers = [{brokers}]
request_timeout = "3s"
[epoch]
interval = "50ms"
[store]
path = "{client}.db"
[pipeline.p]
task = "classify"
events = "events"
predictions = "{client}-predictions"
dead_letters = "{client}-dead"
learner = {{ kind = "linear" }}
"""


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[list[kafka.Broker]]:
    try:
        started = kafka.start_cluster(tmp_path, BROKERS, REPLICATED)
    except Unavailable as reason:
        missing(reason)
    yield started
    for broker in started:
        broker.stop()
    shutil.rmtree(tmp_path, ignore_errors=True)


def config(brokers: list[kafka.Broker], client: str, folder: Path) -> Config:
    addresses = ", ".join(f'"{broker.address}"' for broker in brokers)
    return configuration.resolve(configuration.parse(KEYS.format(client=client, brokers=addresses)), folder)


def make_topics(brokers: list[kafka.Broker]) -> None:
    """Events, outputs, journals, and the coordinators' own: the first broker leads them all."""
    plain = ["events", *(f"{client}-{kind}" for client in CLIENTS for kind in ("predictions", "dead"))]
    journals = dict.fromkeys((f"{client}.p.journal" for client in CLIENTS), JOURNAL_CONFIGS)
    placed = {
        topic: {"assignments": {0: [1, 2, 3]}, "configs": {"min.insync.replicas": "2", **configs}}
        for topic, configs in {**{topic: {} for topic in plain}, **journals, **COORDINATING}.items()
    }
    admin = KafkaAdminClient(bootstrap_servers=[broker.address for broker in brokers])
    admin.create_topics(placed, wait_for_metadata=True)
    assert {topic["partitions"][0]["leader_id"] for topic in admin.describe_topics(list(placed))} == {1}
    admin.close()


class Feeding:
    """Appends the events, whoever leads; what has no answer is repeated by the producer, idempotently."""

    def __init__(self, brokers: list[kafka.Broker]) -> None:
        self._producer = KafkaProducer(
            bootstrap_servers=[broker.address for broker in brokers],
            acks="all",
            enable_idempotence=True,
            delivery_timeout_ms=60_000,
        )

    def send(self, numbers: Sequence[int]) -> None:
        """The answers come when they come."""
        for i in numbers:
            value = json.dumps({"id": str(i), "features": {"x": i % 7}, "label": "ab"[i % 2]}).encode()
            self._producer.send("events", value, b"k", partition=0, timestamp_ms=1000)

    def close(self) -> None:
        self._producer.flush(60)
        self._producer.close()


def run(at: Config, under_way: threading.Event) -> None:
    """One engine until it has seen everything; under_way: it has committed some."""

    def over(sight: Sight) -> bool:
        seen = max((shard.counts.get("events", 0) for shard in sight.view.shards), default=0)
        if seen:
            under_way.set()
        return seen >= EVENTS and sight.idle

    run_engine(at, until=over, patience=PATIENCE)


def predicted(at: Config) -> list[int]:
    client = wiring.client(at)
    found = client.read(at.pipeline["p"].predictions_topic, 0, 0, 10 * EVENTS)
    client.close()
    return [int(json.loads(record.value or b"")["id"]) for record in found]


def test_the_leader_dies_under_load_and_the_outputs_are_exact(brokers: list[kafka.Broker], tmp_path: Path) -> None:
    make_topics(brokers)
    configs = {client: config(brokers, client, tmp_path) for client in CLIENTS}
    under_way = {client: threading.Event() for client in CLIENTS}
    feeding = Feeding(brokers)
    with ThreadPoolExecutor(len(CLIENTS)) as pool:
        running = [pool.submit(run, configs[client], under_way[client]) for client in CLIENTS]
        feeding.send(range(EVENTS // 3))
        assert all(event.wait(PATIENCE / 2) for event in under_way.values())
        feeding.send(range(EVENTS // 3, EVENTS // 2))
        brokers[0].process.kill()
        feeding.send(range(EVENTS // 2, EVENTS))
        feeding.close()
        for engine in running:
            engine.result(2 * PATIENCE)
    for client in CLIENTS:
        assert predicted(configs[client]) == list(range(EVENTS)), client
