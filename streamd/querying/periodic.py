"""Periodic: ask whenever a whole label is to spare."""

from streamd.querying.decision import Budget, Candidate, Decision, Draws, Strategy, ruled


class Periodic(Strategy):
    """With `Count(b)`, every 1/b-th event, whatever it is."""

    def __init__(self, budget: Budget) -> None:
        super().__init__(budget)

    def decide(self, candidate: Candidate, draws: Draws) -> Decision:
        return ruled(candidate, self.budget.balance(candidate) >= 1, 0.0)
