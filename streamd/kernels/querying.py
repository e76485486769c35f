"""What query strategies compute over vectors, compiled."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@njit(cache=True, error_model="numpy")
def _distance(a, b):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(b.shape[0]):
        total += (a[j] - b[j]) ** 2
    return math.sqrt(total)


@njit(cache=True, error_model="numpy")
def closer(points: Floats, nearest: Floats, x: Floats) -> int:
    """How many of the points (n, d) lie closer to x than to their nearest neighbour so far, (n,)."""
    count = 0
    for i in range(points.shape[0]):
        if _distance(points[i], x) < nearest[i]:
            count += 1
    return count


@njit(cache=True, error_model="numpy")
def approach(points: Floats, nearest: Floats, x: Floats) -> float:
    """Let x be a neighbour of all points: `nearest` is lowered. Returns the distance of x to the nearest."""
    least = np.inf
    for i in range(points.shape[0]):
        distance = _distance(points[i], x)
        least = min(least, distance)
        nearest[i] = min(nearest[i], distance)
    return least


@njit(cache=True, error_model="numpy")
def leverage(inverse: Floats, x: Floats) -> float:
    """x' A^-1 x."""
    total = 0.0
    for i in range(x.shape[0]):
        if x[i] != 0.0:
            row = 0.0
            for j in range(x.shape[0]):
                row += inverse[i, j] * x[j]
            total += x[i] * row
    return total


@njit(cache=True, error_model="numpy")
def sherman_morrison(inverse: Floats, x: Floats) -> None:
    """A^-1 becomes (A + x x')^-1, in place; A symmetric."""
    d = x.shape[0]
    v = np.zeros(d)
    total = 1.0
    for i in range(d):
        for j in range(d):
            v[i] += inverse[i, j] * x[j]
        total += x[i] * v[i]
    for i in range(d):
        for j in range(d):
            inverse[i, j] -= v[i] * v[j] / total


@njit(cache=True, error_model="numpy")
def _place(kept, n, u):  # type: ignore[no-untyped-def]
    """Of the first of the n sorted numbers that is not below u."""
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if kept[middle] < u:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, error_model="numpy")
def _quantile(kept, n, u, q):  # type: ignore[no-untyped-def]
    """Of the n sorted numbers and u together, as `SortedWindow.look`."""
    place = _place(kept, n, u)
    at = n * q
    low = int(at)
    high = min(low + 1, n)
    a = kept[low] if low < place else u if low == place else kept[low - 1]
    b = kept[high] if high < place else u if high == place else kept[high - 1]
    t = at - low
    return a + (b - a) * t if t < 0.5 else b - (b - a) * (1 - t)


@njit(cache=True, error_model="numpy")
def _replace(line, kept, n, oldest, u):  # type: ignore[no-untyped-def]
    """Take u into a window of at most len(line) numbers. Returns how many there are, and which is the oldest."""
    if n == line.shape[0]:
        for j in range(_place(kept, n, line[oldest]), n - 1):
            kept[j] = kept[j + 1]
        n -= 1
        line[oldest] = u
        oldest = (oldest + 1) % line.shape[0]
    else:
        line[n] = u
    place = _place(kept, n, u)
    for j in range(n, place, -1):
        kept[j] = kept[j - 1]
    kept[place] = u
    return n + 1, oldest


@njit(cache=True, error_model="numpy")
def filter_run(
    utility: Floats, drawn: Floats, tie: Floats, soften: Floats, soft: Floats, line: Floats, kept: Floats,
    counts: NDArray[np.int64], ledger: NDArray[np.int64], constants: Floats,
    flags: NDArray[np.int64], told: Floats,
) -> None:  # fmt: skip
    """`Auto.decide` and `apply` for n events one after the other, and the slice and its price around them.

    drawn, tie, soften: (n,) the events' draws. soft: f for so many queries more than are pending. line, kept:
    (w - 1,) the window in order of arrival and sorted. counts: numbers in it, its oldest, pending, alarmed.
    ledger: level, income, cap, price, price of a label drawn, one label. constants: chance of the slice, b, rest,
    w_tol, tie. Written: line, kept, counts, level; flags (n,) own + 2 drawn + 4 branch; told (n, 3) utility,
    threshold, p_ask.
    """
    chance, b, rest, w_tol, least_tie = constants
    n, oldest, pending, alarmed = counts
    level, income, cap, price, price_drawn, unit = ledger
    before = pending
    for i in range(utility.shape[0]):
        u, own, branch, threshold, p_ask = utility[i], False, 0, np.inf, 0.0
        after = level + income
        if u == u and after >= price:
            u += least_tie * tie[i]
            f = soft[pending - before]
            least, theta, most = u, u, u
            if n:
                least, theta, most = min(u, kept[0]), _quantile(kept, n, u, 1 - f), max(u, kept[n - 1])
            spare = float(after) / unit - (0.0 if alarmed else rest)
            threshold = theta - (most - least) * (spare / w_tol)
            branch = 1
            if after > cap:
                own, branch, p_ask = True, 3, 1.0
            elif u >= threshold:
                keep = b / f
                own, p_ask = True, 1.0
                if keep != 1.0:
                    own, branch, p_ask = soften[i] < keep, 2, keep
        asked = own or drawn[i] < chance
        if p_ask != 1.0 or drawn[i] < chance:
            p_ask = p_ask + (1 - p_ask) * chance
        if u == u and line.shape[0]:
            n, oldest = _replace(line, kept, n, oldest, u)
        if own:
            after -= price
        level = min(after, cap)
        if asked and not own:
            level -= price_drawn
        pending += asked
        alarmed = max(0, alarmed - 1)
        flags[i] = own + 2 * (drawn[i] < chance) + 4 * branch
        told[i, 0], told[i, 1], told[i, 2] = u, threshold, p_ask
    counts[0], counts[1], counts[2], counts[3] = n, oldest, pending, alarmed
    ledger[0] = level


def load() -> None:
    """Compile the kernels or load them from the cache."""
    one, count = np.ones(1), np.ones(6, np.int64)
    few, table = np.zeros(4, np.int64), np.ones((1, 3))
    filter_run(one, one, one, one, np.ones(2), one.copy(), one.copy(), few, count, np.ones(5), count.copy(), table)
    square, row = np.eye(1), np.ones(1)
    closer(square, row, row)
    approach(square, row.copy(), row)
    leverage(square, row)
    sherman_morrison(square.copy(), row)
