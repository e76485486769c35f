"""What `replay` reads: a file as `send` does, or the input topics of a pipeline, merged in the order of time."""

import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from streamd import wiring
from streamd.cli.csv_source import Columns, csv_rows, rewindable, unfinished
from streamd.cli.options import existing, note
from streamd.cli.sources import Item, json_lines, opened
from streamd.config import Config
from streamd.errors import BadRecord, Refused, StreamdError
from streamd.operating.replaying import Roles
from streamd.ports import LogClient, Record
from streamd.records import decode, milliseconds

AT_ONCE = 5000  # records of one read
START = 1_000_000_000_000  # milliseconds since 1970: of the first event of a file that says no time


def of_file(name: str, columns: Columns, roles: Roles, delay: int | None) -> list[Record]:
    """A file's records as one partition of the pipeline's events; its labels, with a delay, so many events later.

    Nothing is given of a file whose last line was cut. Raises StreamdError.
    """
    if delay is not None and roles.labels is None:
        raise Refused("--delay needs a pipeline with `labels`; this one takes them from its events only")
    as_csv = name.removesuffix(".gz").endswith(".csv")
    with opened(name) as source:
        try:
            if as_csv:
                with rewindable(source) as readable:
                    if unfinished(readable):
                        note(f"{name}: the last row has no line end; it is replayed as it is")
                    items = [item for batch in csv_rows(readable, columns, delay is not None) for item in batch]
            else:
                batches = json_lines(source, columns.key or "id", delay is not None)
                items = [item for batch in batches for item in batch]
        except StreamdError as error:
            raise StreamdError(f"{error}; nothing was replayed: complete the file or remove that line") from None
    return _ordered(items, roles, delay or 0)


def _ordered(items: Sequence[Item], roles: Roles, delay: int) -> list[Record]:
    """An event is taken to have come at its `ts`, or a millisecond after the one before."""
    records: list[Record] = []
    labels, now = 0, START
    for i, item in enumerate(items):
        now = _moment(item.value, now)
        records.append(Record(roles.events, 0, i, now, item.key, item.value))
        while labels + delay <= i:
            _label(items[labels], roles, labels, now, records)
            labels += 1
    for left in range(labels, len(items)):
        _label(items[left], roles, left, now, records)
    return records


class _Timed(Struct):
    ts: int | str | None = None


_timed_event = msgspec.json.Decoder(_Timed)


def _moment(value: bytes, before: int) -> int:
    try:
        ts = decode(_timed_event, value).ts
        return before + 1 if ts is None else max(milliseconds(ts), before if before > START else 0)
    except BadRecord:
        return before + 1


def _label(item: Item, roles: Roles, offset: int, at: int, records: list[Record]) -> None:
    if item.label is not None and roles.labels is not None:
        records.append(Record(roles.labels, 0, offset, at, item.key, item.label))


def of_topics(config: Config, inputs: Sequence[str], topic: str, start: str) -> list[Record]:
    """The input topics of a pipeline. start: `start`, an offset in `topic` (of each partition), or a time.

    Within a partition the order is that of the log's timestamps, and within a topic that of its offsets. Raises
    StreamdError.
    """
    client = wiring.client(existing(config))
    try:
        known = client.topics()
        missing = [name for name in inputs if name not in known]
        if missing:
            raise StreamdError(f"there is no topic {', '.join(missing)}; there are {', '.join(sorted(known))}")
        offset, since = _start(start)
        records: list[Record] = []
        for partition in range(known[topic].partitions):
            records += _partition(client, inputs, topic, partition, offset, since)
        return records
    finally:
        client.close()


def _start(start: str) -> tuple[int, int]:
    """(offset, milliseconds since 1970), one of them 0. A number of 12 digits and more is a time."""
    if start == "start":
        return 0, 0
    if start.isdecimal() and len(start) < 12:
        return int(start), 0
    try:
        return 0, milliseconds(int(start) if start.isdecimal() else start)
    except StreamdError:
        raise Refused(
            f"--from {start}: expected start, an offset, or a time such as 2026-11-22T21:00:00Z"
        ) from None


def _partition(
    client: LogClient, inputs: Sequence[str], topic: str, partition: int, offset: int, since: int
) -> Iterator[Record]:
    if offset:
        first = next(iter(client.read(topic, partition, offset, 1)), None)
        if first is None:
            return
        since = first.timestamp
    parts = []
    for place, name in enumerate(inputs):
        at = offset if name == topic else 0
        parts.append(_timed(client, name, partition, at, since if not (offset and name == topic) else 0, place))
    for _, _, record in heapq.merge(*parts, key=lambda timed: timed[:2]):
        yield record


def _timed(
    client: LogClient, topic: str, partition: int, offset: int, since: int, place: int
) -> Iterator[tuple[int, int, Record]]:
    """One partition's records with what orders them: the log's time, which must not go back, and the topic."""
    now, (_, end) = 0, client.ends(topic)[partition]
    while offset < end and (found := client.read(topic, partition, offset, min(AT_ONCE, end - offset))):
        for record in found:
            now = max(now, record.timestamp)
            if record.timestamp >= since:
                yield now, place, record
        offset = found[-1].offset + 1


def renamed(records: Sequence[Record], former: Sequence[str], now: Sequence[str]) -> list[Record]:
    """The records under another pipeline's names of the same inputs; those it has no input for are left out."""
    names = dict(zip(former, now, strict=False))
    if all(names.get(name) == name for name in former):
        return list(records)
    return [replace(record, topic=names[record.topic]) for record in records if record.topic in names]


def is_file(source: str) -> bool:
    return source == "-" or Path(source).exists() or Path(source.removesuffix(".gz")).suffix in (".csv", ".jsonl")
