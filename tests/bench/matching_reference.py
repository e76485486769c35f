"""Stochastic Balance with `sc`, unit capacities, cached scores, in plain Python: the bar of the compiled core.

mult[u] = w k(l / b), 0 while nothing is left; one entry is renewed per decision. Outcomes are known at once.
"""

import math
from collections.abc import Mapping, Sequence

import msgspec


def sc(x: float) -> float:
    z = math.exp(-x / 2.0)
    return 2.0 + 2.0 * ((2.0 - z) / z) * math.log(1.0 - z / 2.0)


def decide(arrivals: Sequence[Sequence[tuple[int, float]]], n: int, coins: Sequence[float]) -> list[int]:
    """The resource of each arrival, or -1."""
    mult = [sc(0.0)] * n
    load = [0.0] * n
    chosen = []
    for edges, coin in zip(arrivals, coins, strict=True):
        best, top, at = -1, 0.0, 0.0
        for u, p in edges:
            score = p * mult[u]
            if score > top:
                best, top, at = u, score, p
        chosen.append(best)
        if best >= 0:
            load[best] += at
            mult[best] = 0.0 if coin < at else sc(load[best])
    return chosen


def from_bytes(values: Sequence[bytes], ids: Mapping[str, int], coins: Sequence[float]) -> list[bytes]:
    """The same from JSON to JSON, and nothing else: no journal, nothing remembered, no outcome that is late."""
    names = list(ids)
    mult = [sc(0.0)] * len(ids)
    load = [0.0] * len(ids)
    answers = []
    for value, coin in zip(values, coins, strict=True):
        arrival = msgspec.json.decode(value)
        best, top, at = -1, 0.0, 0.0
        for name, p in arrival["edges"]:
            u = ids[name]
            score = p * mult[u]
            if score > top:
                best, top, at = u, score, p
        answers.append(msgspec.json.encode({"id": arrival["id"], "resource": names[best], "p": at, "score": top}))
        load[best] += at
        mult[best] = 0.0 if coin < at else sc(load[best])
    return answers
