"""What the SQLite log promises beyond the port: one order over all topics, retention, clear refusals."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from connectors.sqlite_client import SqliteLogClient
from connectors.sqlite_file import SqliteFile
from connectors.sqlite_log import SqliteLog
from connectors.sqlite_topics import Retention
from streamd.errors import ConfigError, Fenced, StateError, Transient
from streamd.ports import Committed, Epoch, Output, Record, ShardEpoch


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def client(path: Path) -> Iterator[SqliteLogClient]:
    client = SqliteLogClient(path)
    yield client
    client.close()


def opened(path: Path, *inputs: str, group: str = "g.p", **options: object) -> SqliteLog:
    """A log that has its assignment."""
    log = SqliteLog(path, group=group, inputs=inputs, journal=f"{group}.journal", **options)  # type: ignore[arg-type]
    log.open()
    log.poll(1, 0.0)
    return log


def record(i: int, partition: int = 0, timestamp: int = 0) -> Output:
    return Output("", b"%d" % i, b"%d" % i, timestamp, partition)


def drain(log: SqliteLog, max_records: int = 1000) -> list[Record]:
    got: list[Record] = []
    while records := log.poll(max_records, 0.0).records:
        got += records
    return got


def epoch(sequence: int, positions: dict[str, int], *outputs: Output, partition: int = 0) -> Epoch:
    return Epoch(outputs, (ShardEpoch(partition, sequence, positions, b"entry"),))


# order


def test_records_come_in_the_order_of_appends_over_all_topics_however_polls_are_cut(
    path: Path, client: SqliteLogClient
) -> None:
    topics = ["a", "b", "c"]
    for topic in topics:
        client.create(topic, 2)
    random = Random(7)
    appended: list[list[tuple[str, bytes | None]]] = [[], []]
    for i in range(300):
        topic, partition = random.choice(topics), random.randrange(2)
        client.append(topic, [record(i, partition)])
        appended[partition].append((topic, b"%d" % i))
    for max_records in (1, 3, 7, 1000):
        log = opened(path, *topics)
        for partition in (0, 1):
            log.seek(partition, {})
        got = drain(log, max_records)
        for partition in (0, 1):
            assert [(r.topic, r.key) for r in got if r.partition == partition] == appended[partition]
        log.close(leave=False)


def test_the_order_goes_on_after_a_seek_into_the_middle(path: Path, client: SqliteLogClient) -> None:
    for topic in ("a", "b"):
        client.create(topic, 1)
    for i in range(10):
        client.append("ab"[i % 2], [record(i)])
    log = opened(path, "a", "b")
    log.seek(0, {"a": 2, "b": 4})
    assert [r.key for r in drain(log, 2)] == [b"4", b"6", b"8", b"9"]
    log.close(leave=False)


def test_every_partition_gets_its_turn(path: Path, client: SqliteLogClient) -> None:
    client.create("a", 3)
    for partition in range(3):
        client.append("a", [record(i, partition) for i in range(10)])
    log = opened(path, "a")
    for partition in range(3):
        log.seek(partition, {})
    assert {r.partition for _ in range(3) for r in log.poll(5, 0.0).records} == {0, 1, 2}
    log.close(leave=False)


def test_a_poll_of_large_records_stops_at_the_bytes_and_the_next_goes_on(
    path: Path, client: SqliteLogClient
) -> None:
    client.create("a", 1)
    client.append("a", [Output("", None, b"x" * 4_000_000, i, 0) for i in range(24)])
    log = opened(path, "a")
    log.seek(0, {})
    first = log.poll(1000, 0.0).records
    assert 8 <= len(first) < 24
    assert [r.offset for r in [*first, *drain(log)]] == list(range(24))
    log.close(leave=False)


# retention


def test_retention_keeps_the_newest_records_and_offsets_go_on(path: Path, client: SqliteLogClient) -> None:
    client.create("a", 1, Retention(records=10))
    for start in range(0, 50, 5):
        client.append("a", [record(i) for i in range(start, start + 5)])
    assert client.ends("a") == [(40, 50)]
    assert [r.key for r in client.read("a", 0, 0, 100)] == [b"%d" % i for i in range(40, 50)]


def test_offsets_never_start_again_in_an_emptied_topic(path: Path, client: SqliteLogClient) -> None:
    client.create("a", 1, Retention(records=0))
    for start in range(3):
        client.append("a", [record(start)])
        assert client.ends("a") == [(start + 1, start + 1)]
    client.close()
    again = SqliteLogClient(path)
    again.create("a", 1, Retention())
    again.append("a", [record(9)])
    assert [(r.offset, r.key) for r in again.read("a", 0, 0, 10)] == [(3, b"9")]
    again.close()


def test_retention_by_age_goes_by_the_timestamps(client: SqliteLogClient) -> None:
    client.create("a", 1, Retention(seconds=3600))
    now = int(time.time() * 1000)
    client.append("a", [record(i, timestamp=now - 7_200_000) for i in range(5)])
    client.append("a", [record(i, timestamp=now) for i in range(5, 8)])
    client.append("a", [record(8, timestamp=now - 7_200_000)])
    assert client.ends("a") == [(5, 9)]


def test_a_lowered_limit_is_reached_in_bounded_bites(client: SqliteLogClient) -> None:
    client.create("a", 1)
    client.append("a", [record(i) for i in range(5000)])
    client.create("a", 1, Retention(records=10))
    kept = [5000]
    while kept[-1] > 10:
        client.append("a", [record(0)])
        ((first, following),) = client.ends("a")
        kept.append(following - first)
    assert all(before - after <= 1000 for before, after in pairwise(kept))
    assert len(kept) <= 7


def test_retention_waits_for_what_a_group_has_not_committed(path: Path, client: SqliteLogClient) -> None:
    client.create("a", 1, Retention(records=2))
    log = opened(path, "a")  # a group counts from its first open on
    client.append("a", [record(i) for i in range(10)])
    log.seek(0, {})
    assert client.ends("a") == [(0, 10)]
    log.commit(epoch(1, {"a": 6}))
    assert client.ends("a") == [(6, 10)]
    log.commit(epoch(2, {"a": 10}))
    assert client.ends("a") == [(8, 10)]
    log.close(leave=False)


def test_retention_waits_for_the_slowest_of_several_groups(path: Path, client: SqliteLogClient) -> None:
    client.create("a", 1, Retention(records=0))
    logs = [opened(path, "a", group=group) for group in ("fast", "slow")]
    client.append("a", [record(i) for i in range(10)])
    logs[0].commit(epoch(1, {"a": 10}))
    logs[1].commit(epoch(1, {"a": 3}))
    assert client.ends("a") == [(3, 10)]
    for log in logs:
        log.close(leave=False)


def test_retention_that_does_not_wait_passes_a_slow_group_which_is_told(
    path: Path, client: SqliteLogClient
) -> None:
    client.create("a", 1, Retention(records=2, wait=False))
    log = opened(path, "a")
    log.seek(0, {})
    client.append("a", [record(i) for i in range(10)])
    with pytest.raises(StateError, match=r"a\[0\]: offset 0 is wanted, the oldest kept is 8"):
        log.poll(10, 0.0)
    with pytest.raises(StateError, match=r"offset 3 is wanted, the oldest kept is 8"):
        log.seek(0, {"a": 3})
    log.seek(0, {"a": 8})
    assert [r.offset for r in drain(log)] == [8, 9]
    log.close(leave=False)


def test_the_retention_of_a_log_holds_for_its_inputs_and_outputs(path: Path, client: SqliteLogClient) -> None:
    client.create("a", 1)
    log = opened(path, "a", retention=Retention(records=3))
    client.append("a", [record(i) for i in range(10)])
    log.commit(epoch(1, {"a": 10}, *(Output("out", None, b"x", 0, 0) for _ in range(10))))
    assert client.ends("out") == [(7, 10)]
    assert client.ends("a") == [(7, 10)]
    log.close(leave=False)


# making topics


def test_open_makes_missing_inputs_when_asked(path: Path, client: SqliteLogClient) -> None:
    log = opened(path, "a", "b", create=True, partitions=3)
    assert {name: info.partitions for name, info in client.topics().items()} == {"a": 3, "b": 3}
    log.close(leave=False)


def test_an_output_topic_is_made_with_as_many_partitions_as_the_inputs(
    path: Path, client: SqliteLogClient
) -> None:
    client.create("a", 4)
    log = opened(path, "a")
    log.commit(epoch(1, {"a": 0}, Output("out", b"k", b"v", 0, 3), partition=3))
    assert client.topics()["out"].partitions == 4
    assert log.topics()["out"] == client.topics()["out"]
    log.close(leave=False)


def test_a_partition_that_is_not_there_is_refused_and_nothing_is_written(
    path: Path, client: SqliteLogClient
) -> None:
    client.create("a", 1)
    client.create("out", 1)
    log = opened(path, "a")
    with pytest.raises(ConfigError, match="out has 1 partitions, none numbered 5"):
        log.commit(epoch(1, {"a": 0}, Output("out", None, b"v", 0, 0), Output("out", None, b"v", 0, 5)))
    assert client.ends("out") == [(0, 0)]
    assert log.committed(0) == Committed(0, {})
    with pytest.raises(ConfigError):
        client.append("a", [record(0, partition=1)])
    log.close(leave=False)


# refusals


def test_an_epoch_that_does_not_follow_the_last_is_refused_and_nothing_is_written(
    path: Path, client: SqliteLogClient
) -> None:
    client.create("a", 1)
    log = opened(path, "a")
    log.commit(epoch(1, {"a": 0}))
    for sequence in (1, 3):
        with pytest.raises(StateError, match=f"epoch {sequence} cannot follow 1"):
            log.commit(epoch(sequence, {"a": 0}, Output("out", None, b"v", 0, 0)))
    assert log.committed(0) == Committed(1, {"a": 0})
    assert client.ends("out") == [(0, 0)]
    log.commit(epoch(2, {"a": 0}))
    log.close(leave=False)


def test_a_second_engine_of_a_group_is_refused_until_the_first_is_closed(
    path: Path, client: SqliteLogClient
) -> None:
    client.create("a", 1)
    first = opened(path, "a")
    with pytest.raises(Fenced, match=r"g\.p"):
        opened(path, "a")
    other = opened(path, "a", group="g.other/pipeline")
    first.close(leave=False)
    opened(path, "a").close(leave=True)
    other.close(leave=False)


def test_a_refused_open_leaves_the_seat_free(path: Path, client: SqliteLogClient) -> None:
    with pytest.raises(ConfigError, match="topic a does not exist"):
        opened(path, "a")
    client.create("a", 1)
    opened(path, "a").close(leave=False)


def test_a_file_that_stays_locked_is_transient_and_the_work_succeeds_later(
    path: Path, client: SqliteLogClient
) -> None:
    client.create("a", 1)
    log = opened(path, "a", wait=0.02)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Transient, match=r"log\.db"):
        log.commit(epoch(1, {"a": 0}))
    log.recover()
    assert log.committed(0).sequence == 0  # readers do not wait for writers
    other.execute("ROLLBACK")
    other.close()
    log.commit(epoch(1, {"a": 0}))
    log.close(leave=False)


@pytest.mark.parametrize("size", [100, 5000])
def test_a_file_that_is_not_sqlite_is_a_state_error(path: Path, size: int) -> None:
    path.write_bytes(Random(1).randbytes(size))
    with pytest.raises(StateError, match=r"log\.db"):
        SqliteLogClient(path)


def test_somebody_elses_sqlite_file_is_refused_and_left_alone(path: Path) -> None:
    theirs = sqlite3.connect(path)
    theirs.execute("CREATE TABLE record (x)")
    theirs.commit()
    theirs.close()
    before = path.read_bytes()
    with pytest.raises(StateError, match="not one of streamd's"):
        SqliteLogClient(path)
    assert path.read_bytes() == before


def test_a_file_of_a_later_version_is_refused(path: Path, client: SqliteLogClient) -> None:
    client.close()
    later = sqlite3.connect(path)
    later.execute("PRAGMA user_version = 99")
    later.close()
    with pytest.raises(StateError, match="99"):
        SqliteLogClient(path)


def test_a_directory_that_does_not_exist_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        SqliteLogClient(tmp_path / "nowhere" / "log.db")
    with pytest.raises(ConfigError, match="nowhere"):
        opened(tmp_path / "nowhere" / "log.db", "a")


def overwritten(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + Random(1).randbytes(200_000) + data[middle + 200_000 :]


def cut_short(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize("damage", [overwritten, cut_short])
def test_damaged_pages_are_a_state_error_naming_the_file(
    path: Path, client: SqliteLogClient, damage: Callable[[bytes], bytes]
) -> None:
    client.create("a", 1)
    client.append("a", [Output("", None, b"x" * 1000, i, 0) for i in range(2000)])
    client.close()
    path.write_bytes(damage(path.read_bytes()))
    log = SqliteLog(path, group="g", inputs=["a"], journal="j")
    with pytest.raises(StateError, match=r"log\.db"):
        deliver_all(log)
    log.close(leave=False)


def deliver_all(log: SqliteLog) -> list[Record]:
    log.open()
    log.poll(1, 0.0)
    log.seek(0, {})
    return drain(log)


def test_a_file_at_its_largest_size_is_a_state_error_and_keeps_what_it_has(
    path: Path, client: SqliteLogClient
) -> None:
    client.create("a", 1)
    client.append("a", [record(0)])
    file = SqliteFile(path)
    file.db.execute("PRAGMA max_page_count = 40")
    with pytest.raises(StateError, match="full"), file.write() as db:
        db.execute("INSERT INTO record VALUES (7, 7, 0, NULL, ?, NULL)", (b"x" * 1_000_000,))
    assert not file.db.in_transaction
    file.close()
    assert [r.key for r in client.read("a", 0, 0, 10)] == [b"0"]


def test_a_record_missing_in_the_middle_is_a_state_error(path: Path, client: SqliteLogClient) -> None:
    client.create("a", 1)
    client.append("a", [record(i) for i in range(10)])
    file = SqliteFile(path)
    with file.write() as db:
        db.execute("DELETE FROM record WHERE value = ?", (b"5",))
    file.close()
    log = opened(path, "a")
    log.seek(0, {})
    with pytest.raises(StateError, match="missing"):
        drain(log)
    log.close(leave=False)


def test_a_damaged_journal_entry_is_a_state_error(path: Path, client: SqliteLogClient) -> None:
    client.create("a", 1)
    log = opened(path, "a")
    for sequence in (1, 2):
        log.commit(epoch(sequence, {"a": 0}))
    file = SqliteFile(path)
    with file.write() as db:
        db.execute("UPDATE journal SET entry = ? WHERE sequence = 2", (b"entrz",))
    file.close()
    assert [e.sequence for e in log.journal(0, 0, 0, 1)] == [1]
    with pytest.raises(StateError, match="entry 2 is damaged"):
        list(log.journal(0, 0, 0, 2))
    log.close(leave=False)


def test_trimmed_journal_entries_are_gone(path: Path, client: SqliteLogClient) -> None:
    client.create("a", 1)
    log = opened(path, "a")
    for sequence in range(1, 101):
        below = log.commit(epoch(sequence, {"a": 0}))[0]
    log.trim_journal(0, below - 1, before=0)
    assert len(list(log.journal(0, 0, 0, 100))) == 100
    log.trim_journal(0, below - 1, before=int(time.time() * 1000) + 3_600_000)
    assert [e.sequence for e in log.journal(0, 0, 99, 100)] == [100]
    with pytest.raises(StateError, match="entry 99 is missing"):
        list(log.journal(0, 0, 98, 100))
    log.close(leave=False)


# lag and waiting


def test_lag_is_exact_and_tells_the_age_of_the_oldest_waiting(path: Path, client: SqliteLogClient) -> None:
    client.create("a", 1)
    client.create("b", 1)
    now = int(time.time() * 1000)
    client.append("a", [record(i, timestamp=now - 1_000_000 + 100_000 * i) for i in range(5)])
    log = opened(path, "a", "b")
    log.seek(0, {"a": 1})
    log.poll(2, 0.0)
    lag = log.lag()
    assert (lag["a", 0].records, lag["b", 0].records) == (2, 0)
    assert 700 <= lag["a", 0].seconds < 4300
    assert lag["b", 0].seconds == 0
    log.close(leave=False)


def test_no_read_transaction_outlives_a_poll(path: Path, client: SqliteLogClient) -> None:
    client.create("a", 1)
    client.create("b", 1)
    for topic in ("a", "b"):
        client.append(topic, [record(i) for i in range(100)])
    log = opened(path, "a", "b")
    log.seek(0, {})
    log.poll(10, 0.0)
    client.append("a", [record(0)])
    checkpoint = sqlite3.connect(path)
    busy, _, _ = checkpoint.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    checkpoint.close()
    assert busy == 0
    log.close(leave=False)
