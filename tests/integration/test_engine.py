"""An engine on the real embedded log, and what it does when log or store fail it."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from connectors import sqlite_topics
from connectors.sqlite_file import SqliteFile
from streamd import config as configuration
from streamd import wiring
from streamd.config import Config
from streamd.errors import Fenced, StateError, Transient
from streamd.ports import Committed, Epoch, Log, Output, Polled, Record, SnapshotInfo, Store
from streamd.sight import Sight
from streamd.views import EngineView

SETTINGS = """
[log]
path = "log.db"
synchronous = "normal"
partitions = {partitions}
[epoch]
interval = "10ms"
max_records = 40
[snapshot]
interval = "20ms"
work = 1
[worker]
give_up = "300ms"
[pipeline.p]
task = "classify"
events = "events"
labels = "labels"
learner = {{ kind = "linear", eta = {eta} }}
"""


def settings(folder: Path, partitions: int = 1, eta: float = 0.1, more: str = "") -> Config:
    text = SETTINGS.format(partitions=partitions, eta=eta) + more
    return configuration.resolve(configuration.parse(text), folder)


def fill(config: Config, first: int, last: int, at: Callable[[int], int] = lambda i: 1000 + i) -> None:
    client = wiring.client(config)
    for topic in ("events", "labels"):
        client.create(topic, config.log.partitions)
    for i in range(first, last):
        x = {"x": (i * 37 % 100) / 10, "c": "abc"[i % 3]}
        key, y = b"%d" % i, "hi" if x["x"] > 5 else "lo"  # type: ignore[operator]
        client.append("events", [Output("", key, json.dumps({"id": str(i), "features": x}).encode(), at(i))])
        client.append("labels", [Output("", key, json.dumps({"id": str(i), "label": y}).encode(), at(i))])
    client.close()


def predictions(config: Config) -> list[tuple[str, bytes]]:
    """In the order of their events' ids."""
    client = wiring.client(config)
    if "events-predictions" not in client.topics():
        return []
    found = [
        (str(json.loads(record.value or b"")["id"]), record.value or b"")
        for partition in range(config.log.partitions)
        for record in client.read("events-predictions", partition, 0, 10**6)
    ]
    client.close()
    return sorted(found, key=lambda pair: int(pair[0]))


def run(
    config: Config,
    log: Log | None = None,
    store: Store | None = None,
    until: Callable[[Sight], bool] = lambda sight: sight.idle,
    patience: float = 30.0,
) -> EngineView:
    """Run the pipeline `p` until a condition holds, then drain."""
    sight = Sight("p", "classify", "", "events", "events-predictions")
    engine = wiring.engine(config, "p", sight, log, store)
    over = threading.Event()
    tick = threading.Event()

    def watch() -> None:
        for _ in range(int(patience / 0.005)):
            if until(sight) or over.is_set():
                break
            tick.wait(0.005)
        engine.stop()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        engine.run()
    finally:
        over.set()
        watcher.join()
    return sight.view


class FaultyLog:
    """A real log, and a test's say in what it answers."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.before_commit: Callable[[int], None] = lambda n: None
        self.after_commit: Callable[[int], None] = lambda n: None
        self.on_poll: Callable[[int], Polled | None] = lambda n: None
        self.recoveries = 0
        self._commits = self._polls = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    def poll(self, max_records: int, timeout: float) -> Polled:
        self._polls += 1
        polled = self.on_poll(self._polls)
        return self._log.poll(max_records, timeout) if polled is None else polled

    def commit(self, epoch: Epoch) -> Mapping[int, int]:
        self._commits += 1
        self.before_commit(self._commits)
        ends = self._log.commit(epoch)
        self.after_commit(self._commits)
        return ends

    def recover(self) -> Sequence[str]:
        self.recoveries += 1
        return self._log.recover()


class ForgetfulLog:
    """A real log whose committed offsets have expired."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    def committed(self, partition: int) -> Committed:
        return Committed(0, {})


class FaultyStore:
    """A real store that is away whenever `away` says so."""

    def __init__(self, store: Store, away: Callable[[str], bool]) -> None:
        self._store, self._away = store, away

    def _reach(self, what: str) -> Store:
        if self._away(what):
            raise Transient("the store is away")
        return self._store

    def put(self, shard: str, sequence: int, manifest: bytes, chunks: Iterable[bytes]) -> None:
        self._reach("put").put(shard, sequence, manifest, chunks)

    def list(self, shard: str) -> Sequence[SnapshotInfo]:
        return self._reach("list").list(shard)

    def load(self, shard: str, sequence: int) -> tuple[bytes, Iterator[bytes]]:
        return self._reach("load").load(shard, sequence)

    def delete(self, shard: str, sequence: int) -> None:
        self._reach("delete").delete(shard, sequence)

    def shards(self) -> Sequence[str]:
        return self._reach("shards").shards()

    def close(self) -> None:
        self._store.close()


