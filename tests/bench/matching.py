"""Decisions per second: the compiled core against cached plain Python, and the whole stage from bytes to bytes.

    python -m tests.bench.matching               (100, 5) and (10k, 50) resources and degree, about half a minute
    python -m tests.bench.matching --long        also (1M, 500), and bytes per resource at 1M

Both cores make the same decisions on the same arrivals and coins; that is checked. Rounds take turns; the ratio is
the median over rounds. From bytes to bytes: decode an arrival, decide, book, remember, journal, encode its match;
no log; `cpu us`: microseconds of processor for that; beside it plain Python that decodes, decides and encodes.
"""

import argparse
import gc
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from streamd.kernels import matching_simulation as kernel
from streamd.matching.arrivals import Limits
from streamd.matching.resources import Offer, Resources
from streamd.matching.rules import Rule
from streamd.ports import Record
from streamd.stages.match_settings import Settings
from streamd.stages.matching import Matching
from tests.bench import matching_reference as reference
from tests.bench.rounds import Timed, Watch, console, interleaved, print_table, ratio, speed

SIZES = [(100, 5, 20_000), (10_000, 50, 4_000), (1_000_000, 500, 400)]
P = 0.02


class Stream:
    """T arrivals of d even neighbours each, as arrays, as lists and as records."""

    def __init__(self, n: int, d: int, T: int) -> None:
        rng = np.random.default_rng(0)
        self.n, self.T = n, T
        self.starts = np.arange(T + 1) * d
        rows = (
            [np.sort(rng.choice(n, d, replace=False)) for _ in range(T)] if n < 10 * d else _distinct(rng, n, d, T)
        )
        self.slots = np.concatenate(rows).astype(np.int64)
        self.p = rng.uniform(0.5 * P, 1.5 * P, T * d)
        self.coins = rng.random(T)
        edges = list(zip(self.slots.tolist(), self.p.tolist(), strict=True))
        self.lists = [edges[i * d : (i + 1) * d] for i in range(T)]


def _distinct(rng: np.random.Generator, n: int, d: int, T: int) -> list[np.ndarray]:
    """Drawn with a few to spare, so that no permutation of all n is needed."""
    return [np.sort(rng.permutation(np.unique(rng.integers(0, n, 2 * d)))[:d]) for _ in range(T)]


def name(u: int) -> str:
    return f"r{u:07}"


def filled(n: int) -> Resources:
    resources = Resources(Rule(f="sc"), n, {})
    for u in range(n):
        resources.put(name(u), Offer(1.0), 0)
    return resources


class Core:
    """The compiled core over a whole stream in one call."""

    def __init__(self, stream: Stream, resources: Resources) -> None:
        n = stream.n
        self._stream = stream
        self._state = (resources.state[0][:n], resources.table[:n], *resources.state[2:])
        self._fresh = resources.table[:n].copy()
        self.chosen = np.empty((1, stream.T), np.int32)

    def __call__(self) -> Timed:
        stream = self._stream
        won = np.zeros((1, stream.n), np.int64)
        self._state[1][:] = self._fresh
        kernel.refresh_all(self._state)  # as fresh as the reference's lists, outside the time
        watch = Watch()
        kernel.follow(stream.starts, stream.slots, stream.p, stream.coins, self.chosen[0], won[0], self._state)
        return watch.read()


def plain(stream: Stream, chosen: list[int]) -> Timed:
    coins = stream.coins.tolist()
    watch = Watch()
    found = reference.decide(stream.lists, stream.n, coins)
    timed = watch.read()
    chosen[:] = found
    return timed


def records(stream: Stream) -> list[Record]:
    values = [
        msgspec.json.encode({"id": f"a{t}", "pool": "x", "edges": [[name(u), p] for u, p in edges]})
        for t, edges in enumerate(stream.lists)
    ]
    return [Record("arrivals", 0, t, 1_000 + t, b"x", value) for t, value in enumerate(values)]


def stage(stream: Stream) -> Matching:
    settings = Settings(
        "arrivals", "resources", "outcomes", "matches", "dead", "bench", Rule(f="sc"), limits=Limits(edges=1_000)
    )
    task = Matching(settings, 0)
    pool = task._pool("x")
    for u in range(stream.n):
        pool.put(name(u), Offer(1e6), 0)
    return task


def from_bytes(task: Matching, batch: Sequence[Record], turn: list[int]) -> Timed:
    turn[0] += 1
    again = [
        msgspec.structs.replace(r, value=r.value.replace(b'"a', b'"%d-' % turn[0], 1)) for r in batch if r.value
    ]
    watch = Watch()
    taken = task.take(again)
    timed = watch.read()
    if len(taken.outputs) != len(batch) or taken.refused:
        raise RuntimeError("an arrival was refused")
    return timed


def plain_json(stream: Stream, batch: Sequence[Record], ids: dict[str, int]) -> Timed:
    values, coins = [record.value for record in batch if record.value], stream.coins.tolist()
    watch = Watch()
    reference.from_bytes(values, ids, coins)
    return watch.read()


def resident() -> int:
    """Bytes. Linux only."""
    found = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(found.split()[1]) * 1024


def measure(n: int, d: int, T: int, rounds: int) -> tuple[str, ...]:
    gc.collect()
    before = resident()
    resources = filled(n)
    bytes_each = (resident() - before) / n
    stream = Stream(n, d, T)
    core, plainly = Core(stream, resources), [0]
    results = interleaved({"core": core, "plain": lambda: plain(stream, plainly)}, rounds)
    if core.chosen[0].tolist() != plainly:
        raise RuntimeError("the cores do not agree")
    gc.collect()
    batch, task, turn = records(stream), stage(stream), [0]
    ids = {name(u): u for u in range(n)}
    both = {"stage": lambda: from_bytes(task, batch, turn), "json": lambda: plain_json(stream, batch, ids)}
    whole = interleaved(both, rounds)
    return (
        f"{n:,} x {d}",
        speed(results["core"], T)[0],
        speed(results["plain"], T)[0],
        ratio(results["plain"], results["core"]),
        *speed(whole["stage"], T),
        ratio(whole["json"], whole["stage"]),
        f"{bytes_each:.0f}" if n >= 1_000_000 else "",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    rows = [measure(n, d, T, given.rounds) for n, d, T in (SIZES if given.long else SIZES[:2])]
    columns = (
        "size x degree",
        "core/s",
        "plain/s",
        "core over plain",
        "bytes to bytes/s",
        "cpu us",
        "over plain JSON",
        "B each",
    )
    print_table("\ndecisions", columns, rows)
    console().print("aims: core 200,000/s and stage 20,000/s at 10,000 x 50, core never under plain, 200 B each")


if __name__ == "__main__":
    main()
