"""Topics in a SQLite file: how they are made, appended to, read, and kept within bounds."""

import sqlite3
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from connectors.sqlite_file import SqliteFile
from streamd.errors import ConfigError
from streamd.ports import Headers, Output, Record, TopicInfo, partition_of

SHIFT = 40  # an address is `stream << SHIFT | offset`: 10^12 records in each of 8 million partitions
MASK = (1 << SHIFT) - 1
BITE = 1000  # records that retention removes at least at a time, so that a lowered limit is reached in short steps

Row = tuple[int, int, int, bytes | None, bytes | None, bytes | None]
"""(place in the stream's part of a batch, place in the batch, timestamp, key, value, headers)."""

READ = """SELECT position, address, timestamp, key, value, headers FROM record
    WHERE address >= ? AND address < ? ORDER BY address LIMIT ?"""


class Retention(msgspec.Struct, frozen=True):
    """What is kept of each partition of a topic: records over any limit go, oldest first, at appends and commits.

    records: how many at most. seconds: how old at most, by the record's timestamp.
    wait: records that a consumer group of the topic has not committed yet stay, whatever the limits say. False:
    the limits pass a slow group, whose next `seek` or `poll` is then a StateError.
    """

    records: int | None = None
    seconds: float | None = None
    wait: bool = True


class Topic(msgspec.Struct, frozen=True):
    """streams: the number of each partition in the file."""

    name: str
    id: str
    streams: tuple[int, ...]

    @property
    def info(self) -> TopicInfo:
        return TopicInfo(self.id, len(self.streams))


class Batch(msgspec.Struct, frozen=True):
    """Records ready to be written, by stream."""

    streams: dict[int, list[Row]]
    count: int


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Headers).decode


def find(db: sqlite3.Connection, name: str) -> Topic | None:
    row = db.execute("SELECT id FROM topic WHERE name = ?", (name,)).fetchone()
    if row is None:
        return None
    numbers = db.execute("SELECT number FROM stream WHERE topic = ? ORDER BY partition", (name,))
    return Topic(name, row[0], tuple(number for (number,) in numbers))


def need(db: sqlite3.Connection, name: str) -> Topic:
    """Raises ConfigError if there is no such topic."""
    topic = find(db, name)
    if topic is None:
        raise ConfigError("", f"topic {name} does not exist")
    return topic


def create(file: SqliteFile, name: str, partitions: int) -> Topic:
    """Make a topic, or find it as it is."""
    if partitions < 1:
        raise ConfigError("", f"topic {name} needs at least one partition, not {partitions}")
    with file.write() as db:
        if found := find(db, name):
            return found
        db.execute("INSERT INTO topic VALUES (?, ?, ?, NULL, NULL, 1)", (name, str(uuid.uuid4()), partitions))
        rows = [(name, partition) for partition in range(partitions)]
        db.executemany("INSERT INTO stream (topic, partition, first, next) VALUES (?, ?, 0, 0)", rows)
        return need(db, name)


def keep(file: SqliteFile, name: str, retention: Retention) -> None:
    """Set what is kept of a topic from now on, for every process that appends to it."""
    milliseconds = None if retention.seconds is None else int(retention.seconds * 1000)
    with file.write() as db:
        db.execute(
            "UPDATE topic SET keep_records = ?, keep_ms = ?, wait = ? WHERE name = ?",
            (retention.records, milliseconds, retention.wait, name),
        )


def infos(db: sqlite3.Connection) -> dict[str, TopicInfo]:
    rows = db.execute("SELECT name, id, partitions FROM topic ORDER BY name")
    return {name: TopicInfo(id, partitions) for name, id, partitions in rows}


def batch(outputs: Iterable[Output], topics: Callable[[Output], Topic]) -> Batch:
    """Prepare records outside the transaction. Raises ConfigError for a partition that is not there."""
    streams: dict[int, list[Row]] = {}
    count = 0
    for output in outputs:
        numbers = topics(output).streams
        partition = partition_of(output, len(numbers))
        if not 0 <= partition < len(numbers):
            raise ConfigError("", f"topic {output.topic} has {len(numbers)} partitions, none numbered {partition}")
        rows = streams.setdefault(numbers[partition], [])
        headers = _pack(output.headers) if output.headers else None
        rows.append((len(rows), count, output.timestamp, output.key, output.value, headers))
        count += 1
    return Batch(streams, count)


def append(db: sqlite3.Connection, batch: Batch, now: int) -> None:
    """Write inside the caller's transaction. now: milliseconds since 1970, for retention by age."""
    if not batch.count:
        return
    (appended,) = db.execute("SELECT appended FROM counter").fetchone()
    db.execute("UPDATE counter SET appended = ?", (appended + batch.count,))
    for number, rows in batch.streams.items():
        (offset,) = db.execute("SELECT next FROM stream WHERE number = ?", (number,)).fetchone()
        base = (number << SHIFT) + offset
        db.executemany(_insert(base, appended), rows)
        db.execute("UPDATE stream SET next = ? WHERE number = ?", (offset + len(rows), number))
        trim(db, number, len(rows), now)


def _insert(base: int, appended: int) -> str:
    # Numbers of ours in the text: adding them to every row in Python, inside the transaction, would cost more.
    columns = "address, position, timestamp, key, value, headers"
    return f"INSERT INTO record ({columns}) VALUES ({base} + ?, {appended} + ?, ?, ?, ?, ?)"


def trim(db: sqlite3.Connection, number: int, appended: int, now: int) -> None:
    """Remove a bounded number of a stream's records that its topic's retention no longer keeps."""
    records, milliseconds, wait, first, following = db.execute(
        "SELECT keep_records, keep_ms, wait, first, next FROM stream JOIN topic ON name = topic WHERE number = ?",
        (number,),
    ).fetchone()
    if records is None and milliseconds is None:
        return
    limit = min(following, first + max(BITE, 2 * appended))
    cut = first if records is None else following - records
    if milliseconds is not None:
        cut = max(cut, young(db, number, first, limit, now - milliseconds))
    cut = min(cut, limit)
    if wait:
        (held,) = db.execute("SELECT min(next) FROM position WHERE stream = ?", (number,)).fetchone()
        cut = cut if held is None else min(cut, held)
    if cut > first:
        _remove(db, number, cut)


def young(db: sqlite3.Connection, number: int, first: int, limit: int, since: int) -> int:
    """The first offset from `first` whose record is not older than `since`; `limit` if there is none below."""
    base = number << SHIFT
    query = "SELECT min(address) FROM record WHERE address >= ? AND address < ? AND timestamp >= ?"
    (address,) = db.execute(query, (base + first, base + limit, since)).fetchone()
    return limit if address is None else int(address) & MASK


def _remove(db: sqlite3.Connection, number: int, below: int) -> None:
    base = number << SHIFT
    db.execute("DELETE FROM record WHERE address >= ? AND address < ?", (base, base + below))
    db.execute("UPDATE stream SET first = ? WHERE number = ?", (below, number))


def rows(db: sqlite3.Connection, number: int, offset: int, limit: int) -> sqlite3.Cursor:
    """A stream's rows from an offset on, in order, fetched as they are asked for."""
    base = number << SHIFT
    return db.execute(READ, (base + offset, base + MASK, limit))


def records(rows: Iterable[Any], names: Mapping[int, str], partition: int) -> Sequence[Record]:
    """names: stream -> topic."""
    return [
        Record(names[a >> SHIFT], partition, a & MASK, timestamp, key, value, _unpack(headers) if headers else ())
        for _, a, timestamp, key, value, headers in rows
    ]
