"""The order in which a poll's records are applied."""

from collections.abc import Sequence
from heapq import merge

from streamd.ports import Record


def in_order(runs: Sequence[Sequence[Record]]) -> Sequence[Record]:
    """Runs of one topic and partition each, none empty, as one sequence: the topics of a partition are merged
    by timestamp, so that an event comes before its label where both came in one poll."""
    if len(runs) == 1:
        return runs[0]
    partitions: dict[int, list[Sequence[Record]]] = {}
    for run in runs:
        partitions.setdefault(run[0].partition, []).append(run)
    return [
        record
        for those in partitions.values()
        for record in (those[0] if len(those) == 1 else merge(*those, key=_timestamp))
    ]


def _timestamp(record: Record) -> int:
    return record.timestamp
