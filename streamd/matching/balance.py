"""Balance functions: how much of its worth a resource keeps at load x.

Stochastic Balance offers an arrival to the available resource with the largest w p k(x), where x is the load (the
sum of the probabilities of all its attempts so far) per unit of capacity. Every decreasing k is a rule; these come
with a certificate (vanishing probabilities, one unit of capacity unless said):

    gu     e^(1+x) E1(1+x)                        0.5963   Goyal, Udwani (OR 2023): unequal p, weights
    sc     2 + 2 (2-z)/z ln(1 - z/2), z = e^(-x/2)
                                                  0.6137   2 - 2 ln 2, Huang et al. 2023 (arXiv 2309.10289): equal
                                                  p
    hz     k' = (k - e^-x)/(2 - x - e^-x), k(1) = 1/e, constant from 1 on
                                                  0.5761   Huang, Zhang (STOC 2020): equal p, matching LP
    hzu    table                                  0.572    the same, unequal p
    scu    table                                  0.611    Huang et al. 2023, unequal p
    exp    max(0, 1 - e^(x-1))                    1 - 1/e as the capacity grows, only 0.446 at one unit
    k_b    capacity-aware, see `capacity_aware`   0.5963 (b = 1) ... 0.6321 (b = inf): derived here, not published

Those papers give ratios; the functions were derived from the ratios' proofs and reproduce them. A `Curve` is what
the kernel evaluates: a closed form, or points with their derivatives (cubic Hermite, error below 1e-9).

>>> [round(value("gu", x), 4) for x in (0.0, 1.0, 5.0)]
[0.5963, 0.3613, 0.1453]
>>> round(value("sc", 0.0), 5), round(value("hz", 0.0), 5)
(0.61371, 0.5761)
>>> [round(value("k_b", x, capacity=20.0), 4) for x in (0.0, 20.0)]
[0.6259, 0.1413]
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import exp1, gammaincc, gammaln

from streamd.errors import ConfigError
from streamd.kernels import matching_balance as kernel
from streamd.matching import tables

Floats = NDArray[np.float64]

NAMES = ("gu", "sc", "hz", "hzu", "scu", "exp", "k_b")
EXACT = 256  # up to here every whole capacity has its own k_b, above the nearest of eight per octave
LARGEST = 4096  # k_b at larger capacities is this one's, to less than 1e-3
GU_END = 64.0  # beyond, the kernel takes the asymptotic series


class Curve(NamedTuple):
    """One balance function as the kernel takes it.

    kind: see `streamd.kernels.matching_balance`; step: between points; unit: the capacity it was made for, 0 for a
    function of load per unit of capacity; tail: the rate of its exponential fall beyond the points.
    points: (n, 2) value and derivative, or nothing.
    """

    kind: int
    step: float = 1.0
    unit: float = 0.0
    tail: float = 0.0
    points: Floats = np.zeros((0, 2))


def curve(name: str, capacity: float = 1.0) -> Curve:
    """The curve of this name for resources of this capacity. Raises ConfigError for an unknown name."""
    if name == "k_b":
        return capacity_aware(table_capacity(capacity))
    made = _MAKERS.get(name)
    if made is None:
        raise ConfigError("f", f"expected one of {', '.join((*NAMES, 'auto'))}")
    return made()


def table_capacity(capacity: float) -> int:
    """Whose k_b a resource of this capacity uses, its load scaled accordingly."""
    whole = max(1, round(min(capacity, LARGEST)))
    if whole <= EXACT:
        return whole
    return round(math.pow(2.0, round(8.0 * math.log2(whole)) / 8.0))


def value(name: str, load: float, capacity: float = 1.0) -> float:
    """k at this load (not per unit) for this capacity."""
    return CurveBook([curve(name, capacity)]).value(0, load, capacity)


@cache
def capacity_aware(b: int) -> Curve:
    """k_b(x) = int_x^inf S E / (M(x) E(x)), E(x) = exp(-int_0^x S/M), S = Q(b, x), M = b Q(b+1, x).

    x is the load itself. With b units a resource lives until a Gamma(b, 1) threshold: S is the chance that it
    still does at load x, M the units it has left in expectation, by the same argument that gives `gu`, which is
    k_1.
    """
    step = 0.05 * math.sqrt(b)
    width = 0.25 * math.sqrt(b)
    end = width * math.ceil((_far(b)) / width)
    nodes, weights = np.polynomial.legendre.leggauss(12)
    edges = np.arange(0.0, end + step / 2, step)
    middle = edges[:-1] + step / 2
    x = middle[:, None] + nodes * step / 2
    hazard = _alive(b, x) / _left(b, x)
    total = np.concatenate([[0.0], np.cumsum(hazard @ weights * step / 2)])
    within = _running(b, edges[:-1], x, nodes, weights)
    log_E = -(total[:-1, None] + within)
    parts = (_alive(b, x) * np.exp(log_E)) @ weights * step / 2
    ahead = np.concatenate([np.cumsum(parts[::-1])[::-1], [0.0]])
    M, S = _left(b, edges), _alive(b, edges)
    use = M > 1e-12
    k = ahead[use] / (M[use] * np.exp(-total[use]))
    x = edges[use]
    log_f = (b - 1) * np.log(np.maximum(x, 1e-300)) - x - gammaln(b)
    f = np.exp(log_f) if b > 1 else np.exp(-x)
    slope = (k * x * f - S[use] * (1.0 - k)) / M[use]
    return Curve(kernel.POINTS, step, float(b), 1.0 / b, np.column_stack([k, slope]))


def _far(b: int) -> float:
    """Where survival is below 1e-200: nothing beyond counts, and little beyond it is 0 by underflow."""
    far = b + 10.0
    while gammaincc(b, far) > 1e-200:
        far += math.sqrt(b)
    return far


def _running(b: int, edges: Floats, x: Floats, nodes: Floats, weights: Floats) -> Floats:
    """int of S/M from each panel's edge to each of its nodes, (panels, nodes)."""
    span = x - edges[:, None]
    inner = edges[:, None, None] + span[:, :, None] * (nodes + 1.0) / 2.0
    ratios: Floats = _alive(b, inner) / _left(b, inner)
    result: Floats = (ratios @ weights) * span / 2.0
    return result