class EmptiedStore(FaultyStore):
    """A real store that somebody empties after every call of one method."""

    def __init__(self, store: Store, after: str) -> None:
        super().__init__(store, lambda what: False)
        self._after = after

    def put(self, shard: str, sequence: int, manifest: bytes, chunks: Iterable[bytes]) -> None:
        super().put(shard, sequence, manifest, chunks)
        self._empty("put", shard)

    def list(self, shard: str) -> Sequence[SnapshotInfo]:
        found = super().list(shard)
        self._empty("list", shard)
        return found

    def _empty(self, what: str, shard: str) -> None:
        if what == self._after:
            for info in self._store.list(shard):
                self._store.delete(shard, info.sequence)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, bytes]]:
    """What an untroubled run predicts on the first 300 events."""
    config = settings(tmp_path_factory.mktemp("expected"))
    fill(config, 0, 300)
    run(config)
    found = predictions(config)
    assert [id for id, _ in found] == [str(i) for i in range(300)]
    return found


Predictions = list[tuple[str, bytes]]


def trim(config: Config, topic: str, below: int) -> None:
    """Delete the records before an offset, as retention does."""
    assert isinstance(config.log, configuration.SqliteLog)
    file = SqliteFile(config.log.path)
    with file.write() as db:
        number = sqlite_topics.need(db, topic).streams[0]
        (end,) = db.execute("SELECT next FROM stream WHERE number = ?", (number,)).fetchone()
    sqlite_topics.keep(file, topic, sqlite_topics.Retention(records=end - below, wait=False))
    with file.write() as db:
        sqlite_topics.trim(db, number, 0, 0)
    sqlite_topics.keep(file, topic, sqlite_topics.Retention())
    file.close()


def test_a_restart_goes_on_where_it_stopped_and_replays_nothing(tmp_path: Path, expected: Predictions) -> None:
    config = settings(tmp_path)
    fill(config, 0, 150)
    first = run(config)
    fill(config, 150, 300)
    second = run(config)
    assert predictions(config) == expected
    (before,), (after,) = first.shards, second.shards
    assert before.snapshot is not None
    assert before.snapshot.sequence == before.sequence
    assert after.counts["events"] == 300
    assert after.quality.labels == 300


def test_a_commit_that_is_refused_voids_the_epoch(tmp_path: Path, expected: Predictions) -> None:
    config = settings(tmp_path)
    fill(config, 0, 300)
    log = FaultyLog(wiring.log(config, "p"))

    def refuse(n: int) -> None:
        if n in (1, 3, 4):
            raise Transient("refused")

    log.before_commit = refuse
    view = run(config, log)
    assert predictions(config) == expected
    assert view.voids == 3
    assert log.recoveries == 3


def test_a_commit_whose_answer_is_lost_is_found_to_have_happened(tmp_path: Path, expected: Predictions) -> None:
    config = settings(tmp_path)
    fill(config, 0, 300)
    log = FaultyLog(wiring.log(config, "p"))

    def lose(n: int) -> None:
        if n in (1, 2, 5):
            raise Transient("the answer was lost")

    log.after_commit = lose
    view = run(config, log)
    assert predictions(config) == expected
    assert view.voids == 3
    assert view.shards[0].counts["events"] == 300


def test_a_log_that_is_away_for_a_while_is_waited_for(tmp_path: Path, expected: Predictions) -> None:
    config = settings(tmp_path)
    fill(config, 0, 300)
    log = FaultyLog(wiring.log(config, "p"))

    def fail(n: int) -> None:
        if n in (2, 3, 7):
            raise Transient("away", retry_after=0.001)

    log.on_poll = fail
    assert run(config, log).voids == 3
    assert predictions(config) == expected


def test_a_log_that_stays_away_ends_the_process_for_its_supervisor(tmp_path: Path) -> None:
    config = settings(tmp_path)
    fill(config, 0, 10)

    class Away(FaultyLog):
        def recover(self) -> Sequence[str]:
            raise Transient("still away", retry_after=0.01)

    log = Away(wiring.log(config, "p"))

    def fail(n: int) -> None:
        if n > 1:
            raise Transient("away", retry_after=0.01)

    log.on_poll = fail
    with pytest.raises(Transient, match="still away"):
        run(config, log, until=lambda sight: False)


