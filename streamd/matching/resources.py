"""The resources of one pool: who can be matched, what each has left. At most 200 bytes each, ten million of them.

A resource joins with load 0. One that leaves takes no more matches, but its open attempts still settle, and if it
comes back it goes on with the load it had; the longest gone without open attempts are forgotten when room is
needed. A change of capacity or weight keeps load and use. Refills are done when a resource is next looked at:
additive (capacity grows by `amount`, the load stays, so it counts for less), or with `reset` (use and load start
at 0; what is open stays a hold). Periods begin at multiples of their length since 1970, so a day's begins at
midnight UTC.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamd.errors import BadRecord, ConfigError, StateError
from streamd.kernels import matching as kernel
from streamd.matching.balance import CurveBook, curve
from streamd.matching.names import LONGEST, Names
from streamd.matching.rules import Rule
from streamd.snapshot import State

LARGEST = 1e12  # of capacities, weights, costs
SKILLS = 63
DEVIATIONS = 4.0  # of a count of successes from its expectation, in square roots of that
NOBODY = 1 << 63  # a skill that no resource has
NOBODY_YET = np.zeros(1, kernel.RESOURCE)[0]
MAX_TERMS = 1 << 16
MAX_SETS = 1 << 16


class Refill(Struct, frozen=True, forbid_unknown_fields=True):
    """amount: units; every: milliseconds; reset: use and load start again, else the amount is added."""

    amount: float
    every: int = 86_400_000
    reset: bool = False


class Rate(Struct, frozen=True, forbid_unknown_fields=True):
    """At most `count` attempts in any `per` milliseconds once a burst of `count` is over."""

    count: int
    per: int


class Offer(Struct, frozen=True):
    """What a resource offers. Raises nothing; `Resources.put` checks.

    capacity: units; weight: worth of a success (of money pools: the bid); cost: what a success costs, the weight
    is counted per cost; concurrent: at most so many open attempts; needs: the needs of arrivals that it serves;
    pace: "even" spreads a period's capacity over the period.
    """

    capacity: float
    weight: float = 1.0
    cost: float = 1.0
    concurrent: int = 0
    groups: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    refill: Refill | None = None
    pace: str = "asap"
    rate: Rate | None = None


class Resources:
    """The table and its cache, as `streamd.kernels.matching` describes them.

    limit: how many are kept; shares: least share of the matches per group, in all at most 1.
    ranks: (limit, units) recorded ranks in the order of joining, for replays; else they are drawn by hash.
    """

    def __init__(
        self, rule: Rule, limit: int, shares: Mapping[str, float], ranks: NDArray[np.float64] | None = None
    ) -> None:
        if not (all(0.0 < share <= 1.0 for share in shares.values()) and sum(shares.values()) <= 1.0 + 1e-9):
            raise ConfigError("shares", "each must be above 0, all together at most 1")
        self.rule = rule
        self.limit = limit
        self.names = Names(rule.seed)
        self.shares = dict(shares)
        self.skills: dict[str, int] = {}
        self.gone: dict[int, None] = {}  # slots of resources that left, in that order
        self.joined = 0
        self.off = 0  # resources that are miscalibrated
        self.forgotten: list[int] = []  # slots that were taken from their resource; whoever keeps more empties it
        self._terms: dict[tuple[float, ...], int] = {(0.0,) * 6: 0}
        self._sets: dict[tuple[int, ...], int] = {(): 0}
        self._groups = {name: i for i, name in enumerate(shares)}
        self._curves: dict[tuple[str, float], int] = {}
        self._book = CurveBook()
        self._hot = np.zeros((16, 2))
        self.table = np.zeros(16, kernel.RESOURCE)
        self._groups_now = np.array([[share, share] for share in shares.values()]).reshape(-1, 2)
        self._ranks = np.zeros((0, 0)) if ranks is None else np.ascontiguousarray(ranks, np.float64)
        self._modes, self._params = rule.modes(), rule.params()
        self._bind()

    def __len__(self) -> int:
        return len(self.names) - len(self.gone)

    def put(self, name: str, offer: Offer, now: int) -> int:
        """A resource joins, comes back or changes. Returns its slot. Raises BadRecord and changes nothing."""
        weight, terms = self._checked(offer)
        skills = self._skill_bits(offer.needs)
        groups = self._set_of(offer.groups)
        number = self._terms_of(terms)
        curve_number = self._curve_of(offer.capacity, weight)
        slot, _ = self._slot_of(name)
        self.gone.pop(slot, None)
        hold = self.rule.hold_at(offer.capacity)
        given = (float(offer.capacity), weight, offer.concurrent, skills, groups, curve_number, number, hold)
        self.joined += kernel.join(slot, now, *given, *self.state)
        return slot

    def join(self, names: Sequence[str], offer: Offer) -> int:
        """New resources join with one offer, without refill and rate, exactly as `put` does it one by one.

        Returns how many, from the first on: it ends where a name is known, comes twice, or is to be looked at.
        Raises BadRecord and changes nothing.
        """
        weight, _ = self._checked(offer)
        names = names[: 0 if self.names.free else self.limit - len(self.names)]
        known = self.names.find(names) >= 0
        done = int(np.argmax(known)) if known.any() else len(names)
        names = names[:done] if len(set(names[:done])) == done else names[:1]
        if not names or max(map(len, names)) * 4 > LONGEST:
            return 0
        skills, groups = self._skill_bits(offer.needs), self._set_of(offer.groups)
        given = (float(offer.capacity), weight, offer.concurrent, skills, groups)
        curve_number, hold = self._curve_of(offer.capacity, weight), self.rule.hold_at(offer.capacity)
        first = self.names.add_all(names)
        self._grow()
        self.table[first : first + len(names)] = NOBODY_YET
        kernel.join_all(first, first + len(names), *given, curve_number, hold, *self.state)
        self.joined += len(names)
        return len(names)

    def leave(self, name: str) -> bool:
        """No more matches for it. Returns whether it was here."""
        slot = int(self.names.find([name])[0])
        if slot < 0 or not self.table[slot]["present"]:
            return False
        self.table[slot]["present"] = 0
        self.gone[slot] = None
        kernel.refresh(slot, self.state)
        return True

    def slot(self, name: str) -> int:
        """The slot of a resource; a new name gets one, as if it had come and left. Raises BadRecord without
        room."""
        slot, new = self._slot_of(name)
        if new:
            self.gone[slot] = None
            kernel.refresh(slot, self.state)
        return slot

    @property
    def timed(self) -> bool:
        """Whether room may come with time alone: refills, rates."""
        return len(self._terms) > 1

    def needs(self, needs: Sequence[str]) -> np.uint64:
        """The skills an arrival needs, as bits."""
        return np.uint64(sum({self.skills.get(need, NOBODY) for need in needs}))

    def is_off(self, slot: int) -> bool:
        """Whether its successes are further from the load of its settled attempts than chance explains."""
        row = self.table[slot]
        load = float(row["settled_load"])
        return abs(load - int(row["succeeded"])) > DEVIATIONS * math.sqrt(max(load, 1.0))

    def miscalibrated(self) -> NDArray[np.int64]:
        """The slots of all resources that are."""
        table = self.table[: self.names.size]
        off = np.abs(table["settled_load"] - table["succeeded"])
        return np.flatnonzero(off > DEVIATIONS * np.sqrt(np.maximum(table["settled_load"], 1.0)))

    def group_shares(self) -> dict[str, float]:
        """The fading share of the matches of each group that has a least share."""
        return {name: float(self._groups_now[i, 1]) for name, i in self._groups.items()}

    # --- state

    def state_now(self) -> State:
        """A copy."""
        n = self.names.size
        table = self.table[:n].copy()  # in one piece: its columns are taken apart when they are written
        arrays: dict[str, NDArray[Any]] = {str(name): table[name] for name in kernel.RESOURCE.names or ()}
        arrays["groups_now"] = self._groups_now.copy()
        arrays["gone"] = np.array(list(self.gone), np.int64)
        arrays |= {f"name_{key}": array for key, array in self.names.state().arrays.items()}
        document = {
            "skills": dict(self.skills),
            "joined": self.joined,
            "terms": [list(terms) for terms in self._terms],
            "sets": [list(groups) for groups in self._sets],
            "curves": [list(key) for key in self._curves],
            "rule": [self.rule.kind, self.rule.f, self.rule.hold],
        }
        return State(arrays, document)

    def restore(self, state: State) -> None:
        names = {key[5:]: array for key, array in state.arrays.items() if key.startswith("name_")}
        self.names.restore(State(names, {}))
        n = self.names.size
        self.table = np.zeros(max(16, n), kernel.RESOURCE)
        for name in kernel.RESOURCE.names or ():
            if len(state.arrays[name]) != n:
                raise StateError(f"the resources' {name} does not fit their names")
            self.table[name][:n] = state.arrays[name]
        self._hot = np.zeros((len(self.table), 2))
        self._groups_now[:, 1] = np.array(state.arrays["groups_now"]).reshape(-1, 2)[:, 1]
        self.gone = dict.fromkeys(state.arrays["gone"].tolist())
        document = state.document
        self.skills, self.joined = dict(document["skills"]), document["joined"]
        self._terms = {tuple(map(float, terms)): i for i, terms in enumerate(document["terms"])}
        self._sets = {tuple(groups): i for i, groups in enumerate(document["sets"])}
        self._curves, self._book = {}, CurveBook()
        for name, unit in document["curves"]:
            self._curves[name, unit] = self._book.add(curve(name, unit))
        self._bind()
        self.off = len(self.miscalibrated())
        if document["rule"] != [self.rule.kind, self.rule.f, self.rule.hold]:
            self._follow_rule()
        kernel.refresh_all(self.state)

    def _follow_rule(self) -> None:
        """The rule was changed: resources keep their load, and get the curve and the hold of the new one."""
        self._curves, self._book = {}, CurveBook()
        table = self.table[: self.names.size]
        offers = np.stack([table["capacity"], table["weight"]], axis=1)
        different, which = np.unique(offers, axis=0, return_inverse=True)
        curves = [self._curve_of(capacity, weight or 1.0) for capacity, weight in different.tolist()]
        holds = [self.rule.hold_at(capacity) for capacity in different[:, 0].tolist()]
        which = which.reshape(-1)
        table["curve"], table["hold"] = np.array(curves, np.int32)[which], np.array(holds, np.uint8)[which]
        self._bind()

    # --- pieces

    def _bind(self) -> None:
        """The arrays as the kernel takes them, anew after one of them was replaced."""
        terms = np.array(list(self._terms), np.float64).reshape(-1, 6)
        set_start = np.cumsum([0, *map(len, self._sets)])
        set_group = np.array([group for groups in self._sets for group in groups], np.int64)
        names = self.names
        curves, points = self._book.curves, self._book.points
        tables = (terms, curves, points, set_start, set_group, self._groups_now)
        texts = (names.arena, names.start, names.length)
        self.state = (self._hot, self.table, *tables, *texts, self._ranks, self._modes, self._params)

    def _grow(self) -> None:
        if self.names.size > len(self.table):
            wanted = len(self.names.start)
            table, hot = np.zeros(wanted, kernel.RESOURCE), np.zeros((wanted, 2))
            table[: len(self.table)], hot[: len(self._hot)] = self.table, self._hot
            self.table, self._hot = table, hot
        if self.state[8] is not self.names.arena or self.state[1] is not self.table:
            self._bind()

    def _slot_of(self, name: str) -> tuple[int, bool]:
        """The slot of a name, and whether it is new. Raises BadRecord without room."""
        slot = int(self.names.find([name])[0])
        if slot >= 0:
            return slot, False
        if len(self.names) >= self.limit:
            self._forget_one()
        slot = self.names.add(name)
        self._grow()
        self.table[slot] = NOBODY_YET
        return slot, True

    def _forget_one(self) -> None:
        for slot in self.gone:
            if self.table[slot]["open"] == 0 and self.table[slot]["segments"] == 0:
                self.off -= self.is_off(slot)
                self.names.forget(slot)
                self.forgotten.append(slot)
                del self.gone[slot]
                return
        raise BadRecord(f"resource: the pool holds its most, {self.limit}")

    def _checked(self, offer: Offer) -> tuple[float, tuple[float, ...]]:
        """(weight per cost, terms). Raises BadRecord."""
        _within("capacity", offer.capacity, 0.0)
        _above("weight", offer.weight)
        _above("cost", offer.cost)
        if not 0 <= offer.concurrent < 1 << 31:
            raise BadRecord("concurrent: must be 0 or more")
        refill, rate = offer.refill, offer.rate
        if refill is not None:
            _within("refill.amount", refill.amount, 0.0)
            if refill.every < 1:
                raise BadRecord("refill.every: must be 1 millisecond or more")
        if rate is not None and (rate.count < 1 or rate.per < 1):
            raise BadRecord("rate: count and per must be 1 or more")
        if offer.pace not in ("asap", "even") or (offer.pace == "even" and refill is None):
            raise BadRecord('pace: must be "asap", or "even" with a refill')
        terms = [0.0] * 6
        if refill is not None:
            terms[kernel.REFILL], terms[kernel.PERIOD] = refill.amount, float(refill.every)
            terms[kernel.RESET], terms[kernel.PACE] = float(refill.reset), float(offer.pace == "even")
        if rate is not None:
            terms[kernel.BURST], terms[kernel.INTERVAL] = float(rate.count), rate.per / rate.count
        return offer.weight / offer.cost, tuple(terms)

    def _skill_bits(self, needs: Sequence[str]) -> np.uint64:
        new = [need for need in dict.fromkeys(needs) if need not in self.skills]
        if len(self.skills) + len(new) > SKILLS:
            raise BadRecord(f"needs: the pool knows its most, {SKILLS}")
        for need in new:
            self.skills[need] = 1 << len(self.skills)
        return np.uint64(sum(self.skills[need] for need in set(needs)))

    def _set_of(self, groups: Sequence[str]) -> int:
        key = tuple(sorted({self._groups[group] for group in groups if group in self._groups}))
        return self._number(self._sets, key, MAX_SETS, "groups: the pool knows too many combinations")

    def _terms_of(self, terms: tuple[float, ...]) -> int:
        return self._number(self._terms, terms, MAX_TERMS, "refill, rate: the pool knows too many different ones")

    def _curve_of(self, capacity: float, weight: float) -> int:
        key = self.rule.curve(capacity, weight)
        if key not in self._curves:
            self._curves[key] = self._book.add(curve(key[0], key[1] or 1.0))
            self._bind()
        return self._curves[key]

    def _number(self, known: dict[Any, int], key: Any, most: int, reason: str) -> int:
        if key not in known:
            if len(known) >= most:
                raise BadRecord(reason)
            known[key] = len(known)
            self._bind()
        return known[key]


def _within(field: str, value: float, least: float) -> None:
    if not (least <= value <= LARGEST):
        raise BadRecord(f"{field}: must be a number within {least:g} and {LARGEST:g}")


def _above(field: str, value: float) -> None:
    if not (0.0 < value <= LARGEST) or not math.isfinite(value):
        raise BadRecord(f"{field}: must be a number above 0 and at most {LARGEST:g}")
