"""BBQ, the bound on bias query: ask where the events asked for so far say little about x (Cesa-Bianchi, Gentile,
Orabona 2009): x' (I + S S' + x x')^-1 x > t^-kappa, S the x asked for.

It looks at features only, so it works before the first label, and never at the label. The inverse is kept by
Sherman and Morrison, O(d^2) for an event asked for; x is scaled to length 1, as the theorem asks.
"""

import numpy as np
from numpy.typing import NDArray

from streamd.errors import ConfigError
from streamd.kernels import querying as kernel
from streamd.querying.decision import Budget, Candidate, Decision, Draws, Strategy, numbers, refused, ruled
from streamd.snapshot import State


class BBQ(Strategy):
    """kappa: in (0, 1); larger asks more. dimensions: of the sketch x."""

    def __init__(self, budget: Budget, kappa: float = 0.5, dimensions: int = 32) -> None:
        if not 0.0 < kappa < 1.0:
            raise ConfigError("kappa", "must be within 0 and 1")
        super().__init__(budget)
        self.kappa = kappa
        self._inverse = np.eye(dimensions)
        self._t = 0

    def decide(self, candidate: Candidate, draws: Draws) -> Decision:
        threshold = (self._t + 1) ** -self.kappa
        if candidate.x is None or not self.budget.left(candidate):
            return refused(candidate)
        r = kernel.leverage(self._inverse, _unit(candidate.x))
        worth = candidate._replace(utility=r / (1 + r))
        return ruled(worth, worth.utility > threshold, threshold)

    def moved(self, candidate: Candidate, decision: Decision) -> None:
        self._t += 1
        if decision.ask and candidate.x is not None:
            kernel.sherman_morrison(self._inverse, _unit(candidate.x))

    def state(self) -> State:
        return State({"inverse": self._inverse, "t": np.array([float(self._t)])}, {})

    def restore(self, state: State) -> None:
        d = len(self._inverse)
        self._inverse = numbers(state, "inverse", (d, d))
        self._t = int(numbers(state, "t", (1,))[0])


def _unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    length = float(np.sqrt(x @ x))
    return x / length if length > 0 else x
