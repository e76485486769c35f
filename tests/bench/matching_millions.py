"""Millions of resources in one pool: joined by records, one snapshot in the store, one restart from it.

    python -m tests.bench.matching_millions [--resources 1000000]          the long form: --resources 10000000
    python -m tests.bench.matching_millions --daemon                       on the embedded log, slower

Without `--daemon` the records go straight to the stage, and the snapshot to an embedded store; a second process
restores it. The daemon is a process of its own; this one feeds it, never far ahead, and asks it for the newest
resource to know how far it is. Bytes per resource: resident memory beyond that with one resource; `peak`: the most
there ever was, while snapshots are made or read. Linux only: it reads /proc.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from streamd import config as configuration
from streamd import wiring
from streamd.ports import LogClient, Output, Record, TopicInfo
from streamd.restore import Identity
from streamd.snapshot import decode, digest, read_manifest
from streamd.snapshots import Job, encode
from tests.bench.rounds import console, print_table

PART = 50_000  # records of one append
PATIENCE = 0.2  # seconds between two questions
SETTINGS = """
[log]
path = "log.db"
retention_records = 200000
[snapshot]
journal = "1s"
keep = 1
[http]
port = 0
[pipeline.pool]
task = "match"
events = "arrivals"
resources = "resources"
outcomes = "outcomes"
matches = "matches"
limits = { resources = 10000000 }
"""


class Daemon:
    """A running `streamd run`, and its log."""

    def __init__(self, folder: Path, process: "subprocess.Popen[bytes]", client: LogClient) -> None:
        self._said = folder / "daemon.log"
        self.process = process
        self.client = client

    def bytes(self, line: str) -> int:
        """A figure of the process: VmRSS, VmHWM."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(found for found in status.splitlines() if found.startswith(line)).split()[1]) * 1024

    def processor(self) -> float:
        """Seconds so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def wait_for(self, resource: str) -> None:
        """Until an arrival is matched to it."""
        while True:
            seen = self.client.ends("matches")[0][1]
            told = {"id": f"{resource}-{seen}", "pool": "x", "edges": [[resource, 0.001]]}
            self.client.append("arrivals", [output(msgspec.json.encode(told))])
            while self.client.ends("matches")[0][1] == seen:
                if self.process.poll() is not None:
                    raise RuntimeError(f"the daemon ended: {self._said.read_text()[-2000:]}")
                time.sleep(PATIENCE)
            if b'"resource"' in (self.client.read("matches", 0, seen, 1)[0].value or b""):
                return


def output(value: bytes) -> Output:
    return Output("", b"x", value, int(time.time() * 1000))


@contextmanager
def daemon(folder: Path) -> Iterator[Daemon]:
    command = [sys.executable, "-m", "streamd.cli", "run", "--config", str(folder / "streamd.toml")]
    chosen = configuration.resolve(configuration.parse(SETTINGS), folder)
    with (
        (folder / "daemon.log").open("wb") as errors,
        closing(wiring.client(chosen)) as client,
        subprocess.Popen(command, stderr=errors) as process,
    ):
        try:
            yield Daemon(folder, process, client)
        finally:
            process.terminate()
            process.wait()


def measure(folder: Path, n: int) -> list[tuple[str, ...]]:
    (folder / "streamd.toml").write_text(SETTINGS)
    chosen = configuration.resolve(configuration.parse(SETTINGS), folder)
    with closing(wiring.client(chosen)) as client:
        for topic in ("arrivals", "resources", "outcomes", "matches"):
            client.create(topic, 1)
        client.append("resources", [_joins(0)])
    rows = []
    with daemon(folder) as first:
        first.wait_for(_name(0))
        empty, began, spent = first.bytes("VmRSS"), time.monotonic(), first.processor()
        for at in range(1, n, PART):
            first.client.append("resources", [_joins(u) for u in range(at, min(n, at + PART))])
            first.wait_for(_name(max(0, at - 1)))
            if (at // PART) % max(1, n // PART // 5) == 0:
                console().print(f"{at:,} after {time.monotonic() - began:.0f} s", highlight=False)
        first.wait_for(_name(n - 1))
        seconds, cpu = time.monotonic() - began, first.processor() - spent
        rows.append(_row("joined", first, n, empty, seconds, f"{cpu / n * 1e6:.0f} us of processor each"))
        began = time.monotonic()
    rows.append(("drained, with a snapshot", f"{time.monotonic() - began:.0f}", "", "", ""))
    began = time.monotonic()
    with daemon(folder) as second:
        second.wait_for(_name(n - 1))
        rows.append(_row("started from it", second, n, empty, time.monotonic() - began, ""))
    return rows


def _row(what: str, of: Daemon, n: int, empty: int, seconds: float, more: str) -> tuple[str, ...]:
    each, peak = ((of.bytes(line) - empty) / n for line in ("VmRSS", "VmHWM"))
    return what, f"{seconds:.0f}", f"{each:.0f}", f"{peak:.0f}", more


def _name(u: int) -> str:
    return f"r{u:08}"


def _joins(u: int) -> Output:
    return output(b'{"id":"%s","pool":"x","capacity":100}' % _name(u).encode())


def inside(folder: Path, n: int) -> list[tuple[str, ...]]:
    """Joined, copied and written in this process, restored in another."""
    chosen = configuration.resolve(configuration.parse(SETTINGS), folder)
    _, fresh = wiring.shards(chosen, "pool")
    shard = fresh(0)
    shard.take([_record(0)])
    empty, began, spent = _memory("VmRSS"), time.monotonic(), time.process_time()
    for at in range(1, n, PART):
        shard.take([_record(u) for u in range(at, min(n, at + PART))])
        shard.epoch()
        shard.committed(0)
        if (at // PART) % max(1, n // PART // 10) == 0:
            console().print(f"{at:,} after {time.monotonic() - began:.0f} s", highlight=False)
    cpu = f"{(time.process_time() - spent) / n * 1e6:.0f} us of processor each"
    rows = [_figures("joined", n, empty, time.monotonic() - began, cpu)]
    began = time.monotonic()
    state = shard.freeze()
    rows.append(_figures("copied", n, empty, time.monotonic() - began, ""))
    began = time.monotonic()
    with closing(wiring.store(chosen)) as store:
        identity = Identity("bench", "pool", "", {})
        job = Job(0, identity, {"resources": TopicInfo("", 1)}, state, 0.0)
        made = encode(job)
        store.put("bench", 1, made.raw, made.chunks)
    rows.append(_figures("written", n, empty, time.monotonic() - began, f"{made.size / 1e6:.1f} MB in the store"))
    command = [sys.executable, "-m", "tests.bench.matching_millions", "--restore", str(folder)]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    if told[0] != made.manifest.digest or int(told[1]) != n:
        raise RuntimeError(f"restored otherwise: {told}")
    each, peak = ((int(told[i]) - empty) / n for i in (3, 4))
    rows.append(("restored", told[2], f"{each:.0f}", f"{peak:.0f}", "the same state"))
    return rows


def restore(folder: Path) -> None:
    """In a process of its own: digest, resources, seconds, resident and most resident bytes."""
    chosen = configuration.resolve(configuration.parse(SETTINGS), folder)
    _, fresh = wiring.shards(chosen, "pool")
    shard = fresh(0)
    began = time.monotonic()
    with closing(wiring.store(chosen)) as store:
        raw, chunks = store.load("bench", 1)
        state = decode(read_manifest(raw), chunks)
    shard.restore(state, 1, {}, 0)
    del state
    seconds, now, most = time.monotonic() - began, _memory("VmRSS"), _memory("VmHWM")
    (pool,) = shard.task.show().matching.pools  # type: ignore[union-attr]
    sys.stdout.write(f"{digest(shard.freeze().thaw())} {pool.resources} {seconds:.0f} {now} {most}\n")


def _figures(what: str, n: int, empty: int, seconds: float, more: str) -> tuple[str, ...]:
    each, peak = ((_memory(line) - empty) / n for line in ("VmRSS", "VmHWM"))
    return what, f"{seconds:.0f}", f"{each:.0f}", f"{peak:.0f}", more


def _record(u: int) -> Record:
    made = _joins(u)
    return Record("resources", 0, u, made.timestamp, made.key, made.value)


def _memory(line: str) -> int:
    """VmRSS, VmHWM of this process, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(next(found for found in status.splitlines() if found.startswith(line)).split()[1]) * 1024


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resources", type=int, default=1_000_000)
    parser.add_argument("--daemon", action="store_true")
    parser.add_argument("--restore", type=Path, help="what this starts itself")
    given = parser.parse_args(arguments)
    if given.restore is not None:
        restore(given.restore)
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = (measure if given.daemon else inside)(Path(folder), given.resources)
    print_table(f"\n{given.resources:,} resources", ("", "seconds", "bytes each", "peak, bytes each", ""), rows)
    console().print("aim: 200 bytes each")


if __name__ == "__main__":
    main()
