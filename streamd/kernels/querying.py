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


def load() -> None:
    """Compile the kernels or load them from the cache."""
    square, row = np.eye(1), np.ones(1)
    closer(square, row, row)
    approach(square, row.copy(), row)
    leverage(square, row)
    sherman_morrison(square.copy(), row)
