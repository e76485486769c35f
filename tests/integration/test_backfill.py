"""Backfill: a new pipeline learns from history without answering it, then serves; once each, whatever fails."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from streamd import snapshot, wiring
from streamd.config import Config
from streamd.errors import ConfigError, StateError, Transient
from streamd.ports import Output, Record
from streamd.restore import Restored, restore
from streamd.shard import Shard
from tests.integration.test_engine import FaultyLog, fill, predictions, run, settings

EARLIEST = 'backfill = "earliest"\n'


def restored(config: Config) -> Shard:
    """The shard as the next worker would find it."""
    log, store = wiring.log(config, "p"), wiring.store(config)
    log.open()
    identity, fresh = wiring.shards(config, "p")
    found = restore(log, store, identity(0), lambda: fresh(0), log.topics(), lambda: None)
    log.close(leave=True)
    store.close()
    assert isinstance(found, Restored)
    return found.shard


def learned(shard: Shard) -> str:
    return snapshot.digest(shard.task.learner.state())  # type: ignore[attr-defined]


def ids(config: Config) -> list[int]:
    return [int(id) for id, _ in predictions(config)]


def all_of(config: Config, topic: str) -> list[Record]:
    client = wiring.client(config)
    found = list(client.read(topic, 0, 0, 10**6)) if topic in client.topics() else []
    client.close()
    return found


def test_history_is_learned_and_not_answered_and_the_stream_is_joined_where_it_ended(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    plain, config = settings(tmp_path / "plain"), settings(tmp_path, more=EARLIEST)
    for one in (plain, config):
        fill(one, 0, 100)
        run(one)
        fill(one, 100, 150)
        run(one)
    assert ids(plain) == list(range(150))
    assert ids(config) == list(range(100, 150))
    # then what was learned is what it would have learned in service, and it answers the same from there
    assert learned(restored(config)) == learned(restored(plain))
    assert [value for _, value in predictions(config)] == [value for _, value in predictions(plain)][100:]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_in_the_middle_goes_on_with_the_same_history(tmp_path: Path, moment: str) -> None:
    config = settings(tmp_path, more=EARLIEST)
    fill(config, 0, 150)

    def crash(commit: int) -> None:
        if commit == 3:
            raise StateError("a crash")

    log = FaultyLog(wiring.log(config, "p"))
    setattr(log, f"{moment}_commit", crash)
    with pytest.raises(StateError, match="a crash"):
        run(config, log=log)  # type: ignore[arg-type]
    # when more comes before the worker is back
    fill(config, 150, 200)
    run(config)
    # then that is no history, and nothing was taken twice
    assert ids(config) == list(range(150, 200))
    shard = restored(config)
    counts = shard.task.show().counts
    assert (counts["events"], counts["learned"]) == (200, 200)
    assert shard.history == 0
    assert shard.commands == {"backfill": 1}


def test_a_void_epoch_in_the_middle_changes_nothing(tmp_path: Path) -> None:
    config = settings(tmp_path, more=EARLIEST)
    fill(config, 0, 100)

    def fail(commit: int) -> None:
        if commit in (1, 2, 4):
            raise Transient("away", 0.01)

    log = FaultyLog(wiring.log(config, "p"))
    log.before_commit = fail
    run(config, log=log)  # type: ignore[arg-type]
    assert ids(config) == []
    assert restored(config).task.show().counts["learned"] == 100


@pytest.mark.parametrize(
    ("more", "events", "labels"),
    [
        ('backfill = "1970-01-01T00:00:01.060Z"\n', 40, 40),  # `fill` gives record i the time 1000 + i
        ("backfill = { events = 90 }\n", 10, 100),
        ("backfill = { events = 10000, labels = 10000 }\n", 0, 0),
    ],
)
def test_history_may_begin_at_a_time_or_an_offset(tmp_path: Path, more: str, events: int, labels: int) -> None:
    config = settings(tmp_path, more=more)
    fill(config, 0, 100)
    run(config)
    shown = restored(config).task.show()
    told: Mapping[str, int] = shown.counts
    assert told["events"] == events
    assert told["learned"] + shown.early + told["unknown_labels"] >= min(labels, events)
    assert ids(config) == []


def test_the_answers_to_history_may_go_to_a_topic_of_their_own_and_what_is_refused_is_a_dead_letter(
    tmp_path: Path,
) -> None:
    config = settings(tmp_path, more=EARLIEST + 'backfill_outputs = "then"\n')
    fill(config, 0, 30)
    client = wiring.client(config)
    client.append("events", [Output("", b"k", b"{", 2000)])
    client.close()
    run(config)
    assert [json.loads(record.value or b"")["id"] for record in all_of(config, "then")] == [
        str(i) for i in range(30)
    ]
    assert ids(config) == []
    assert len(all_of(config, "events-dead-letters")) == 1


def test_nothing_is_asked_about_history(tmp_path: Path) -> None:
    more = EARLIEST + 'queries = "asked"\n[pipeline.p.query]\nstrategy = "random"\nbudget = 0.5\n'
    config = settings(tmp_path, more=more)
    fill(config, 0, 60)
    run(config)
    assert all_of(config, "asked") == []
    fill(config, 60, 120)
    run(config)
    asked = {json.loads(record.value or b"")["event"] for record in all_of(config, "asked")}
    assert asked
    assert all(int(event) >= 60 for event in asked)


def test_a_shard_that_has_begun_does_not_begin_again(tmp_path: Path) -> None:
    config = settings(tmp_path)
    fill(config, 0, 20)
    run(config)
    later = settings(tmp_path, more=EARLIEST)
    fill(later, 20, 40)
    run(later)
    assert ids(later) == list(range(40))


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ('backfill = "lately"\n', "pipeline.p.backfill"),
        ("backfill = { other = 1 }\n", "pipeline.p.backfill.other"),
    ],
)
def test_a_beginning_that_makes_no_sense_is_refused(tmp_path: Path, more: str, key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        settings(tmp_path, more=more)
    assert refused.value.key == key