def test_what_a_log_had_left_open_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = settings(tmp_path)
    fill(config, 0, 10)

    class Careless(FaultyLog):
        def recover(self) -> Sequence[str]:
            super().recover()
            return ("no marker in results[0]",)

    log = Careless(wiring.log(config, "p"))
    assert run(config, log).last_unfinished == 0.0
    log = Careless(wiring.log(config, "p"))
    fill(config, 10, 20)

    def fail(n: int) -> None:
        if n == 1:
            raise Transient("away", retry_after=0.001)

    log.before_commit = fail
    assert run(config, log).last_unfinished > 0.0
    told = [record.facts for record in caplog.records if record.message == "log left a transaction open"]  # type: ignore[attr-defined]
    assert told == [{"pipeline": "p", "reason": "no marker in results[0]"}]


def test_a_partition_taken_away_and_given_back_loses_and_repeats_nothing(
    tmp_path: Path, expected: Predictions
) -> None:
    config = settings(tmp_path)
    fill(config, 0, 300)
    log = FaultyLog(wiring.log(config, "p"))

    def give_and_take(n: int) -> Polled | None:
        if n in (4, 9):
            return Polled(revoked=frozenset({0}))
        if n in (5, 10):
            return Polled(assigned=frozenset({0}))
        if n == 14:  # lost and regained between two polls
            return Polled(revoked=frozenset({0}), assigned=frozenset({0}))
        return None

    log.on_poll = give_and_take
    view = run(config, log)
    assert predictions(config) == expected
    assert view.shards[0].counts["events"] == 300


def test_without_its_store_the_daemon_goes_on_and_the_journal_brings_it_back(
    tmp_path: Path, expected: Predictions
) -> None:
    config = settings(tmp_path)
    fill(config, 0, 150)
    first = run(config, store=FaultyStore(wiring.store(config), lambda what: what != "list"))
    assert first.shards[0].snapshot is None
    fill(config, 150, 300)
    run(config)
    assert predictions(config) == expected


@pytest.mark.parametrize("when", ["put", "list"])
def test_a_store_that_loses_all_it_is_given_costs_time_not_progress(
    tmp_path: Path, expected: Predictions, when: str
) -> None:
    config = settings(tmp_path)
    fill(config, 0, 150)
    first = run(config, store=EmptiedStore(wiring.store(config), after=when))
    assert first.shards[0].snapshot is None
    fill(config, 150, 300)
    run(config)
    assert predictions(config) == expected


def test_a_store_away_at_restore_costs_time_not_progress(tmp_path: Path, expected: Predictions) -> None:
    config = settings(tmp_path)
    fill(config, 0, 150)
    run(config)
    fill(config, 150, 300)
    run(config, store=FaultyStore(wiring.store(config), lambda what: True))
    assert predictions(config) == expected


def test_a_store_that_lost_its_newest_snapshots_costs_time_not_progress(
    tmp_path: Path, expected: Predictions
) -> None:
    config = settings(tmp_path)
    for first, last in ((0, 50), (50, 150)):
        fill(config, first, last)
        run(config)
    store = wiring.store(config)
    found = store.list("streamd.p.0")
    assert len(found) > 1
    for info in found[:-1]:
        store.delete("streamd.p.0", info.sequence)
    fill(config, 150, 300)
    run(config)
    assert predictions(config) == expected


def test_a_damaged_snapshot_is_passed_over_for_an_older_one(tmp_path: Path, expected: Predictions) -> None:
    config = settings(tmp_path)
    fill(config, 0, 150)
    run(config)
    store = wiring.store(config)
    newest = store.list("streamd.p.0")[0].sequence
    manifest, chunks = store.load("streamd.p.0", newest)
    damaged = [bytes([chunk[0] ^ 1]) + chunk[1:] for chunk in chunks]
    store.put("streamd.p.0", newest, manifest, damaged)
    fill(config, 150, 300)
    run(config)
    assert predictions(config) == expected


def test_journal_and_snapshots_that_do_not_meet_stop_the_process_and_change_nothing(tmp_path: Path) -> None:
    config = settings(tmp_path)
    fill(config, 0, 150)
    run(config)
    store = wiring.store(config)
    for info in store.list("streamd.p.0"):
        store.delete("streamd.p.0", info.sequence)
    log = wiring.log(config, "p")
    log.open()
    ended = log.committed(0)
    log.trim_journal(0, 3, before=4_000_000_000_000)
    log.close(leave=False)
    with pytest.raises(StateError, match="does not lead from one to the other"):
        run(config)
    log = wiring.log(config, "p")
    log.open()
    assert log.committed(0) == ended
    log.close(leave=False)


def test_a_log_that_forgot_its_offsets_goes_on_from_snapshot_and_journal(
    tmp_path: Path, expected: Predictions
) -> None:
    config = settings(tmp_path)
    fill(config, 0, 150)
    run(config)
    store = wiring.store(config)
    newest = store.list("streamd.p.0")[0].sequence
    fill(config, 150, 200)
    run(config)
    for info in store.list("streamd.p.0"):
        if info.sequence > newest:
            store.delete("streamd.p.0", info.sequence)
    fill(config, 200, 300)
    run(config, log=ForgetfulLog(wiring.log(config, "p")))
    assert predictions(config) == expected


