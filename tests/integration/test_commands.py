"""Commands of the operator on a real engine: carried out between two batches, journalled, replayed, or refused."""

import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from streamd import config as configuration
from streamd import snapshot, wiring
from streamd.config import Config
from streamd.engine import Engine
from streamd.errors import Poisoned, Transient
from streamd.operating.mailbox import Command, Mailbox, Outcome
from streamd.ports import Log, Output, Record, Store
from streamd.records import DEAD_LETTER_HEADER
from streamd.sight import Sight
from tests.integration.test_engine import FaultyLog, fill, predictions, run, settings

RIVER = """
[log]
path = "log.db"
[snapshot]
interval = "1h"
[pipeline.p]
task = "classify"
events = "events"
labels = "labels"
learner = { kind = "river", model = "river.linear_model.LogisticRegression" }
"""


def skip(topic: str, offset: int, partition: int | None = 0) -> Command:
    return Command("skip", json.dumps({"topic": topic, "offset": offset}).encode(), partition)


def dead(config: Config) -> list[Record]:
    client = wiring.client(config)
    topic = config.pipeline["p"].dead_letters_topic
    found = list(client.read(topic, 0, 0, 1000)) if topic in client.topics() else []
    client.close()
    return found


@contextmanager
def running(config: Config, log: Log | None = None, store: Store | None = None) -> Iterator[Engine]:
    """An engine in a thread, once it is idle; drained at the end."""
    sight = Sight("p", "classify", "", "events", "events-predictions")
    made: Future[Engine] = Future()

    def work() -> None:
        engine = wiring.engine(config, "p", sight, log, store)
        made.set_result(engine)
        engine.run()

    thread = threading.Thread(target=work)
    thread.start()
    engine = made.result(30)
    pause = threading.Event()
    for _ in range(6000):
        if sight.idle:
            break
        pause.wait(0.005)
    try:
        yield engine
    finally:
        engine.stop()
        thread.join()


def send(engine: Engine, command: Command) -> Sequence[Outcome]:
    return engine.command(command).result(30)


def test_a_skipped_record_is_a_dead_letter_when_its_turn_comes_and_the_journal_knows_it(tmp_path: Path) -> None:
    config = settings(tmp_path)
    fill(config, 0, 20)
    with running(config) as engine:
        (outcome,) = send(engine, skip("events", 25))
        assert outcome.done
        assert outcome.epoch > 0
    fill(config, 20, 30)  # while it is down: what was asked is in the journal, or in the snapshot
    run(config)
    assert [str(i) for i in range(30) if i != 25] == [id for id, _ in predictions(config)]
    (letter,) = dead(config)
    about = json.loads(dict(letter.headers)[DEAD_LETTER_HEADER])
    assert (about["topic"], about["offset"], about["reason"]) == ("events", 25, "skipped by the operator")


def test_a_refused_command_changes_nothing_and_says_why(tmp_path: Path) -> None:
    config = settings(tmp_path)
    fill(config, 0, 20)
    with running(config) as engine:
        before = wiring.client(config).ends("events-predictions")
        outcomes = [
            *send(engine, skip("elsewhere", 30)),
            *send(engine, skip("events", 3)),
            *send(engine, Command("skip", b"{}")),
            *send(engine, Command("dance")),
            *send(engine, skip("events", 30, partition=7)),
        ]
        assert not any(outcome.done for outcome in outcomes)
        reasons = [outcome.reason for outcome in outcomes]
        assert "is not an input" in reasons[0]
        assert "processed up to offset 20" in reasons[1]
        assert "expected" in reasons[2]
        assert "no command dance" in reasons[3]
        assert "not with this worker" in reasons[4]
        assert outcomes[4].elsewhere
        assert wiring.client(config).ends("events-predictions") == before


def test_a_command_in_a_void_epoch_is_reported_as_not_done(tmp_path: Path) -> None:
    config = settings(tmp_path)
    fill(config, 0, 20)
    failing = threading.Event()

    def fail(n: int) -> None:
        if failing.is_set():
            failing.clear()
            raise Transient("the log is away")

    log = FaultyLog(wiring.log(config, "p"))
    log.before_commit = fail
    with running(config, log) as engine:  # type: ignore[arg-type]
        failing.set()
        (outcome,) = send(engine, skip("events", 30))
        assert not outcome.done
        assert "void" in outcome.reason
        log.after_commit = fail  # committed, but nobody heard of it
        log.before_commit = lambda n: None
        failing.set()
        (outcome,) = send(engine, skip("events", 30))
        assert outcome.done


