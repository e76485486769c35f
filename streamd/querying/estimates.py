"""How good the predictions are, from labels that were chosen because the predictions looked bad.

Three estimates of the mean of a number in [0, 1] (right or wrong) or of a loss, side by side:

    raw       the mean over what was answered: biased, it sees the hard events
    weighted  each answer with 1 / P, P the probability with which it was asked for (Horvitz and Thompson 1952, as
    a
              ratio, Hajek 1971): unbiased as answers grow; with the number of equally weighted answers that would
              be as precise, (sum w)^2 / sum w^2 (Kish 1965)
    hold-out  the mean over the random slice alone: unbiased, and free of the weights; with its standard error

They speak of events whose labels come. What no annotator ever answers, none of them can see.

>>> estimates = Estimates()
>>> for right, p_ask, drawn in ((0.0, 1.0, False), (0.0, 1.0, False), (1.0, 0.25, True), (1.0, 0.25, True)):
...     estimates.add(right, p_ask, drawn)
>>> estimates.view()
Quality(raw=0.5, weighted=0.8, effective=2.94, holdout=1.0, error=0.0, answers=4, drawn=2)
"""

from typing import NamedTuple

import numpy as np

from streamd.querying.decision import numbers
from streamd.snapshot import State

LARGEST = 1e150  # of a loss: what is larger, or no number, is left out, for its square is none


class Quality(NamedTuple):
    """Means are NaN where there is nothing to take them over. error: the standard error of `holdout`."""

    raw: float
    weighted: float
    effective: float
    holdout: float
    error: float
    answers: int
    drawn: int


class Estimates:
    """fading: every sum is multiplied by it per answer; 1 keeps all."""

    def __init__(self, fading: float = 1.0) -> None:
        self.fading = fading
        self._sums = [0.0] * 9  # n, x; w, w x, w w; drawn n, x, x x; answers

    def add(self, value: float, p_ask: float, drawn: bool) -> None:
        """A judged prediction. p_ask, above 0, as decided; drawn: it fell into the random slice."""
        if not (abs(value) < LARGEST and p_ask > 0):
            return
        w, f, d = 1.0 / p_ask, self.fading, float(drawn)
        n, x, ws, wx, ww, dn, dx, dxx, answers = self._sums
        mine = d * value
        self._sums = [
            *(n * f + 1.0, x * f + value, ws * f + w, wx * f + w * value, ww * f + w * w),
            *(dn * f + d, dx * f + mine, dxx * f + mine * value, answers + 1.0),
        ]

    def view(self) -> Quality:
        n, x, w, wx, ww, drawn, dx, dxx, answers = self._sums
        nan = float("nan")
        holdout = dx / drawn if drawn else nan
        spread = max(0.0, dxx / drawn - holdout * holdout) / (drawn - 1) if drawn > 1 else nan
        return Quality(
            x / n if n else nan,
            wx / w if w else nan,
            round(w * w / ww, 2) if ww else 0.0,
            holdout,
            spread**0.5 if spread == spread else nan,
            int(answers),
            round(drawn),
        )

    def state(self) -> State:
        return State({"sums": np.array(self._sums)}, {})

    def restore(self, state: State) -> None:
        self._sums = numbers(state, "sums", (9,)).tolist()
