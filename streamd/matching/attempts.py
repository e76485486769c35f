"""What a pool has promised: attempts that are open, and answers that are remembered.

An answer is kept under "<arrival>/<attempt>"; the arrival's own id stands for its latest one. An open attempt ends
by its outcome or, in event time, by `open_until`; after that it is remembered, with the unmatched answers, for
repeated
arrivals and late outcomes: the last `remember` of them. Nothing here is changed in place, so a snapshot thread may
read a copied table.
"""

import heapq
from collections.abc import Callable
from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct

from streamd.matching.probabilities import NO_CODES, Codes
from streamd.snapshot import State

Status = Literal["open", "success", "failure", "skipped", "timeout", "unmatched"]


class Decision(Struct, frozen=True, gc=False):
    """The answer to an arrival.

    resource: None if unmatched, for this `reason`; p: the probability its load is charged with; score, k: of the
    choice; load: before it; units: what a success takes; best: up to three of (resource, score), the choice first.
    """

    resource: str | None
    reason: str = ""
    p: float = 0.0
    score: float = 0.0
    k: float = 0.0
    load: float = 0.0
    units: float = 1.0
    open_until: int = 0
    best: tuple[tuple[str, float], ...] = ()


class Attempt(Struct, frozen=True, gc=False):
    """An answer and what became of it. kind, codes: what learning needs; at: event time of the decision."""

    decision: Decision
    arrival: str
    attempt: int
    at: int
    kind: str | None = None
    codes: Codes = NO_CODES
    status: Status = "open"

    @property
    def id(self) -> str:
        return f"{self.arrival}/{self.attempt}"


class Attempts:
    """The two tables of one pool."""

    def __init__(self, remember: int) -> None:
        self.remember = remember
        self.open: dict[str, Attempt] = {}
        self.closed: dict[str, Attempt] = {}
        self._latest: dict[str, int] = {}  # arrival -> its latest attempt
        self._due: list[tuple[int, str]] = []  # a heap; may hold attempts that are no longer open

    def find(self, match: str, resource: str | None = None) -> Attempt | None:
        """By match id, or by arrival id: then its latest attempt, with this resource if it had one with it."""
        found = self.open.get(match) or self.closed.get(match)
        if found is None and (latest := self._latest.get(match)) is not None:
            found = self.answer(match, latest)
            for attempt in range(latest, 0, -1) if resource is not None else ():
                kept = self.answer(match, attempt)
                if kept is not None and kept.decision.resource == resource:
                    return kept
        return found

    def answer(self, arrival: str, attempt: int) -> Attempt | None:
        match = f"{arrival}/{attempt}"
        return self.open.get(match) or self.closed.get(match)

    def add(self, new: Attempt, match: str) -> None:
        """Keep a new answer under the id of its match."""
        if new.attempt > self._latest.get(new.arrival, 0):
            self._latest[new.arrival] = new.attempt
        if new.status != "open":
            self._remember(new)
            return
        self.open[match] = new
        heapq.heappush(self._due, (new.decision.open_until, match))
        if len(self._due) > 2 * len(self.open) + 64:
            self._due = [(kept.decision.open_until, name) for name, kept in self.open.items()]
            heapq.heapify(self._due)

    def close(self, old: Attempt, status: Status) -> None:
        """An open attempt ends, or the status of a remembered one changes."""
        match = old.id
        kept = msgspec.structs.replace(old, status=status)
        if self.open.pop(match, None) is not None:
            self._remember(kept)
        else:
            self.closed[match] = kept

    def due(self, now: int) -> Attempt | None:
        """The open attempt that is longest over its time."""
        deadline = self.deadline()
        return self.open[self._due[0][1]] if deadline is not None and deadline <= now else None

    def deadline(self) -> int | None:
        """When the next open attempt is over its time."""
        while self._due and self._due[0][1] not in self.open:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def _remember(self, kept: Attempt) -> None:
        self.closed[kept.id] = kept
        while len(self.closed) > self.remember:
            oldest = self.closed.pop(next(iter(self.closed)))
            if self._latest.get(oldest.arrival) == oldest.attempt:
                del self._latest[oldest.arrival]

    def freeze(self) -> Callable[[], State]:
        """A cheap copy now; the function makes the arrays, in any thread."""
        tables = {"open": self.open.copy(), "closed": self.closed.copy()}
        return lambda: State(
            {
                name: np.frombuffer(msgspec.msgpack.encode(list(table.values())), np.uint8)
                for name, table in tables.items()
            },
            {},
        )

    def restore(self, state: State) -> None:
        tables = [_decoder.decode(state.arrays[name].tobytes()) for name in ("open", "closed")]
        self.open, self.closed = ({kept.id: kept for kept in table} for table in tables)
        self._latest = {}
        for kept in (*self.closed.values(), *self.open.values()):
            self._latest[kept.arrival] = max(kept.attempt, self._latest.get(kept.arrival, 0))
        self._due = [(kept.decision.open_until, name) for name, kept in self.open.items()]
        heapq.heapify(self._due)


_decoder = msgspec.msgpack.Decoder(list[Attempt])
