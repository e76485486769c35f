"""Events that wait for their label, labels that wait for their event, and what is remembered of the answered.

An event is kept as its record, so a late label trains on the features as they were when predicted, with the memo
of that prediction. Three tables in order of arrival, each bounded; nothing falls out of one without a count:

    waiting   events without a label; past `max_age`, `max_events` or `max_bytes` the oldest expires
    closed    events labelled or expired, the last `remember` of them, for late, repeated, corrected labels
    early     labels whose event was not seen yet; past `early_age` or `early` they become dead letters
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamd.ports import Record
from streamd.snapshot import State


class Remembered(Struct, gc=False):
    """An event kept for its label. memo: an int only within the batch that predicted it.

    Not changed once its batch has ended, so a snapshot thread may read it: a change of status is a new object.
    """

    value: bytes
    memo: int | bytes
    at: int  # event time when it came
    deadline: int
    label: str | float | None = None  # as learned
    expired: bool = False


class Early(Struct, frozen=True, gc=False):
    """A label that came before its event: the record whole, for a dead letter if the event never comes."""

    record: Record
    deadline: int


class Bounds(Struct, frozen=True):
    """Counts, bytes and milliseconds of event time; see the configuration's `pending`."""

    max_events: int
    max_bytes: int
    max_age: int
    remember: int
    early: int
    early_age: int


Entry = TypeVar("Entry", Remembered, Early)


class Arrivals(dict[str, Entry], Generic[Entry]):
    """A table in order of arrival that finds its oldest entry at once.

    `next(iter(...))` of a dictionary walks over all that was removed before it: 8 microseconds at 100,000 entries.
    """

    def __init__(self) -> None:
        self._line: deque[tuple[str, Entry]] = deque()  # as they came; some are no longer in the table

    def add(self, event: str, entry: Entry) -> None:
        """The event must not be in the table."""
        self[event] = entry
        self._line.append((event, entry))
        if len(self._line) > 64 + len(self) + len(self) // 4:
            self._line = deque(self.items())

    def oldest(self) -> tuple[str, Entry] | None:
        line = self._line
        while line and self.get(line[0][0]) is not line[0][1]:
            line.popleft()
        return line[0] if line else None

    def pop_oldest(self) -> tuple[str, Entry]:
        """Raises KeyError if the table is empty."""
        found = self.oldest()
        if found is None:
            raise KeyError
        del self[found[0]]
        return found


