"""Variable threshold: theta shrinks where it asks and grows where it does not (Zliobaite et al. 2014).

theta starts at 1; ask iff the confidence 1 - u is below it, then theta *= 1 - s, else theta *= 1 + s. It does not
move while the budget is exhausted. It is moved event by event, so batches do not matter.

>>> from streamd.querying.budgets import MovingWindow
>>> from streamd.querying.draws import Keyed
>>> strategy, draws = Variable(MovingWindow(0.5)), Keyed(0, "").of("e")
>>> for _ in range(3):
...     decision = strategy.decide(Candidate("e", 0.015), draws)
...     print(decision.own, round(decision.threshold, 4))
...     payer = strategy.apply(Candidate("e", 0.015), decision)
True 0.0
True 0.01
False 0.0199
"""

import numpy as np

from streamd.querying.decision import (
    RULE,
    Budget,
    Candidate,
    Decision,
    Draws,
    Strategy,
    numbers,
    refused,
    ruled,
)
from streamd.snapshot import State


class Variable(Strategy):
    """theta: the threshold of the confidence at the start; s: the relative step."""

    def __init__(self, budget: Budget, theta: float = 1.0, s: float = 0.01) -> None:
        super().__init__(budget)
        self.s = s
        self.theta = theta

    def decide(self, candidate: Candidate, draws: Draws) -> Decision:
        if not self.budget.left(candidate):
            return refused(candidate)
        return ruled(candidate, 1 - candidate.utility < self.theta, 1 - self.theta)

    def moved(self, candidate: Candidate, decision: Decision) -> None:
        if decision.branch == RULE:
            self.theta *= 1 - self.s if decision.own else 1 + self.s

    def state(self) -> State:
        return State({"theta": np.array([self.theta])}, {})

    def restore(self, state: State) -> None:
        self.theta = float(numbers(state, "theta", (1,))[0])
