"""The ratio a balance function is good for, from the inequality of its proof (one unit, vanishing p).

A match at load x gives w p (1 - k(x)) to its resource and w p k(x) to its arrival. Fix all that is random except
the load theta ~ Exp(1) at which one resource succeeds, and let L be the load it would reach if it never did. What
the pair earns must be at least Gamma times what the bound earns on it, for every L:

    matching LP        A(L) + k(L) e^-L + int_0^L e^-t [k(L) - loss(t)]^+ dt          >= Gamma
    non-clairvoyant    A(L) + k(L) (1 + L) e^-L [+ int_0^L e^-t [t k(L) - loss(t)]^+ dt] >= Gamma

with A(L) = int_0^L e^-t (1 - k(t)) dt and, where the resource succeeds at t < L, a loss by arrivals that went
elsewhere: (L - t) k(L) if all probabilities are equal, int_t^L k if not. A multiple of k is as good a rule as k,
so the best multiple is taken. The inequalities are derived from the papers' statements; that they give 0.57610
(hz), 2 - 2 ln 2 (sc) and e E1(1) (gu), as published, is their check.

>>> round(certified("hz", equal=True, bound="matching LP"), 5)
0.5761
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from streamd.matching.balance import value

Bound = Literal["matching LP", "non-clairvoyant"]
Floats = NDArray[np.float64]


def certified(
    f: str, *, equal: bool, bound: Bound, simple: bool = False, end: float = 12.0, n: int = 1200
) -> float:
    """Gamma of the function `f` on a grid of n loads up to `end`.

    equal: whether all probabilities are the same; simple: without the last integral of the non-clairvoyant bound.
    """
    x = np.linspace(0.0, end, n + 1)
    k = np.array([value(f, load) for load in x]) if f != "greedy" else np.ones(n + 1)

    def gamma(scale: float) -> float:
        return float(_earned(scale * k, x, equal, bound, simple).min())

    best = minimize_scalar(
        lambda scale: -gamma(scale), bounds=(0.2, 1.5), method="bounded", options={"xatol": 1e-9}
    )
    return max(gamma(1.0), -float(best.fun))


def _earned(k: Floats, x: Floats, equal: bool, bound: Bound, simple: bool) -> Floats:
    """(n + 1,) the left side for every L of the grid."""
    A = _running(np.exp(-x) * (1.0 - k), x)
    if bound == "matching LP":
        return A + k * np.exp(-x) + _rerouted(k, x, equal, np.ones(len(x)))
    earned: Floats = A + k * (1.0 + x) * np.exp(-x)
    return earned if simple else earned + _rerouted(k, x, equal, x)


def _rerouted(k: Floats, x: Floats, equal: bool, mass: Floats) -> Floats:
    """int_0^L e^-t [mass(t) k(L) - loss(t)]^+ dt for every L."""
    whole = _running(k, x)
    result = np.empty(len(x))
    for i in range(len(x)):
        t = x[: i + 1]
        loss = (x[i] - t) * k[i] if equal else whole[i] - whole[: i + 1]
        result[i] = _running(np.exp(-t) * np.maximum(mass[: i + 1] * k[i] - loss, 0.0), t)[-1]
    return result


def _running(y: Floats, x: Floats) -> Floats:
    """Trapezoids."""
    total: Floats = np.concatenate([[0.0], np.cumsum((y[1:] + y[:-1]) / 2.0 * np.diff(x))])
    return total
