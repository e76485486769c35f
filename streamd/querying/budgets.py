"""Budgets: the token bucket, and the two kinds of accounting of the literature.

The token bucket is exact: after n events at most b n + capacity labels were asked for, whatever the demand; its
level is one integer, so it does not depend on batches, restarts or the order of additions. The other two are for
agreement with published work. The moving window (Zliobaite et al. 2014) overspends by about 0.4 / w per event and
lets nearly twice its share through at the start; the count (MOA, DBALStream) is exact but lets the unspent budget
of a quiet year go in one burst.

>>> from streamd.querying.decision import Candidate
>>> bucket = TokenBucket(per_event=0.25, capacity=2, start=0)
>>> event = Candidate("e", 1.0)
>>> asked = []
>>> for i in range(12):
...     ask = bucket.left(event)
...     payer = bucket.apply(event, ask)
...     asked += [i] * ask
>>> asked
[3, 7, 11]
"""

import numpy as np

from streamd.errors import ConfigError, StateError
from streamd.querying.decision import Candidate, numbers
from streamd.snapshot import State

UNIT = 3_600_000 * 10**6  # parts of a label: decimal shares per event and labels per hour are whole numbers of it
HOUR = 3_600_000  # milliseconds


class TokenBucket:
    """per_event: labels per event, b. per_hour: labels per hour of event time, divided over `partitions`.

    share: labels per event, as given, or what the income per hour and the price come to at the pace of late.
    capacity: labels that can be saved up, 1 or more. start: labels there at the beginning,
    half the capacity by default.
    price: what a label costs; the pool's mean where annotators are paid, and budgets are money.
    An event may spend what it brings before the rest is cut at the capacity. So nothing is lost as long as no gap
    between two events brings more than the price of a label, and every event that finds the bucket `full` is
    asked about. What a longer gap brings to a full bucket is lost, and counted: there was nothing to ask about.
    An answer after expiry, the random slice and a dear annotator may push the level below 0: it is paid back
    before the next label is asked for by rule. The amount refunded never lifts the level above the capacity.
    """

    def __init__(
        self,
        per_event: float = 0.0,
        capacity: float = 10.0,
        start: float | None = None,
        per_hour: float = 0.0,
        partitions: int = 1,
        price: float = 1.0,
    ) -> None:
        _require(0.0 <= per_event <= 1.0, "budget", "must be within 0 and 1")
        _require(0.0 <= per_hour <= 1e9, "budget", "must be within 0 and 1e9 labels per hour")
        _require(1.0 <= capacity <= 1e6, "capacity", "must be within 1 and 1e6 labels")
        start = capacity / 2 if start is None else start
        _require(0.0 <= start <= capacity, "start", "must be within 0 and the capacity")
        _require(partitions >= 1, "partitions", "must be 1 or more")
        _require(0.0 < price <= capacity, "price", "must be above 0 and at most the capacity")
        self.per_event = per_event
        self.capacity = capacity
        self._income = round(per_event * UNIT)
        self._per_ms = round(per_hour * UNIT / HOUR / partitions)
        self._cap = round(capacity * UNIT)
        self._level = round(start * UNIT)
        self._price = round(price * UNIT)
        self._now: int | None = None
        self._gap = 0.0  # milliseconds between events, a mean over about the last thousand
        self.share = 0.0
        self._share()
        self.seen = 0
        self.spent = 0  # parts of a label, refunds taken off
        self.lost = 0  # parts of a label for which there was no room and no event to ask about

    @property
    def level(self) -> float:
        """Labels in the bucket; below 0 where an overdraft is to be paid back."""
        return self._level / UNIT

    @property
    def price(self) -> float:
        return self._price / UNIT

    @price.setter
    def price(self, price: float) -> None:
        self._price = min(max(round(price * UNIT), 1), self._cap)
        self._share()

    def left(self, candidate: Candidate) -> bool:
        return self._next(candidate) >= self._price

    def balance(self, candidate: Candidate) -> float:
        return float(self._next(candidate)) / UNIT

    def full(self, candidate: Candidate) -> bool:
        return self._level + self._earned(candidate) + self._income > self._cap

    def apply(self, candidate: Candidate, asked: bool) -> int:
        level = self._next(candidate)
        self.seen += 1
        if self._per_ms:
            self._pace(candidate.now)
        if asked:
            level -= self._price
            self.spent += self._price
        if level > self._cap:
            self.lost += level - self._cap
            level = self._cap
        self._level = level
        return 0

    def debit(self, amount: float = 1.0, payer: int = 0) -> None:
        self._spend(round(amount * UNIT))

    def refund(self, amount: float = 1.0, payer: int = 0) -> None:
        self._spend(-round(amount * UNIT))
        if self._level > self._cap:
            self.lost += self._level - self._cap
            self._level = self._cap

    @property
    def ledger(self) -> list[int] | None:
        """Level, income per event, capacity and price in parts of a label; None where time brings income too."""
        return None if self._per_ms else [self._level, self._income, self._cap, self._price]

    def settle(self, level: int, seen: int, spent: int) -> None:
        """So many events have gone by, and so much was spent, with what `ledger` told."""
        self.lost += self._level + seen * self._income - spent - level
        self._level = level
        self.seen += seen
        self.spent += spent

    def state(self) -> State:
        known = self._now is not None
        spent, lost = divmod(self.spent, UNIT), divmod(self.lost, UNIT)  # in parts they would outgrow 64 bits
        level = np.array([self._level, *spent, self.seen, self._price, self._now or 0, known, *lost], np.int64)
        return State({"bucket": level, "gap": np.array([self._gap])}, {})

    def restore(self, state: State) -> None:
        kept = state.arrays.get("bucket")
        if kept is None or kept.shape not in ((6,), (9,)):
            raise StateError("this is not the state of a token bucket")
        self._gap = float(numbers(state, "gap", (1,))[0])
        told = kept.tolist()
        if len(told) == 6:  # of before: what was spent in one number, nothing of what was lost
            told = [told[0], 0, *told[1:], 0, 0]
        self._level, labels, parts, self.seen, self._price, now, known, *lost = told
        self.spent, self.lost = labels * UNIT + parts, lost[0] * UNIT + lost[1]
        self._now = now if known else None
        self._share()

    def _next(self, candidate: Candidate) -> int:
        """The level when this event has brought its share, which it may still spend where the bucket is full."""
        return self._level + self._income + (self._earned(candidate) if self._per_ms else 0)

    def _earned(self, candidate: Candidate) -> int:
        """What event time has brought since the last event."""
        return max(0, candidate.now - self._now) * self._per_ms if self._now is not None else 0

    def _pace(self, now: int) -> None:
        """Event time has moved on, or not."""
        if self._now is not None:
            now = max(self._now, now)
            self._gap += (now - self._now - self._gap) / min(self.seen - 1, 1000)
        self._now = now
        self._share()

    def _share(self) -> None:
        self.share = min(1.0, (self.per_event + self._per_ms * self._gap / UNIT) / self.price)

    def _spend(self, parts: int) -> None:
        self._level -= parts
        self.spent += parts


