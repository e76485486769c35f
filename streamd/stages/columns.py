"""A batch of plain events and labels, applied by columns.

The same comes of it as of one record after the other in `streamd.stages.batch`, which is how it is meant. It is
for what most streams are made of most of the time: new events whose features all have a slot; labels of known
classes, in events or as records, each of an event that waits and is labelled once. Any other batch is left alone.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, chain, islice
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from msgspec import UNSET, Struct

from streamd.errors import BadRecord, StateError
from streamd.learners import Label, Predictions, TakesColumns, Taught
from streamd.ports import Record
from streamd.stages.ahead import Read
from streamd.stages.answers import Predicted
from streamd.stages.pending import Remembered
from streamd.stages.run import Run

if TYPE_CHECKING:
    from streamd.stages.predicting import Predicting

LabelOf = Callable[[object], Label]
TimeOf = Callable[[int | str, Record], int]


class Told(Struct, frozen=True, gc=False):
    """A label. after: how many events of the batch come before it; row: its event's; of: its event's number in the
    batch, or what was remembered of it before. A label record also has its event time and its event's id."""

    after: int
    row: int
    label: Label
    of: int | Remembered
    weight: float = 1.0
    ts: int | None = None
    event: str = ""


class Columns(NamedTuple):
    """A batch that can be applied so. ids, times, labels: of the events, None where no label is in it; told: all
    labels in the order of the stream; taught: the same, for the learner."""

    ids: Sequence[str]
    times: Sequence[int]
    labels: Sequence[Label | None]
    told: Sequence[Told]
    taught: Taught


def columns(
    stage: "Predicting",
    records: Sequence[Record],
    read: Read,
    steps: TakesColumns,
    label_of: LabelOf,
    time_of: TimeOf,
) -> Columns | None:
    """What was read of the records, if all of them can be applied by columns. Changes nothing."""
    if len(read.events) + len(read.labels) < len(records) or None in read.plain or -1 in read.rows:
        return None
    plain = [event for event in read.plain if event is not None]
    ids = [event.id for event in plain]
    places = dict(zip(ids, range(len(ids)), strict=True))
    pending = stage.pending
    tables = (pending.waiting, pending.closed, pending.early)
    if len(places) < len(ids) or not all(table.keys().isdisjoint(places) for table in tables):
        return None
    try:
        times = [
            record.timestamp if event.ts is None else time_of(event.ts, record)
            for event, record in zip(plain, read.events, strict=True)
        ]
        labels = [None if (said := event.label) is UNSET or said is None else label_of(said) for event in plain]
        told = [Told(i + 1, read.rows[i], label, i) for i, label in enumerate(labels) if label is not None]
        if read.labels:
            told += _records(stage, records, read, places, labels, label_of, time_of)
            told.sort(key=attrgetter("after"))
            if not _room(stage, read, max(chain(times, (one.ts or 0 for one in told)))):
                return None
    except (BadRecord, _Otherwise):
        return None
    numbers = steps.numbers([one.label for one in told])
    if numbers is None:
        return None
    taught = Taught([one.after for one in told], [one.row for one in told], numbers, [one.weight for one in told])
    return Columns(ids, times, labels, told, taught)


class _Otherwise(Exception):
    """A label that is more than the truth of an event that waits."""


def _records(
    stage: "Predicting",
    records: Sequence[Record],
    read: Read,
    places: Mapping[str, int],
    labels: Sequence[Label | None],
    label_of: LabelOf,
    time_of: TimeOf,
) -> list[Told]:
    """What the label records say."""
    topic = stage.settings.labels
    before = accumulate(record.topic != topic for record in records)
    after = [count for record, count in zip(records, before, strict=True) if record.topic == topic]
    found, seen = [], set[str]()
    for i, (record, said, entry) in enumerate(zip(read.labels, read.told, read.of, strict=True)):
        if said is None or said.skip or said.id in seen:
            raise _Otherwise
        seen.add(said.id)
        number = places.get(said.id)
        of: int | Remembered
        if number is not None:
            if number >= after[i] or labels[number] is not None:
                raise _Otherwise
            of, row = number, read.rows[number]
        else:
            if entry is None or said.id not in stage.pending.waiting or read.then_rows[i] < 0:
                raise _Otherwise
            of, row = entry, read.then_rows[i]
        ts = record.timestamp if said.ts is None else time_of(said.ts, record)
        found.append(Told(after[i], row, label_of(said.label), of, said.confidence, ts, said.id))
    return found


