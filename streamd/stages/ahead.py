"""Plain events of a batch, taken in all at once before any of them is applied.

What is taken in so changes nothing yet, and would be taken in the same way when its turn comes: a feature that has
a slot keeps it. So it does not matter how the stream was cut into batches.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from streamd import records as codec
from streamd.errors import BadRecord
from streamd.learners import ReadsPlain
from streamd.ports import Record
from streamd.stages.pending import PendingLabels
from streamd.stages.settings import Settings
from streamd.stages.shadows import ShadowRun


class Ahead(NamedTuple):
    """A plain event and its row. value: its record's."""

    event: codec.Plain
    row: int
    value: bytes


NOTHING: Mapping[int, Ahead] = {}


def read_ahead(
    records: Sequence[Record],
    settings: Settings,
    pending: PendingLabels,
    steps: ReadsPlain,
    shadows: Sequence[ShadowRun],
) -> Mapping[int, Ahead]:
    """The plain events among the records, and those that labels among them speak of, by the `id` of their value:
    the very object, which an entry shares with the record it came from. They are plain to the shadows, too."""
    values = [value for record in records if (value := _event_of(record, settings, pending)) is not None]
    decoded = [(value, event) for value in values if (event := codec.decode_plain(value)) is not None]
    features = [event.features for _, event in decoded]
    rows, beside = steps.plain(features), [shadow.plain(features) for shadow in shadows]
    ahead = {}
    for place, ((value, event), row) in enumerate(zip(decoded, rows, strict=True)):
        if row >= 0 and all(own[place] >= 0 for own in beside):
            ahead[id(value)] = Ahead(event, row, value)
            for shadow, own in zip(shadows, beside, strict=True):
                shadow.place(row, own[place])
    return ahead


def _event_of(record: Record, settings: Settings, pending: PendingLabels) -> bytes | None:
    if record.value is None or len(record.value) > settings.record_bytes:
        return None
    if record.topic == settings.events:
        return record.value
    if record.topic == settings.labels:
        try:
            entry = pending.find(codec.decode_label(record.value).id)
        except BadRecord:
            return None
        return None if entry is None else entry.value
    return None
