"""Which record of a batch ends the process: the batch again, a record at a time, on a shard brought back."""

from collections.abc import Callable, Sequence

from streamd.errors import Poisoned, StreamdError
from streamd.ports import Record
from streamd.shard import Shard


def poisoned(
    bring_back: Callable[[], Shard], former: Sequence[Record], batch: Sequence[Record], bug: Exception
) -> Poisoned:
    """The error that names the record and says how to skip it.

    bring_back: the shard as committed. former: what it took since, before the batch that raised `bug`.
    """
    what = f"{type(bug).__name__}: {bug}"
    found = _culprit(bring_back, former, batch)
    if found is None:
        first, last = batch[0], batch[-1]
        return Poisoned(
            f"a record between {_place(first)} and {_place(last)} cannot be processed ({what}), and alone each "
            "can: this is a bug; a smaller epoch.max_records may get past it"
        )
    record, failure = found
    return Poisoned(
        f"{_place(record)} cannot be processed ({type(failure).__name__}: {failure}). Nothing was committed: "
        f"`streamd skip {record.topic} {record.partition} {record.offset}` makes it a dead letter; then start anew"
    )


def _culprit(
    bring_back: Callable[[], Shard], former: Sequence[Record], batch: Sequence[Record]
) -> tuple[Record, Exception] | None:
    try:
        shard = bring_back()
        if former:
            shard.take(former)
    except StreamdError:
        return None
    for record in batch:
        try:
            shard.take([record])
        except Exception as failure:  # noqa: BLE001  whatever it is, this record is what was looked for
            return record, failure
    return None


def _place(record: Record) -> str:
    return f"topic {record.topic} partition {record.partition} offset {record.offset}"
