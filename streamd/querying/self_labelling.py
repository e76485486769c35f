"""Self-labelling: what is not asked for but predicted with confidence is learned with the predicted label
(Korycki and Krawczyk 2021), beside the queried labels and with a smaller weight.

Another strategy decides whom to ask. A label of one's own is taken only where the confidence 1 - u is at least
tau, and no more than `ratio` of them for each label that was answered, so that the model's own opinions never
outweigh what it was told; after an alarm it starts anew from nothing.

>>> from streamd.querying.budgets import TokenBucket
>>> from streamd.querying.periodic import Periodic
>>> strategy = SelfLabelling(Periodic(TokenBucket(0.1)), tau=0.9, ratio=1.0)
>>> from streamd.querying.decision import RULE
>>> sure, told = Candidate("e", 0.05, p=(0.05, 0.95)), Decision(False, RULE, 0.05, 0.5, 0.0)
>>> strategy.own_label(sure, told) is None
True
>>> strategy.taught((0.4, 0.6), 1, Decision(True, RULE, 0.4, 0.5, 1.0))
1.0
>>> strategy.own_label(sure, told)
(1, 0.5)
"""

from collections.abc import Sequence

import numpy as np

from streamd.errors import ConfigError
from streamd.querying.decision import Candidate, Decision, Draws, Strategy, numbers
from streamd.snapshot import State, merge, split


class SelfLabelling(Strategy):
    """tau: the confidence needed; ratio: own labels per answered one, at most; weight: of an own label."""

    def __init__(self, strategy: Strategy, tau: float = 0.95, ratio: float = 5.0, weight: float = 0.5) -> None:
        if not 0.5 <= tau <= 1.0:
            raise ConfigError("tau", "must be within 0.5 and 1")
        super().__init__(strategy.budget)
        self.strategy = strategy
        self.tau = tau
        self.ratio = ratio
        self.weight = weight
        self._credit = 0.0

    def decide(self, candidate: Candidate, draws: Draws) -> Decision:
        return self.strategy.decide(candidate, draws)

    def own_label(self, candidate: Candidate, decision: Decision) -> tuple[int, float] | None:
        """The class to be learned without asking, and its weight; or None. Pure; ask it before `apply`."""
        if decision.ask or len(candidate.p) < 2 or not 1 - decision.utility >= self.tau or self._credit < 1:
            return None
        return int(np.argmax(candidate.p)), self.weight

    def apply(self, candidate: Candidate, decision: Decision) -> int:
        if self.own_label(candidate, decision) is not None:
            self._credit -= 1
        return self.strategy.apply(candidate, decision)

    def taught(self, p: Sequence[float], label: int, decision: Decision) -> float:
        self._credit += self.ratio
        return self.strategy.taught(p, label, decision)

    def alarm(self) -> None:
        """Drift: what the model believes is not to be trusted."""
        self._credit = 0.0
        self.strategy.alarm()

    def closed(self) -> None:
        self.strategy.closed()

    def state(self) -> State:
        own = State({"credit": np.array([self._credit])}, {})
        return merge({"own": own, "strategy": self.strategy.state()})

    def restore(self, state: State) -> None:
        parts = split(state)
        self._credit = float(numbers(parts["own"], "credit", (1,))[0])
        self.strategy.restore(parts["strategy"])
