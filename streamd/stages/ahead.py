"""The plain records of a batch, read all at once before any of them is applied.

What is read so changes nothing yet, and would be taken in the same way when its turn comes: a feature that has a
slot keeps it. So it does not matter how the stream was cut into batches.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from streamd import records as codec
from streamd.errors import BadRecord
from streamd.learners import ReadsPlain
from streamd.ports import Record
from streamd.stages.pending import PendingLabels, Remembered
from streamd.stages.settings import Settings
from streamd.stages.shadows import ShadowRun


class Ahead(NamedTuple):
    """A plain event and its row. value: its record's."""

    event: codec.Plain
    row: int
    value: bytes


NOTHING: Mapping[int, Ahead] = {}


class Read(NamedTuple):
    """What could be read of a batch.

    events: its event records; plain: what they say, None for what must be looked at closely, and where all of it
    has a slot, the row of each, else -1. labels: its label records; told: what they say; of: the event each speaks
    of, if that is remembered from before the batch; then, then_rows: what those say, as of the events.
    """

    events: Sequence[Record]
    plain: Sequence[codec.Plain | None]
    rows: Sequence[int]
    labels: Sequence[Record]
    told: Sequence[codec.Label | None]
    of: Sequence[Remembered | None]
    then: Sequence[codec.Plain | None]
    then_rows: Sequence[int]

    def odd(self, records: Sequence[Record], settings: Settings) -> Sequence[int]:
        """Which of the records, those read, are neither plain events nor labels."""
        rows, told = iter(self.rows), iter(self.told)
        return [
            i
            for i, record in enumerate(records)
            if not (
                next(rows) >= 0
                if record.topic == settings.events
                else record.topic == settings.labels and next(told) is not None
            )
        ]

    def ahead(self) -> Mapping[int, Ahead]:
        """The plain events by the `id` of their value: the very object, which an entry shares with the record it
        came from."""
        values = [record.value for record in self.events]
        values += [None if entry is None else entry.value for entry in self.of]
        read = zip(values, (*self.plain, *self.then), (*self.rows, *self.then_rows), strict=True)
        return {
            id(value): Ahead(event, row, value)
            for value, event, row in read
            if event is not None and value is not None and row >= 0
        }


def read(
    records: Sequence[Record],
    settings: Settings,
    pending: PendingLabels,
    steps: ReadsPlain,
    shadows: Sequence[ShadowRun],
) -> Read:
    """Events that are plain to the steps are so to the shadows, too; else they must be looked at closely."""
    events = [record for record in records if record.topic == settings.events]
    labels = (
        [record for record in records if record.topic == settings.labels] if len(events) < len(records) else []
    )
    most = settings.record_bytes
    told = [_label(record, most) for record in labels]
    of = [None if label is None else pending.find(label.id) for label in told]
    values = [record.value if record.value is None or len(record.value) <= most else None for record in events]
    values += [None if entry is None else entry.value for entry in of]
    plain = codec.decode_plain_ones(values)
    rows = _rows(plain, steps, shadows)
    n = len(events)
    return Read(events, plain[:n], rows[:n], labels, told, of, plain[n:], rows[n:])


def _label(record: Record, most: int) -> codec.Label | None:
    if record.value is None or len(record.value) > most:
        return None
    try:
        return codec.decode_label(record.value)
    except BadRecord:
        return None


def _rows(plain: Sequence[codec.Plain | None], steps: ReadsPlain, shadows: Sequence[ShadowRun]) -> Sequence[int]:
    if None in plain:
        places = [place for place, event in enumerate(plain) if event is not None]
        found = [-1] * len(plain)
        for place, row in zip(places, _rows([plain[place] for place in places], steps, shadows), strict=True):
            found[place] = row
        return found
    features = [event.features for event in plain if event is not None]
    rows, beside = steps.plain(features), [shadow.plain(features) for shadow in shadows]
    if not shadows:
        return rows
    for place, row in enumerate(rows):
        if row >= 0 and all(own[place] >= 0 for own in beside):
            for shadow, own in zip(shadows, beside, strict=True):
                shadow.place(row, own[place])
        else:
            rows[place] = -1
    return rows
