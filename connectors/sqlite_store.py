"""The embedded store: snapshots in a SQLite file, which may be the log's."""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from connectors.sqlite_file import SqliteFile
from streamd.errors import StateError
from streamd.ports import SnapshotInfo


class SqliteStore:
    """The port `Store` on one file. Any number of threads may use it, one at a time for each shard.

    Chunks belong to an upload; the row in `snapshot`, written last, points to one. What no row points to is the
    rest of an upload that died.
    """

    def __init__(self, path: str | Path, *, synchronous: str = "FULL", wait: float = 10.0) -> None:
        self._writer = SqliteFile(path, synchronous=synchronous, wait=wait)
        self._reader = SqliteFile(path, synchronous=synchronous, wait=wait)  # loads never wait for a put
        self._turn = threading.Lock()  # one transaction at a time on the writer's connection

    def put(self, shard: str, sequence: int, manifest: bytes, chunks: Iterable[bytes]) -> None:
        self._sweep(shard)
        with self._turn, self._writer.write() as db:
            upload = db.execute("INSERT INTO upload (shard) VALUES (?)", (shard,)).lastrowid
        count, size = 0, len(manifest)
        for chunk in chunks:
            with self._turn, self._writer.write() as db:
                db.execute("INSERT INTO chunk VALUES (?, ?, ?)", (upload, count, chunk))
            count, size = count + 1, size + len(chunk)
        row = (shard, sequence, upload, count, size, int(time.time() * 1000), manifest)
        with self._turn, self._writer.write() as db:
            db.execute("INSERT OR REPLACE INTO snapshot VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        self._sweep(shard)

    def list(self, shard: str) -> Sequence[SnapshotInfo]:
        query = "SELECT sequence, bytes, written FROM snapshot WHERE shard = ? ORDER BY sequence DESC"
        with self._reader.errors():
            return [SnapshotInfo(*row) for row in self._reader.db.execute(query, (shard,)).fetchall()]

    def load(self, shard: str, sequence: int) -> tuple[bytes, Iterator[bytes]]:
        query = "SELECT manifest, upload, chunks FROM snapshot WHERE shard = ? AND sequence = ?"
        with self._reader.errors():
            row = self._reader.db.execute(query, (shard, sequence)).fetchone()
        if row is None:
            raise StateError(f"there is no snapshot of {shard} at {sequence}")
        manifest, upload, count = row
        return manifest, self._chunks(f"snapshot of {shard} at {sequence}", upload, count)

    def _chunks(self, what: str, upload: int, count: int) -> Iterator[bytes]:
        query = "SELECT data FROM chunk WHERE upload = ? AND number = ?"
        for number in range(count):
            with self._reader.errors():
                row = self._reader.db.execute(query, (upload, number)).fetchone()
            if row is None:
                raise StateError(f"{what}: chunk {number} of {count} is gone")
            yield row[0]

    def delete(self, shard: str, sequence: int) -> None:
        with self._turn, self._writer.write() as db:
            db.execute("DELETE FROM snapshot WHERE shard = ? AND sequence = ?", (shard, sequence))
        self._sweep(shard)

    def _sweep(self, shard: str) -> None:
        """Remove what belongs to no snapshot of the shard, a chunk a transaction."""
        query = "SELECT number FROM upload WHERE shard = ? AND number NOT IN (SELECT upload FROM snapshot)"
        with self._turn, self._writer.errors():
            dead = self._writer.db.execute(query, (shard,)).fetchall()
        for (upload,) in dead:
            while self._sweep_chunk(upload):
                pass
            with self._turn, self._writer.write() as db:
                db.execute("DELETE FROM upload WHERE number = ?", (upload,))

    def _sweep_chunk(self, upload: int) -> bool:
        last = "SELECT max(number) FROM chunk WHERE upload = :upload"
        bite = f"DELETE FROM chunk WHERE upload = :upload AND number = ({last})"
        with self._turn, self._writer.write() as db:
            return db.execute(bite, {"upload": upload}).rowcount > 0

    def shards(self) -> Sequence[str]:
        with self._reader.errors():
            rows = self._reader.db.execute("SELECT DISTINCT shard FROM snapshot ORDER BY shard").fetchall()
        return [shard for (shard,) in rows]

    def close(self) -> None:
        self._reader.close()
        self._writer.close()
