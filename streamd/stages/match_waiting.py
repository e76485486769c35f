"""Arrivals that nobody is free for, kept until somebody is: in the order they came, until their deadline.

What waits is tried again when something may have changed for it: an attempt ended, a resource or a segment was
put, and, where resources are refilled or paced, every RETRY of event time. At most TRIES of a pool are tried then,
from the head on. Where there is nobody for one that anybody would do for, there is nobody for the others with the
same needs either, and they are passed over. One that had answers from some, or that lists its edges, goes to the
end. What came of a round is in the journal: the decisions, by match.
"""

import heapq
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from streamd.matching.arrivals import Arrival
from streamd.snapshot import State
from streamd.stages.match_records import ArrivalRecord, asked

TRIES = 16
RETRY = 10_000  # milliseconds
WAITS = b""  # in the journal: an arrival that waits
IN_VAIN = "nobody came free in time"
WITHDRAWN = "it had its outcome before anybody came free"

_arrival = msgspec.json.Decoder(ArrivalRecord)


class Waits(Struct, frozen=True):
    """An arrival that waits. value: as it came; until: event time."""

    pool: str
    match: str
    value: bytes
    until: int
    told: ArrivalRecord
    arrival: Arrival


class Line:
    """Of one shard."""

    def __init__(self) -> None:
        self.again = 0  # event time of the next round that only time brings about
        self._pools: dict[str, dict[str, Waits]] = {}
        self._matches: dict[tuple[str, str], str] = {}  # (pool, arrival) -> match
        self._due: list[tuple[int, str, str]] = []  # a heap; may hold what no longer waits

    def __bool__(self) -> bool:
        return bool(self._pools)

    def __iter__(self) -> Iterator[str]:
        """The pools in which something waits."""
        return iter(self._pools)

    def size(self, pool: str) -> int:
        return len(self._pools.get(pool, ()))

    def find(self, pool: str, match: str) -> Waits | None:
        return self._pools.get(pool, {}).get(match)

    def of(self, pool: str, id: str) -> Waits | None:
        """By its match, or by its arrival."""
        found = self.find(pool, id)
        if found is None and (match := self._matches.get((pool, id))) is not None:
            return self.find(pool, match)
        return found

    def all(self, pool: str) -> list[Waits]:
        """Who waits, in order."""
        return list(self._pools.get(pool, {}).values())

    def add(self, pool: str, match: str, value: bytes, until: int) -> None:
        told = _arrival.decode(value)
        waits = Waits(pool, match, value, until, told, asked(told))
        self._pools.setdefault(pool, {})[match] = waits
        self._matches[pool, waits.arrival.id] = match
        heapq.heappush(self._due, (until, pool, match))

    def to_the_end(self, waits: Waits) -> None:
        self._pools[waits.pool][waits.match] = self._pools[waits.pool].pop(waits.match)

    def leave(self, waits: Waits) -> None:
        line = self._pools[waits.pool]
        del line[waits.match]
        self._matches.pop((waits.pool, waits.arrival.id), None)
        if not line:
            del self._pools[waits.pool]

    def over(self, now: int) -> Waits | None:
        """The one that is longest over its time."""
        until = self.deadline()
        return None if until is None or until > now else self._pools[self._due[0][1]][self._due[0][2]]

    def deadline(self) -> int | None:
        """When the next one is over its time."""
        while self._due and self.find(*self._due[0][1:]) is None:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def state(self) -> State:
        kept = [(w.pool, w.match, w.value, w.until) for line in self._pools.values() for w in line.values()]
        return State({"line": np.frombuffer(msgspec.msgpack.encode(kept), np.uint8)}, {"again": self.again})

    def restore(self, state: State) -> None:
        kept: list[Any] = msgspec.msgpack.decode(state.arrays["line"].tobytes())
        self._pools, self._matches, self._due = {}, {}, []
        for pool, match, value, until in kept:
            self.add(pool, match, value, until)
        self.again = state.document["again"]
