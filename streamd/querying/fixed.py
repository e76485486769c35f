"""Fixed threshold: ask where the confidence 1 - u is at most theta (Zliobaite, Bifet, Pfahringer, Holmes 2014).

theta = 1/c + b (1 - 1/c) by default. It couples the threshold to the budget: it rarely spends it, and where a
model is sure of itself from its first label on (a tree), it asks no second time. Here for comparison; do not use
it.
"""

from streamd.querying.decision import Budget, Candidate, Decision, Draws, Strategy, refused, ruled


class Fixed(Strategy):
    """classes: how many, for the default theta; theta: another threshold of the confidence, in (0, 1]."""

    def __init__(self, budget: Budget, classes: int = 2, theta: float | None = None) -> None:
        super().__init__(budget)
        self.theta = 1 / classes + budget.share * (1 - 1 / classes) if theta is None else theta

    def decide(self, candidate: Candidate, draws: Draws) -> Decision:
        if not self.budget.left(candidate):
            return refused(candidate)
        return ruled(candidate, 1 - candidate.utility <= self.theta, 1 - self.theta)
