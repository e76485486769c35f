"""How much a label is worth, from the probabilities predicted: all in [0, 1], 1 where the model knows nothing.

A row of probabilities may be anything a model comes up with. It is repaired first (`repaired`): what is not finite
or below 0 counts as 0, the rest is scaled to sum 1. A row with nothing left, no class, or one class only says
nothing, and its utility is 1: a tree that saw one class is not certain, it is ignorant.

>>> p = [[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]]
>>> least_confident(p).round(4).tolist(), margin(p).round(4).tolist(), entropy(p).round(4).tolist()
([0.5, 0.0], [0.8, 0.0], [0.9372, 0.0])
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

NEAR_ONE = 1e-6  # a sum of probabilities further off is counted as bad


def repaired(p: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    """(n, C) rows that sum to one, uniform where a row said nothing; and (n,) which rows were bad."""
    rows = np.atleast_2d(np.asarray(p, np.float64))
    usable = np.where(np.isfinite(rows) & (rows >= 0), rows, 0.0)
    peak = usable.max(axis=1, keepdims=True, initial=0.0)
    usable = usable / np.where(peak > 0, peak, 1.0)  # no sum of finite numbers overflows
    total = usable.sum(axis=1)
    silent = total <= 0
    bad = (usable * peak != rows).any(axis=1) | silent | (np.abs(total * peak[:, 0] - 1.0) > NEAR_ONE)
    usable[silent] = 1.0
    total[silent] = rows.shape[1]
    return usable / np.where(total > 0, total, 1.0)[:, None], bad


def least_confident(p: ArrayLike) -> Floats:
    """1 - pmax, (n,)."""
    rows, _ = repaired(p)
    return np.ones(len(rows)) if rows.shape[1] < 2 else 1.0 - rows.max(axis=1)


def margin(p: ArrayLike) -> Floats:
    """1 - (p1 - p2), (n,): the two likeliest classes."""
    rows, _ = repaired(p)
    if rows.shape[1] < 2:
        return np.ones(len(rows))
    top = np.partition(rows, -2, axis=1)
    worth: Floats = 1.0 - (top[:, -1] - top[:, -2])
    return worth


def entropy(p: ArrayLike) -> Floats:
    """-sum p ln p / ln C, (n,)."""
    rows, _ = repaired(p)
    if rows.shape[1] < 2:
        return np.ones(len(rows))
    logs = np.log(np.where(rows > 0, rows, 1.0))
    worth: Floats = np.clip(-(rows * logs).sum(axis=1) / math.log(rows.shape[1]), 0.0, 1.0) + 0.0
    return worth


def ss3(cv: ArrayLike) -> tuple[Floats, Floats]:
    """From (n, C) confidence values of SS3: utilities 1 - (cv1 - cv2) / (cv1 + cv2), and p = cv / sum cv.

    A document none of whose words is known has cv = 0 throughout: utility 1, p uniform.
    """
    rows, _ = repaired(cv)
    if rows.shape[1] < 2:
        return np.ones(len(rows)), rows
    top = np.partition(rows, -2, axis=1)
    both = top[:, -1] + top[:, -2]
    return np.where(both > 0, 1.0 - (top[:, -1] - top[:, -2]) / np.where(both > 0, both, 1.0), 1.0), rows


def expected_model_change(p: ArrayLike, length: ArrayLike) -> Floats:
    """How far a gradient step of log loss would move a linear model, in the mean over the labels predicted: (n,).

    For label y the gradient has the length ||x|| ||p - e_y||, with ||p - e_y||^2 = 1 - 2 p_y + sum p^2. Given
    length = ||x||, (n,), 1 for features of equal length; scaled by the largest value two equal classes have.
    """
    rows, _ = repaired(p)
    norms = np.asarray(length, np.float64)
    if rows.shape[1] < 2:
        return np.ones(len(rows))
    square = (rows * rows).sum(axis=1, keepdims=True)
    change: Floats = (rows * np.sqrt(np.maximum(1.0 - 2.0 * rows + square, 0.0))).sum(axis=1)
    return norms * change


def density_weighted(utility: ArrayLike, density: ArrayLike, beta: float = 1.0) -> Floats:
    """u density^beta, density in [0, 1]: the share of recent events that lie nearby (Settles, Craven 2008)."""
    weighted: Floats = np.asarray(utility, np.float64) * np.asarray(density, np.float64) ** beta
    return weighted


def worth(p: Sequence[float]) -> float:
    """`least_confident` of one row; the fast way for the sound rows that nearly all are."""
    if len(p) < 2:
        return 1.0
    peak = max(p)
    if 0.0 < peak <= 1.0 and min(p) >= 0.0 and abs(sum(p) - 1.0) <= NEAR_ONE:
        return 1.0 - peak
    return float(least_confident([p])[0])


def worths(rows: Floats) -> Floats:
    """`worth` of each of (n, C) rows, C 2 or more."""
    peak = rows.max(axis=1)
    sure = (peak > 0.0) & (peak <= 1.0) & (rows.min(axis=1) >= 0.0)
    sure &= np.abs(rows.sum(axis=1) - 1.0) <= 0.9 * NEAR_ONE
    found: Floats = 1.0 - peak
    for i in np.flatnonzero(~sure).tolist():
        found[i] = worth(rows[i].tolist())
    return found


def ss3_worth(p: Sequence[float]) -> float:
    """`ss3` of one row; the fast way for finite ones."""
    if len(p) < 2:
        return 1.0
    if not (min(p) >= 0.0 and sum(p) < math.inf):
        return float(ss3([p])[0][0])
    second, first = sorted(p)[-2:]
    return 1.0 - (first - second) / (first + second) if first + second > 0.0 else 1.0


def boundary(p: Sequence[float], chosen: Sequence[int]) -> Sequence[float]:
    """The two that a decision for several classes hangs on: the least of those chosen, the largest of the others.

    Where it chose none or all, nothing tells them apart, and p is given back.

    >>> boundary([0.4, 0.3, 0.2, 0.1], [1, 0])
    [0.3, 0.2]
    """
    left = set(range(len(p))).difference(chosen)
    return [min(p[c] for c in chosen), max(p[c] for c in left)] if chosen and left else p


UTILITIES = {"least_confident": least_confident, "margin": margin, "entropy": entropy}
