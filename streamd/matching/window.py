"""The last arrivals of a pool, kept to be judged in hindsight.

The window is part of a pool's state, so the bound goes on after a restart as if there had been none. What it is
judged against is what was left to give when it began: of each resource the units that are left now, those that
attempts within the window took, less what older open attempts are expected to take. Resources that joined within
the window count as if they had been there; capacity that a resetting refill let lapse within it is not counted.
"""

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamd.kernels import matching as kernel
from streamd.matching.arrivals import Edges
from streamd.matching.instance import Floats, Instance, Integers
from streamd.matching.probabilities import Codes
from streamd.snapshot import State

if TYPE_CHECKING:
    from streamd.matching.pool import Pool


class Seen(NamedTuple):
    """An arrival and its answer. chosen: a slot, -1 for none; barred: resources it could not get."""

    match: str
    edges: Edges
    kind: str | None
    codes: Codes
    needs: np.uint64
    barred: tuple[str, ...]
    chosen: int
    p: float
    units: float


class Recent(NamedTuple):
    """A window as arrays. units: (E,) what a success takes; reward: expected, of what was matched; open: how many
    of its attempts wait."""

    instance: Instance
    units: Floats
    reward: float
    open: int


class Window:
    """At most `arrivals` arrivals with `edges` edges in all."""

    def __init__(self, arrivals: int, edges: int) -> None:
        self.arrivals = arrivals
        self.edges = edges
        self.fresh = 0  # arrivals since the window was last taken out
        self._seen: deque[Seen] = deque()
        self._size = 0

    def add(self, seen: Seen) -> None:
        """An arrival that was answered."""
        self._seen.append(seen)
        self._size += len(seen.edges.slots)
        self.fresh += 1
        while len(self._seen) > self.arrivals or self._size > self.edges:
            self._size -= len(self._seen.popleft().edges.slots)

    def state(self) -> State:
        """Arrays made anew: no copy is needed."""
        none = np.zeros(0)
        seen = self._seen
        arrays = {
            "slots": np.concatenate([np.zeros(0, np.int64), *(s.edges.slots for s in seen)]),
            "p": np.concatenate([none, *(s.edges.p for s in seen)]),
            "bids": np.concatenate([none, *(s.edges.bids for s in seen)]),
            "lengths": np.array([(len(s.edges.slots), len(s.edges.bids)) for s in seen], np.int64).reshape(-1, 2),
        }
        told = [(s.match, s.kind, s.codes, int(s.needs), s.barred, s.chosen, s.p, s.units) for s in seen]
        arrays["seen"] = np.frombuffer(msgspec.msgpack.encode(told), np.uint8)
        return State(arrays, {})

    def restore(self, state: State) -> None:
        """Its arrivals are to be judged anew."""
        lengths = state.arrays["lengths"]
        edges, bids = np.cumsum(lengths, axis=0)[:-1].T
        columns = (
            np.split(np.array(state.arrays["slots"]), edges),
            np.split(np.array(state.arrays["p"]), edges),
            np.split(np.array(state.arrays["bids"]), bids),
        )
        self._seen, self._size, self.fresh = deque(), 0, 0
        told = _seen.decode(state.arrays["seen"].tobytes())
        for one, *own in zip(told, *columns, strict=False):
            match, kind, codes, needs, barred, chosen, p, units = one
            self.add(Seen(match, Edges(*own), kind, codes, np.uint64(needs), barred, chosen, p, units))

    def take(self, pool: "Pool", now: int) -> Recent | None:
        """The window as arrays, priced with what is known now; None if nothing in it could be matched."""
        self.fresh = 0
        if not self._size:
            return None
        slots = np.concatenate([seen.edges.slots for seen in self._seen])
        lengths = [len(seen.edges.slots) for seen in self._seen]
        p = np.concatenate([self._price(pool, seen, now) for seen in self._seen])
        fit = self._fit(pool, slots, lengths)
        owner = np.repeat(np.arange(len(lengths)), lengths)[fit]
        slots, p = slots[fit], p[fit]
        if not len(slots):
            return None
        units = self._units(pool, fit, slots)
        used, which = np.unique(slots, return_inverse=True)
        rows = pool.resources.table[used]
        left, reward, waiting = self._left(pool, used, now)
        starts = np.searchsorted(owner, np.arange(len(lengths) + 1)).astype(np.int64)
        names = tuple(pool.resources.names.name(slot) for slot in used.tolist())
        weight = np.array(rows["weight"])
        return Recent(Instance(names, weight, left, starts, which.reshape(-1), p), units, reward, waiting)

    def _price(self, pool: "Pool", seen: Seen, now: int) -> Floats:
        if pool.source.kind == "event":
            return seen.edges.p
        nobody = np.uint64(0)
        return pool.chances.price(seen.edges.slots, seen.edges.p, seen.kind, seen.codes, now, nobody).p

    def _fit(self, pool: "Pool", slots: Integers, lengths: list[int]) -> NDArray[np.bool_]:
        """(E,) whether an edge could be taken."""
        table = pool.resources.table
        needs = np.repeat(np.array([seen.needs for seen in self._seen], np.uint64), lengths)
        known = np.maximum(slots, 0)
        fit = (slots >= 0) & (table["present"][known] == 1) & ((table["skills"][known] & needs) == needs)
        first = 0
        for seen, length in zip(self._seen, lengths, strict=True):
            if seen.barred:
                barred = pool.resources.names.find(list(seen.barred))
                fit[first : first + length] &= ~np.isin(slots[first : first + length], barred)
            first += length
        found: NDArray[np.bool_] = fit
        return found

    def _units(self, pool: "Pool", fit: NDArray[np.bool_], slots: Integers) -> Floats:
        """(E,) what a success takes: 1, or the bid."""
        if not pool.rule.money:
            return np.ones(len(slots))
        bids = np.concatenate(
            [
                seen.edges.bids if len(seen.edges.bids) else np.full(len(seen.edges.slots), np.nan)
                for seen in self._seen
            ]
        )[fit]
        return np.where(np.isnan(bids), pool.resources.table["weight"][slots], bids)

    def _left(self, pool: "Pool", used: Integers, now: int) -> tuple[Floats, float, int]:
        """(n,) units there were to give; the expected reward of what was given; open attempts of the window."""
        rows = pool.resources.table[used]
        capacity, taken = _refilled(rows, pool.resources.state[2], now)
        held, back = np.array(rows["open_load"]), np.zeros(len(used))
        reward, waiting = 0.0, 0
        for seen in self._seen:
            if seen.chosen < 0:
                continue
            worth = seen.units if pool.rule.money else float(pool.resources.table["weight"][seen.chosen])
            reward += worth * seen.p
            kept = pool.attempts.find(seen.match)
            i = int(np.searchsorted(used, seen.chosen))
            if kept is None or i >= len(used) or used[i] != seen.chosen:
                continue
            if kept.status == "open":
                held[i] -= seen.p * seen.units
                waiting += 1
            if pool.rule.consume == "attempt" or kept.status == "success":
                back[i] += seen.units
        left = np.maximum(0.0, capacity - taken - np.maximum(held, 0.0) + back)
        # Whole units, rounded up: a bound must not be too small.
        return left if pool.rule.money else np.ceil(left - 1e-9), reward, waiting


_seen = msgspec.msgpack.Decoder(list[tuple[str, str | None, Codes, int, tuple[str, ...], int, float, float]])


def _refilled(rows: NDArray[np.void], terms: Floats, now: int) -> tuple[Floats, Floats]:
    """(capacity, used) of resources once the refills due by now are done."""
    own = terms[rows["terms"]]
    length = own[:, kernel.PERIOD]
    periods = np.where(length > 0.0, np.maximum(0, now - rows["since"]) // np.maximum(length, 1.0), 0.0)
    reset = (own[:, kernel.RESET] != 0.0) & (periods > 0)
    capacity = np.where(reset, own[:, kernel.REFILL], rows["capacity"] + periods * own[:, kernel.REFILL])
    return capacity, np.where(reset, 0.0, rows["used"])
