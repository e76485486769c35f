"""How good early decisions are: ERDE_o and the latency-weighted F1, beside the two that need no model.

ERDE_o (Losada, Crestani 2016) is the mean over subjects of the cost of the decision taken after k posts: a false
positive c_fp (by default the share of positives), a false negative 1, a true negative 0, a true positive
lc_o(k) = 1 - 1/(1 + e^(k-o)). F_latency (Sadeque, Xu, Bethard 2018) is F1 (1 - the median over true positives of
penalty(k)), with penalty(k) = -1 + 2/(1 + e^(-p(k-1))) and p = 0.0078.

>>> round(lc(1, 5), 6), lc(50, 50)
(0.017986, 0.5)
"""

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

P_LATENCY = 0.0078


class Decision(NamedTuple):
    """Of one subject. posts: how many had been read when it was taken; of a negative one, how many there were."""

    truth: bool
    positive: bool
    posts: int


class Evaluation(NamedTuple):
    """erde: by o, not multiplied by 100."""

    erde: dict[int, float]
    precision: float
    recall: float
    f1: float
    f_latency: float
    subjects: int
    positives: int


class Comparison(NamedTuple):
    decided: Evaluation
    everyone: Evaluation  # alert about everyone, after one post
    nobody: Evaluation


def lc(k: int, o: float) -> float:
    """The cost of a true positive after k posts."""
    return 1.0 - 1.0 / (1.0 + math.exp(min(k - o, 700.0)))


def penalty(k: float, p: float = P_LATENCY) -> float:
    return -1.0 + 2.0 / (1.0 + math.exp(-p * (k - 1)))


def erde(decisions: Sequence[Decision], o: float, c_fp: float | None = None) -> float:
    """c_fp: None for the share of positives among these subjects."""
    if not decisions:
        return 0.0
    c_fp = sum(d.truth for d in decisions) / len(decisions) if c_fp is None else c_fp
    costs = [(lc(d.posts, o) if d.positive else 1.0) if d.truth else c_fp * d.positive for d in decisions]
    return sum(costs) / len(decisions)


def evaluate(decisions: Sequence[Decision], os: Sequence[int] = (5, 50), c_fp: float | None = None) -> Evaluation:
    found = [d.posts for d in decisions if d.truth and d.positive]
    positives, alerts = sum(d.truth for d in decisions), sum(d.positive for d in decisions)
    precision = len(found) / alerts if alerts else 0.0
    recall = len(found) / positives if positives else 0.0
    f1 = 2 * precision * recall / (precision + recall) if found else 0.0
    speed = 1.0 - median(penalty(k) for k in found) if found else 0.0
    by_o = {o: erde(decisions, o, c_fp) for o in os}
    return Evaluation(by_o, precision, recall, f1, f1 * speed, len(decisions), positives)


def compare(decisions: Sequence[Decision], os: Sequence[int] = (5, 50), c_fp: float | None = None) -> Comparison:
    """The decisions beside the two constant ones."""
    everyone = [Decision(d.truth, True, 1) for d in decisions]
    nobody = [Decision(d.truth, False, d.posts) for d in decisions]
    return Comparison(*(evaluate(list(taken), os, c_fp) for taken in (decisions, everyone, nobody)))