class PendingLabels:
    """The three tables of one shard."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.waiting: Arrivals[Remembered] = Arrivals()
        self.closed: Arrivals[Remembered] = Arrivals()
        self.early: Arrivals[Early] = Arrivals()
        self.bytes = 0

    def find(self, event: str) -> Remembered | None:
        return self.waiting.get(event) or self.closed.get(event)

    def wait(self, event: str, entry: Remembered) -> int:
        """Keep an event for its label. Returns how many others had to expire to make room."""
        self.waiting.add(event, entry)
        self.bytes += len(entry.value)
        expired = 0
        bounds = self.bounds
        while len(self.waiting) > bounds.max_events or (self.bytes > bounds.max_bytes and len(self.waiting) > 1):
            oldest = self.waiting.oldest()
            assert oldest is not None
            self._expire(*oldest)
            expired += 1
        return expired

    def close(self, event: str, entry: Remembered, label: str | float | None) -> Remembered:
        """Remember a labelled event for a while. It may have been waiting, closed, or never in a table."""
        if self.waiting.pop(event, None) is not None:
            self.bytes -= len(entry.value)
        self.closed.pop(event, None)
        kept = Remembered(entry.value, entry.memo, entry.at, entry.deadline, label)
        self._remember(event, kept)
        return kept

    def give_up(self, event: str) -> int:
        """Expire an event before its time: nobody will label it. Returns 1 if it was waiting, else 0."""
        entry = self.waiting.get(event)
        if entry is None:
            return 0
        self._expire(event, entry)
        return 1

    def expire(self, now: int) -> int:
        """Expire the events whose deadline has passed. Returns how many."""
        count = 0
        while (oldest := self.waiting.oldest()) is not None and oldest[1].deadline <= now:
            self._expire(*oldest)
            count += 1
        return count

    def park(self, event: str, record: Record, now: int) -> list[Record]:
        """Keep a label until its event comes. Returns the records given up for it: its forerunner, the oldest."""
        given_up = []
        if (former := self.early.pop(event, None)) is not None:
            given_up.append(former.record)
        self.early.add(event, Early(record, now + self.bounds.early_age))
        while len(self.early) > self.bounds.early:
            given_up.append(self.early.pop_oldest()[1].record)
        return given_up

    def expire_early(self, now: int) -> list[Record]:
        """The labels whose event did not come in time."""
        given_up = []
        while (oldest := self.early.oldest()) is not None and oldest[1].deadline <= now:
            given_up.append(self.early.pop_oldest()[1].record)
        return given_up

    def deadline(self) -> int | None:
        """The next moment of event time at which something expires."""
        heads = (self.waiting.oldest(), self.early.oldest())
        return min((head[1].deadline for head in heads if head is not None), default=None)

    def nothing_before(self, now: int) -> int:
        """A moment before which nothing expires, whatever comes from `now` on."""
        new = now + min(self.bounds.max_age, self.bounds.early_age)
        deadline = self.deadline()
        return new if deadline is None else min(new, deadline)

    def _expire(self, event: str, entry: Remembered) -> None:
        del self.waiting[event]
        self.bytes -= len(entry.value)
        # A new object, unless the batch that predicted it is still filling in its memo.
        if isinstance(entry.memo, int):
            entry.expired = True
        else:
            entry = Remembered(entry.value, entry.memo, entry.at, entry.deadline, expired=True)
        self._remember(event, entry)

    def _remember(self, event: str, entry: Remembered) -> None:
        self.closed.add(event, entry)
        while len(self.closed) > self.bounds.remember:
            self.closed.pop_oldest()

    def freeze(self) -> Callable[[], State]:
        """A cheap copy now; the function makes the arrays, in any thread, later."""
        waiting, closed, early = self.waiting.copy(), self.closed.copy(), self.early.copy()

        def thaw() -> State:
            arrays = _table("waiting", waiting) | _table("closed", closed)
            kept = [(event, entry.deadline, entry.record) for event, entry in early.items()]
            arrays["early"] = np.frombuffer(msgspec.msgpack.encode(kept), np.uint8)
            return State(arrays, {})

        return thaw

    def restore(self, state: State) -> None:
        kept = msgspec.msgpack.decode(state.arrays["early"].tobytes(), type=list[tuple[str, int, Record]])
        self.waiting = _arrived(_rows("waiting", state.arrays))
        self.closed = _arrived(_rows("closed", state.arrays))
        self.early = _arrived((event, Early(record, deadline)) for event, deadline, record in kept)
        self.bytes = sum(len(entry.value) for entry in self.waiting.values())


def _arrived(entries: Iterable[tuple[str, Entry]]) -> Arrivals[Entry]:
    table: Arrivals[Entry] = Arrivals()
    for event, entry in entries:
        table.add(event, entry)
    return table


def _table(name: str, table: dict[str, Remembered]) -> dict[str, NDArray[Any]]:
    entries = list(table.values())
    columns = {
        f"{name}_at": np.array([e.at for e in entries], np.int64),
        f"{name}_deadline": np.array([e.deadline for e in entries], np.int64),
        f"{name}_expired": np.array([e.expired for e in entries], np.bool_),
        f"{name}_label": np.frombuffer(msgspec.msgpack.encode([e.label for e in entries]), np.uint8),
    }
    blobs = {
        "id": [event.encode() for event in table],
        "value": [e.value for e in entries],
        "memo": [e.memo for e in entries if isinstance(e.memo, bytes)],
    }
    for column, values in blobs.items():
        columns[f"{name}_{column}"] = np.frombuffer(b"".join(values), np.uint8)
        columns[f"{name}_{column}_length"] = np.array([len(value) for value in values], np.int64)
    return columns


def _rows(name: str, arrays: dict[str, NDArray[Any]]) -> Iterator[tuple[str, Remembered]]:
    ids, values, memos = (
        _cut(arrays[f"{name}_{column}"], arrays[f"{name}_{column}_length"]) for column in ("id", "value", "memo")
    )
    labels = msgspec.msgpack.decode(arrays[f"{name}_label"].tobytes(), type=list[str | float | None])
    numbers = (arrays[f"{name}_{column}"].tolist() for column in ("at", "deadline", "expired"))
    for event, value, memo, label, at, deadline, expired in zip(ids, values, memos, labels, *numbers, strict=True):
        yield event.decode(), Remembered(value, memo, at, deadline, label, expired)


def _cut(blob: NDArray[np.uint8], lengths: NDArray[np.int64]) -> Iterable[bytes]:
    raw = blob.tobytes()
    ends = np.cumsum(lengths).tolist()
    return (raw[end - length : end] for end, length in zip(ends, lengths.tolist(), strict=True))
