"""Ports that call `reach(step)` before and after everything they do, so that a test can die there."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from connectors.sqlite_log import SqliteLog
from connectors.sqlite_store import SqliteStore
from streamd.ports import Committed, Epoch, JournalEntry, Lag, Log, Polled, SnapshotInfo, Store, TopicInfo

Reach = Callable[[str], None]


class WatchedLog:
    """A `Log` whose every step is reached by name."""

    def __init__(self, log: Log, reach: Reach) -> None:
        self._log, self._reach = log, reach

    def open(self) -> Sequence[str]:
        self._reach("open, before")
        finished = self._log.open()
        if isinstance(self._log, SqliteLog):
            self._log._file.db.set_trace_callback(lambda sql: self._reach(f"log sql {_short(sql)}"))
        self._reach("open, after")
        return finished

    def topics(self) -> Mapping[str, TopicInfo]:
        return self._log.topics()

    def poll(self, max_records: int, timeout: float) -> Polled:
        polled = self._log.poll(max_records, timeout)
        if polled.records:
            self._reach("records polled")
        return polled

    def seek(self, partition: int, positions: Mapping[str, int]) -> Mapping[str, int]:
        starts = self._log.seek(partition, positions)
        self._reach("sought")
        return starts

    def pause(self, partition: int) -> None:
        self._log.pause(partition)

    def committed(self, partition: int) -> Committed:
        committed = self._log.committed(partition)
        self._reach("committed position read")
        return committed

    def commit(self, epoch: Epoch) -> Mapping[int, int]:
        self._reach("commit, before")
        ends = self._log.commit(epoch)
        self._reach("commit, after")
        return ends

    def recover(self) -> Sequence[str]:
        return self._log.recover()

    def journal(
        self, partition: int, start: int, after: int | None, through: int | None
    ) -> Iterator[JournalEntry]:
        for entry in self._log.journal(partition, start, after, through):
            self._reach("journal entry read")
            yield entry

    def journal_end(self, partition: int) -> int:
        return self._log.journal_end(partition)

    def owner(self, partition: int) -> str | None:
        return self._log.owner(partition)

    def trim_journal(self, partition: int, below: int, before: int) -> None:
        self._reach("journal trim, before")
        self._log.trim_journal(partition, below, before)
        self._reach("journal trim, after")

    def lag(self) -> Mapping[tuple[str, int], Lag]:
        return self._log.lag()

    def close(self, leave: bool) -> None:
        self._reach("close, before")
        self._log.close(leave)


class WatchedStore:
    """A `Store` whose every step is reached by name."""

    def __init__(self, store: Store, reach: Reach) -> None:
        self._store, self._reach = store, reach
        if isinstance(store, SqliteStore):
            store._writer.db.set_trace_callback(lambda sql: reach(f"store sql {_short(sql)}"))

    def put(self, shard: str, sequence: int, manifest: bytes, chunks: Iterable[bytes]) -> None:
        self._reach("snapshot, before")
        self._store.put(shard, sequence, manifest, self._each(chunks))
        self._reach("snapshot, after")

    def _each(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._reach("snapshot chunk")
            yield chunk

    def list(self, shard: str) -> Sequence[SnapshotInfo]:
        return self._store.list(shard)

    def load(self, shard: str, sequence: int) -> tuple[bytes, Iterator[bytes]]:
        manifest, chunks = self._store.load(shard, sequence)
        return manifest, self._loaded(chunks)

    def _loaded(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._reach("snapshot chunk loaded")
            yield chunk

    def delete(self, shard: str, sequence: int) -> None:
        self._reach("snapshot delete, before")
        self._store.delete(shard, sequence)
        self._reach("snapshot delete, after")

    def shards(self) -> Sequence[str]:
        return self._store.shards()

    def close(self) -> None:
        self._store.close()


def _short(sql: str) -> str:
    """The kind of a statement and what it is about: enough to name a step."""
    words = sql.split()
    about = next((w for w in words[1:] if w.islower() and w.isalpha()), "")
    return f"{words[0]} {about}".strip()
