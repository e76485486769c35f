"""DBALStream: only where events lie densely does the uncertainty count (Ienco, Zliobaite, Pfahringer 2014).

If an event is the new nearest neighbour of at least one of the last w events, it goes to the randomised variable
threshold; otherwise it is not asked for, and theta grows. The utility to give it is the margin's, 1 - (p1 - p2).
"""

import math

from streamd.querying.decision import REFUSED, RULE, Budget, Candidate, Decision, Draws
from streamd.querying.neighbours import Sliding
from streamd.querying.random_variable import RandomVariable
from streamd.snapshot import State


class DBALStream(RandomVariable):
    """window_size: events of which the density is taken; delta, theta, s as in `RandomVariable`."""

    def __init__(
        self, budget: Budget, window_size: int = 100, delta: float = 1.0, theta: float = 1.0, s: float = 0.01
    ) -> None:
        super().__init__(budget, delta, theta, s)
        self.neighbours = Sliding(window_size)

    def decide(self, candidate: Candidate, draws: Draws) -> Decision:
        decision = super().decide(candidate, draws)
        if decision.branch == REFUSED or candidate.x is None or self.neighbours.density(candidate.x) > 0:
            return decision
        return Decision(False, RULE, candidate.utility, math.inf, 0.0)

    def moved(self, candidate: Candidate, decision: Decision) -> None:
        super().moved(candidate, decision)
        if candidate.x is not None:
            self.neighbours.add(candidate.x)

    def state(self) -> State:
        arrays = self.neighbours.state().arrays | super().state().arrays
        return State(arrays, {})

    def restore(self, state: State) -> None:
        super().restore(state)
        self.neighbours.restore(state)
