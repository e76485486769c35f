"""What an epoch costs as the state grows 100 times: it should not. And what snapshots cost beside it.

    python -m tests.bench.epoch_cost [--sizes 1000,10000,100000] [--epochs 40]

Two states grow: the features known to the learner, and the events that wait for their label. Each is filled first;
then epochs of 1,000 events are measured, over which it stays as large. A snapshot is made for as much work as one
costs, ten times as often as by default, so that there are some to measure; their share here is not a daemon's.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from streamd.config import Config
from streamd.records import encode
from streamd.views import SnapshotView
from tests.bench.rounds import print_table
from tests.bench.running import EVENTS, PATIENCE, Running, Sent, config, fill, running

EPOCH = 1_000  # events


def features(start: int, count: int, size: int) -> Iterator[Sent]:
    """Labelled events of `size` users: the first `size` events bring a new feature each, then they repeat."""
    draw = random.Random(start)
    for number in range(start, start + count):
        user = number if number < size else draw.randrange(size)
        x = {"user": f"user-{user}", "hour": draw.randrange(24), "amount": draw.random()}
        yield _event(number, {"features": x, "label": "yes" if user % 3 else "no"})


def pending(start: int, count: int, size: int) -> Iterator[Sent]:
    """Events whose labels never come; no more than `size` may wait."""
    draw = random.Random(start)
    for number in range(start, start + count):
        yield _event(number, {"features": {"hour": draw.randrange(24), "amount": draw.random()}})


def _event(number: int, told: dict[str, object]) -> Sent:
    return Sent(EVENTS, str(number).encode(), encode({"id": str(number), **told}))


def settings(folder: Path, size: int) -> Config:
    more = f"""
    [pipeline.bench.pending]
    max_events = {size}
    remember = 1000
    [epoch]
    max_records = {EPOCH}
    [snapshot]
    interval = "0s"
    work = 1
    """
    return config(folder, labels=True, more=more)


def watched(engine: Running, events: int) -> Sequence[SnapshotView]:
    """Wait for the engine, and collect the snapshots that it shows in the meantime."""
    seen: dict[int, SnapshotView] = {}
    while engine.applied() < events or engine.view.lag[0].records:
        for shard in engine.view.shards:
            if shard.snapshot is not None:
                seen[shard.snapshot.sequence] = shard.snapshot
        time.sleep(PATIENCE)
    engine.wait(events)
    return list(seen.values())


def measure(folder: Path, state: str, size: int, epochs: int) -> tuple[str, ...]:
    folder.mkdir(parents=True)
    made = {"features": features, "pending": pending}[state]
    chosen = settings(folder, size)
    fill(chosen, made(0, size, size))
    with running(chosen) as engine:
        engine.wait(size)
        before, began = engine.view, time.time()
        fill(chosen, made(size, epochs * EPOCH, size))
        snapshots = watched(engine, size + epochs * EPOCH)
        after, took = engine.view, engine.view.last_epoch - began
    cost = (after.epoch_seconds - before.epoch_seconds) / (after.epochs - before.epochs)
    commit = (after.commit_seconds - before.commit_seconds) / (after.epochs - before.epochs)
    own = [snapshot for snapshot in snapshots if snapshot.written >= began]
    pauses = [snapshot.pause for snapshot in own]
    return (
        f"{state} {size:,}",
        f"{cost * 1e3:.1f}",
        f"{commit * 1e3:.1f}",
        f"{own[-1].bytes / 1e6:.2f}" if own else "-",
        f"{max(pauses) * 1e3:.2f}" if own else "-",
        f"{sum(pauses) / took:.2%}" if own else "-",
        f"{sum(snapshot.seconds for snapshot in own) / took:.1%}" if own else "-",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,10000,100000")
    parser.add_argument("--epochs", type=int, default=40)
    given = parser.parse_args(arguments)
    sizes = [int(size) for size in given.sizes.split(",")]
    columns = ("state", "epoch ms", "commit ms", "snapshot MB", "pause ms", "pauses", "writing, beside")
    for state in ("features", "pending"):
        with tempfile.TemporaryDirectory() as folder:
            rows = [measure(Path(folder, str(size)), state, size, given.epochs) for size in sizes]
        first, last = float(rows[0][1]), float(rows[-1][1])
        title = (
            f"\nan epoch of {EPOCH:,} events; {sizes[-1] // sizes[0]}x the {state}: {last / first:.2f}x its cost"
        )
        print_table(title, columns, rows)


if __name__ == "__main__":
    main()
