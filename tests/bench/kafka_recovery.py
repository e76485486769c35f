"""A worker killed at work, and started again under its name: until its next prediction is committed.

    python -m tests.bench.kafka_recovery [--sizes 1,10,100] [--rounds 3] [--clients kafka-python,confluent]
        [--ways afresh,forked]

Two ways: `afresh`, a new interpreter, started as soon as the old one is dead; `forked`, by `streamd run
--workers 1`, which hears of the death of its worker and forks another.

Its state, so many MB of events that wait for labels, lies in Redis or Valkey; a feeder sends 200 labelled events a
second all the time, so that the journal is ahead of the snapshot. The clock starts at SIGKILL; the parts come from
what the new worker says: `started` the interpreter, imports and kernels, `joined` the group and the settled
transaction, `restored` the snapshot and the journal, and the rest the first epoch.
"""

import argparse
import os
import signal
import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.kafka_running import (
    CLIENTS,
    LOOK,
    Group,
    Reader,
    Servers,
    cpu,
    daemon,
    feeder,
    fill,
    heavy,
    pending,
    servers,
    topics,
    until,
    working,
)
from tests.bench.rounds import print_table
from tests.servers.process import kill

PARTITIONS = 1
RATE = 200.0  # events a second
AHEAD = 400  # predictions between two kills
WAYS = ("afresh", "forked")
COLUMNS = ("", "seconds", "aim", "started by", "joined by", "restored by", "epochs replayed", "processor")
AIMS = {"1": 1.0, "10": 1.5, "100": 4.0}  # seconds, by MB


class Recovered(NamedTuple):
    """Seconds since SIGKILL: of the facts, and in all. processor: seconds of it that the new worker took."""

    started: float
    joined: float
    restored: float
    whole: float
    replayed: int
    processor: float


class Place:
    """Where a worker is, and how another one comes to be there."""

    def __init__(self, group: Group, way: str) -> None:
        self.way = way
        self._group = group
        self._begin()

    def _begin(self) -> None:
        self.process = daemon(self._group, more=("--workers", "1") if self.way == "forked" else ())

    def kill(self) -> None:
        """Kill the worker, and have another one."""
        if self.way == "forked":
            os.kill(self.workers()[-1], signal.SIGKILL)
        else:
            kill(self.process.child)
            self._begin()

    def workers(self) -> list[int]:
        """The processes it has been."""
        return [line["pid"] for line in self.process.said("worker started")] or [self.process.child.pid]

    def end(self) -> None:
        """All of it is gone."""
        pid = self.workers()[-1]
        kill(self.process.child)
        while Path(f"/proc/{pid}").exists():
            time.sleep(LOOK)

    def last(self, event: str) -> dict[str, Any]:
        """The last thing of this kind that was said."""
        return self.process.said(event)[-1]


def measure(
    servers: Servers, client: str, megabytes: int, rounds: int, ways: Sequence[str]
) -> list[list[Recovered]]:
    """Of each way, its rounds, in turn."""
    name = f"recovery-{client}-{megabytes}"
    state = list(heavy(megabytes))
    fill(servers, f"{name}-events", PARTITIONS, state)
    group = Group(servers, name, client, f"{name}-events", PARTITIONS, more=pending(len(state)))
    found: list[list[Recovered]] = [[] for _ in ways]
    with topics(group), closing(Reader(servers.broker, group.predictions, PARTITIONS)) as reader:
        _make_state(group, reader, len(state))
        with working([feeder(group, RATE, 1200)]):
            for _ in range(rounds):
                for way, own in zip(ways, found, strict=True):
                    own.append(_round(group, reader, way))
    return found


def _make_state(group: Group, reader: Reader, events: int) -> None:
    """A worker that takes it all in and drains: the snapshot is there."""
    worker = daemon(group)
    with working([worker]):
        until(lambda: reader.ends()[0] >= events, [worker], "the state is there")
        worker.child.send_signal(signal.SIGTERM)
        if worker.child.wait():
            raise RuntimeError(worker.log.read_text()[-3000:])


def _round(group: Group, reader: Reader, way: str) -> Recovered:
    place = Place(group, way)
    try:
        enough = reader.ends()[0] + AHEAD
        until(lambda: reader.ends()[0] >= enough, [place.process], "predictions go on")
        return _kill(place, reader)
    finally:
        place.end()


def _kill(place: Place, reader: Reader) -> Recovered:
    began = time.time()
    place.kill()
    before = reader.ends()
    until(lambda: reader.ends() != before, [place.process], "the next prediction is committed")
    whole, processor = time.time() - began, cpu(place.workers()[-1])
    restored = place.last("shard restored")
    started, joined = (_at(place.last(event)) - began for event in ("kernels ready", "log reached"))
    return Recovered(started, joined, _at(restored) - began, whole, restored["replayed"], processor)


def _at(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["ts"]).timestamp()


def row(client: str, megabytes: str, way: str, found: Sequence[Recovered]) -> tuple[str, ...]:
    whole = [one.whole for one in found]
    started, joined, restored, _, replayed, processor = (
        statistics.median(column) for column in zip(*found, strict=True)
    )
    return (
        f"{client}, {megabytes} MB, {way}",
        f"{statistics.median(whole):.2f} [{min(whole):.2f}, {max(whole):.2f}]",
        f"{AIMS[megabytes]:g}" if megabytes in AIMS else "",
        f"{started:.2f}",
        f"{joined:.2f}",
        f"{restored:.2f}",
        f"{replayed:.0f}",
        f"{processor:.2f}",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1,10,100", help="MB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", default=",".join(CLIENTS))
    parser.add_argument("--ways", default=",".join(WAYS))
    given = parser.parse_args(arguments)
    ways = given.ways.split(",")
    rows = []
    with servers() as found:
        for client in given.clients.split(","):
            for size in given.sizes.split(","):
                measured = measure(found, client, int(size), given.rounds, ways)
                rows += [row(client, size, *of) for of in zip(ways, measured, strict=True)]
                print_table("\nfrom SIGKILL to the first prediction committed", COLUMNS, rows)


if __name__ == "__main__":
    main()
