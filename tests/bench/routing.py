"""Routing label requests: stochastic matching against round robin and least loaded, on a simulated crowd.

    python -m tests.bench.routing [--hours 8] [--seeds 8]

Twelve annotators, each fast or slow, careful or careless, one in four answering seldom; each good at some of three
kinds of questions; they answer one after the other, and hold a few requests at once. Requests come evenly at a
rate that the whole crowd could not quite answer. Three routers see the same requests; an annotator's answer to a
request (whether, how long, right or wrong) is the same for all of them. A request not answered within twenty
minutes is offered once more, to somebody else. Matching is the pool of a match pipeline with probabilities learned
from the outcomes; round robin and least loaded take the next, or the one with the fewest open requests, of those
who have room. Means over seeds with 95 % t intervals.
"""

import argparse
import hashlib
import heapq
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from streamd.matching.arrivals import Arrival, Outcome
from streamd.matching.pool import Pool
from streamd.matching.probabilities import Source
from streamd.matching.replay import interval
from streamd.matching.resources import Offer, Refill
from streamd.matching.rules import Rule
from tests.bench.rounds import print_table

MINUTE = 60_000  # milliseconds
TIMEOUT = 20 * MINUTE
EVERY = MINUTE // 3  # between two requests
CONCURRENT = 4
PER_HOUR = 40  # attempts of one annotator
KINDS = ("money", "health", "travel")


class Annotator(NamedTuple):
    """pace: milliseconds per answer in the mean; reply: how often at all; right: how often, per kind."""

    name: str
    pace: float
    reply: float
    right: dict[str, float]


class Tally(NamedTuple):
    labels: int  # answered in time
    right: int
    lost: int  # answered by nobody in time


Router = Callable[[str, str, tuple[str, ...], int, dict[str, int]], str | None]
"""(request, kind, excluded, now, open requests by annotator) -> annotator."""


def crowd(seed: int) -> list[Annotator]:
    rng = np.random.default_rng([41, seed])
    made = []
    for i in range(12):
        good = rng.random(len(KINDS)) < 0.6
        right = {k: float(rng.uniform(0.85, 0.98) if g else rng.uniform(0.45, 0.7)) for k, g in zip(KINDS, good)}  # noqa: B905
        pace = float(rng.choice([2.0, 4.0, 8.0])) * MINUTE
        made.append(Annotator(f"a{i:02}", pace, 0.3 if i % 4 == 3 else float(rng.uniform(0.85, 1.0)), right))
    return made


def _draws(seed: int, request: str, name: str) -> tuple[float, float, float]:
    """Three numbers in [0, 1) of this request and annotator, whoever routes it."""
    raw = hashlib.blake2b(f"{seed}/{request}/{name}".encode(), digest_size=24).digest()
    a, b, c = (int.from_bytes(raw[i : i + 8], "big") / 2**64 for i in (0, 8, 16))
    return a, b, c


class Desk:
    """One router, one crowd, one stream of requests."""

    def __init__(self, seed: int, route: Router, told: Callable[[str, str, bool, int], None]) -> None:
        self.seed = seed
        self.people = {one.name: one for one in crowd(seed)}
        self.open = dict.fromkeys(self.people, 0)
        self._free = dict.fromkeys(self.people, 0.0)  # when they are done with what they hold
        self._route, self._told = route, told
        self._events: list[tuple[float, int, str, str, str, int, bool | None]] = []
        self._n = 0
        self.labels = self.right = self.lost = 0

    def run(self, hours: float) -> Tally:
        end, now, i = int(hours * 60) * MINUTE, 0, 0
        rng = np.random.default_rng([43, self.seed])
        while now < end:
            self._until(now)
            self._offer(f"q{i}", KINDS[int(rng.integers(len(KINDS)))], (), now)
            now, i = now + EVERY, i + 1
        self._until(end + 3 * TIMEOUT)
        return Tally(self.labels, self.right, self.lost)

    def _offer(self, request: str, kind: str, excluded: tuple[str, ...], now: int) -> None:
        name = self._route(request, kind, excluded, now, self.open)
        if name is None:
            self.lost += 1
            return
        one = self.people[name]
        self.open[name] += 1
        reply, pace, right = _draws(self.seed, request, name)
        takes = -np.log1p(-pace) * one.pace
        done = max(now, self._free[name]) + takes
        if reply >= one.reply or done > now + TIMEOUT:
            self._add(now + TIMEOUT, request, kind, name, len(excluded), None)
            self._free[name] = max(self._free[name], float(now)) + (takes if reply < one.reply else 0.0)
        else:
            self._free[name] = done
            self._add(done, request, kind, name, len(excluded), right < one.right[kind])

    def _add(self, at: float, *told: object) -> None:
        self._n += 1
        heapq.heappush(self._events, (at, self._n, *told))  # type: ignore[arg-type]

    def _until(self, now: float) -> None:
        while self._events and self._events[0][0] <= now:
            at, _, request, kind, name, before, right = heapq.heappop(self._events)
            self.open[name] -= 1
            self._told(request, name, bool(right), int(at))
            if right is not None:
                self.labels, self.right = self.labels + 1, self.right + right
            elif before == 0:
                self._offer(request, kind, (name,), int(at))
            else:
                self.lost += 1


