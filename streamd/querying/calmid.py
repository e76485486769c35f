"""CALMID, for many classes and few of most: a threshold of the margin for each pair of classes (Liu et al. 2021).

For i the likeliest class and j the second, an event is asked for if its margin is below theta[i, j]; otherwise
with probability s / (s + margin - theta[i, j]), s = b - spent / seen. Apart from that a share r of the events is
asked for at random, and only those tell how frequent each class is. A label y then moves theta[i, j]: where the
margin was below it, by 0.99 if y = i, once more if y is not rare; by 0.99 if y = j is not rare; where it was above
and y = j, up by 1.01, to at least 0.5. A label is learned with weight 1 + ln(1 + difficulty + 1 / ratio).

The first `initial` events that the bucket pays for are asked for as they come; the authors' code labels 500
outside the budget. What it does at once, ours does when the label comes.
"""

import math
from collections.abc import Sequence

import numpy as np

from streamd.errors import ConfigError
from streamd.querying.decision import (
    FORCED,
    RANDOM,
    REFUSED,
    RULE,
    Budget,
    Candidate,
    Decision,
    Draws,
    Strategy,
    numbers,
    refused,
)
from streamd.snapshot import State

STEP = 0.01


class CALMID(Strategy):
    """r: the random share; theta: the thresholds at the start; window: draws that tell the frequencies;
    initial: labels asked for at first; classes: at most so many (a square table of them is kept)."""

    def __init__(
        self,
        budget: Budget,
        r: float = 0.1,
        theta: float = 0.5,
        window: int = 500,
        initial: int = 500,
        classes: int = 256,
    ) -> None:
        if not 0.0 <= r <= 1.0:
            raise ConfigError("r", "must be within 0 and 1")
        super().__init__(budget)
        self.r = r
        self.theta = theta
        self.initial = initial
        self.classes = classes
        self._thresholds = np.full((2, 2), theta)
        self._drawn = np.full(window, -1.0)  # the class of a random label, -1: an event not drawn
        self._counts = np.array([0.0, 0.0, 0.0, 0.0])  # events, asked, initial ones, place in the window

    def decide(self, candidate: Candidate, draws: Draws) -> Decision:
        u, p = candidate.utility, candidate.p
        if u != u or not self.budget.left(candidate):
            return refused(candidate)
        if self._counts[2] < self.initial:
            return Decision(True, FORCED, u, 0.0, 1.0)
        margin, threshold = self._compare(p)
        if margin < threshold:
            own = 1.0
        else:
            spare = max(0.0, self.budget.share - self._counts[1] / (self._counts[0] + 1))
            own = spare / (spare + margin - threshold) if spare > 0 else 0.0
        p_ask = self.r + (1 - self.r) * own
        if draws.uniform("calmid/random") < self.r:
            return Decision(True, RANDOM, u, 1 - threshold, p_ask)
        return Decision(draws.uniform("calmid") < own, RULE, u, 1 - threshold, p_ask)

    def moved(self, candidate: Candidate, decision: Decision) -> None:
        self._counts[0] += 1
        self._counts[1] += decision.own
        self._counts[2] += decision.branch == FORCED
        if decision.branch != REFUSED and not (decision.own and decision.branch in (RANDOM, FORCED)):
            self._draw(-1)  # the others enter with their class, when the label comes

    def taught(self, p: Sequence[float], label: int, decision: Decision) -> float:
        if decision.branch in (RANDOM, FORCED) or decision.drawn:
            self._draw(label)
        ratio = self._ratio(label)
        if len(p) < 2:
            return 1.0 + math.log1p(1.0 + 1.0 / ratio)
        i, j = _top(p)
        margin = p[i] - p[j]
        self._grow(max(i, j, label) + 1)
        if max(i, j) < len(self._thresholds):
            self._move(i, j, label, margin, ratio > 0.5)
        f = 1.0 if label == i else -1.0
        second = 1.0 if label == j else 0.0
        difficulty = (1.0 - f * margin) * math.exp(1.0 - f - second)
        return 1.0 + math.log1p(difficulty + 1.0 / ratio)

    def _compare(self, p: Sequence[float]) -> tuple[float, float]:
        """(margin, threshold of the pair)."""
        if len(p) < 2:
            return 0.0, self.theta
        i, j = _top(p)
        known = max(i, j) < len(self._thresholds)
        return p[i] - p[j], float(self._thresholds[i, j]) if known else self.theta

    def _move(self, i: int, j: int, label: int, margin: float, common: bool) -> None:
        threshold = self._thresholds[i, j]
        if margin < threshold:
            steps = 1 + common if label == i else int(label == j and common)
            self._thresholds[i, j] = threshold * (1 - STEP) ** steps
        elif label == j:
            self._thresholds[i, j] = max(self.theta, threshold * (1 + STEP))

    def _ratio(self, label: int) -> float:
        """How frequent a class is among the random labels, 1 for the mean over classes; at least one is
        assumed."""
        known = self._drawn[self._drawn >= 0]
        classes = max(2, len(self._thresholds))
        return max(1, int((known == label).sum())) * classes / max(1, len(known))

    def _draw(self, label: int) -> None:
        place = int(self._counts[3])
        self._drawn[place] = label
        self._counts[3] = (place + 1) % len(self._drawn)

    def _grow(self, classes: int) -> None:
        have = len(self._thresholds)
        if have < classes <= self.classes:
            larger = np.full((classes, classes), self.theta)
            larger[:have, :have] = self._thresholds
            self._thresholds = larger

    def state(self) -> State:
        return State({"thresholds": self._thresholds, "drawn": self._drawn, "counts": self._counts}, {})

    def restore(self, state: State) -> None:
        self._thresholds = numbers(state, "thresholds", (-1, -1))
        self._drawn = numbers(state, "drawn", self._drawn.shape)
        self._counts = numbers(state, "counts", (4,))


def _top(p: Sequence[float]) -> tuple[int, int]:
    """The likeliest class and the second."""
    i = max(range(len(p)), key=p.__getitem__)
    j = max((c for c in range(len(p)) if c != i), key=p.__getitem__)
    return i, j