def _alive(b: int, x: Floats) -> Floats:
    survival: Floats = gammaincc(b, x)
    return survival


def _left(b: int, x: Floats) -> Floats:
    left: Floats = b * gammaincc(b + 1, x)
    return left


@cache
def _gu() -> Curve:
    step = 0.01
    x = np.arange(0.0, GU_END + step / 2, step)
    k = np.exp(1.0 + x) * exp1(1.0 + x)
    return Curve(kernel.SERIES, step, 0.0, 0.0, np.column_stack([k, k - 1.0 / (1.0 + x)]))


@cache
def _hz() -> Curve:
    """Runge-Kutta from 1 down to 0; the last point has no slope, so that the curve is constant beyond."""
    n = 200
    step = 1.0 / n
    k = np.empty(n + 1)
    k[n] = math.exp(-1.0)
    for i in range(n, 0, -1):
        x, y = i * step, k[i]
        a = _hz_slope(x, y)
        b = _hz_slope(x - step / 2, y - step / 2 * a)
        c = _hz_slope(x - step / 2, y - step / 2 * b)
        d = _hz_slope(x - step, y - step * c)
        k[i - 1] = y - step / 6 * (a + 2 * b + 2 * c + d)
    slope = np.array([_hz_slope(i * step, float(y)) for i, y in enumerate(k)])
    return Curve(kernel.POINTS, step, 0.0, 0.0, np.column_stack([k, slope]))


def _hz_slope(x: float, k: float) -> float:
    return (k - math.exp(-x)) / (2.0 - x - math.exp(-x))


def _table(values: Sequence[float], tail: float) -> Curve:
    k = np.array(values)
    return Curve(kernel.LINES, tables.STEP, 0.0, tail, np.column_stack([k, np.zeros(len(k))]))


_MAKERS: dict[str, Callable[[], Curve]] = {
    "one": lambda: Curve(kernel.ONE),
    "least": lambda: Curve(kernel.LEAST),
    "rank": lambda: Curve(kernel.RANK),
    "perturbed": lambda: Curve(kernel.PERTURBED),
    "exp": lambda: Curve(kernel.EXP),
    "sc": lambda: Curve(kernel.SC),
    "gu": _gu,
    "hz": _hz,
    "hzu": lambda: _table(tables.HZU, 0.0),
    "scu": lambda: _table(tables.SCU, 0.36),
}


class CurveBook:
    """Curves side by side, as the kernel takes them.

    curves: (m, 6) float64: kind, first point, points, step, unit, tail.  points: (n, 2) float64.
    """

    def __init__(self, curves: Sequence[Curve] = ()) -> None:
        self.curves = np.zeros((0, 6))
        self.points = np.zeros((0, 2))
        for one in curves:
            self.add(one)

    def add(self, new: Curve) -> int:
        """Its number."""
        row = [float(new.kind), float(len(self.points)), float(len(new.points)), new.step, new.unit, new.tail]
        self.curves = np.vstack([self.curves, row])
        self.points = np.vstack([self.points, new.points])
        return len(self.curves) - 1

    def value(self, number: int, load: float, capacity: float, rank: float = 0.0) -> float:
        """k of a resource with this load and capacity."""
        return float(kernel.balance(self.curves, self.points, number, load, capacity, rank))