def matching(seed: int, hours: float) -> Tally:
    """By a pool, as the daemon has it: the re-offer is attempt 2."""
    source = Source("beta", prior=(2.0, 1.0), half_life=0, shrinkage=4.0)
    pool = Pool(Rule(consume="attempt", hold="block", seed=seed), source, timeout=10 * TIMEOUT)
    for one in crowd(seed):
        refill = Refill(PER_HOUR, 60 * MINUTE, reset=True)
        pool.put(one.name, Offer(PER_HOUR, concurrent=CONCURRENT, refill=refill), 0)

    def route(request: str, kind: str, excluded: tuple[str, ...], now: int, _: dict[str, int]) -> str | None:
        arrival = Arrival(request, 1 + len(excluded), kind=kind, exclude=excluded)
        return pool.best(arrival, now).resource

    def told(request: str, name: str, right: bool, now: int) -> None:
        pool.settle(Outcome(request, right, name), now)

    return Desk(seed, route, told).run(hours)


def round_robin(seed: int, hours: float) -> Tally:
    names, last = [one.name for one in crowd(seed)], [-1]

    def route(_r: str, _k: str, excluded: tuple[str, ...], _now: int, held: dict[str, int]) -> str | None:
        for step in range(1, len(names) + 1):
            at = (last[0] + step) % len(names)
            if held[names[at]] < CONCURRENT and names[at] not in excluded:
                last[0] = at
                return names[at]
        return None

    return Desk(seed, route, lambda *told: None).run(hours)


def least_loaded(seed: int, hours: float) -> Tally:
    def route(_r: str, _k: str, excluded: tuple[str, ...], _now: int, held: dict[str, int]) -> str | None:
        free = [name for name in held if held[name] < CONCURRENT and name not in excluded]
        return min(free, key=lambda name: (held[name], name), default=None)

    return Desk(seed, route, lambda *told: None).run(hours)


ROUTERS = {"matching": matching, "least loaded": least_loaded, "round robin": round_robin}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--seeds", type=int, default=8)
    given = parser.parse_args()
    rows, base = [], np.zeros(0)
    for name, route in ROUTERS.items():
        found = [route(seed, given.hours) for seed in range(given.seeds)]
        labels = np.array([one.labels for one in found]) / given.hours
        right = np.array([one.right for one in found]) / given.hours
        quality = np.array([one.right / max(one.labels, 1) for one in found])
        base = right if not len(base) else base
        rows.append(
            [
                name,
                f"{labels.mean():.1f} ± {interval(labels):.1f}",
                f"{quality.mean():.3f} ± {interval(quality):.3f}",
                f"{right.mean():.1f} ± {interval(right):.1f}",
                f"{(base / right).mean():.2f}x ± {interval(base / right):.2f}",
                f"{np.mean([one.lost for one in found]) / given.hours:.1f}",
            ]
        )
    columns = ("router", "labels/h", "of them right", "right labels/h", "matching gets", "lost/h")
    print_table(f"{given.seeds} crowds, {given.hours:g} h, 180 requests/h", columns, rows)


if __name__ == "__main__":
    main()
