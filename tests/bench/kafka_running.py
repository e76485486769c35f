"""Kafka and Redis for a benchmark, workers as processes of their own, and what can be seen of them from outside.

Progress is read where a user would: the end of the predictions topic as a `read_committed` reader sees it. The
processor time of a worker is what the kernel counted for its process, all threads. Linux only: it reads /proc.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from streamd import config as configuration
from streamd import wiring
from streamd.cli.topics import create
from streamd.config import Config
from streamd.demo import sample
from tests.bench import recovery
from tests.bench.rounds import Timed
from tests.bench.running import PIPELINE
from tests.servers import kafka, redis
from tests.servers.process import kill, spawn

CLIENTS = ("kafka-python", "confluent")
LOOK = 0.01  # seconds between two looks at the broker
STUCK = 90.0  # seconds without what is waited for
JOIN = "1500"  # milliseconds the broker waits for the others of a new group: no rebalance while it is measured
TICK = os.sysconf("SC_CLK_TCK")


class Servers(NamedTuple):
    """Their addresses, and a folder that goes when they do."""

    broker: str
    redis: str
    folder: Path


@contextmanager
def servers() -> Iterator[Servers]:
    """A broker and a Redis (or Valkey) of this benchmark's own; Unavailable where they cannot be had."""
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top)
        settings = {"group.initial.rebalance.delay.ms": JOIN, "log.segment.delete.delay.ms": "0"}
        broker = kafka.start(folder / "kafka", settings=settings)
        try:
            store = redis.start(next(iter(redis.binaries()), "valkey"), folder / "redis")
            try:
                yield Servers(broker.address, store.url, folder)
            finally:
                store.stop()
        finally:
            broker.stop()


# --- a group and its workers


class Group(NamedTuple):
    """One consumer group with topics of its own, all reading the same events. more: further TOML."""

    servers: Servers
    name: str
    client: str
    events: str
    partitions: int = 2
    interval: str = "200ms"
    more: str = ""

    @property
    def predictions(self) -> str:
        return f"{self.name}-predictions"

    def file(self, worker: str) -> Path:
        """The configuration of one worker."""
        path = self.servers.folder / f"{self.name}-{worker}.toml"
        path.write_text(f"""
            group = "{self.name}"
            log_level = "debug"
            [worker]
            name = "{worker}"
            [log]
            kind = "kafka"
            brokers = ["{self.servers.broker}"]
            client = "{self.client}"
            [store]
            kind = "redis"
            url = "{self.servers.redis}"
            [http]
            enabled = false
            [epoch]
            interval = "{self.interval}"
            [pipeline.{PIPELINE}]
            task = "classify"
            events = "{self.events}"
            predictions = "{self.predictions}"
            dead_letters = "{self.name}-dead-letters"
            learner = {{kind = "linear"}}
            {self.more}
            """)
        return path

    def config(self) -> Config:
        return configuration.load(self.file("w0"))


@contextmanager
def topics(group: Group) -> Iterator[None]:
    """The group's own topics, there until the end."""
    config = group.config()
    with closing(wiring.client(config)) as client:
        create(config, client, group.partitions)
    try:
        yield
    finally:
        admin = AdminClient({"bootstrap.servers": group.servers.broker})
        own = [group.predictions, f"{group.name}-dead-letters", f"{group.name}.{PIPELINE}.journal"]
        for done in admin.delete_topics(own).values():
            done.exception()
        shutil.rmtree(group.servers.folder / group.name, ignore_errors=True)


class Process(NamedTuple):
    """A worker. log: what it says, JSON lines where it is the daemon."""

    child: "subprocess.Popen[bytes]"
    log: Path

    def cpu(self) -> float:
        """Seconds of processor so far."""
        return cpu(self.child.pid)

    def check(self) -> None:
        """Raises RuntimeError with the end of its log if it has ended."""
        if self.child.poll() is not None:
            raise RuntimeError(f"{self.child.args!r} ended:\n{self.log.read_text()[-3000:]}")

    def said(self, event: str) -> list[dict[str, Any]]:
        """The daemon's log lines of one kind so far."""
        lines = [line for line in self.log.read_text().splitlines() if f'"event":"{event}"' in line]
        return [json.loads(line) for line in lines]


