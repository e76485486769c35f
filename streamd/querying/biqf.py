"""BIQF, the balanced incremental quantile filter (Kottke, Krempl, Spiliopoulou 2015).

theta is the (1 - b) quantile of the last w utilities, this one included; it is lowered by
(max - min) (b seen - spent) / w_tol; ask iff u is at least that. Alone (`Count(b, soft=True)`) the budget is kept
only by this pull, and equal utilities are all asked for; `auto` breaks ties and has a bucket.

>>> from streamd.querying.budgets import Count
>>> from streamd.querying.draws import Keyed
>>> strategy, draws = BIQF(Count(0.5, soft=True)), Keyed(0, "").of("e")
>>> for u in (0.2, 0.1, 0.4):
...     event = Candidate("e", u)
...     decision = strategy.decide(event, draws)
...     payer = strategy.apply(event, decision)
...     print(decision.own, round(decision.threshold, 4))
True 0.2
False 0.15
True 0.197
"""

from streamd.errors import ConfigError
from streamd.querying.decision import Budget, Candidate, Decision, Draws, Strategy, numbers, refused, ruled
from streamd.querying.window import SortedWindow
from streamd.snapshot import State


class BIQF(Strategy):
    """w: utilities in the window; w_tol: labels ahead or behind that move the threshold by the whole range."""

    def __init__(self, budget: Budget, w: int = 100, w_tol: float = 50) -> None:
        if w < 1:
            raise ConfigError("w", "must be 1 or more")
        if not w_tol > 0:
            raise ConfigError("w_tol", "must be above 0")
        super().__init__(budget)
        self.w = w
        self.w_tol = w_tol
        self._history = SortedWindow(w)

    def decide(self, candidate: Candidate, draws: Draws) -> Decision:
        u = candidate.utility
        if u != u or not self.budget.left(candidate):
            return refused(candidate)
        least, theta, most = self._history.look(u, 1 - self.budget.share)
        balanced = theta - (most - least) * (self.budget.balance(candidate) / self.w_tol)
        return ruled(candidate, u >= balanced, balanced)

    def moved(self, candidate: Candidate, decision: Decision) -> None:
        self._history.add(decision.utility)

    def state(self) -> State:
        return State({"history": self._history.array()}, {})

    def restore(self, state: State) -> None:
        self._history.fill(numbers(state, "history", (-1,)))
