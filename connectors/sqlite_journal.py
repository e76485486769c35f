"""The journals in the embedded log's file: an entry a row. A journal offset is a sequence number here."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from sqlite3 import Connection

from connectors.sqlite_file import SqliteFile
from streamd.errors import StateError
from streamd.ports import JournalEntry, ShardEpoch

TRIM = 32  # entries removed per transaction
Row = tuple[str, int, int, int, int, bytes]


def rows(journal: str, shards: Sequence[ShardEpoch], now: int) -> list[Row]:
    """What `append` writes for these epochs, made before the transaction begins. now: milliseconds since 1970."""
    return [
        (journal, shard.partition, shard.sequence, now, zlib.crc32(shard.entry), shard.entry) for shard in shards
    ]


def append(db: Connection, rows: Iterable[Row]) -> None:
    db.executemany("INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?)", rows)


def first(file: SqliteFile, journal: str, partition: int) -> int:
    """The oldest entry kept; 1 without any."""
    return _kept(file, journal, partition)[0]


def end(file: SqliteFile, journal: str, partition: int) -> int:
    """One beyond the newest entry."""
    return _kept(file, journal, partition)[1] + 1


def since(file: SqliteFile, journal: str, partition: int, moment: int) -> int:
    """The first entry written at or after a moment, in milliseconds since 1970; the end if there is none."""
    query = "SELECT min(sequence) FROM journal WHERE name = ? AND partition = ? AND written >= ?"
    with file.errors():
        (found,) = file.db.execute(query, (journal, partition, moment)).fetchone()
    return end(file, journal, partition) if found is None else int(found)


def read(
    file: SqliteFile, journal: str, partition: int, after: int | None, through: int | None
) -> Iterator[JournalEntry]:
    """One statement an entry: an iterator left half-way must not hold a read transaction open."""
    query = "SELECT checksum, entry FROM journal WHERE name = ? AND partition = ? AND sequence = ?"
    oldest, newest = _kept(file, journal, partition)
    after = oldest - 1 if after is None else after
    through = max(after, newest) if through is None else through
    for sequence in range(after + 1, through + 1):
        with file.errors():
            row = file.db.execute(query, (journal, partition, sequence)).fetchone()
        if row is None or zlib.crc32(row[1]) != row[0]:
            what = "missing" if row is None else "damaged"
            raise StateError(f"journal {journal} partition {partition}: entry {sequence} is {what}")
        yield JournalEntry(sequence, row[1], sequence)


def trim(file: SqliteFile, journal: str, partition: int, below: int, before: int) -> None:
    """Remove the entries below a sequence number that were written before a moment, a few per transaction."""
    old = (
        "SELECT sequence FROM journal WHERE name = :name AND partition = :partition"
        " AND sequence < :below AND written < :before"
    )
    bite = (
        "DELETE FROM journal WHERE name = :name AND partition = :partition"
        f" AND sequence IN ({old} ORDER BY sequence LIMIT {TRIM})"
    )
    which = {"name": journal, "partition": partition, "below": below, "before": before}
    removed = TRIM
    while removed == TRIM:
        with file.write() as db:
            removed = db.execute(bite, which).rowcount


def _kept(file: SqliteFile, journal: str, partition: int) -> tuple[int, int]:
    """The first and the last that are there; (1, 0) without any."""
    query = "SELECT min(sequence), max(sequence) FROM journal WHERE name = ? AND partition = ?"
    with file.errors():
        oldest, newest = file.db.execute(query, (journal, partition)).fetchone()
    return (1, 0) if oldest is None else (oldest, newest)