def test_another_configuration_pauses_the_shard_and_names_the_keys(tmp_path: Path) -> None:
    config = settings(tmp_path)
    fill(config, 0, 50)
    run(config)
    fill(config, 50, 60)
    other = settings(tmp_path, more='[pipeline.p.quality]\ndrift = "adwin"\n')
    view = run(other, until=lambda sight: any(s.phase == "paused" for s in sight.view.shards))
    assert not view.ready
    assert "different: drift" in view.shards[0].reason
    assert len(predictions(config)) == 50
    run(config)
    assert len(predictions(config)) == 60


def test_a_new_pipeline_starts_at_the_oldest_record_that_is_kept(tmp_path: Path) -> None:
    config = settings(tmp_path)
    fill(config, 0, 20)
    trim(config, "events", below=15)
    view = run(config)
    assert [id for id, _ in predictions(config)] == [str(i) for i in range(15, 20)]
    assert view.shards[0].counts["events"] == 5
    fill(config, 20, 30)
    run(config)
    assert [id for id, _ in predictions(config)] == [str(i) for i in range(15, 30)]


def test_each_partition_is_a_shard_of_its_own(tmp_path: Path) -> None:
    config = settings(tmp_path, partitions=3)
    fill(config, 0, 120)
    view = run(config)
    assert [shard.partition for shard in view.shards] == [0, 1, 2]
    assert sum(shard.counts["events"] for shard in view.shards) == 120
    assert sum(shard.counts["learned"] for shard in view.shards) == 120
    assert len(predictions(config)) == 120
    client = wiring.client(config)
    for partition in range(3):
        events: Sequence[Record] = client.read("events", partition, 0, 1000)
        told = client.read("events-predictions", partition, 0, 1000)
        assert [r.key for r in events] == [r.key for r in told]


def test_an_idle_partition_lets_deadlines_pass(tmp_path: Path) -> None:
    config = settings(tmp_path, more='pending = { max_age = "1200ms" }\n')
    client = wiring.client(config)
    client.create("events", 1)
    client.append("events", [Output("", b"a", b'{"id":"a","features":{"x":1}}', 1000)])
    view = run(config, until=lambda sight: any(s.counts.get("ticks") for s in sight.view.shards))
    assert view.shards[0].counts["expired_events"] == 1
    assert view.shards[0].pending == 0


def test_a_second_engine_of_the_same_group_is_refused(tmp_path: Path) -> None:
    config = settings(tmp_path)
    fill(config, 0, 1)
    log = wiring.log(config, "p")
    log.open()
    with pytest.raises(Fenced):
        run(config)
    log.close(leave=False)


def test_two_pipelines_read_one_topic_each_at_its_own_pace(tmp_path: Path) -> None:
    other = """
[pipeline.q]
task = "classify"
events = "events"
predictions = "q-predictions"
dead_letters = "q-dead"
learner = { kind = "river", model = "river.tree.HoeffdingTreeClassifier" }
"""
    config = settings(tmp_path, more=other)
    fill(config, 0, 30)
    run(config)
    daemon = wiring.build(config)
    daemon.start()
    tick = threading.Event()
    while not daemon.idle() and daemon.failure() is None:
        tick.wait(0.01)
    daemon.stop()
    assert daemon.failure() is None
    p, q = daemon.views()
    assert (p.shards[0].counts["events"], q.shards[0].counts["events"]) == (30, 30)
    assert len(predictions(config)) == 30
    client = wiring.client(config)
    assert client.ends("q-predictions") == [(0, 30)]


def test_a_snapshot_over_its_budget_is_not_written_and_what_fits_drives_out_the_oldest(
    tmp_path: Path, expected: Predictions
) -> None:
    config = settings(tmp_path)
    fill(config, 0, 150)
    view = run(config).shards[0].snapshot
    assert view is not None
    store = wiring.store(config)

    def kept() -> list[int]:
        return [info.sequence for info in store.list("streamd.p.0")]

    def with_budget(size: int) -> Config:
        return replace(config, snapshot=replace(config.snapshot, keep=50, budget=configuration.Size(size)))

    before = kept()
    fill(config, 150, 200)
    refused = run(with_budget(view.bytes))
    assert refused.over_budget > 0
    assert refused.over_budget == refused.unwritten
    assert kept() == before
    fill(config, 200, 300)
    fitting = run(with_budget(8 * view.bytes))
    assert fitting.over_budget == 0
    assert kept()[0] > before[0]
    after = fitting.shards[0].snapshot
    assert after is not None
    assert after.kept == sum(info.bytes for info in store.list("streamd.p.0")) <= 8 * view.bytes
    store.close()
    assert predictions(config) == expected
