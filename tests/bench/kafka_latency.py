"""From the moment an event is produced to the moment a `read_committed` reader has its prediction.

    python -m tests.bench.kafka_latency [--intervals 50,200,1000] [--seconds 6] [--clients kafka-python,confluent]

One worker, two partitions, at half the events a second that the same worker manages here (`--rate` sets another),
while snapshots of `--state` MB are written again and again. The feeder, the reader, the broker and the worker
share the machine; the feeder's first two seconds are left out.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np
from confluent_kafka import Consumer, TopicPartition
from numpy.typing import NDArray

from tests.bench.kafka_feeder import sent
from tests.bench.kafka_running import (
    CLIENTS,
    Group,
    Servers,
    adult,
    daemon,
    feeder,
    fill,
    heavy,
    pace,
    pending,
    servers,
    topics,
    until,
    working,
)
from tests.bench.rounds import console, print_table

PARTITIONS = 2
SETTLING = 2.0  # seconds of the feeder
WAIT = 0.005  # seconds of the reader
CAPACITY = {"kafka-python": 150_000, "confluent": 400_000}  # events to measure it with
SNAPSHOTS = """
    [snapshot]
    interval = "500ms"
    work = 1
"""


class Measured(NamedTuple):
    """latencies: seconds, of every event. snapshots, megabytes: written meanwhile, the largest of them."""

    latencies: NDArray[np.float64]
    snapshots: int
    megabytes: float


def capacity(servers: Servers, client: str, seconds: float) -> float:
    """Events a second of one worker that is never without work."""
    topic = f"capacity-{client}"
    fill(servers, topic, PARTITIONS, adult(CAPACITY[client]))
    group = Group(servers, topic, client, topic, PARTITIONS)
    with topics(group), working([daemon(group)]) as processes:
        return 1 / pace(group, processes, CAPACITY[client] // PARTITIONS, seconds).seconds


def measure(servers: Servers, client: str, interval: int, rate: float, seconds: float, megabytes: int) -> Measured:
    name = f"latency-{client}-{interval}"
    state = list(heavy(megabytes))
    fill(servers, f"{name}-events", PARTITIONS, state)
    more = SNAPSHOTS + pending(len(state))
    group = Group(servers, name, client, f"{name}-events", PARTITIONS, f"{interval}ms", more)
    with topics(group), working([daemon(group)]) as (worker,), closing(_reader(group)) as reader:
        read = 0

        def caught_up() -> bool:
            nonlocal read
            read += len(reader.consume(10_000, WAIT))
            return read >= len(state)

        until(caught_up, [worker], "the state is there")
        with working([feeder(group, rate, SETTLING + seconds + 1)]):
            first = _first(reader)
            began = first + SETTLING
            before = len(worker.said("snapshot written"))
            found = np.fromiter(_latencies(reader, began, began + seconds), np.float64)
            written = worker.said("snapshot written")[before:]
        worker.check()
    return Measured(found, len(written), max((w["bytes"] for w in written), default=0) / 1e6)


def _reader(group: Group) -> Consumer:
    consumer = Consumer(
        {
            "bootstrap.servers": group.servers.broker,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 10,
        }
    )
    consumer.assign([TopicPartition(group.predictions, p, 0) for p in range(group.partitions)])
    return consumer


def _first(reader: Consumer) -> float:
    """When the feeder began."""
    while not (found := reader.consume(1, WAIT)):
        pass
    return sent(found[0].value())


def _latencies(reader: Consumer, start: float, end: float) -> Iterator[float]:
    """Of what was sent between the two moments."""
    while (now := time.monotonic()) < end + 1:
        found = reader.consume(10_000, WAIT)
        now = time.monotonic()
        for message in found:
            at = sent(message.value())
            if start <= at < end:
                yield now - at


def row(client: str, interval: int, rate: float, seconds: float, measured: Measured) -> tuple[str, ...]:
    p50, p99, most = np.quantile(measured.latencies, (0.5, 0.99, 1.0)) * 1000
    return (
        f"{client}, {interval} ms",
        f"{len(measured.latencies) / seconds:,.0f} of {rate:,.0f}",
        f"{p50:.0f}",
        f"{p99:.0f}",
        f"{most:.0f}",
        f"{measured.snapshots} of {measured.megabytes:.1f} MB",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--intervals", default="50,200,1000", help="of an epoch, milliseconds")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--clients", default=",".join(CLIENTS))
    parser.add_argument("--rate", type=float, default=0.0, help="events a second; default: half the capacity")
    parser.add_argument("--state", type=int, default=10, help="MB")
    given = parser.parse_args(arguments)
    rows = []
    with servers() as found:
        for client in given.clients.split(","):
            rate = given.rate or capacity(found, client, given.seconds / 2) / 2
            for interval in map(int, given.intervals.split(",")):
                measured = measure(found, client, interval, rate, given.seconds, given.state)
                rows.append(row(client, interval, rate, given.seconds, measured))
    columns = ("epochs of", "events/s", "p50 ms", "p99 ms", "most ms", "snapshots meanwhile")
    print_table("\nfrom produce to a read_committed prediction", columns, rows)
    console().print("events/s: read while measured, of those the feeder was asked for")


if __name__ == "__main__":
    main()
