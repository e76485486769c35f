"""Throughput of `classify` with `linear` on UCI Adult, Kafka to Kafka, exactly once, by one worker and by two.

    python -m tests.bench.kafka_throughput [--seconds 4] [--rounds 3] [--workers 1,2] [--quix PYTHON]

Against, with epochs of the same length, each worker a process of its own:
(a) the limit: our log with the same client, consume and produce with no work in between; and the same with the
event decoded and a prediction encoded; (b) the loop one writes by hand with kafka-python, json and river, in
transactions; (c) Quix Streams, exactly once, with the same river model, where PYTHON is an interpreter that has
quixstreams and river. What is measured begins when all partitions move; the broker, on the same machine, is not
in the figures for the processor.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import count

from streamd.config import KafkaLog
from tests.bench.kafka_running import (
    CLIENTS,
    Group,
    Process,
    Servers,
    adult,
    begin,
    daemon,
    fill,
    pace,
    servers,
    topics,
    working,
)
from tests.bench.rounds import Contestant, Timed, console, interleaved, print_table, ratio, speed

EVENTS = "adult"
PARTITIONS = 2
AIMS = {"kafka-python": 0.7, "confluent": 0.5}
Start = Callable[[Group, str], Process]
_runs = count()


def peer(kind: str) -> Start:
    """One of `kafka_peers`."""

    def start(group: Group, worker: str) -> Process:
        return begin(
            group, worker, [sys.executable, "-m", "tests.bench.kafka_peers", kind, str(group.file(worker))]
        )

    return start


def quix(python: str) -> Start:
    """Quix Streams under this interpreter."""

    def start(group: Group, worker: str) -> Process:
        config = group.config()
        assert isinstance(config.log, KafkaLog)
        given = [config.log.brokers[0], group.name, group.events, group.predictions, str(config.epoch.interval)]
        return begin(group, worker, [python, "-m", "tests.bench.kafka_quix", *given])

    return start


def has_quix(python: str) -> bool:
    run = subprocess.run([python, "-c", "import quixstreams, river"], capture_output=True, check=False)
    return run.returncode == 0


def contestant(
    servers: Servers, client: str, start: Start, workers: int, events: int, seconds: float
) -> Contestant:
    """A run of so many workers from the events' beginning; the time of one event."""

    def run() -> Timed:
        group = Group(servers, f"run{next(_runs)}", client, EVENTS, PARTITIONS)
        with topics(group), working([start(group, f"w{i}") for i in range(workers)]) as processes:
            return pace(group, processes, events // PARTITIONS, seconds)

    return run


def contestants(
    servers: Servers, workers: int, events: int, seconds: float, python: str
) -> Mapping[str, Contestant]:
    def entry(client: str, start: Start) -> Contestant:
        return contestant(servers, client, start, workers, events, seconds)

    found = {}
    for client in CLIENTS:
        found[f"streamd, {client}"] = entry(client, daemon)
        found[f"(a) limit, {client}"] = entry(client, peer("bare"))
        found[f"(a) with codec, {client}"] = entry(client, peer("codec"))
    found["(b) by hand, river"] = entry("kafka-python", peer("hand"))
    if python:
        found["(c) Quix Streams, river"] = entry("confluent", quix(python))
    return found


def report(workers: int, runs: Mapping[str, Sequence[Timed]]) -> None:
    rows = [
        (name, *speed(timed, 1), *(_against(name, client, runs) for client in CLIENTS))
        for name, timed in runs.items()
    ]
    columns = ("", "events/s", "µs CPU", *(f"streamd, {client}" for client in CLIENTS))
    print_table(f"\n{workers} worker{'s' * (workers > 1)}, {PARTITIONS} partitions", columns, rows)


def _against(name: str, client: str, runs: Mapping[str, Sequence[Timed]]) -> str:
    """How many times faster streamd with this client is, unless it is another client's limit."""
    if name.startswith("streamd") or (name.startswith("(a)") and not name.endswith(f", {client}")):
        return ""
    return ratio(runs[name], runs[f"streamd, {client}"]).replace("processor", "CPU")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--events", type=int, default=800_000, help="at most in one run")
    parser.add_argument("--quix", default=sys.executable, metavar="PYTHON")
    given = parser.parse_args(arguments)
    python = given.quix if has_quix(given.quix) else ""
    if not python:
        console().print(f"(c) is skipped: {given.quix} has no quixstreams and river; see --quix")
    with servers() as found:
        fill(found, EVENTS, PARTITIONS, adult(given.events))
        for workers in map(int, given.workers.split(",")):
            entries = contestants(found, workers, given.events, given.seconds, python)
            report(workers, interleaved(entries, given.rounds))
    aims = ", ".join(f"{aim}x with {client}" for client, aim in AIMS.items())
    console().print(f"aims: of the limit at least {aims}")


if __name__ == "__main__":
    main()
