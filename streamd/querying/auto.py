"""The default: an uncertainty quantile (BIQF) made safe for ties, empty models and late labels.

The rule of BIQF, u >= quantile - (max - min) balance / w_tol over the last w utilities, with these differences:

    ties       every utility gets a hashed amount of at most 1e-6: of equal ones a random share is asked for budget
    the token bucket's; balance is its level above `rest`, a level kept for the random slice and for drift.
               A full bucket asks whatever the event is, an empty one never does
    delay      while n queries are pending, the model that is uncertain is not the one that will learn. The
    quantile is
               softened from 1 - b to 1 - f, f = b^(1 / (1 + (n / patience)^2)), and what lies above is asked for
               with probability b / f: f = b is BIQF, f = 1 random sampling
    drift      an alarm lowers `rest` to nothing for `alert` events: what was saved is spent, the mean rate stays b

The constants were chosen on generated streams (tests/bench/active_tuning.py) and are frozen.
"""

import math

import numpy as np

from streamd.errors import ConfigError
from streamd.kernels import querying as kernel
from streamd.querying.budgets import UNIT, TokenBucket
from streamd.querying.decision import (
    FORCED,
    RANDOM,
    RULE,
    Budget,
    Candidate,
    Decision,
    Draws,
    Floats,
    Run,
    Strategy,
    numbers,
    refused,
)
from streamd.querying.draws import RunDraws
from streamd.querying.window import SortedWindow
from streamd.snapshot import State

TIE = 1e-6


class Auto(Strategy):
    """w, w_tol: as in BIQF. rest: labels saved in the bucket, at most half of what it holds. patience: pending
    queries at which the exponent of the softening is halved; alert: events for which an alarm frees the reserve.

    `decide_run` decides on many events and applies it, the same as one by one.
    """

    def __init__(
        self,
        budget: Budget,
        w: int = 300,
        w_tol: float = 50.0,
        rest: float = 5.0,
        patience: float = 6.0,
        alert: int = 500,
    ) -> None:
        if not w_tol > 0:
            raise ConfigError("w_tol", "must be above 0")
        if not patience > 0:
            raise ConfigError("patience", "must be above 0")
        super().__init__(budget)
        self.w_tol = w_tol
        self.rest = min(rest, getattr(budget, "capacity", math.inf) / 2)
        self.patience = patience
        self.alert = alert
        self._history = SortedWindow(w)
        self._pending = 0
        self._alarmed = 0  # events for which the alarm lasts
        self._soft_of, self._soft = -1.0, np.zeros(0)  # f by queries pending, for this b

    def decide(self, candidate: Candidate, draws: Draws) -> Decision:
        u, budget = candidate.utility, self.budget
        if u != u or not budget.left(candidate):
            return refused(candidate)
        u += TIE * draws.uniform("tie")
        b = budget.share
        f = self._softened(b, self._pending)
        keep = b / f if b > 0 else 1.0
        least, theta, most = self._history.look(u, 1 - f)
        spare = budget.balance(candidate) - (0.0 if self._alarmed else self.rest)
        threshold = theta - (most - least) * (spare / self.w_tol)
        if budget.full(candidate):
            return Decision(True, FORCED, u, threshold, 1.0)
        if u < threshold:
            return Decision(False, RULE, u, threshold, 0.0)
        if keep == 1.0:
            return Decision(True, RULE, u, threshold, 1.0)
        return Decision(draws.uniform("soften") < keep, RANDOM, u, threshold, keep)

    def _softened(self, b: float, pending: int) -> float:
        """f, with so many queries pending."""
        return b ** (1.0 / (1.0 + (pending / self.patience) ** 2)) if pending and b > 0 else b

    def _softened_from(self, b: float, pending: int, n: int) -> Floats:
        """f with so many queries pending, with one more, and so on: n of them."""
        if self._soft_of != b:
            self._soft_of, self._soft = b, np.zeros(0)
        if len(self._soft) < pending + n:
            more = range(len(self._soft), 2 * (pending + n))
            self._soft = np.append(self._soft, [self._softened(b, i) for i in more])
        return self._soft[pending : pending + n]

    def decide_run(self, utility: Floats, draws: RunDraws, chance: float) -> Run | None:
        """Decide on events one after the other, and go on. utility: (n,); chance: of the random slice; what is
        drawn is debited here. None, and nothing is changed, where the budget is none that a run can be decided on.
        """
        budget, b = self.budget, self.budget.share
        ledger = budget.ledger if isinstance(budget, TokenBucket) and b > 0 else None
        if ledger is None or not isinstance(budget, TokenBucket):
            return None
        n, window = len(utility), self._history
        line, kept = np.zeros(max(0, window.w - 1)), np.zeros(max(0, window.w - 1))
        line[: len(window)], kept[: len(window)] = window.array(), window.sorted()
        soft = self._softened_from(b, self._pending, n + 1)
        counts = np.array([len(window), 0, self._pending, self._alarmed], np.int64)
        level = np.array([*ledger, UNIT, UNIT], np.int64)
        run = Run(np.zeros(n, np.int64), np.zeros((n, 3)))
        kernel.filter_run(
            *(utility, draws.uniform("slice"), draws.uniform("tie"), draws.uniform("soften"), soft),
            *(line, kept, counts, level),
            np.array([chance, b, self.rest, self.w_tol, TIE]),
            *run,
        )
        held, oldest, self._pending, self._alarmed = counts.tolist()
        window.fill(np.roll(line[:held], -oldest))
        own, drawn = run.flags & 1, run.flags >> 1 & 1
        budget.settle(int(level[0]), n, int(own.sum()) * ledger[3] + int((drawn & ~own).sum()) * UNIT)
        return run

    def moved(self, candidate: Candidate, decision: Decision) -> None:
        self._history.add(decision.utility)
        if decision.own or decision.drawn:
            self._pending += 1
        if self._alarmed:
            self._alarmed -= 1

    def closed(self) -> None:
        self._pending = max(0, self._pending - 1)

    def alarm(self) -> None:
        self._alarmed = self.alert

    def state(self) -> State:
        counts = np.array([float(self._pending), float(self._alarmed)])
        return State({"history": self._history.array(), "counts": counts}, {})

    def restore(self, state: State) -> None:
        self._history.fill(numbers(state, "history", (-1,)))
        pending, alarmed = numbers(state, "counts", (2,)).tolist()
        self._pending, self._alarmed = int(pending), int(alarmed)
