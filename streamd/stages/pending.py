"""Events that wait for their label, labels that wait for their event, and what is remembered of the answered.

An event is kept as its record, so a late label trains on the features as they were when predicted, with the memo
of that prediction. Three tables in order of arrival, each bounded; nothing falls out of one without a count:

    waiting   events without a label; past `max_age`, `max_events` or `max_bytes` the oldest expires
    closed    events labelled or expired, the last `remember` of them, for late, repeated, corrected labels
    early     labels whose event was not seen yet; past `early_age` or `early` they become dead letters
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from streamd.learners import Label
from streamd.ports import Record
from streamd.snapshot import State

NO_MODELS: Mapping[str, str] = {}


class Seen(Struct, gc=False):
    """What a shadow predicted of an event, and learned of it. memo: an int only within the batch that made it."""

    memo: int | bytes
    label: Label | None = None


class Remembered(Struct, gc=False):
    """An event kept for its label. memo: an int only within the batch that predicted it.

    Not changed once its batch has ended, so a snapshot thread may read it: a change of status is a new object.
    """

    value: bytes
    memo: int | bytes
    at: int  # event time when it came
    deadline: int
    label: Label | None = None  # as learned
    expired: bool = False
    beside: dict[str, Seen] | None = None  # by the shadow's model


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


class PendingLabels:
    """The three tables of one shard, in order of arrival.

    They are ordered dictionaries, not plain ones: there `next(iter(...))` walks over all that was removed before,
    which costs microseconds once there are thousands.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.waiting: OrderedDict[str, Remembered] = OrderedDict()
        self.closed: OrderedDict[str, Remembered] = OrderedDict()
        self.early: OrderedDict[str, Early] = OrderedDict()
        self.bytes = 0

    def find(self, event: str) -> Remembered | None:
        return self.waiting.get(event) or self.closed.get(event)

    def wait(self, event: str, entry: Remembered) -> int:
        """Keep an event for its label. Returns how many others had to expire to make room."""
        self.waiting[event] = entry
        self.bytes += len(entry.value)
        expired = 0
        bounds = self.bounds
        while len(self.waiting) > bounds.max_events or (self.bytes > bounds.max_bytes and len(self.waiting) > 1):
            self._expire(*next(iter(self.waiting.items())))
            expired += 1
        return expired

    def close(
        self, event: str, entry: Remembered, label: Label, beside: dict[str, Seen] | None = None
    ) -> Remembered:
        """Remember a labelled event for a while. It may have been waiting, closed, or never in a table.

        beside: what the shadows made of it.
        """
        if event in self.waiting:
            del self.waiting[event]
            self.bytes -= len(entry.value)
        elif event in self.closed:
            del self.closed[event]
        if isinstance(entry.memo, int):  # nobody but the batch that predicted it has seen it
            entry.label, entry.expired, entry.beside = label, False, beside
        else:
            entry = Remembered(entry.value, entry.memo, entry.at, entry.deadline, label, beside=beside)
        self.remember(event, entry)
        return entry

    def remember(self, event: str, entry: Remembered) -> None:
        """Keep what waits no more, and was in no table, for a while."""
        self.closed[event] = entry
        if len(self.closed) > self.bounds.remember:
            self.closed.popitem(last=False)

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
        while self.waiting and (oldest := next(iter(self.waiting.items())))[1].deadline <= now:
            self._expire(*oldest)
            count += 1
        return count

    def park(self, event: str, record: Record, now: int) -> list[Record]:
        """Keep a label until its event comes. Returns the records given up for it: its forerunner, the oldest."""
        given_up = []
        if (former := self.early.pop(event, None)) is not None:
            given_up.append(former.record)
        self.early[event] = Early(record, now + self.bounds.early_age)
        while len(self.early) > self.bounds.early:
            given_up.append(self.early.popitem(last=False)[1].record)
        return given_up

    def expire_early(self, now: int) -> list[Record]:
        """The labels whose event did not come in time."""
        given_up = []
        while self.early and next(iter(self.early.values())).deadline <= now:
            given_up.append(self.early.popitem(last=False)[1].record)
        return given_up

    def deadline(self) -> int | None:
        """The next moment of event time at which something expires."""
        heads = [next(iter(self.waiting.values())).deadline] if self.waiting else []
        heads += [next(iter(self.early.values())).deadline] if self.early else []
        return min(heads, default=None)

    def nothing_before(self, now: int) -> int:
        """A moment before which nothing expires, whatever comes from `now` on."""
        new = now + min(self.bounds.max_age, self.bounds.early_age)
        deadline = self.deadline()
        return new if deadline is None else min(new, deadline)

    def forget(self, event: str) -> int:
        """Drop an event altogether. Returns 1 if it was waiting, else 0."""
        if (entry := self.waiting.pop(event, None)) is not None:
            self.bytes -= len(entry.value)
            return 1
        self.closed.pop(event, None)
        return 0

    def beside(self, event: str, model: str, seen: Seen) -> None:
        """Keep what a shadow made of a remembered event."""
        table = self.waiting if event in self.waiting else self.closed
        entry = table[event]
        table[event] = replace(entry, beside={**(entry.beside or {}), model: seen})

    def exchange(self, former: str, promoted: str) -> None:
        """The shadow of one model is live now and the former live one a shadow: each keeps what it predicted and
        learned. What the promoted one has not learned is, for it, an expired event that a label may still find."""
        for table in (self.waiting, self.closed):
            for event, entry in table.items():
                beside = dict(entry.beside or {})
                own = beside.pop(promoted)
                beside[former] = Seen(entry.memo, entry.label)
                expired = entry.expired or (table is self.closed and own.label is None)
                table[event] = replace(entry, memo=own.memo, label=own.label, expired=expired, beside=beside)

    def _expire(self, event: str, entry: Remembered) -> None:
        del self.waiting[event]
        self.bytes -= len(entry.value)
        # A new object, unless the batch that predicted it is still filling in its memo.
        if isinstance(entry.memo, int):
            entry.expired = True
        else:
            entry = replace(entry, label=None, expired=True)
        self.remember(event, entry)

    def freeze(self) -> Callable[[], State]:
        """A cheap copy now; the function makes the arrays, in any thread, later."""
        waiting, closed, early = dict(self.waiting), dict(self.closed), dict(self.early)

        def thaw() -> State:
            arrays = _table("waiting", waiting) | _table("closed", closed)
            kept = [(event, entry.deadline, entry.record) for event, entry in early.items()]
            arrays["early"] = np.frombuffer(msgspec.msgpack.encode(kept), np.uint8)
            return State(arrays, {})

        return thaw

    def restore(self, state: State, models: Mapping[str, str] = NO_MODELS) -> None:
        """models: then -> now; what the shadows of others left is dropped."""
        kept = msgspec.msgpack.decode(state.arrays["early"].tobytes(), type=list[tuple[str, int, Record]])
        self.waiting = OrderedDict(_rows("waiting", state.arrays, models))
        self.closed = OrderedDict(_rows("closed", state.arrays, models))
        self.early = OrderedDict((event, Early(record, deadline)) for event, deadline, record in kept)
        self.bytes = sum(len(entry.value) for entry in self.waiting.values())


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
    if any(e.beside for e in entries):
        seen = [{model: (s.memo, s.label) for model, s in (e.beside or {}).items()} for e in entries]
        columns[f"{name}_beside"] = np.frombuffer(msgspec.msgpack.encode(seen), np.uint8)
    for column, values in blobs.items():
        columns[f"{name}_{column}"] = np.frombuffer(b"".join(values), np.uint8)
        columns[f"{name}_{column}_length"] = np.array([len(value) for value in values], np.int64)
    return columns