def state(config: Config) -> str:
    """The digest of the newest snapshot's state."""
    store = wiring.store(config)
    newest = store.list("streamd.p.0")[0]
    found = snapshot.read_manifest(store.load("streamd.p.0", newest.sequence)[0]).digest
    store.close()
    return found


def test_a_reload_is_in_the_journal_and_a_restart_with_another_file_is_one(tmp_path: Path) -> None:
    """Two folders, one told of the change by a reload, the other by a restart; and one that lost its snapshots, so
    that all is replayed."""
    before, after = {}, {}
    for name in ("reloaded", "restarted", "replayed"):
        folder = tmp_path / name
        folder.mkdir()
        before[name] = settings(folder, eta=0.1)
        after[name] = settings(folder, eta=0.9, more="[pipeline.p.pending]\nmax_events = 7\n")
        fill(before[name], 0, 40)
    for name in ("reloaded", "replayed"):
        with running(before[name]) as engine:
            engine.reload(partial(wiring.setup, after[name], "p")).result(30)
    run(before["restarted"])
    store = wiring.store(after["replayed"])
    for info in store.list("streamd.p.0"):
        store.delete("streamd.p.0", info.sequence)
    store.close()
    told = {}
    for name, config in after.items():
        fill(config, 40, 80)
        view = run(config)
        assert view.shards[0].commands == {"reload": 1}, name
        told[name] = predictions(config), state(config)
    assert told["reloaded"] == told["restarted"] == told["replayed"]
    unchanged = tmp_path / "unchanged"
    unchanged.mkdir()
    same = settings(unchanged, eta=0.1)
    fill(same, 0, 80)
    run(same)
    assert predictions(same)[:40] == told["reloaded"][0][:40]
    assert predictions(same) != told["reloaded"][0]


def test_a_reload_whose_epoch_is_void_is_done_again(tmp_path: Path) -> None:
    config = settings(tmp_path)
    fill(config, 0, 20)
    failures = [Transient("the log is away")]

    def fail(n: int) -> None:
        if engine_told.is_set() and failures:
            raise failures.pop()

    engine_told = threading.Event()
    log = FaultyLog(wiring.log(config, "p"))
    log.before_commit = fail
    with running(config, log) as engine:  # type: ignore[arg-type]
        engine_told.set()
        engine.reload(partial(wiring.setup, settings(tmp_path, eta=0.5), "p")).result(30)
        assert not failures
    assert run(settings(tmp_path, eta=0.5)).shards[0].commands == {"reload": 1}


def test_a_full_or_closed_mailbox_takes_nothing() -> None:
    mailbox = Mailbox(room=1)
    waiting = mailbox.post(Command("a"))
    with pytest.raises(Transient, match="too many"):
        mailbox.post(Command("b"))
    mailbox.close()
    with pytest.raises(Transient, match="nothing was changed"):
        waiting.result(0)
    with pytest.raises(Transient, match="stopping"):
        mailbox.post(Command("c"))


def test_a_record_that_ends_the_process_is_named_and_can_be_skipped_while_it_is_down(tmp_path: Path) -> None:
    config = configuration.resolve(configuration.parse(RIVER), tmp_path)
    client = wiring.client(config)
    for topic in ("events", "labels"):
        client.create(topic, 1)
    values = [{"x": 1.0}, {"x": 2.0}, {"x": 0.5, "word": "poison"}, {"x": 3.0}]
    events = [
        Output("", b"k", json.dumps({"id": str(i), "features": x, "label": i % 2 == 0}).encode(), 1000 + i)
        for i, x in enumerate(values)
    ]
    client.append("events", events)
    for _ in range(2):  # it does so again and again
        with pytest.raises(Poisoned, match=r"topic events partition 0 offset 2 .*`streamd skip events 0 2`"):
            run(config)
    (outcome,) = wiring.at_rest(config, "p").carry_out(skip("events", 2), [0])
    assert outcome.done
    run(config)
    assert [id for id, _ in predictions(config)] == ["0", "1", "3"]
    assert [letter.value for letter in dead(config)] == [events[2].value]
