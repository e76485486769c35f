"""Balance functions, compiled: how much of its worth a resource keeps at a load.

A function is a row of `curves` (c, 6) float64: kind, first point, number of points, step, unit, tail; see
`streamd.matching.balance.Curve`. points: (m, 2) float64, values and derivatives of all functions.
"""

import math

from numba import njit

ONE, LEAST, RANK, PERTURBED, EXP, SC, POINTS, SERIES, LINES = 0, 1, 2, 3, 4, 5, 6, 7, 8


@njit(cache=True, error_model="numpy", inline="always")
def balance(curves, points, c, load, capacity, rank):  # type: ignore[no-untyped-def]
    """k of one resource: its curve, load, capacity and rank."""
    kind, unit = curves[c, 0], curves[c, 4]
    k = 1.0
    if kind == RANK:
        k = -rank
    elif kind == PERTURBED:
        k = 1.0 - math.exp(rank - 1.0)
    elif kind != ONE:
        x = load / (capacity / unit) if unit > 0.0 else load / capacity if capacity > 0.0 else math.inf
        if kind == LEAST:
            k = -x
        elif kind == EXP:
            k = max(0.0, 1.0 - math.exp(x - 1.0))
        elif kind == SC:
            k = _sc(x)
        else:
            k = _tabled(kind, curves, points, c, x)
    return k


@njit(cache=True, error_model="numpy")
def _tabled(kind, curves, points, c, x):  # type: ignore[no-untyped-def]
    first, size, step, tail = int(curves[c, 1]), int(curves[c, 2]), curves[c, 3], curves[c, 5]
    if kind == SERIES and x >= step * (size - 1.0):
        return _series(1.0 + x)
    if kind == LINES:
        return _line(points[first : first + size], step, tail, x)
    return _hermite(points[first : first + size], step, tail, x)


@njit(cache=True, error_model="numpy")
def _sc(x):  # type: ignore[no-untyped-def]
    z = math.exp(-x / 2.0)
    if z < 1e-3:
        return z / 2.0 + z * z / 12.0 + z * z * z / 48.0
    return 2.0 + 2.0 * ((2.0 - z) / z) * math.log(1.0 - z / 2.0)


@njit(cache=True, error_model="numpy")
def _series(y):  # type: ignore[no-untyped-def]
    """e^y E1(y) for large y: 1/y - 1/y^2 + 2/y^3 - ..."""
    total, part = 0.0, 1.0 / y
    for i in range(1, 20):
        total += part
        part *= -i / y
    return total


@njit(cache=True, error_model="numpy")
def _line(points, step, tail, x):  # type: ignore[no-untyped-def]
    last = points.shape[0] - 1
    if x >= last * step:
        return points[last, 0] * math.exp(-tail * (x - last * step))
    i = int(x / step)
    t = x / step - i
    return points[i, 0] + t * (points[i + 1, 0] - points[i, 0])


@njit(cache=True, error_model="numpy")
def _hermite(points, step, tail, x):  # type: ignore[no-untyped-def]
    last = points.shape[0] - 1
    if x >= last * step:
        return points[last, 0] * math.exp(-tail * (x - last * step))
    i = int(x / step)
    t = x / step - i
    a, b = points[i, 0], points[i + 1, 0]
    da, db = step * points[i, 1], step * points[i + 1, 1]
    return a + t * (da + t * (3.0 * (b - a) - 2.0 * da - db + t * (2.0 * (a - b) + da + db)))
