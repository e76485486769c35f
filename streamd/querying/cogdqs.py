"""CogDQS, the cognitive dual query strategy: a few points remembered as a mind would (Liu et al. 2023).

Where an event is the new nearest neighbour of at least `density_threshold` of the points, another strategy
decides; elsewhere nothing is asked. What is not passed on does not move the other strategy's budget, so that about
half the budget stays unspent, unless `force_full_budget` lets it see those events as ones not worth asking for.
"""

import math
from collections.abc import Sequence

from streamd.querying.decision import REFUSED, RULE, Candidate, Decision, Draws, Strategy
from streamd.querying.neighbours import Cognitive
from streamd.snapshot import State, merge, split


class CogDQS(Strategy):
    """strategy: that decides where it is dense: random, fixed, variable or randomised variable."""

    def __init__(
        self,
        strategy: Strategy,
        density_threshold: int = 1,
        cognition_window_size: int = 10,
        force_full_budget: bool = False,
    ) -> None:
        super().__init__(strategy.budget)
        self.strategy = strategy
        self.density_threshold = density_threshold
        self.force_full_budget = force_full_budget
        self.memory = Cognitive(cognition_window_size)

    def decide(self, candidate: Candidate, draws: Draws) -> Decision:
        if self._dense(candidate):
            return self.strategy.decide(candidate, draws)
        branch = RULE if self.force_full_budget and self.budget.left(candidate) else REFUSED
        return Decision(False, branch, candidate.utility, math.inf, 0.0)

    def apply(self, candidate: Candidate, decision: Decision) -> int:
        payer = 0
        if self._dense(candidate) or self.force_full_budget:
            payer = self.strategy.apply(candidate, decision)
        if candidate.x is not None:
            self.memory.add(candidate.x)
        return payer

    def taught(self, p: Sequence[float], label: int, decision: Decision) -> float:
        return self.strategy.taught(p, label, decision)

    def closed(self) -> None:
        self.strategy.closed()

    def alarm(self) -> None:
        self.strategy.alarm()

    def _dense(self, candidate: Candidate) -> bool:
        return candidate.x is None or self.memory.density(candidate.x) >= self.density_threshold

    def state(self) -> State:
        return merge({"memory": self.memory.state(), "strategy": self.strategy.state()})

    def restore(self, state: State) -> None:
        parts = split(state)
        self.memory.restore(parts["memory"])
        self.strategy.restore(parts["strategy"])
