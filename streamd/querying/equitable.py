"""Labels by group, so that those asked for serve the groups as wanted (Cai et al. 2022).

A stream brings the groups as it likes; what can be chosen is who is asked about. There is one bucket, and a
*claim* of each group: by how many labels it lies behind its share of those asked for; all claims together are 0. A
group that is not ahead may have the last label in it, the others leave one for it. So spending follows the law of
one bucket, however many groups there are. The shares, `rule`:

    proportional  to how often each group arrives
    equal         the same for each
    worst         all to the group whose error is largest now, the least asked first while unknown: U = min over
    groups
                  (also Abernethy et al. 2022); `floor` is shared equally, so that errors stay known
    rates         alpha_g ~ (weight_g sigma_g^2)^(1 / (p + 1)) for losses sigma_g^2 n^-p (Rolf et al. 2021),
    sigma_g^2
                  taken as the group's error times n^p

A group too rare to use its share claims `capacity` labels at most, and leaves the rest of it to whoever is asked.
An event in several groups goes on the account of the one furthest behind; one in none has an account of its own.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from streamd.errors import ConfigError, StateError
from streamd.querying.budgets import UNIT, TokenBucket
from streamd.querying.decision import Candidate, numbers
from streamd.snapshot import State, merge, split

Floats = NDArray[np.float64]

RULES = ("proportional", "equal", "worst", "rates")
NONE = ""  # the group of the events that are in none
EVEN = -1e-9  # a claim of nothing, but for rounding


class Equitable:
    """per_event: labels per event, b, over all groups. capacity: labels that can be saved up over all groups, one
    more is kept for those that are behind; and the most a group can claim. fading: of the errors, per label.
    weights: how much each group counts (1 if not named). p: the exponent of the learning rate.
    max_groups: further groups share the account of the events without a group.
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
        if not 0.0 <= floor <= 1.0:
            raise ConfigError("groups.floor", "must be within 0 and 1")
        if not (capacity >= 1.0 and 0.0 <= start <= capacity):
            raise ConfigError("capacity", "must be 1 or more, and the start within it")
        self._bucket = TokenBucket(per_event, capacity + 1.0, start)
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
        self._arrived = [0]
        self._claims = np.zeros(1)
        self._errors = np.zeros((1, 2))  # fading: wrong, labels

    @property
    def level(self) -> float:
        """Labels in the bucket."""
        return self._bucket.level

    @property
    def lost(self) -> int:
        """Parts of a label for which there was no room and no event to ask about."""
        return self._bucket.lost

    def left(self, candidate: Candidate) -> bool:
        bucket = self._bucket
        if not bucket.left(candidate):
            return False
        return self._claim(candidate) >= EVEN or bucket.balance(candidate) >= 2.0 or bucket.full(candidate)

    def balance(self, candidate: Candidate) -> float:
        claim = self._claim(candidate)
        return self._bucket.balance(candidate) - (claim < EVEN) + claim

    def full(self, candidate: Candidate) -> bool:
        """The bucket, or what the group may claim."""
        return self._bucket.full(candidate) or self._claim(candidate) > self.capacity - 1.0

    def apply(self, candidate: Candidate, asked: bool) -> int:
        payer = self._payer(candidate)  # as it was when deciding: a new group has no account yet
        self._learn_groups(candidate)
        for place in self._awake(candidate):
            self._arrived[place] += 1
        self._bucket.apply(candidate, asked)
        if asked:
            self._book(payer, self._bucket.price)
        return payer

    def debit(self, amount: float = 1.0, payer: int = 0) -> None:
        self._bucket.debit(amount)
        self._book(payer, amount)

    def refund(self, amount: float = 1.0, payer: int = 0) -> None:
        self._bucket.refund(amount)
        self._book(payer, -amount)

    def judged(self, groups: list[str], wrong: float) -> None:
        """A label told how good the prediction was, in [0, 1], for the groups awake."""
        for group in groups or [NONE]:
            place = self._places.get(group, 0)
            self._errors[place] *= self.fading
            self._errors[place] += (wrong, 1.0)

    def claims(self) -> dict[str, float]:
        """Labels by which each group lies behind its share; below 0: ahead. Sums to 0."""
        return dict(zip(self.groups, self._claims.tolist(), strict=True))

    def shares(self) -> dict[str, float]:
        """How labels are to be split now; sums to 1."""
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

    def _book(self, payer: int, amount: float) -> None:
        """Labels asked for on one account: all others lie behind by their shares of them."""
        self._claims += amount * self._alpha()
        self._claims[payer] -= amount
        unused = np.maximum(self._claims - self.capacity, 0.0)
        self._claims -= unused
        self._claims[payer] += unused.sum()

    def _awake(self, candidate: Candidate) -> list[int]:
        return sorted({self._places.get(group, 0) for group in candidate.groups}) or [0]

    def _payer(self, candidate: Candidate) -> int:
        return max(self._awake(candidate), key=self._claims.__getitem__)

    def _claim(self, candidate: Candidate) -> float:
        return float(self._claims[self._payer(candidate)])

    def _learn_groups(self, candidate: Candidate) -> None:
        for group in candidate.groups:
            if group not in self._places and len(self.groups) < self.max_groups:
                self._places[group] = len(self.groups)
                self.groups.append(group)
                self._arrived.append(0)
                self._claims = np.append(self._claims, 0.0)
                self._errors = np.vstack((self._errors, np.zeros(2)))

    def state(self) -> State:
        accounts = {"arrived": np.array(self._arrived, np.int64), "claims": self._claims, "errors": self._errors}
        return merge({"bucket": self._bucket.state(), "groups": State(accounts, {"names": list(self.groups)})})

    def restore(self, state: State) -> None:
        if isinstance(state.document.get("groups"), list):
            state = _of_before(state, self.capacity)
        parts = split(state)
        if "groups" not in parts:
            raise StateError("this is not the state of a budget by groups")
        accounts = parts["groups"]
        self.groups = list(accounts.document["names"])
        n = len(self.groups)
        self._bucket.restore(parts["bucket"])
        self._places = {group: place for place, group in enumerate(self.groups)}
        self._arrived = numbers(accounts, "arrived", (n,)).astype(np.int64).tolist()
        self._claims, self._errors = numbers(accounts, "claims", (n,)), numbers(accounts, "errors", (n, 2))


def _of_before(state: State, capacity: float) -> State:
    """When each group had a bucket: they are poured together, and nobody is behind."""
    groups = state.document["groups"]
    n = len(groups)
    integers, errors = numbers(state, "integers", (-1,)).astype(np.int64), numbers(state, "errors", (n, 2))
    if len(integers) != 4 + 2 * n:
        raise StateError("this is not the state of a budget by groups")
    seen, labels, parts = integers[1:4].tolist()
    level = min(int(integers[4 : 4 + n].sum()), round((capacity + 1.0) * UNIT))
    bucket = np.array([level, labels, parts, seen, UNIT, 0, 0, 0, 0], np.int64)
    accounts = {"arrived": integers[4 + n :], "claims": np.zeros(n), "errors": errors}
    made = {
        "bucket": State({"bucket": bucket, "gap": np.zeros(1)}, {}),
        "groups": State(accounts, {"names": groups}),
    }
    return merge(made)


def _mixed(floor: float, equal: Floats, rest: Floats) -> Floats:
    mixed: Floats = floor * equal + (1 - floor) * rest
    return mixed
