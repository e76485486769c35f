"""Randomised variable threshold: the threshold of each event is theta eta, eta ~ N(1, delta) (Zliobaite et al.
2014).

So events far from the boundary are asked for now and then, and drift there is noticed.
"""

import math

from streamd.querying.decision import RULE, Budget, Candidate, Decision, Draws, refused
from streamd.querying.variable import Variable


class RandomVariable(Variable):
    """delta: the deviation of eta; theta, s as in `Variable`."""

    def __init__(self, budget: Budget, delta: float = 1.0, theta: float = 1.0, s: float = 0.01) -> None:
        super().__init__(budget, theta, s)
        self.delta = delta

    def decide(self, candidate: Candidate, draws: Draws) -> Decision:
        if not self.budget.left(candidate):
            return refused(candidate)
        threshold = self.theta * (1 + self.delta * draws.normal("eta"))
        confidence = 1 - candidate.utility
        return Decision(confidence < threshold, RULE, candidate.utility, 1 - threshold, self._chance(confidence))

    def _chance(self, confidence: float) -> float:
        """P(confidence < theta eta) over eta."""
        if confidence != confidence:
            return 0.0
        scale = self.theta * self.delta
        if scale <= 0.0:
            return float(confidence < self.theta)
        return 0.5 * math.erfc((confidence - self.theta) / (scale * math.sqrt(2.0)))
