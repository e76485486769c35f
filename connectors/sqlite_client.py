"""The embedded log from outside the daemon (port `LogClient`)."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from connectors import sqlite_journal
from connectors import sqlite_topics as topics
from connectors.sqlite_file import SqliteFile
from connectors.sqlite_topics import Retention, Topic
from streamd.errors import ConfigError
from streamd.ports import JournalEntry, Output, Record, TopicInfo

APPEND_RECORDS, APPEND_BYTES = 10_000, 8 << 20  # of one transaction


class SqliteLogClient:
    """The port `LogClient` on one file; the file is made if it is missing."""

    def __init__(self, path: str | Path, *, synchronous: str = "FULL", wait: float = 10.0) -> None:
        self._file = SqliteFile(path, synchronous=synchronous, wait=wait)

    def create(self, topic: str, partitions: int, retention: Retention | None = None) -> None:
        found = len(topics.create(self._file, topic, partitions).streams)
        if found != partitions:
            raise ConfigError("", f"topic {topic} exists with {found} partitions, not {partitions}")
        if retention is not None:
            topics.keep(self._file, topic, retention)

    def topics(self) -> Mapping[str, TopicInfo]:
        with self._file.errors():
            return topics.infos(self._file.db)

    def append(self, topic: str, records: Iterable[Output]) -> int:
        found = self._need(topic)
        total = 0
        for part in _parts(records):
            batch = topics.batch(part, lambda _: found)
            with self._file.write() as db:
                topics.append(db, batch, int(time.time() * 1000))
            total += batch.count
        return total

    def _need(self, topic: str) -> Topic:
        with self._file.errors():
            return topics.need(self._file.db, topic)

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[Record]:
        number = self._number(topic, partition)
        with self._file.errors():
            rows = topics.rows(self._file.db, number, max(offset, 0), limit).fetchall()
        return topics.records(rows, {number: topic}, partition)

    def _number(self, topic: str, partition: int) -> int:
        streams = self._need(topic).streams
        if not 0 <= partition < len(streams):
            raise ConfigError("", f"topic {topic} has {len(streams)} partitions, none numbered {partition}")
        return streams[partition]

    def since(self, topic: str, partition: int, moment: int) -> int:
        number = self._number(topic, partition)
        first, end = self.ends(topic)[partition]
        with self._file.errors():
            return topics.young(self._file.db, number, first, end, moment)

    def journal(self, topic: str, partition: int, start: int, after: int | None) -> Iterator[JournalEntry]:
        if after is None and start > sqlite_journal.first(self._file, topic, partition):
            after = start - 1  # a journal offset is a sequence number here
        return sqlite_journal.read(self._file, topic, partition, after, None)

    def journal_since(self, topic: str, partition: int, moment: int) -> int:
        return sqlite_journal.since(self._file, topic, partition, moment)

    def ends(self, topic: str) -> Sequence[tuple[int, int]]:
        self._need(topic)
        with self._file.errors():
            query = "SELECT first, next FROM stream WHERE topic = ? ORDER BY partition"
            return [(first, end) for first, end in self._file.db.execute(query, (topic,))]

    def close(self) -> None:
        self._file.close()


def _parts(records: Iterable[Output]) -> Iterator[list[Output]]:
    """Cut into what one transaction takes, so that a large append lets others in."""
    part: list[Output] = []
    size = 0
    for record in records:
        part.append(record)
        size += len(record.value or b"")
        if len(part) >= APPEND_RECORDS or size >= APPEND_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
