"""Stochastic Balance with `sc`, unit capacities, cached scores, in plain Python: the bar of the compiled core.

mult[u] = w k(l / b), 0 while nothing is left; one entry is renewed per decision. Outcomes are known at once.
"""

import math
from collections.abc import Sequence


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
