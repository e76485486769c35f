"""Whether one of two series of scores of the same events is better: the mean difference, by block bootstrap.

Scores of a learner on a stream depend on their neighbours, so single events must not be drawn: blocks of
successive events are (circular block bootstrap, Politis and Romano 1992). Blocks of sqrt(n) events are longer than
the n^(1/3) that is best for short dependence (Hall, Horowitz and Jing 1995), because drift makes it long.
"""

import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 2000
AT_ONCE = 1 << 22  # block means held in memory


class Difference(Struct, frozen=True):
    """mean: of b - a; low, high: its interval at `LEVEL`; n: events both were scored on; block: its length."""

    mean: float
    low: float
    high: float
    n: int
    block: int

    @property
    def certain(self) -> bool:
        """The interval does not hold 0."""
        return self.low > 0 or self.high < 0


def difference(a: NDArray[np.float64], b: NDArray[np.float64], block: int | None = None) -> Difference | None:
    """a, b: (n,) scores of the same events in the order of the stream, NaN where there is none. None: no pairs.

    >>> rng = np.random.Generator(np.random.Philox(1))
    >>> a = (rng.random(10_000) < 0.80).astype(float)
    >>> b = (rng.random(10_000) < 0.82).astype(float)
    >>> found = difference(a, b)
    >>> round(found.mean, 3), found.low < 0.02 < found.high, found.certain, found.block
    (0.017, True, True, 100)
    """
    d = b - a
    d = d[~np.isnan(d)]
    n = len(d)
    if n == 0:
        return None
    block = min(n, block or math.ceil(math.sqrt(n)))
    sums = np.concatenate(([0.0], np.cumsum(np.concatenate((d, d[: block - 1])))))
    means = (sums[block:] - sums[:-block]) / block  # (n,): of the block that starts at i, around the end
    blocks = -(-n // block)
    rng = np.random.Generator(np.random.Philox(key=n))
    drawn = []
    for start in range(0, RESAMPLES, step := max(1, AT_ONCE // blocks)):
        starts = rng.integers(0, n, (min(step, RESAMPLES - start), blocks))
        drawn.append(means[starts].mean(axis=1))
    low, high = np.quantile(np.concatenate(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Difference(float(d.mean()), float(low), float(high), n, block)
