"""A worker killed at work, and started again at once under its name: until its next prediction is committed.

    python -m tests.bench.kafka_recovery [--sizes 1,10,100] [--rounds 3] [--clients kafka-python,confluent]

Its state, so many MB of events that wait for labels, lies in Redis or Valkey; a feeder sends 200 labelled events a
second all the time, so that the journal is ahead of the snapshot. The clock starts at SIGKILL; the parts come from
what the new worker says: `started` the interpreter, imports and kernels, `joined` the group and the settled
transaction, `restored` the snapshot and the journal, and the rest the first epoch.
"""

import argparse
import signal
import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from typing import Any, NamedTuple

from tests.bench.kafka_running import (
    CLIENTS,
    Group,
    Process,
    Reader,
    Servers,
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
AIMS = {"1": 1.0, "10": 1.5, "100": 4.0}  # seconds, by MB


class Recovered(NamedTuple):
    """Seconds since SIGKILL: of the facts, and in all. processor: seconds of it that the new worker took."""

    started: float
    joined: float
    restored: float
    whole: float
    replayed: int
    processor: float


def measure(servers: Servers, client: str, megabytes: int, rounds: int) -> list[Recovered]:
    name = f"recovery-{client}-{megabytes}"
    state = list(heavy(megabytes))
    fill(servers, f"{name}-events", PARTITIONS, state)
    group = Group(servers, name, client, f"{name}-events", PARTITIONS, more=pending(len(state)))
    with topics(group), closing(Reader(servers.broker, group.predictions, PARTITIONS)) as reader:
        _make_state(group, reader, len(state))
        worker, found = daemon(group), []
        with working([feeder(group, RATE, 600)]):
            for _ in range(rounds):
                _wait_for_more(reader, worker, AHEAD)
                worker, recovered = _kill(group, worker, reader)
                found.append(recovered)
            kill(worker.child)
    return found


def _make_state(group: Group, reader: Reader, events: int) -> None:
    """A worker that takes it all in and drains: the snapshot is there."""
    worker = daemon(group)
    with working([worker]):
        until(lambda: reader.ends()[0] >= events, [worker], "the state is there")
        worker.child.send_signal(signal.SIGTERM)
        if worker.child.wait():
            raise RuntimeError(worker.log.read_text()[-3000:])


def _wait_for_more(reader: Reader, worker: Process, events: int) -> None:
    enough = reader.ends()[0] + events
    until(lambda: reader.ends()[0] >= enough, [worker], "predictions go on")


def _kill(group: Group, worker: Process, reader: Reader) -> tuple[Process, Recovered]:
    began = time.time()
    kill(worker.child)
    worker = daemon(group)
    before = reader.ends()
    until(lambda: reader.ends() != before, [worker], "the next prediction is committed")
    whole, processor = time.time() - began, worker.cpu()
    restored = worker.said("shard restored")[0]
    started, joined = (_at(worker.said(event)[0]) - began for event in ("kernels ready", "log reached"))
    return worker, Recovered(started, joined, _at(restored) - began, whole, restored["replayed"], processor)


def _at(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["ts"]).timestamp()


def row(client: str, megabytes: str, found: Sequence[Recovered]) -> tuple[str, ...]:
    whole = [one.whole for one in found]
    started, joined, restored, _, replayed, processor = (
        statistics.median(column) for column in zip(*found, strict=True)
    )
    return (
        f"{client}, {megabytes} MB",
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
    given = parser.parse_args(arguments)
    rows = []
    with servers() as found:
        for client in given.clients.split(","):
            for size in given.sizes.split(","):
                rows.append(row(client, size, measure(found, client, int(size), given.rounds)))
    columns = ("", "seconds", "aim", "started by", "joined by", "restored by", "epochs replayed", "processor")
    print_table("\nfrom SIGKILL to the first prediction committed", columns, rows)


if __name__ == "__main__":
    main()
