"""Disagreement of a committee: an online-bagged ensemble, or the experts and oracles a pipeline has anyway.

Online bagging (Oza and Russell 2001): member k learns each label with weight Poisson(1), drawn by
`EventDraws.poisson(f"bag/{k}")`.

>>> members = [[[0.9, 0.1]], [[0.2, 0.8]]]
>>> vote_entropy(members).round(4).tolist(), mean_kl(members).round(4).tolist()
([0.6931], [0.2754])
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamd.querying.utilities import repaired

Floats = NDArray[np.float64]


def vote_entropy(members: ArrayLike) -> Floats:
    """members: (K, n, C) probabilities. -sum_c (V_c / K) ln(V_c / K) in nats, (n,); V_c the members that name
    c."""
    p = _sound(members)
    votes = np.zeros(p.shape[1:])
    for row in p:
        votes[np.arange(len(row)), row.argmax(axis=1)] += 1.0 / len(p)
    logs = np.log(np.where(votes > 0, votes, 1.0))
    entropy: Floats = -(votes * logs).sum(axis=1) + 0.0
    return entropy


def mean_kl(members: ArrayLike) -> Floats:
    """The mean divergence of the members from their average, in nats, (n,); 0 or more."""
    p = _sound(members)
    average = p.mean(axis=0)
    ratio = np.where(p > 0, p, 1.0) / np.where((p > 0) & (average > 0), average, 1.0)
    kl: Floats = np.maximum((p * np.log(ratio)).sum(axis=2).mean(axis=0), 0.0)
    return kl


def variance(members: ArrayLike) -> Floats:
    """members: (K, n) values of regressors. Their population variance, (n,); NaN where a value is not finite."""
    values = np.asarray(members, np.float64)
    finite = np.isfinite(values).all(axis=0)
    with np.errstate(over="ignore"):
        spread: Floats = np.where(finite, np.where(np.isfinite(values), values, 0.0).var(axis=0), np.nan)
    spread[~np.isfinite(spread)] = np.nan
    return spread


def _sound(members: ArrayLike) -> Floats:
    return np.stack([repaired(p)[0] for p in np.asarray(members, np.float64)])