class MovingWindow:
    """U = U (w - 1) / w + asked; a label may be asked for while U / w < budget. As scikit-activeml."""

    def __init__(self, budget: float, w: int = 100) -> None:
        _require(0.0 <= budget <= 1.0, "budget", "must be within 0 and 1")
        _require(w >= 1, "w", "must be 1 or more")
        self.share = budget
        self.w = w
        self.u_t = 0.0

    def left(self, candidate: Candidate) -> bool:
        return self.u_t / self.w < self.share

    def balance(self, candidate: Candidate) -> float:
        return self.share * self.w - self.u_t

    def full(self, candidate: Candidate) -> bool:
        return False

    def apply(self, candidate: Candidate, asked: bool) -> int:
        self.u_t = self.u_t * ((self.w - 1) / self.w) + asked
        return 0

    def debit(self, amount: float = 1.0, payer: int = 0) -> None:
        self.u_t += amount

    def refund(self, amount: float = 1.0, payer: int = 0) -> None:
        self.u_t = max(0.0, self.u_t - amount)

    def state(self) -> State:
        return State({"window": np.array([self.u_t])}, {})

    def restore(self, state: State) -> None:
        self.u_t = float(_only(state, "window", 1)[0])


class Count:
    """A label may be asked for while spent / seen < budget, the event at hand counted as seen. As MOA.

    soft: never refuse; only `balance` is used, as the balanced incremental quantile filter does.
    """

    def __init__(self, budget: float, soft: bool = False) -> None:
        _require(0.0 <= budget <= 1.0, "budget", "must be within 0 and 1")
        self.share = budget
        self.soft = soft
        self.seen = 0
        self.spent = 0.0

    def left(self, candidate: Candidate) -> bool:
        return self.soft or self.share > self.spent / (self.seen + 1)

    def balance(self, candidate: Candidate) -> float:
        return self.share * (self.seen + 1) - self.spent

    def full(self, candidate: Candidate) -> bool:
        return False

    def apply(self, candidate: Candidate, asked: bool) -> int:
        self.seen += 1
        self.spent += asked
        return 0

    def debit(self, amount: float = 1.0, payer: int = 0) -> None:
        self.spent += amount

    def refund(self, amount: float = 1.0, payer: int = 0) -> None:
        self.spent -= amount

    def state(self) -> State:
        return State({"count": np.array([self.seen, self.spent])}, {})

    def restore(self, state: State) -> None:
        seen, spent = _only(state, "count", 2)
        self.seen, self.spent = int(seen), float(spent)


def _only(state: State, name: str, length: int) -> list[float]:
    kept = state.arrays.get(name)
    if kept is None or kept.shape != (length,):
        raise StateError(f"this is not the state of a budget with a {name}")
    values: list[float] = kept.tolist()
    return values


def _require(holds: bool, key: str, expected: str) -> None:
    if not holds:
        raise ConfigError(key, expected)
