"""The daemon's resident memory over many events: flat once its bounded tables are full.

    python -m tests.bench.memory [--events 1000000]          the long form: --events 5000000

UCI Adult over and over with new ids, labels as later records, log and journal trimmed as they go. The daemon is a
process of its own; this one feeds it, never far ahead of it. Linux only: it reads /proc.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from streamd import wiring
from streamd.ports import LogClient
from tests.bench.rounds import console, print_table
from tests.bench.running import EVENTS, LABELS, PATIENCE, PIPELINE, PREDICTIONS, Sent, adult, config, file, fill

AHEAD = 20_000  # records that may wait
PART = 5_000  # records of one append
ROWS = 10

SETTINGS = f"""
[log]
path = "log.db"
retention_records = {2 * AHEAD}
[snapshot]
journal = "1s"
[http]
port = 0
[pipeline.{PIPELINE}]
task = "classify"
events = "{EVENTS}"
labels = "{LABELS}"
learner = {{kind = "linear"}}
"""


def resident(pid: int) -> int:
    """Bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(found.split()[1]) * 1024


def predicted(client: LogClient) -> int:
    return client.ends(PREDICTIONS)[0][1] if PREDICTIONS in client.topics() else 0


def parts(records: Iterator[Sent]) -> Iterator[list[Sent]]:
    while part := list(islice(records, PART)):
        yield part


def measure(folder: Path, events: int) -> list[tuple[int, float, int, int]]:
    """Rows: events predicted, seconds, resident bytes of the daemon, bytes of the log's file."""
    (folder / "streamd.toml").write_text(SETTINGS)
    chosen = config(folder, labels=True)
    fill(chosen, [])
    command = [sys.executable, "-m", "streamd.cli", "run", "--config", str(folder / "streamd.toml")]
    rows = []
    said = folder / "daemon.log"
    with (
        said.open("wb") as errors,
        closing(wiring.client(chosen)) as client,
        subprocess.Popen(command, stderr=errors) as daemon,
    ):
        began, sent, told = time.monotonic(), 0, 0
        for part in parts(adult(events, labels=True)):
            fill(chosen, part)
            sent += sum(record.topic == EVENTS for record in part)
            if not _keep_pace(client, daemon, sent - AHEAD if sent < events else events):
                raise RuntimeError(f"the daemon ended with {daemon.returncode}: {said.read_text()[-2000:]}")
            done = predicted(client)
            if done * ROWS // events > told:
                told = done * ROWS // events
                seconds, size = time.monotonic() - began, file(chosen).stat().st_size
                rows.append((done, seconds, resident(daemon.pid), size))
        daemon.terminate()
        daemon.wait()
    if daemon.returncode:
        raise RuntimeError(f"the daemon ended with {daemon.returncode}")
    return rows


def _keep_pace(client: LogClient, daemon: "subprocess.Popen[bytes]", least: int) -> bool:
    """Wait until so many events are predicted; False if the daemon ends before."""
    while predicted(client) < least:
        if daemon.poll() is not None:
            return False
        time.sleep(PATIENCE)
    return True


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), given.events)
    shown = [
        (f"{done:,}", f"{seconds:.0f}", f"{rss / 1e6:.1f}", f"{size / 1e6:.1f}")
        for done, seconds, rss, size in rows
    ]
    print_table("\nthe daemon's memory", ("events", "seconds", "resident MB", "log file MB"), shown)
    early = next(rss for done, _, rss, _ in rows if done >= given.events * 0.2)
    console().print(f"resident at the end against a fifth of the way: {rows[-1][2] / early:.3f}x")


if __name__ == "__main__":
    main()
