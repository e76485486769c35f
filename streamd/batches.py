"""A poll's records cut into what a shard takes at once."""

from collections.abc import Iterator, Mapping, Sequence

from streamd.ports import Record


def by_partition(records: Sequence[Record]) -> Mapping[int, Sequence[Record]]:
    """Cut by partition, in order."""
    first = records[0].partition
    if all(record.partition == first for record in records):
        return {first: records}
    cut: dict[int, list[Record]] = {}
    for record in records:
        cut.setdefault(record.partition, []).append(record)
    return cut


def slices(records: Sequence[Record], size: float) -> Iterator[Sequence[Record]]:
    """Parts of this size, in order; infinite: all at once."""
    step = len(records) if size >= len(records) else max(1, int(size))
    return (records[i : i + step] for i in range(0, len(records), step))
