"""Selective sampling: ask with probability b / (b + m), m how far the prediction is from a guess.

Cesa-Bianchi, Gentile and Zaniboni (2006) have m = |w.x| for the perceptron, and the mistake bound of the full
information for the right b; for probabilities m = pmax - 1/c, as MOA has it. A further parameter of theirs, b, is
here the budget's share unless given. The accounting is the budget's.
"""

from streamd.querying.decision import RANDOM, Budget, Candidate, Decision, Draws, Strategy, refused


class SelectiveSampling(Strategy):
    """b: the constant of the rule; None: the budget's share."""

    def __init__(self, budget: Budget, b: float | None = None) -> None:
        super().__init__(budget)
        self.b = budget.share if b is None else b

    def decide(self, candidate: Candidate, draws: Draws) -> Decision:
        if not self.budget.left(candidate) or candidate.utility != candidate.utility:
            return refused(candidate)
        classes = max(2, len(candidate.p))
        m = max(0.0, 1 - candidate.utility - 1 / classes)
        chance = self.b / (self.b + m) if self.b > 0 else 0.0
        return Decision(draws.uniform("selective") < chance, RANDOM, candidate.utility, 0.0, chance)
