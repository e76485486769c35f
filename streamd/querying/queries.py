"""The queries of one shard: pending until their label comes or their deadline passes, then remembered for a while.

The event itself, its features as they were when it was predicted and the memo of that prediction are the business
of the stage that keeps the events waiting for labels; here is what the query adds to it.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from msgspec import Struct

from streamd.errors import StateError
from streamd.querying.decision import Decision
from streamd.snapshot import State

Said = str | float | list[str]
"""A label: a class, a value, or several classes in the order of their names."""

PENDING, ANSWERED, EXPIRED = "pending", "answered", "expired"


class Query(Struct, array_like=True):
    """A request for the label of one event.

    number: counts the queries of a shard; with the event it makes the id. p: as predicted. payer: the account
    debited, by `debited`. open: annotators who have not answered yet; said: what the others said.
    """

    event: str
    number: int
    at: int
    deadline: int
    own: bool
    drawn: bool
    branch: int
    utility: float
    threshold: float
    p_ask: float
    p: list[float]
    near: list[int]
    groups: list[str]
    payer: int
    debited: float
    kind: str = "label"
    proposed: str = ""
    status: str = PENDING
    open: list[str] = []
    refused: list[str] = []  # who skipped
    said: dict[str, Said] = {}
    label: Said | None = None
    via: dict[str, str] = {}  # annotator -> the record that was answered
    truth: Said | None = None  # of a gold question, known beforehand

    @property
    def id(self) -> str:
        return f"{self.event}#{self.number}"

    @property
    def decision(self) -> Decision:
        return Decision(self.own, self.branch, self.utility, self.threshold, self.p_ask, self.drawn)


class Queries:
    """most: pending at once; remember: closed ones kept for late, repeated and corrected answers."""

    def __init__(self, most: int = 100_000, remember: int = 100_000) -> None:
        self.most = most
        self.remember = remember
        self.pending: dict[str, Query] = {}
        self.closed: dict[str, Query] = {}
        self._line: deque[tuple[int, str, int]] = deque()  # deadline, event, number, as asked
        self._gone: deque[tuple[str, int]] = deque()
        self._near: Counter[int] = Counter()

    def find(self, event: str) -> Query | None:
        return self.pending.get(event) or self.closed.get(event)

    def nearby(self, near: Sequence[int]) -> int:
        """How many queries are pending in the neighbourhood: the fewest of its buckets."""
        return min((self._near[bucket] for bucket in near), default=0) if self._near else 0

    def add(self, query: Query) -> None:
        self.closed.pop(query.event, None)
        self.pending[query.event] = query
        self._line.append((query.deadline, query.event, query.number))
        if query.near:
            self._near.update(query.near)

    def close(self, query: Query, status: str) -> None:
        """Answered or expired: no longer pending, remembered."""
        query.status = status
        if self.pending.pop(query.event, None) is not None and query.near:
            self._near.subtract(query.near)
            for bucket in query.near:
                if not self._near[bucket]:
                    del self._near[bucket]
        if query.event not in self.closed:
            self._gone.append((query.event, query.number))
        self.closed[query.event] = query
        while len(self.closed) > self.remember:
            event, number = self._gone.popleft()
            if event in self.closed and self.closed[event].number == number:
                del self.closed[event]

    def due(self, now: int) -> Iterator[Query]:
        """The pending queries whose deadline has passed, and the oldest beyond `most`; the caller closes each."""
        while (head := self._head()) is not None and (head.deadline <= now or len(self.pending) > self.most):
            yield head

    def deadline(self) -> int | None:
        head = self._head()
        return None if head is None else head.deadline

    def undisturbed(self, events: Sequence[str], times: Sequence[int], wait: int) -> bool:
        """Whether, while these events go by, none is one asked about before or twice, and no query expires; those
        asked about them included, which wait so long."""
        due, last = self.deadline(), times[-1]
        if (due is not None and due <= last) or last >= times[0] + wait:
            return False
        fresh = dict.fromkeys(events).keys()
        if len(fresh) != len(events) or len(self.pending) + len(events) > self.most:
            return False
        return fresh.isdisjoint(self.pending.keys()) and fresh.isdisjoint(self.closed.keys())

    def _head(self) -> Query | None:
        """The query asked first: deadlines lie equally far ahead of times that never go back."""
        while self._line:
            _, event, number = self._line[0]
            query = self.pending.get(event)
            if query is not None and query.number == number:
                return query
            self._line.popleft()
        return None

    def state(self) -> State:
        kept = msgspec.msgpack.encode([list(self.pending.values()), list(self.closed.values())])
        return State({"queries": np.frombuffer(kept, np.uint8)}, {})

    def restore(self, state: State) -> None:
        try:
            pending, closed = _decoder.decode(state.arrays["queries"].tobytes())
        except (KeyError, msgspec.MsgspecError) as error:
            raise StateError(f"this is not the state of a table of queries: {error}") from None
        self.pending, self.closed = {}, {}
        self._line, self._gone, self._near = deque(), deque(), Counter()
        for query in sorted(pending, key=lambda query: query.number):
            self.add(query)
        for query in closed:
            self.closed[query.event] = query
            self._gone.append((query.event, query.number))


_decoder = msgspec.msgpack.Decoder(tuple[list[Query], list[Query]])