def _rows(
    name: str, arrays: dict[str, NDArray[Any]], models: Mapping[str, str]
) -> Iterator[tuple[str, Remembered]]:
    ids, values, memos = (
        _cut(arrays[f"{name}_{column}"], arrays[f"{name}_{column}_length"]) for column in ("id", "value", "memo")
    )
    labels = msgspec.msgpack.decode(arrays[f"{name}_label"].tobytes(), type=list[Label | None])
    numbers = (arrays[f"{name}_{column}"].tolist() for column in ("at", "deadline", "expired"))
    beside = _beside(arrays.get(f"{name}_beside"), len(labels), models)
    rows = zip(ids, values, memos, labels, beside, *numbers, strict=True)
    for event, value, memo, label, seen, at, deadline, expired in rows:
        yield event.decode(), Remembered(value, memo, at, deadline, label, expired, seen)


def _beside(kept: NDArray[Any] | None, n: int, models: Mapping[str, str]) -> Iterator[dict[str, Seen] | None]:
    """Row by row what the shadows made of an event; None where nothing was kept."""
    if kept is None:
        yield from repeat(None, n)
        return
    rows = msgspec.msgpack.decode(kept.tobytes(), type=list[dict[str, tuple[bytes, Label | None]]])
    for row in rows:
        yield {models[model]: Seen(memo, label) for model, (memo, label) in row.items() if model in models} or None


def _cut(blob: NDArray[np.uint8], lengths: NDArray[np.int64]) -> Iterable[bytes]:
    raw = blob.tobytes()
    ends = np.cumsum(lengths).tolist()
    return (raw[end - length : end] for end, length in zip(ends, lengths.tolist(), strict=True))
