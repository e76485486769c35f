"""Replay against the live pipeline, and what a shadow costs; in processor time, for busy machines.

    python -m tests.bench.replay --events 20000 --rounds 3 [--kafka]

Replay: the records of a topic through the shards in memory, scoring included, against the same records through
the daemon's engine on the embedded log. Shadow: what the shards need more with a shadow of the live one's kind,
against what that learner needs alone for the same rows, predictions and labels: 1 is the cost of its model.
Medians of rounds in which all are measured one after the other. --kafka: replay against the daemon from Kafka to
Kafka with either client instead, on the clock and of the processor.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from streamd import records as codec
from streamd import wiring
from streamd.cli.replay import roles
from streamd.cli.replay_source import of_topics
from streamd.config import Config
from streamd.operating.replaying import Replay, truth
from streamd.ports import Record
from tests.bench.kafka_running import CLIENTS, Group, daemon, pace, servers, topics, working
from tests.bench.kafka_running import adult as adult_on_kafka
from tests.bench.kafka_running import fill as fill_kafka
from tests.bench.rounds import Timed, Watch
from tests.bench.running import EVENTS, PIPELINE, adult, config, fill
from tests.bench.throughput import streamd

SHADOW = f'[pipeline.{PIPELINE}.shadow.other]\nkind = "linear"\noptimizer = "sgd"\n'
BATCH = 4096


def timed(work: Callable[[], object]) -> float:
    """Seconds of processor time."""
    began = time.process_time()
    work()
    return time.process_time() - began


def replayed(settings: Config, records: Sequence[Record]) -> None:
    known = truth("classify", EVENTS, None, records)
    _, fresh = wiring.shards(settings, PIPELINE)
    one = Replay(roles(settings.pipeline[PIPELINE]), lambda partition: fresh(partition).task, known)
    one.run({0: records}, lambda done: None)


def through(settings: Config, records: Sequence[Record]) -> None:
    """The shard alone."""
    _, fresh = wiring.shards(settings, PIPELINE)
    task = fresh(0).task
    for start in range(0, len(records), BATCH):
        task.take(records[start : start + BATCH])


def alone(settings: Config, events: Sequence[codec.Event]) -> None:
    """The learner alone."""
    (model,) = wiring.shadows(PIPELINE, settings.pipeline[PIPELINE]).values()  # type: ignore[arg-type]
    learner = model.fresh()
    for start in range(0, len(events), BATCH):
        steps, part = learner.steps(), events[start : start + BATCH]
        for number, event in enumerate(part):
            row = steps.row(event.features)
            steps.predict(row)
            steps.observe(row)
            steps.learn(row, str(event.label), number)
        steps.execute().memos()


def measure(events: int, rounds: int) -> tuple[float, float]:
    """(live over replay, what a shadow adds over its model alone)."""
    speed, cost = [], []
    for i in range(rounds + 1):
        with tempfile.TemporaryDirectory() as name:
            plain, shadowed = config(Path(name), False), config(Path(name), False, SHADOW)
            fill(plain, adult(events, False))
            live = timed(lambda plain=plain: streamd(plain, events))  # type: ignore[misc]
            records = of_topics(plain, (EVENTS,), EVENTS, "start")
        decoded = [codec.decode_event(record.value) for record in records]
        again = timed(lambda c=plain, r=records: replayed(c, r))  # type: ignore[misc]
        without = timed(lambda c=plain, r=records: through(c, r))  # type: ignore[misc]
        beside = timed(lambda c=shadowed, r=records: through(c, r))  # type: ignore[misc]
        model = timed(lambda c=shadowed, d=decoded: alone(c, d))  # type: ignore[misc]
        if i:  # the first round warms up
            speed.append(live / again)
            cost.append((beside - without) / model)
    return median(speed), median(cost)


def against_kafka(events: int, rounds: int) -> None:
    """Print the time of an event: live with each client over replayed."""
    with servers() as found, tempfile.TemporaryDirectory() as name:
        fill_kafka(found, "replayed", 1, adult_on_kafka(events))
        plain = config(Path(name), False)
        fill(plain, adult(events, False))
        records = of_topics(plain, (EVENTS,), EVENTS, "start")
        replayed(plain, records[:BATCH])  # compiles
        live: dict[str, list[Timed]] = {client: [] for client in CLIENTS}
        again: list[Timed] = []
        for number in range(rounds):
            for client in CLIENTS:
                group = Group(found, f"run{number}{client[0]}", client, "replayed", 1)
                with topics(group), working([daemon(group)]) as processes:
                    live[client].append(pace(group, processes, events, 60.0))
            watch = Watch()
            replayed(plain, records)
            again.append(Timed(*(taken / events for taken in watch.read())))
        for client, runs in live.items():
            clock = median(one.seconds / two.seconds for one, two in zip(runs, again, strict=True))
            cpu = median(one.cpu / two.cpu for one, two in zip(runs, again, strict=True))
            print(f"{client}: replay is {clock:.2f}x as fast on the clock, {cpu:.2f}x by the processor")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kafka", action="store_true")
    given = parser.parse_args(arguments)
    if given.kafka:
        against_kafka(given.events, given.rounds)
        return
    speed, cost = measure(given.events, given.rounds)
    print(f"replay takes 1/{speed:.2f} of the live pipeline's processor time")
    print(f"a shadow costs {cost:.2f}x its model alone")


if __name__ == "__main__":
    main()
