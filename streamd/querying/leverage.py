"""Regression: how much a label at x would tell about the coefficients, whatever the label.

Both keep (lam I + Z'Z)^-1 over the x asked for, by Sherman and Morrison, and need no label:

    D-optimal   z' A^-1 z                     the predicted variance at z (Cacciarelli, Kulahci, Tyssedal 2022)
    A-optimal   z' A^-2 z / (1 + z' A^-1 z)   by how much the label lowers the trace of A^-1

The threshold is the strategy's: with BIQF its sliding quantile replaces the warm-up density of the paper and
follows the stream. (Riquelme, Johari, Zhang 2017 ask for large whitened norms, which is D-optimality before any
label.)

>>> import numpy as np
>>> leverage = Leverage(2)
>>> before = leverage.worth(np.array([3.0, 0.0]))
>>> leverage.asked(np.array([3.0, 0.0]))
>>> before, round(leverage.worth(np.array([3.0, 0.0])), 3), leverage.worth(np.array([0.0, 3.0]))
(9.0, 0.9, 9.0)
"""

import numpy as np
from numpy.typing import NDArray

from streamd.errors import ConfigError
from streamd.kernels import querying as kernel
from streamd.querying.decision import numbers
from streamd.snapshot import State


class Leverage:
    """dimensions: of x. criterion: "D" or "A". lam: the ridge, above 0; also what makes the start defined."""

    def __init__(self, dimensions: int, criterion: str = "D", lam: float = 1.0) -> None:
        if criterion not in ("A", "D"):
            raise ConfigError("criterion", 'must be "A" or "D"')
        if not lam > 0:
            raise ConfigError("lam", "must be above 0")
        self.criterion = criterion
        self._inverse: NDArray[np.float64] = np.eye(dimensions) / lam

    def worth(self, x: NDArray[np.float64]) -> float:
        """The utility of an event, 0 or more. NaN if x has a number that is not finite."""
        if not np.isfinite(x).all():
            return float("nan")
        d = float(kernel.leverage(self._inverse, x))
        if self.criterion == "D":
            return d
        v = self._inverse @ x
        return float(v @ v) / (1.0 + d)

    def asked(self, x: NDArray[np.float64]) -> None:
        """The label of x was asked for."""
        if np.isfinite(x).all():
            kernel.sherman_morrison(self._inverse, x)

    def state(self) -> State:
        return State({"inverse": self._inverse}, {})

    def restore(self, state: State) -> None:
        self._inverse = numbers(state, "inverse", self._inverse.shape)
