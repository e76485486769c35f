"""What the SQLite store promises beyond the port: nothing is left behind, and one file serves everybody."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.sqlite_client import SqliteLogClient
from connectors.sqlite_file import SqliteFile
from connectors.sqlite_log import SqliteLog
from connectors.sqlite_store import SqliteStore
from streamd.errors import StateError
from streamd.ports import Epoch, ShardEpoch


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "streamd.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    yield store
    store.close()


def chunks_kept(path: Path) -> int:
    file = SqliteFile(path)
    (count,) = file.db.execute("SELECT count(*) FROM chunk").fetchone()
    file.close()
    return int(count)


def dying(count: int) -> Iterator[bytes]:
    yield from [b"x"] * count
    raise InterruptedError


@pytest.mark.parametrize("verb", ["put", "delete"])
def test_the_rest_of_a_put_that_died_is_removed(store: SqliteStore, path: Path, verb: str) -> None:
    store.put("shard", 1, b"m", [b"a", b"b"])
    for sequence in (1, 2):
        with pytest.raises(InterruptedError):
            store.put("shard", sequence, b"m", dying(5))
    with pytest.raises(InterruptedError):
        store.put("other", 1, b"m", dying(3))
    if verb == "put":
        store.put("shard", 2, b"m", [b"c"])
    else:
        store.delete("shard", 2)
    assert chunks_kept(path) == 3 + (3 if verb == "put" else 2)


def test_replaced_and_deleted_snapshots_leave_no_chunks(store: SqliteStore, path: Path) -> None:
    for _ in range(3):
        store.put("shard", 1, b"m", [b"a", b"b"])
    assert chunks_kept(path) == 2
    store.delete("shard", 1)
    assert chunks_kept(path) == 0


def test_a_chunk_that_is_gone_is_a_state_error(store: SqliteStore, path: Path) -> None:
    store.put("shard", 1, b"m", [b"a", b"b"])
    file = SqliteFile(path)
    with file.write() as db:
        db.execute("DELETE FROM chunk WHERE number = 1")
    file.close()
    _, chunks = store.load("shard", 1)
    assert next(chunks) == b"a"
    with pytest.raises(StateError, match="snapshot of shard at 1: chunk 1 of 2 is gone"):
        next(chunks)


def test_two_threads_put_and_load_while_a_log_commits_to_the_same_file(store: SqliteStore, path: Path) -> None:
    client = SqliteLogClient(path)
    client.create("a", 1)
    log = SqliteLog(path, group="g", inputs=["a"], journal="g.journal")
    log.open()
    failures: list[BaseException] = []

    def snapshots(shard: str) -> None:
        try:
            for sequence in range(1, 21):
                store.put(shard, sequence, b"m", [bytes([sequence]) * 1000] * 3)
                if shard == "two" and sequence > 3:
                    store.delete(shard, sequence - 3)
        except BaseException as error:  # noqa: BLE001 (a thread's failure must reach the test)
            failures.append(error)

    threads = [threading.Thread(target=snapshots, args=(shard,)) for shard in ("one", "two")]
    for thread in threads:
        thread.start()
    for sequence in range(1, 41):
        log.commit(Epoch((), (ShardEpoch(0, sequence, {"a": 0}, b"entry"),)))
        for info in store.list("one")[:1]:
            _, chunks = store.load("one", info.sequence)
            assert list(chunks) == [bytes([info.sequence]) * 1000] * 3
    for thread in threads:
        thread.join()
    assert not failures
    assert [info.sequence for info in store.list("two")] == [20, 19, 18]
    assert log.committed(0).sequence == 40
    log.close(leave=False)
    client.close()
