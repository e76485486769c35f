"""Three brokers, everything on three disks, restarted one by one under load, as an upgrade does, or killed.

    python -m tests.chaos.rolling --rounds 8 --seed 1

prints a JSON report. A worker of each client lives through it all. At the end every event must have one
prediction, in order, and no worker may have ended.
"""

import argparse
import json
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, KafkaProducer

from connectors.kafka_protocol import JOURNAL_CONFIGS
from streamd import config as configuration
from streamd import kernels, wiring
from streamd.config import Config
from streamd.sight import Sight
from streamd.views import EngineView
from tests.chaos.evidence import kept_if_wrong, tell
from tests.integration.engines import run_engine
from tests.servers import kafka

BROKERS = 3
CLIENTS = ("kafka-python", "confluent")
PATIENCE = 120.0  # seconds; 15 on two busy cores, more where ten other programs want them
RATE = 400  # events a second
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


def config(brokers: Sequence[kafka.Broker], client: str, folder: Path) -> Config:
    addresses = ", ".join(f'"{broker.address}"' for broker in brokers)
    return configuration.resolve(configuration.parse(KEYS.format(client=client, brokers=addresses)), folder)


def make_topics(brokers: Sequence[kafka.Broker]) -> None:
    """Events, outputs, journals, and the coordinators' own: the first broker leads them all."""
    plain = ["events", *(f"{client}-{kind}" for client in CLIENTS for kind in ("predictions", "dead"))]
    journals = dict.fromkeys((f"{client}.p.journal" for client in CLIENTS), JOURNAL_CONFIGS)
    placed = {
        topic: {"assignments": {0: [1, 2, 3]}, "configs": {"min.insync.replicas": "2", **configs}}
        for topic, configs in {**{topic: {} for topic in plain}, **journals, **COORDINATING}.items()
    }
    admin = KafkaAdminClient(bootstrap_servers=[broker.address for broker in brokers])
    admin.create_topics(placed, wait_for_metadata=True)
    leaders = {topic["partitions"][0]["leader_id"] for topic in admin.describe_topics(list(placed))}
    admin.close()
    if leaders != {1}:
        raise RuntimeError(f"led by {leaders}")


class Feeding:
    """Appends the events, whoever leads; what has no answer is repeated by the producer, idempotently."""

    def __init__(self, brokers: Sequence[kafka.Broker]) -> None:
        self.count = 0
        self._producer = KafkaProducer(
            bootstrap_servers=[broker.address for broker in brokers],
            acks="all",
            enable_idempotence=True,
            delivery_timeout_ms=60_000,
        )

    def send(self, count: int) -> None:
        """So many more. The answers come when they come."""
        for i in range(self.count, self.count + count):
            value = json.dumps({"id": str(i), "features": {"x": i % 7}, "label": "ab"[i % 2]}).encode()
            self._producer.send("events", value, b"k", partition=0, timestamp_ms=1000)
        self.count += count

    def close(self) -> None:
        self._producer.flush(60)
        self._producer.close()


class Living:
    """A worker, until it has seen all events."""

    def __init__(self, at: Config, pool: ThreadPoolExecutor, patience: float) -> None:
        self.under_way = threading.Event()  # it has committed some
        self.config = at
        self._all = sys.maxsize
        self._running: Future[EngineView] = pool.submit(run_engine, at, until=self._over, patience=patience)

    def _over(self, sight: Sight) -> bool:
        seen = max((shard.counts.get("events", 0) for shard in sight.view.shards), default=0)
        if seen:
            self.under_way.set()
        return seen >= self._all and sight.idle

    def ended(self) -> str:
        """Why it does not live any more; empty while it does."""
        return repr(self._running.exception() or "ended") if self._running.done() else ""

    def finish(self, events: int) -> EngineView:
        """Let it see so many, and end. Raises whatever it ended with."""
        self._all = events
        return self._running.result(2 * PATIENCE)

    def predicted(self) -> list[int]:
        client, topic = wiring.client(self.config), self.config.pipeline["p"].predictions_topic
        ((at, end),) = client.ends(topic)
        found: list[int] = []
        while at < end and (records := client.read(topic, 0, at, 5000)):
            found += [int(json.loads(record.value or b"")["id"]) for record in records]
            at = records[-1].offset + 1
        client.close()
        return found


@contextmanager
def played(
    brokers: Sequence[kafka.Broker], folder: Path, patience: float
) -> Iterator[tuple[Feeding, list[Living]]]:
    """The topics, who feeds them, and a worker of each client."""
    make_topics(brokers)
    feeding = Feeding(brokers)
    with ThreadPoolExecutor(len(CLIENTS)) as pool:
        yield feeding, [Living(config(brokers, client, folder), pool, patience) for client in CLIENTS]


def run(rounds: int, seed: int, folder: Path) -> dict[str, Any]:
    """Every broker once in a round, in any order: the report."""
    rng, wrong = random.Random(seed), []
    restarts = {"gently": 0, "killed": 0}
    brokers = kafka.start_cluster(folder, BROKERS, REPLICATED)
    try:
        with played(brokers, folder, patience=60.0 * (rounds + 2)) as (feeding, workers):
            with _fed(feeding):
                for number in (n for _ in range(rounds) for n in rng.sample(range(BROKERS), BROKERS)):
                    time.sleep(rng.uniform(1, 3))
                    gently = rng.random() < 0.7
                    restarts["gently" if gently else "killed"] += 1
                    brokers[number] = _restart(brokers[number], gently, rng.uniform(0, 3))
                    wrong += [reason for worker in workers if (reason := worker.ended())]
            feeding.close()
            views = [worker.finish(feeding.count) for worker in workers]
        for client, worker in zip(CLIENTS, workers, strict=True):
            if (found := worker.predicted()) != list(range(feeding.count)):
                wrong.append(f"{client}: {len(found)} predictions, {len(set(found))} of different events")
    finally:
        for broker in brokers:
            broker.process.kill()
    voids = {client: view.voids for client, view in zip(CLIENTS, views, strict=True)}
    return {"events": feeding.count, "wrong": wrong, "restarts": restarts, "void epochs": voids}


@contextmanager
def _fed(feeding: Feeding) -> Iterator[None]:
    """A steady stream of events meanwhile."""
    over = threading.Event()

    def feed() -> None:
        while not over.wait(0.05):
            feeding.send(RATE // 20)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(feed)
        try:
            yield
        finally:
            over.set()
        done.result()


def _restart(broker: kafka.Broker, gently: bool, away: float) -> kafka.Broker:
    (broker.process.terminate if gently else broker.process.kill)()
    broker.process.wait()
    time.sleep(away)
    return kafka.go_on(broker)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    kernels.load()
    with kept_if_wrong() as folder:
        tell(run(given.rounds, given.seed, folder))


if __name__ == "__main__":
    main()