def _room(stage: "Predicting", read: Read, last: int) -> bool:
    """Whether no event that is remembered now can be forgotten before the batch's end, at event time `last`."""
    pending, bounds = stage.pending, stage.pending.bounds
    size = sum(len(record.value or b"") for record in read.events)
    if pending.bytes + size > bounds.max_bytes:
        return False
    free = bounds.remember - 2 * len(read.events) - len(read.labels)
    if free < 0 or last < stage.look:
        return free >= 0
    oldest = islice(pending.waiting.values(), free + 1)
    return sum(1 for entry in oldest if entry.deadline <= last) <= free


def apply(
    stage: "Predicting", found: Columns, read: Read, run: Run, steps: TakesColumns, advance: Callable[[int], None]
) -> tuple[Predictions, list[bytes]]:
    """Predict and learn all, and keep what is to be remembered. advance: event time, where something is due.

    Returns the predictions and the memo of each event. The run has noted what is to be written and judged.
    """
    ids, told = found.ids, found.told
    predictions = steps.columns(read.rows, found.taught, predict=run.journalled is None)
    if run.journalled is None:
        memos = predictions.memos()
        run.predicted = list(map(Predicted, ids, read.events, found.times))
    else:
        memos = list(islice(run.journalled.memos, len(ids)))
        if len(memos) < len(ids):
            record = read.events[len(memos)]
            raise StateError(f"the journal holds no prediction for {record.topic} offset {record.offset}")
    delays = _remember(stage, found, read, memos, advance)
    counts = stage.counts
    counts["events"] += len(ids)
    counts["learned"] += len(told)
    run.delays += delays
    own = run.journalled is None
    for one in told:
        seen: int | bytes
        if isinstance(one.of, int):
            seen = one.of if own else memos[one.of]
        else:
            assert isinstance(one.of.memo, bytes)
            seen = one.of.memo
        run.judged.append((seen, one.label))
    return predictions, memos


def _remember(
    stage: "Predicting", found: Columns, read: Read, memos: Sequence[bytes], advance: Callable[[int], None]
) -> list[int]:
    """Keep the events in their tables, in the order of the stream. Returns the delays of the labels."""
    pending, counts = stage.pending, stage.counts
    wait, remember, max_age = pending.wait, pending.remember, pending.bounds.max_age
    later = [one for one in found.told if one.ts is not None]
    later.reverse()  # the next one is the last
    now, look = stage.now, stage.look
    delays: list[int] = []
    expired = 0

    def answer(one: Told) -> None:
        nonlocal now, look
        assert one.ts is not None
        now = max(now, one.ts)
        if now >= look:
            advance(now)
            look = stage.look
        entry = pending.find(one.event)
        assert entry is not None
        counts["late_labels"] += entry.expired
        delays.append(now - entry.at)
        pending.close(one.event, entry, one.label)

    columns = zip(found.ids, found.times, read.events, memos, found.labels, strict=True)
    for i, (event, ts, record, memo, label) in enumerate(columns):
        while later and later[-1].after <= i:
            answer(later.pop())
        if ts > now:
            now = ts
        if now >= look:
            advance(now)
            look = stage.look
        value = record.value
        assert value is not None
        entry = Remembered(value, memo, now, now + max_age, label)
        if label is None:
            expired += wait(event, entry)
        else:
            delays.append(0)
            remember(event, entry)
    while later:
        answer(later.pop())
    stage.now = now
    counts["expired_events"] += expired
    return delays
