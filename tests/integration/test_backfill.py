"""Backfill: a new pipeline learns from history without answering it, then serves; once each, whatever fails."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from streamd import config as configuration
from streamd import snapshot, wiring
from streamd.cli.replay_verify import verify
from streamd.config import Config
from streamd.errors import ConfigError, StateError, Transient
from streamd.operating.choices import Choices
from streamd.operating.exported import pack
from streamd.operating.mailbox import Command
from streamd.ports import Output, Record
from streamd.restore import Restored, restore
from streamd.shard import Shard
from tests.integration import test_promote as shadowed
from tests.integration.engines import run_engine
from tests.integration.test_engine import FaultyLog, fill, predictions, run, settings
from tests.integration.test_promote import EMBEDDED
from tests.servers.fixtures import kafka_broker, valkey_url  # noqa: F401

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


# --- a changed pipeline under its old name

ANEW = Choices(on_changed_model="backfill")
CHANGED = ADAGRAD, SGD = 'optimizer = "adagrad"', 'optimizer = "sgd"'


def changing(folder: Path, learner: str, ports: str = EMBEDDED, events: str = "events", more: str = "") -> Config:
    text = f"""
group = "g{events}"
[epoch]
interval = "20ms"
max_records = 40
[snapshot]
interval = "20ms"
work = 1
[pipeline.p]
task = "classify"
events = "{events}"
labels = "{events}-labels"
learner = {{ kind = "linear", {learner} }}
{more}
{ports}"""
    return configuration.resolve(configuration.parse(text), folder)


def told(config: Config) -> list[tuple[int, str]]:
    """(id, model), in the order of the topic."""
    records = all_of(config, config.pipeline["p"].answers)
    return [(int(one["id"]), one["model"]) for one in (json.loads(record.value or b"") for record in records)]


def models(config: Config) -> str:
    return wiring.model(config.pipeline["p"])


def paused(config: Config) -> str:
    return (
        run_engine(config, until=lambda sight: "paused" in {s.phase for s in sight.view.shards}).shards[0].reason
    )


def a_changed_pipeline_goes_on_where_it_stood(folder: Path, ports: str, events: str) -> None:
    old, new = (changing(folder, learner, ports, events) for learner in CHANGED)
    shadowed.fill(old, 0, 100)
    run_engine(old)
    shadowed.fill(old, 100, 150)
    # without the operator's word it pauses, and says how to go on
    assert "--on-changed-model backfill" in paused(new)
    run_engine(new, choices=ANEW)
    shadowed.fill(old, 150, 200)
    run_engine(new)
    # no event is predicted twice, none left out: the former's are the former's
    assert told(new) == [(i, models(old)) for i in range(100)] + [(i, models(new)) for i in range(100, 200)]
    # every label is learned once, as the new pipeline would have learned it from the start
    shard = restored(new)
    assert shard.task.show().counts["learned"] == 197
    assert shard.commands == {"backfill": 1}
    if ports == EMBEDDED:  # Kafka does not keep the order between topics
        (folder / "fresh").mkdir()
        fresh = changing(folder / "fresh", SGD)
        shadowed.fill(fresh, 0, 200)
        run_engine(fresh)
        assert learned(shard) == learned(restored(fresh))
    # what the new one decided is verified; the former state is kept, and takes its place again with its file
    (verified,) = verify(new, "p", lambda done: None)
    assert [(one.problem, one.outputs) for one in verified.partitions] == [("", 100)]
    store = wiring.store(new)
    kept = [info.sequence for info in store.list(f"g{events}.p.0")]
    raw, chunks = store.load(f"g{events}.p.0", kept[-1])
    former = pack(raw, chunks)
    store.close()
    assert "learned under another configuration" in paused(old)
    (outcome,) = wiring.at_rest(old, "p").carry_out(Command("import", former), [0])
    assert outcome.done
    shadowed.fill(old, 200, 220)
    run_engine(old)
    assert told(old)[200:] == [(i, models(old)) for i in range(200, 220)]
    assert restored(old).task.show().counts["events"] == 120


def test_a_changed_pipeline_goes_on_where_it_stood(tmp_path: Path) -> None:
    a_changed_pipeline_goes_on_where_it_stood(tmp_path, EMBEDDED, "events")


@pytest.mark.kafka
@pytest.mark.redis
@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_a_changed_pipeline_on_kafka_and_redis(
    tmp_path: Path,
    kafka_broker: str,  # noqa: F811
    valkey_url: str,  # noqa: F811
    client: str,
) -> None:
    events = f"changed-{client[0]}-{os.getpid()}-{time.time_ns() % 10**9}"
    log = f'[log]\nkind = "kafka"\nclient = "{client}"\nbrokers = ["{kafka_broker}"]\n'
    store = f'[store]\nkind = "redis"\nurl = "{valkey_url}"\nprefix = "{events}"\n'
    a_changed_pipeline_goes_on_where_it_stood(tmp_path, log + store, events)


@pytest.mark.parametrize("snapshots", ["5ms", "1h"])
@pytest.mark.parametrize(("commit", "moment"), [(1, "before"), (1, "after"), (2, "after"), (4, "before")])
def test_a_crash_while_a_changed_pipeline_learns_goes_on_or_starts_over(
    tmp_path: Path, commit: int, moment: str, snapshots: str
) -> None:
    old, new = (changing(tmp_path, learner) for learner in CHANGED)
    new = replace(new, snapshot=replace(new.snapshot, interval=0.005 if snapshots == "5ms" else 3600.0))
    shadowed.fill(old, 0, 100)
    run_engine(old)
    shadowed.fill(old, 100, 150)

    def crash(number: int) -> None:
        if number == commit:
            raise StateError("a crash")

    log = FaultyLog(wiring.log(new, "p"))
    setattr(log, f"{moment}_commit", crash)
    with pytest.raises(StateError, match="a crash"):
        run_engine(new, log=log, choices=ANEW)  # type: ignore[arg-type]
    if (commit, moment) == (1, "before"):  # then nothing has changed: the former goes on, the changed one pauses
        assert "--on-changed-model" in paused(new)
        shadowed.fill(old, 150, 160)
        run_engine(old)
        left = 160
        shadowed.fill(old, 160, 180)
        run_engine(new, choices=ANEW)
    else:  # the new one has begun, and goes on without being told again; the former does not
        assert "learned under another configuration" in paused(old)
        left = 100
        shadowed.fill(new, 150, 180)
        run_engine(new)
    assert told(new) == [(i, models(old)) for i in range(left)] + [(i, models(new)) for i in range(left, 180)]
    shown = restored(new).task.show()
    assert (shown.counts["events"], shown.counts["learned"]) == (180, 177)


def test_what_a_changed_pipeline_refuses_of_history_is_no_second_dead_letter(tmp_path: Path) -> None:
    old, new = (changing(tmp_path, learner) for learner in CHANGED)
    shadowed.fill(old, 0, 20)
    with closing(wiring.client(old)) as client:
        client.append("events", [Output("", b"k", b"{", 2000)])
    run_engine(old)
    run_engine(new, choices=ANEW)
    assert len(all_of(new, "events-dead-letters")) == 1
    with closing(wiring.client(old)) as client:
        client.append("events", [Output("", b"k", b"[", 2000)])
    run_engine(new)
    assert len(all_of(new, "events-dead-letters")) == 2


def test_what_was_asked_and_spent_is_taken_over_by_a_changed_pipeline(tmp_path: Path) -> None:
    asks = 'queries = "asked"\n[pipeline.p.query]\nstrategy = "random"\nbudget = 0.2\ndeadline = "2h"\n'
    old, new = (changing(tmp_path, learner, more=asks) for learner in CHANGED)

    def fill(first: int, last: int) -> None:
        values = [{"id": f"{i}", "features": {"x": i % 7}} for i in range(first, last)]
        with closing(wiring.client(old)) as client:
            for topic in ("events", "events-labels"):
                client.create(topic, 1)
            client.append("events", [Output("", b"k", json.dumps(value).encode(), 1000) for value in values])

    def asked() -> list[str]:
        return [json.loads(record.value or b"")["event"] for record in all_of(old, "asked")]

    def answer(events: Sequence[str]) -> None:
        values = [{"id": event, "label": "ab"[int(event) % 2]} for event in events]
        with closing(wiring.client(old)) as client:
            client.append(
                "events-labels", [Output("", b"k", json.dumps(value).encode(), 1000) for value in values]
            )

    fill(0, 200)
    run_engine(old)
    first = asked()
    answer(first[:10])
    run_engine(old)
    run_engine(new, choices=ANEW)
    assert asked() == first
    answer(first[10:20])
    fill(200, 400)
    view = run_engine(new)
    # its queries are known by their answers, the budget is one, and each label is learned once
    querying = view.shards[0].querying
    assert querying is not None
    assert (querying.counts["answered"], querying.counts["unasked"]) == (20, 0)
    assert view.shards[0].counts["learned"] == 20
    assert len(asked()) == len(set(asked())) <= 400 * 0.2 + 10
    assert all(int(event) >= 200 for event in asked()[len(first) :])
