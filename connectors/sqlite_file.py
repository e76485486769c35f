"""One SQLite file under the embedded log and store: its schema, its short transactions, what its errors mean.

Local disks only: WAL needs shared memory between the processes, and network file systems have none.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamd.errors import ConfigError, StateError, StreamdError, Transient

APPLICATION = 0x73747264  # "strd": what `PRAGMA application_id` says of a file of ours
VERSION = 1
PAGE = 8192  # bytes; below it the records of an epoch are spread over needlessly many pages
CHECKPOINT = 2000  # pages of the write-ahead log before they are moved into the file
WAL_LIMIT = 64 << 20  # bytes to which the write-ahead log is cut after a burst
NAP = 0.001  # seconds between two attempts at the write lock

# Offsets are kept in `stream` and not in rowids, which start again at 1 in an emptied table. A record's address is
# `stream << 40 | offset`, so that one table, ordered by a plain integer, holds every partition in offset order.
# `position` in `record` is the place in the order of all appends to the file.
SCHEMA = """
CREATE TABLE topic (name TEXT PRIMARY KEY, id TEXT NOT NULL, partitions INTEGER NOT NULL,
    keep_records INTEGER, keep_ms INTEGER, wait INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE stream (number INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    first INTEGER NOT NULL, next INTEGER NOT NULL, UNIQUE (topic, partition));
CREATE TABLE counter (appended INTEGER NOT NULL);
INSERT INTO counter VALUES (0);
CREATE TABLE record (address INTEGER PRIMARY KEY, position INTEGER NOT NULL, timestamp INTEGER NOT NULL,
    key BLOB, value BLOB, headers BLOB);
CREATE TABLE progress (consumer TEXT NOT NULL, partition INTEGER NOT NULL, sequence INTEGER NOT NULL,
    PRIMARY KEY (consumer, partition)) WITHOUT ROWID;
CREATE TABLE position (consumer TEXT NOT NULL, partition INTEGER NOT NULL, stream INTEGER NOT NULL,
    next INTEGER NOT NULL, committed INTEGER NOT NULL, PRIMARY KEY (consumer, partition, stream)) WITHOUT ROWID;
CREATE INDEX position_of_stream ON position (stream);
CREATE TABLE journal (name TEXT NOT NULL, partition INTEGER NOT NULL, sequence INTEGER NOT NULL,
    written INTEGER NOT NULL, checksum INTEGER NOT NULL, entry BLOB NOT NULL,
    PRIMARY KEY (name, partition, sequence));
CREATE TABLE upload (number INTEGER PRIMARY KEY AUTOINCREMENT, shard TEXT NOT NULL);
CREATE TABLE chunk (upload INTEGER NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (upload, number));
CREATE TABLE snapshot (shard TEXT NOT NULL, sequence INTEGER NOT NULL, upload INTEGER NOT NULL,
    chunks INTEGER NOT NULL, bytes INTEGER NOT NULL, written INTEGER NOT NULL, manifest BLOB NOT NULL,
    PRIMARY KEY (shard, sequence));
"""

BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
BROKEN = {
    sqlite3.SQLITE_FULL: "the disk is full, or the file reached its largest size; nothing was written",
    sqlite3.SQLITE_IOERR: "reading or writing the disk failed",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore it from a copy or start with a new one",
    sqlite3.SQLITE_NOTADB: "this is not a SQLite file",
    sqlite3.SQLITE_READONLY: "the file cannot be written",
    sqlite3.SQLITE_PERM: "access to the file is refused",
}


class SqliteFile:
    """One connection. Threads may share it for single statements, not for transactions.

    synchronous: FULL survives a power cut; NORMAL may lose the last epochs in one, never after a mere crash.
    wait: seconds a writer waits for the other writers before it raises Transient.
    """

    def __init__(self, path: str | Path, *, synchronous: str = "FULL", wait: float = 10.0) -> None:
        self.path = Path(path)
        self._wait = wait
        with self.errors():
            # The write lock is waited for in `write`; the time-out here is for the rare waits inside SQLite.
            self.db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=wait)
        try:
            with self.errors():
                self._prepare(synchronous)
        except BaseException:
            self.db.close()
            raise

    def _prepare(self, synchronous: str) -> None:
        if self._value("PRAGMA user_version") == 0:
            self._create()
        if self._value("PRAGMA application_id") != APPLICATION:
            raise StateError(f"{self.path} is a SQLite file, but not one of streamd's")
        if (version := self._value("PRAGMA user_version")) != VERSION:
            raise StateError(f"{self.path} has the file format {version}; this version of streamd reads {VERSION}")
        self.db.execute(f"PRAGMA synchronous = {synchronous}")
        self.db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}")
        self.db.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")

    def _create(self) -> None:
        # Two processes that both turn a new file to WAL refuse each other without waiting, hence the lock.
        with locked(Path(f"{self.path}.lock")):
            if self._value("PRAGMA user_version") != 0 or self._value("PRAGMA application_id") != 0:
                return
            if self._value("SELECT count(*) FROM sqlite_master"):
                raise StateError(f"{self.path} is a SQLite file, but not one of streamd's")
            self.db.execute(f"PRAGMA page_size = {PAGE}")
            (mode,) = self.db.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise ConfigError("", f"{self.path}: this file system has no shared memory; use a local disk")
            marks = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};"
            self.db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} {marks} COMMIT;")

    def _value(self, query: str) -> int:
        return int(self.db.execute(query).fetchone()[0])

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Give what SQLite raises its meaning in `streamd.errors`."""
        try:
            yield
        except sqlite3.Error as error:
            raise meaning(error, self.path) from error

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the one write lock: keep it short, prepare what it writes before."""
        with self.errors():
            self._begin()
            try:
                yield self.db
                self.db.execute("COMMIT")
            except BaseException:
                self.rollback()
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees one state of the file. It keeps the write-ahead log from being reset."""
        with self.errors():
            self.db.execute("BEGIN")
            try:
                yield self.db
            finally:
                self.rollback()

    def _begin(self) -> None:
        # SQLite's own waiting sleeps up to 100 ms between attempts, which lets a busy appender starve the engine.
        deadline = time.monotonic() + self._wait
        self.db.execute("PRAGMA busy_timeout = 0")
        try:
            while not self._try_begin(last=time.monotonic() >= deadline):
                time.sleep(NAP)
        finally:
            self.db.execute(f"PRAGMA busy_timeout = {int(self._wait * 1000)}")

    def _try_begin(self, last: bool) -> bool:
        try:
            self.db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if last or error.sqlite_errorcode & 0xFF not in BUSY:
                raise
            return False
        return True

    def rollback(self) -> None:
        """End an open transaction, if there is one, without a trace."""
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")

    def changes(self) -> int:
        """A number that changes when another connection has committed."""
        with self.errors():
            return self._value("PRAGMA data_version")

    def close(self) -> None:
        self.db.close()


def meaning(error: sqlite3.Error, path: Path) -> StreamdError | sqlite3.Error:
    """What a failure of SQLite means to the engine; what only a bug of ours can raise stays as it is."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in BUSY:
        return Transient(f"{path}: another process keeps the file locked ({error})")
    if code == sqlite3.SQLITE_CANTOPEN:
        return ConfigError("", f"{path} cannot be opened; its directory must exist and be writable ({error})")
    if code in BROKEN:
        return StateError(f"{path}: {BROKEN[code]} ({error})")
    return error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file, waiting for whoever has it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigError("", f"{path} cannot be opened: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
