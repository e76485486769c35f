"""The gain expected of further labels: probabilistic active learning (Kottke, Krempl, Spiliopoulou 2015).

With a_i = k_i + prior, k_i the label mass of class i near the event, A their sum:
gain = max over m = 1..M of (E_l[max_i (a_i + l_i)] / (A + m) - max_i a_i / A) / m,
l of the Dirichlet-multinomial distribution with m and a.

>>> [round(float(g), 4) for g in expected_gain([[0.3004, 0.134], [0.2827, 2.6094]], m_max=2)]
[0.1795, 0.0]
"""

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

SMALLEST = 1e-12
"""Gains below are 0: what rounding leaves of 0 must not decide between events."""


def expected_gain(k: ArrayLike, prior: float = 0.001, m_max: int = 2) -> NDArray[np.float64]:
    """k: (n, C) label mass near each event. Returns (n,) gains, 0 or more; costs of a mistake are all 1.

    The number of cases is that of the ways to distribute m labels over C classes; m_max = 1 for many classes.
    """
    a = np.asarray(k, np.float64) + prior
    total = a.sum(axis=1)
    now = a.max(axis=1) / total
    best = np.zeros(len(a))
    for m in range(1, m_max + 1):
        expected = np.zeros(len(a))
        for labels in _compositions(m, a.shape[1]):
            expected += _chance(a, total, labels, m) * (a + np.array(labels)).max(axis=1)
        best = np.maximum(best, (expected / (total + m) - now) / m)
    return np.where(best < SMALLEST, 0.0, best)


def _chance(
    a: NDArray[np.float64], total: NDArray[np.float64], labels: tuple[int, ...], m: int
) -> NDArray[np.float64]:
    """The probability of these m labels: the multinomial coefficient and rising factorials, exact for small m."""
    p = np.full(len(a), float(math.factorial(m)))
    for i, count in enumerate(labels):
        for j in range(count):
            p *= (a[:, i] + j) / (j + 1)
    for j in range(m):
        p /= total + j
    return p


@lru_cache(maxsize=64)
def _compositions(m: int, classes: int) -> tuple[tuple[int, ...], ...]:
    return tuple(_each(m, classes))


def _each(m: int, classes: int) -> Iterator[tuple[int, ...]]:
    """Every way to give m labels to the classes."""
    if classes == 1:
        yield (m,)
        return
    for first in range(m + 1):
        for rest in _each(m - first, classes - 1):
            yield (first, *rest)
