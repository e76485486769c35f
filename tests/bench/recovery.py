"""How soon a daemon works again: start-up, restore by the state's size, and replay against live.

    python -m tests.bench.recovery [--sizes 1,10,100] [--events 48842] [--rounds 3]

start-up: from the start of the process to the first prediction that a reader can see (kernels from their cache).
restore: from the shard's assignment to its first poll, its state in one snapshot of so many MB.
replay: UCI Adult from the journal alone, its snapshots deleted, against the same work done live.
"""

import argparse
import base64
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from streamd import wiring
from streamd.config import Config
from streamd.records import encode
from streamd.restore import shard_name
from tests.bench.rounds import Timed, console, print_table, ratio
from tests.bench.running import EVENTS, PATIENCE, PIPELINE, PREDICTIONS, Sent, adult, config, fill, running

EVENT = 1_000  # bytes


# --- start-up


def start_up(folder: Path) -> float:
    """Seconds from the start of `streamd run` to its first prediction."""
    chosen = config(folder, labels=False)
    fill(chosen, adult(1, labels=False))
    file = folder / "streamd.toml"
    file.write_text(
        f'[log]\npath = "log.db"\n[http]\nport = 0\n[pipeline.{PIPELINE}]\ntask = "classify"\n'
        f'events = "{EVENTS}"\nlearner = {{kind = "linear"}}\n'
    )
    command = [sys.executable, "-m", "streamd.cli", "run", "--config", str(file), "--until-idle"]
    with closing(wiring.client(chosen)) as client:
        began = time.perf_counter()
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and PREDICTIONS not in client.topics():
                time.sleep(PATIENCE)
            took = time.perf_counter() - began
        if client.ends(PREDICTIONS)[0][1] != 1 or process.returncode:
            raise RuntimeError("the daemon made no prediction")
    return took


# --- restore


def heavy(events: int) -> Iterator[Sent]:
    """Events of 1,000 bytes that hardly compress, and whose labels never come."""
    draw = random.Random(1)
    for number in range(events):
        note = base64.b64encode(draw.randbytes(EVENT * 3 // 4 - 60)).decode()
        told = {"id": str(number), "features": {"x": draw.random()}, "note": note}
        yield Sent(EVENTS, str(number).encode(), encode(told))


def restore(folder: Path, megabytes: int, rounds: int) -> tuple[str, ...]:
    """A row: the state's size, the snapshot's, seconds, MB/s."""
    events = megabytes * 1_000_000 // EVENT
    more = f'[pipeline.{PIPELINE}.pending]\nmax_events = {events}\nmax_bytes = "1GB"'
    chosen = config(folder, labels=True, more=more)
    fill(chosen, heavy(events))
    with running(chosen) as engine:
        engine.wait(events)
    times, size = [], 0
    for _ in range(rounds):
        with running(chosen) as engine:
            engine.wait(events)
            view = engine.view
        snapshot = view.shards[0].snapshot
        assert snapshot is not None
        times.append(view.restore_seconds)
        size = snapshot.bytes
    took = statistics.median(times)
    return f"{megabytes} MB", f"{size / 1e6:.1f}", f"{took:.3f}", f"{size / 1e6 / took:.0f}"


# --- replay


def replay(folder: Path, labels: bool, events: int, rounds: int) -> tuple[str, ...]:
    """A row: live and replayed events per second, the ratio."""
    live, replayed = [], []
    for number in range(rounds):
        own = folder / str(number)
        own.mkdir(parents=True)
        chosen = config(own, labels)
        fill(chosen, adult(events, labels))
        with running(chosen) as engine:
            live.append(engine.wait(events))
        _forget_snapshots(chosen)
        with running(chosen) as engine:
            engine.wait(events)
            took = engine.view.restore_seconds
            replayed.append(Timed(took, took))
    speeds = (statistics.median(events / run.seconds for run in runs) for runs in (live, replayed))
    which = "labels as later records" if labels else "labels in the events"
    return which, *(f"{speed:,.0f}" for speed in speeds), ratio(live, replayed).partition(", processor")[0]


def _forget_snapshots(config: Config) -> None:
    name = shard_name(config.group, PIPELINE, 0)
    with closing(wiring.store(config)) as store:
        for info in store.list(name):
            store.delete(name, info.sequence)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1,10,100")
    parser.add_argument("--events", type=int, default=48_842)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as top:
        starts = []
        for number in range(given.rounds):
            folder = Path(top, f"start-{number}")
            folder.mkdir()
            starts.append(start_up(folder))
        took = f"{statistics.median(starts):.2f} s [{min(starts):.2f}, {max(starts):.2f}]"
        console().print(f"\nfrom the start of the process to the first prediction: {took}")
    rows = []
    for size in given.sizes.split(","):
        with tempfile.TemporaryDirectory() as top:
            rows.append(restore(Path(top), int(size), given.rounds))
    print_table("\nrestore from a snapshot", ("events pending", "snapshot MB", "seconds", "MB/s"), rows)
    with tempfile.TemporaryDirectory() as top:
        rows = [replay(Path(top, str(labels)), labels, given.events, given.rounds) for labels in (False, True)]
    print_table(
        f"\nreplay of {given.events:,} events", ("", "live events/s", "replay events/s", "replay is"), rows
    )


if __name__ == "__main__":
    main()
