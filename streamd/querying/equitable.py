"""One bucket for each group, so that the labels asked for serve the groups as wanted (Cai et al. 2022).

A stream brings the groups as it likes; what can be chosen is how the income is shared. Every event brings b
labels, split over the groups by their shares. What a full bucket cannot hold goes to the others: a group that is
too rare to use its share leaves it to them. The shares, `rule`:

    proportional  to how often each group arrives
    equal         the same for each
    worst         all to the group whose error is largest now, the least asked first while unknown: U = min over
    groups
                  (also Abernethy et al. 2022); `floor` of the income is shared equally, so that errors stay known
    rates         alpha_g ~ (weight_g sigma_g^2)^(1 / (p + 1)) for losses sigma_g^2 n^-p (Rolf et al. 2021),
    sigma_g^2
                  taken as the group's error times n^p

An event in several groups is paid for by the fullest of their buckets; one in none by a bucket of its own.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from streamd.errors import ConfigError, StateError
from streamd.querying.budgets import UNIT
from streamd.querying.decision import Candidate
from streamd.snapshot import State

Floats = NDArray[np.float64]

RULES = ("proportional", "equal", "worst", "rates")
NONE = ""  # the group of the events that are in none


class Equitable:
    """per_event: labels per event, b, over all groups. capacity: labels each bucket holds. fading: of the errors,
    per label. weights: how much each group counts (1 if not named). p: the exponent of the learning rate.
    max_groups: further groups share the bucket of the events without a group.
    """

    def __init__(
        self,
        per_event: float,
        rule: str = "worst",
        capacity: float = 10.0,
        start: float = 1.0,
        floor: float = 0.1,
        p: float = 0.5,
        fading: float = 0.99,
        weights: Mapping[str, float] | None = None,
        max_groups: int = 64,
    ) -> None:
        if rule not in RULES:
            raise ConfigError("groups.rule", f"must be one of {', '.join(RULES)}")
        if not 0.0 <= per_event <= 1.0:
            raise ConfigError("budget", "must be within 0 and 1")
        if not 1.0 <= start + 1.0 <= capacity + 1.0 or capacity < 1.0:
            raise ConfigError("capacity", "must be 1 or more, and the start within it")
        if not 0.0 <= floor <= 1.0:
            raise ConfigError("groups.floor", "must be within 0 and 1")
        self.share = per_event
        self.rule = rule
        self.capacity = capacity
        self.floor = floor
        self.p = p
        self.fading = fading
        self.weights = dict(weights or {})
        self.max_groups = max_groups
        self.groups: list[str] = [NONE]
        self._places: dict[str, int] = {NONE: 0}
        self._cap = round(capacity * UNIT)
        self._income = round(per_event * UNIT)
        self._levels = [round(start * UNIT)]
        self._rest = 0  # parts that nobody could be given for rounding
        self._arrived = [0]
        self._errors = np.zeros((1, 2))  # fading: wrong, labels
        self.seen = 0
        self.spent = 0

    def left(self, candidate: Candidate) -> bool:
        return self._level(candidate) >= UNIT

    def balance(self, candidate: Candidate) -> float:
        return self._level(candidate) / UNIT

    def full(self, candidate: Candidate) -> bool:
        return self._level(candidate) >= self._cap - self._income

    def apply(self, candidate: Candidate, asked: bool) -> int:
        payer = self._payer(candidate)  # as it was when deciding: a new group has no bucket yet
        self._learn_groups(candidate)
        for place in self._awake(candidate):
            self._arrived[place] += 1
        self._pour()
        self.seen += 1
        if asked:
            self.debit(1.0, payer)
        return payer

    def debit(self, amount: float = 1.0, payer: int = 0) -> None:
        self._levels[payer] -= round(amount * UNIT)
        self.spent += round(amount * UNIT)

    def refund(self, amount: float = 1.0, payer: int = 0) -> None:
        self.debit(-amount, payer)
        self._levels[payer] = min(self._levels[payer], self._cap)

    def judged(self, groups: list[str], wrong: float) -> None:
        """A label told how good the prediction was, in [0, 1], for the groups awake."""
        for group in groups or [NONE]:
            place = self._places.get(group, 0)
            self._errors[place] *= self.fading
            self._errors[place] += (wrong, 1.0)

    def levels(self) -> dict[str, float]:
        """Labels in each bucket."""
        return {group: level / UNIT for group, level in zip(self.groups, self._levels, strict=True)}

    def shares(self) -> dict[str, float]:
        """How the income is split now; sums to 1."""
        return dict(zip(self.groups, self._alpha().tolist(), strict=True))

    def _alpha(self) -> Floats:
        n = len(self.groups)
        arrived = np.array(self._arrived, np.float64)
        present = arrived > 0
        if not present.any():
            return np.full(n, 1.0 / n)
        equal: Floats = present / present.sum()
        if self.rule == "equal":
            return equal
        if self.rule == "proportional":
            proportional: Floats = arrived / arrived.sum()
            return proportional
        weight = np.array([self.weights.get(group, 1.0) for group in self.groups])
        labels = self._errors[:, 1]
        error = np.where(labels > 0, self._errors[:, 0] / np.where(labels > 0, labels, 1.0), 1.0)
        if self.rule == "worst":
            worst = np.zeros(n)
            worst[int(np.argmax(np.where(present, weight * error, -1.0)))] = 1.0
            return _mixed(self.floor, equal, worst)
        sigma = np.where(present, weight * error * np.maximum(labels, 1.0) ** self.p, 0.0) ** (1 / (self.p + 1))
        return _mixed(self.floor, equal, sigma / sigma.sum() if sigma.sum() > 0 else equal)

    def _pour(self) -> None:
        """Split an event's income; what overflows goes to those that have room, by their shares."""
        parts = self._income + self._rest
        alpha = self._alpha()
        for _ in range(len(self._levels)):
            room = np.array([max(0, self._cap - level) for level in self._levels], np.float64)
            open_shares = np.where(room > 0, alpha, 0.0)
            if parts <= 0 or open_shares.sum() <= 0:
                break
            given = [int(parts * share) for share in open_shares / open_shares.sum()]
            for place, amount in enumerate(given):
                taken = min(amount, max(0, self._cap - self._levels[place]))
                self._levels[place] += taken
                parts -= taken
        self._rest = min(parts, UNIT // 10**6)

    def _awake(self, candidate: Candidate) -> list[int]:
        return sorted({self._places.get(group, 0) for group in candidate.groups}) or [0]

    def _payer(self, candidate: Candidate) -> int:
        return max(self._awake(candidate), key=self._levels.__getitem__)

    def _level(self, candidate: Candidate) -> int:
        return self._levels[self._payer(candidate)]

    def _learn_groups(self, candidate: Candidate) -> None:
        for group in candidate.groups:
            if group not in self._places and len(self.groups) < self.max_groups:
                self._places[group] = len(self.groups)
                self.groups.append(group)
                self._levels.append(0)
                self._arrived.append(0)
                self._errors = np.vstack((self._errors, np.zeros(2)))

    def state(self) -> State:
        spent = divmod(self.spent, UNIT)  # in parts it would outgrow 64 bits
        integers = np.array([self._rest, self.seen, *spent, *self._levels, *self._arrived], np.int64)
        return State({"integers": integers, "errors": self._errors}, {"groups": list(self.groups)})

    def restore(self, state: State) -> None:
        groups = state.document.get("groups")
        integers, errors = state.arrays.get("integers"), state.arrays.get("errors")
        if groups is None or integers is None or errors is None or len(integers) - 2 * len(groups) not in (3, 4):
            raise StateError("this is not the state of a budget by groups")
        n = len(groups)
        kept = integers.tolist()
        if len(kept) == 4 + 2 * n:  # else of before, when what was spent was one number
            kept[2:4] = [kept[2] * UNIT + kept[3]]
        self.groups = list(groups)
        self._places = {group: place for place, group in enumerate(groups)}
        self._rest, self.seen, self.spent = kept[:3]
        self._levels, self._arrived = kept[3 : 3 + n], kept[3 + n :]
        self._errors = np.array(errors, np.float64)


def _mixed(floor: float, equal: Floats, rest: Floats) -> Floats:
    mixed: Floats = floor * equal + (1 - floor) * rest
    return mixed
