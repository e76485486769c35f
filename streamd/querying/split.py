"""Split: a share v of the events at random, the others by the variable threshold (Zliobaite et al. 2014)."""

from streamd.querying.decision import RANDOM, RULE, Budget, Candidate, Decision, Draws, refused
from streamd.querying.variable import Variable


class Split(Variable):
    """v: the share of events that the random strategy decides; theta, s as in `Variable`."""

    def __init__(self, budget: Budget, v: float = 0.1, theta: float = 1.0, s: float = 0.01) -> None:
        super().__init__(budget, theta, s)
        self.v = v

    def decide(self, candidate: Candidate, draws: Draws) -> Decision:
        if not self.budget.left(candidate):
            return refused(candidate)
        certain = 1 - candidate.utility < self.theta
        p_ask = self.v * self.budget.share + (1 - self.v) * certain
        if self.v > draws.uniform("split"):
            ask = draws.uniform("random") <= self.budget.share
            return Decision(ask, RANDOM, candidate.utility, 1 - self.theta, p_ask)
        return Decision(certain, RULE, candidate.utility, 1 - self.theta, p_ask)
