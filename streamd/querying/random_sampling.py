"""Random: every event with the same probability, the budget. The yardstick, and the only unbiased sample.

`limited` asks for a label only while more than one label is to spare (as scikit-activeml's
`allow_exceeding_budget=False`); otherwise the number of labels varies as chance has it, and the budget only
counts. With a token bucket, `limited` is not needed: what the bucket refuses, it refuses.
"""

from streamd.querying.budgets import TokenBucket
from streamd.querying.decision import RANDOM, Budget, Candidate, Decision, Draws, Strategy, refused


class RandomSampling(Strategy):
    """comparison: "at_least" asks where the draw is 1 - b or more; "at_most" where it is b or less."""

    def __init__(self, budget: Budget, limited: bool = False, at_most: bool = False) -> None:
        super().__init__(budget)
        self.limited = limited
        self.at_most = at_most

    def decide(self, candidate: Candidate, draws: Draws) -> Decision:
        u = draws.uniform("random")
        b = self.budget.share
        if not self.budget.left(candidate) or (self.limited and not self.budget.balance(candidate) > 1):
            return refused(candidate)
        # A bucket that overflows would lose its labels: what it cannot hold is given out at the next event.
        rate = 1.0 if isinstance(self.budget, TokenBucket) and self.budget.full(candidate) else b
        ask = u <= rate if self.at_most else u >= 1 - rate
        known = candidate.utility == candidate.utility
        return Decision(ask and known, RANDOM, candidate.utility, 0.0, rate if known else 0.0)
