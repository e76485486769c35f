"""The embedded log: topics, journal and positions in one SQLite file on a local disk.

`poll` delivers a partition's records over all its topics in the order in which they were appended to the file, so
a second run consumes them in the same order however its polls and epochs are cut.
"""

import fcntl
import heapq
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from connectors import sqlite_journal
from connectors import sqlite_topics as topics
from connectors.sqlite_file import SqliteFile
from connectors.sqlite_topics import MASK, SHIFT, Retention, Topic
from streamd.errors import ConfigError, Fenced, OffsetGap, StateError
from streamd.ports import (
    Committed,
    Epoch,
    JournalEntry,
    Lag,
    Polled,
    Record,
    ShardEpoch,
    TopicInfo,
)

POLL_BYTES = 32 << 20  # of values at which a poll is full, whatever max_records says
STRIDE = 64  # records at most between two looks at the bytes
NAPS = (0.001, 0.02)  # seconds between two looks for new records: the first, the longest


class SqliteLog:
    """The port `Log` on one file; every partition belongs to the one live instance of a group.

    group: `<group>.<pipeline>`. inputs: the topics consumed. journal: the journal's name.
    create: make missing input topics with `partitions` partitions. Output topics are always made when first
    written to, with as many partitions as the inputs.
    retention: set for the inputs and for every topic written to; None leaves what was set before.
    synchronous, wait: see `SqliteFile`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        group: str,
        inputs: Sequence[str],
        journal: str,
        create: bool = False,
        partitions: int = 1,
        retention: Retention | None = None,
        synchronous: str = "FULL",
        wait: float = 10.0,
    ) -> None:
        self._path = Path(path)
        self._group, self._inputs, self._journal = group, tuple(inputs), journal
        self._create = partitions if create else 0
        self._retention = retention
        self._synchronous, self._wait = synchronous, wait
        self._seat: int | None = None
        self._opened: SqliteFile | None = None
        self._topics: dict[str, Topic] = {}
        self._names: dict[int, str] = {}  # stream -> topic, of the inputs
        self._partitions = 0
        self._fresh = False  # the assignment has not been told yet
        self._cursors: dict[int, int] = {}  # stream -> next offset to deliver
        self._active: list[int] = []  # partitions that deliver; the one served last is at the end

    @property
    def _file(self) -> SqliteFile:
        assert self._opened is not None, "open() comes first"
        return self._opened

    def open(self) -> Sequence[str]:
        self._seat = _take_seat(self._path, self._group)
        try:
            self._opened = SqliteFile(self._path, synchronous=self._synchronous, wait=self._wait)
            self._find_inputs()
            self._hold()
        except BaseException:
            self.close(leave=False)
            raise
        return ()

    def _find_inputs(self) -> None:
        for name in self._inputs:
            if self._create:
                topics.create(self._file, name, self._create)
            self._know(name)
        counts = {name: len(self._topics[name].streams) for name in self._inputs}
        if len(set(counts.values())) != 1:
            raise ConfigError("", f"the input topics must have equally many partitions, and have {counts}")
        self._partitions = counts[self._inputs[0]]
        self._names = {number: name for name in self._inputs for number in self._topics[name].streams}
        self._fresh = True

    def _know(self, name: str) -> None:
        with self._file.errors():
            self._topics[name] = topics.need(self._file.db, name)
        if self._retention is not None:
            topics.keep(self._file, name, self._retention)

    def _hold(self) -> None:
        """Make retention wait for this group before its first commit too."""
        held = "INSERT OR IGNORE INTO position SELECT ?, partition, number, first, 0 FROM stream WHERE number = ?"
        with self._file.write() as db:
            db.executemany(held, [(self._group, number) for number in self._names])

    def topics(self) -> Mapping[str, TopicInfo]:
        with self._file.errors():
            now = topics.infos(self._file.db)
        return {name: now[name] for name in self._topics if name in now}

    def poll(self, max_records: int, timeout: float) -> Polled:
        if self._fresh:
            self._fresh = False
            return Polled(assigned=frozenset(range(self._partitions)))
        deadline = time.monotonic() + timeout
        while True:
            seen = self._file.changes()
            records = self._read(max_records)
            if records or not self._changed(seen, deadline):
                return Polled(records)

    def _changed(self, seen: int, deadline: float) -> bool:
        """Wait until somebody has written to the file; False at the deadline."""
        nap, longest = NAPS
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(nap, left))
            if self._file.changes() != seen:
                return True
            nap = min(2 * nap, longest)
        return False

    def _read(self, limit: int) -> list[Record]:
        records: list[Record] = []
        room = POLL_BYTES
        with self._file.read() as db:
            ends = dict(db.execute("SELECT number, next FROM stream"))
            for partition in tuple(self._active):
                waiting = [n for n in self._streams(partition) if self._cursors[n] < ends[n]]
                if not waiting:
                    continue
                if len(records) >= limit or room <= 0:
                    break
                sources = [topics.rows(db, n, self._cursors[n], limit - len(records)) for n in waiting]
                # Rows begin with their place in the order of appends, and no two share it.
                merged = heapq.merge(*sources) if len(sources) > 1 else iter(sources[0])
                rows, room = _take(merged, limit - len(records), room)
                self._advance(partition, waiting, rows)
                records += topics.records(rows, self._names, partition)
                self._active.remove(partition)
                self._active.append(partition)
        return records

    def _streams(self, partition: int) -> list[int]:
        return [self._topics[name].streams[partition] for name in self._inputs]

    def _advance(self, partition: int, waiting: Sequence[int], rows: Sequence[Any]) -> None:
        reached = {address >> SHIFT: (address & MASK) + 1 for _, address, *_ in rows}
        # Offsets have no gaps, so as many must have been passed as were read.
        if sum(end - self._cursors[number] for number, end in reached.items()) != len(rows) or not rows:
            self._refuse_gap(partition, waiting)
        self._cursors.update(reached)

    def _refuse_gap(self, partition: int, waiting: Sequence[int]) -> None:
        self._check(partition, {self._names[number]: self._cursors[number] for number in waiting})
        raise StateError(f"{self._path}: records of partition {partition} of {list(self._inputs)} are missing")

    def seek(self, partition: int, positions: Mapping[str, int]) -> Mapping[str, int]:
        bounds = self._check(partition, positions)
        starts = {name: positions.get(name, bounds[name][0]) for name in self._inputs}
        for name, start in starts.items():
            self._cursors[self._topics[name].streams[partition]] = start
        if partition not in self._active:
            self._active.append(partition)
        return starts

    def _check(self, partition: int, positions: Mapping[str, int]) -> Mapping[str, tuple[int, int]]:
        """The (oldest, next) offsets of a partition's inputs; raises OffsetGap if a position is outside."""
        with self._file.errors():
            query = "SELECT topic, first, next FROM stream WHERE partition = ?"
            bounds = {name: (first, end) for name, first, end in self._file.db.execute(query, (partition,))}
        for name in self._inputs:
            first, end = bounds[name]
            offset = positions.get(name, first)
            if not first <= offset <= end:
                raise OffsetGap(name, partition, offset, first, end)
        return bounds

    def pause(self, partition: int) -> None:
        if partition in self._active:
            self._active.remove(partition)

    def committed(self, partition: int) -> Committed:
        key = (self._group, partition)
        with self._file.read() as db:
            row = db.execute("SELECT sequence FROM progress WHERE consumer = ? AND partition = ?", key).fetchone()
            positions = db.execute(
                "SELECT stream.topic, position.next FROM position JOIN stream ON number = stream"
                " WHERE consumer = ? AND position.partition = ? AND committed",
                key,
            ).fetchall()
        return Committed(row[0] if row else 0, dict(positions))

    def commit(self, epoch: Epoch) -> Mapping[int, int]:
        for name in {output.topic for output in epoch.outputs} - self._topics.keys():
            topics.create(self._file, name, self._partitions)
            self._know(name)
        outputs = topics.batch(epoch.outputs, lambda output: self._topics[output.topic])
        now = int(time.time() * 1000)
        entries = sqlite_journal.rows(self._journal, epoch.shards, now)
        with self._file.write() as db:
            topics.append(db, outputs, now)
            for shard in epoch.shards:
                self._move(shard, now)
            sqlite_journal.append(db, entries)
        return {shard.partition: shard.sequence + 1 for shard in epoch.shards}

    def _move(self, shard: ShardEpoch, now: int) -> None:
        db = self._file.db
        key = (self._group, shard.partition)
        row = db.execute("SELECT sequence FROM progress WHERE consumer = ? AND partition = ?", key).fetchone()
        last = row[0] if row else 0
        if shard.sequence != last + 1:
            raise StateError(
                f"{self._group} partition {shard.partition}: epoch {shard.sequence} cannot follow {last},"
                " the last one committed; did two engines work on this shard?"
            )
        db.execute("INSERT OR REPLACE INTO progress VALUES (?, ?, ?)", (*key, shard.sequence))
        db.execute("DELETE FROM position WHERE consumer = ? AND partition = ?", key)
        moved = [(self._topics[name].streams[shard.partition], end) for name, end in shard.positions.items()]
        db.executemany("INSERT INTO position VALUES (?, ?, ?, ?, 1)", [(*key, *pair) for pair in moved])
        for number, _ in moved:
            topics.trim(db, number, 0, now)

    def recover(self) -> Sequence[str]:
        with self._file.errors():
            self._file.rollback()
        return ()

    def journal(
        self, partition: int, start: int, after: int | None, through: int | None
    ) -> Iterator[JournalEntry]:
        return sqlite_journal.read(self._file, self._journal, partition, after, through)

    def journal_end(self, partition: int) -> int:
        return sqlite_journal.end(self._file, self._journal, partition)

    def trim_journal(self, partition: int, below: int, before: int) -> None:
        sqlite_journal.trim(self._file, self._journal, partition, below, before)

    def lag(self) -> Mapping[tuple[str, int], Lag]:
        now = time.time()
        with self._file.read() as db:
            rows = db.execute("SELECT number, topic, partition, first, next FROM stream").fetchall()
            lags = {}
            for number, name, partition, first, end in rows:
                if number in self._names:
                    at = self._cursors.get(number, first)
                    address = (number << SHIFT) + at
                    found = db.execute("SELECT timestamp FROM record WHERE address = ?", (address,)).fetchone()
                    lags[name, partition] = Lag(end - at, max(0.0, now - found[0] / 1000) if found else 0.0)
        return lags

    def owner(self, partition: int) -> str | None:
        return None  # all of a group's partitions are with its one instance

    def close(self, leave: bool) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        if self._seat is not None:
            os.close(self._seat)
            self._seat = None


def _take_seat(path: Path, group: str) -> int:
    """Lock the group's seat: a file that the operating system unlocks when the process dies, however it dies."""
    name = Path(f"{path}.{quote(group, safe='')}.lock")
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigError("", f"{name} cannot be opened: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Fenced(f"another process works for {group} on {path}") from None
    return descriptor


def _take(rows: Iterator[Any], limit: int, room: int) -> tuple[list[Any], int]:
    """At most `limit` rows of about `room` bytes: (rows, bytes left)."""
    taken: list[Any] = []
    stride = 1  # grows, so that a few very large records are noticed in time
    while room > 0 and (more := list(islice(rows, min(stride, limit - len(taken))))):
        taken += more
        room -= sum(len(row[4]) for row in more if row[4])
        stride = min(2 * stride, STRIDE)
    return taken, room
