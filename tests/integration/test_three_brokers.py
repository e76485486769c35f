"""Three brokers, everything on three disks: one of them dies under load, and nobody can tell from the outputs."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaProducer

from connectors.kafka_protocol import JOURNAL_CONFIGS
from streamd import config as configuration
from streamd import wiring
from streamd.config import Config
from tests.integration.engines import run_engine
from tests.servers import Unavailable, kafka
from tests.servers.fixtures import missing

pytestmark = [pytest.mark.kafka, pytest.mark.long]
BROKERS = 3
ROUNDS, EACH = 30, 20  # appends, and the events of each
REPLICATED = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "offsets.topic.num.partitions": "2",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "transaction.state.log.num.partitions": "2",
    "replica.lag.time.max.ms": "3000",
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}
KEYS = """
group = "{client}"
[log]
kind = "kafka"
client = "{client}"
brokers = [{brokers}]
request_timeout = "5s"
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


def leader(admin: KafkaAdminClient, topic: str) -> int:
    """The number of the broker that leads partition 0."""
    (found,) = admin.describe_topics([topic])
    return int(found["partitions"][0]["leader_id"])


def feed(at: Config, halfway: threading.Event) -> None:
    """Append the events, whoever leads; what has no answer is repeated by the producer, idempotently."""
    assert isinstance(at.log, configuration.KafkaLog)
    brokers = list(at.log.brokers)
    producer = KafkaProducer(
        bootstrap_servers=brokers, acks="all", enable_idempotence=True, delivery_timeout_ms=120_000
    )
    sent = []
    for n in range(ROUNDS):
        for i in range(n * EACH, (n + 1) * EACH):
            value = json.dumps({"id": str(i), "features": {"x": i % 7}, "label": "ab"[i % 2]}).encode()
            sent.append(producer.send("events", value, b"k", partition=0, timestamp_ms=1000))
        if n == ROUNDS // 3:
            halfway.set()
        time.sleep(0.05)  # a load, not a burst
    for future in sent:
        future.get(120)
    producer.close()


def predicted(at: Config) -> list[int]:
    client = wiring.client(at)
    found = client.read(at.pipeline["p"].predictions_topic, 0, 0, 10 * ROUNDS * EACH)
    client.close()
    return [int(json.loads(record.value or b"")["id"]) for record in found]


def test_the_leader_dies_under_load_and_the_outputs_are_exact(brokers: list[kafka.Broker], tmp_path: Path) -> None:
    configs = [config(brokers, client, tmp_path) for client in ("kafka-python", "confluent")]
    admin = KafkaAdminClient(bootstrap_servers=[broker.address for broker in brokers])
    three = {"num_partitions": 1, "replication_factor": BROKERS, "configs": {"min.insync.replicas": "2"}}
    journal = three | {"configs": JOURNAL_CONFIGS | {"min.insync.replicas": "2"}}
    outputs = [f"{at.group}-{kind}" for at in configs for kind in ("predictions", "dead")]
    topics = {"events": three} | dict.fromkeys(outputs, three)
    admin.create_topics(topics | {f"{at.group}.p.journal": journal for at in configs}, wait_for_metadata=True)
    halfway = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        running = [
            pool.submit(run_engine, at, until=lambda sight, at=at: done(sight.view.shards), patience=120)
            for at in configs
        ]
        feeding = pool.submit(feed, configs[0], halfway)
        assert halfway.wait(60)
        brokers[leader(admin, "events") - 1].process.kill()
        feeding.result(120)
        for engine in running:
            assert engine.result(150).shards[0].counts["events"] == ROUNDS * EACH
    admin.close()
    for at in configs:
        assert predicted(at) == list(range(ROUNDS * EACH))


def done(shards: object) -> bool:
    return any(shard.counts.get("events", 0) >= ROUNDS * EACH for shard in shards)  # type: ignore[attr-defined]