def cpu(pid: int) -> float:
    """Seconds of processor that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def daemon(group: Group, worker: str = "w0", more: Sequence[str] = ()) -> Process:
    """`streamd run`. more: of its options."""
    command = [sys.executable, "-m", "streamd.cli", "run", "--config", str(group.file(worker)), *more]
    return begin(group, worker, command)


def begin(group: Group, worker: str, command: Sequence[str]) -> Process:
    folder = group.servers.folder / group.name
    folder.mkdir(exist_ok=True)
    log = folder / f"{worker}-{time.monotonic_ns()}.log"
    return Process(spawn(command, log), log)


@contextmanager
def working(processes: Sequence[Process]) -> Iterator[Sequence[Process]]:
    """Workers until the end, which is sudden."""
    try:
        yield processes
    finally:
        for process in processes:
            kill(process.child)


# --- what a reader sees


class Reader:
    """The ends of a topic's partitions, as far as transactions are committed."""

    def __init__(self, broker: str, topic: str, partitions: int) -> None:
        self._consumer = Consumer(
            {"bootstrap.servers": broker, "group.id": "observer", "isolation.level": "read_committed"}
        )
        self._where = [TopicPartition(topic, p) for p in range(partitions)]

    def ends(self) -> list[int]:
        return [self._consumer.get_watermark_offsets(where, timeout=10)[1] for where in self._where]

    def close(self) -> None:
        self._consumer.close()


def until(condition: Callable[[], bool], processes: Sequence[Process], what: str) -> None:
    """Look again and again; raises RuntimeError if a process ends or nothing happens for STUCK seconds."""
    deadline = time.monotonic() + STUCK
    while not condition():
        for process in processes:
            process.check()
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {STUCK:g} s in vain until {what}\n{processes[0].log.read_text()[-3000:]}")
        time.sleep(LOOK)


def pace(group: Group, processes: Sequence[Process], available: int, seconds: float) -> Timed:
    """What one event takes, on the clock and of the processor, while all partitions move.

    From the commit after which all partitions have predictions to the first one after `seconds`; it ends sooner if
    one of the partitions reaches `available` events.
    """
    with closing(Reader(group.servers.broker, group.predictions, group.partitions)) as reader:
        until(lambda: min(reader.ends()) > 0, processes, "every partition has predictions")
        first = seen = _next(reader, reader.ends(), processes)
        while seen.at - first.at < seconds and max(seen.ends) < available:
            seen = _next(reader, seen.ends, processes)
    count = sum(seen.ends) - sum(first.ends)
    return Timed((seen.at - first.at) / count, (seen.cpu - first.cpu) / count)


class _Seen(NamedTuple):
    at: float
    cpu: float
    ends: list[int]


def _next(reader: Reader, before: list[int], processes: Sequence[Process]) -> _Seen:
    """The state right after something was committed."""
    found: list[int] = []

    def moved() -> bool:
        found[:] = reader.ends()
        return found != before

    until(moved, processes, "something is committed")
    return _seen(found, processes)


def _seen(ends: list[int], processes: Sequence[Process]) -> _Seen:
    return _Seen(time.perf_counter(), sum(process.cpu() for process in processes), ends)


# --- events


def adult(events: int, first: int = 0) -> Iterator[tuple[str, bytes]]:
    """(id, event with its label), UCI Adult over and over with new ids."""
    for number, row in enumerate(islice(cycle(sample.people()), events), first):
        row = sample.Row(str(number), row.label, row.features)
        yield row.id, row.event_with_label


def fill(servers: Servers, topic: str, partitions: int, events: Iterable[tuple[str, bytes]]) -> None:
    """Append (id, value) pairs, to the partitions in turn; makes the topic."""
    producer = Producer({"bootstrap.servers": servers.broker, "linger.ms": 20, "acks": "all"})
    make_topic(servers, topic, partitions)
    for number, (key, value) in enumerate(events):
        if number % 10_000 == 9_999:
            producer.flush()
        producer.produce(topic, key=key, value=value, partition=number % partitions)
    producer.flush()


def make_topic(servers: Servers, topic: str, partitions: int) -> None:
    config = Group(servers, "maker", "confluent", topic).config()
    with closing(wiring.client(config)) as client:
        client.create(topic, partitions)


def feeder(group: Group, rate: float, seconds: float) -> Process:
    """A process that appends labelled events at this rate."""
    given: Mapping[str, object] = {
        "broker": group.servers.broker,
        "topic": group.events,
        "partitions": group.partitions,
        "rate": rate,
        "seconds": seconds,
    }
    return begin(group, "feeder", [sys.executable, "-m", "tests.bench.kafka_feeder", json.dumps(given)])


def heavy(megabytes: int) -> Iterator[tuple[str, bytes]]:
    """Events of 1,000 bytes that wait for labels that never come: so much state."""
    for event in recovery.heavy(megabytes * 1_000_000 // recovery.EVENT):
        yield event.key.decode(), event.value


def pending(events: int) -> str:
    """The configuration that lets so many events wait."""
    return f"""
        [pipeline.{PIPELINE}.pending]
        max_events = {events}
        max_bytes = "1GB"
    """
