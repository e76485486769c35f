"""Questions to an engine that runs: answered by the live model, between two batches, without a trace."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from streamd import config as configuration
from streamd import wiring
from streamd.config import Config
from streamd.engine import Engine
from streamd.errors import BadRecord, Elsewhere, NotFound, Transient
from streamd.ports import Output, murmur2
from streamd.questions import ROOM, Question
from streamd.sight import Sight

SETTINGS = """
[log]
path = "log.db"
synchronous = "normal"
partitions = {partitions}
[epoch]
interval = "5ms"
[pipeline.p]
task = "classify"
events = "events"
learner = {{ kind = "linear" }}
"""


def settings(folder: Path, partitions: int = 1) -> Config:
    return configuration.resolve(configuration.parse(SETTINGS.format(partitions=partitions)), folder)


def fill(config: Config, first: int, last: int) -> None:
    client = wiring.client(config)
    client.create("events", config.log.partitions)
    for i in range(first, last):
        event = {
            "id": str(i),
            "features": {"x": (i * 37 % 100) / 10},
            "label": "hi" if i * 37 % 100 > 50 else "lo",
        }
        client.append("events", [Output("", b"%d" % i, json.dumps(event).encode(), 1000 + i)])
    client.close()


def written(config: Config) -> list[bytes | None]:
    client = wiring.client(config)
    found = [record.value for record in client.read("events-predictions", 0, 0, 10**6)]
    client.close()
    return found


class Running:
    def __init__(self, config: Config) -> None:
        self.sight = Sight("p", "classify", "", "events", "events-predictions")
        self._config = config
        self._made = threading.Event()
        self.engine: Engine
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        assert self._made.wait(30)

    def _run(self) -> None:
        self.engine = wiring.engine(self._config, "p", self.sight)
        self._made.set()
        self.engine.run()

    def wait_idle(self) -> None:
        tick = threading.Event()
        for _ in range(3000):
            if self.sight.idle:
                return
            tick.wait(0.01)
        raise AssertionError("not idle")

    def ask(self, kind: str, body: Any, partition: int | None = None, key: bytes | None = None) -> Any:
        return json.loads(self.engine.ask(Question(kind, json.dumps(body).encode(), partition, key)).result(30))


@contextmanager
def running(config: Config) -> Iterator[Running]:
    it = Running(config)
    try:
        yield it
    finally:
        it.engine.stop()
        it.thread.join(30)
        assert not it.thread.is_alive()


def drained(config: Config) -> str:
    """The digest of the state, after everything that waits was taken."""
    with running(config) as it:
        it.wait_idle()
    return it.sight.view.shards[0].digest


def test_an_answer_is_the_live_models_and_leaves_no_trace(tmp_path: Path) -> None:
    asked, quiet = settings(tmp_path / "asked"), settings(tmp_path / "quiet")
    for config in (asked, quiet):
        (tmp_path / Path(config.log.path).parent.name).mkdir()
        fill(config, 0, 50)
    with running(asked) as it:
        it.wait_idle()
        before = it.ask("predict", {"features": {"x": 9.0, "unseen": "town"}, "label": "lo"})
        fill(asked, 50, 300)
        during = [it.ask("explain", {"id": "q", "features": {"x": i / 10}}) for i in range(20)]
        it.wait_idle()
        after = it.ask("predict", {"features": {"x": 9.0, "unseen": "town"}})
    fill(quiet, 50, 300)

    assert before["label"] == after["label"] == "hi"
    assert after["p"]["hi"] > before["p"]["hi"]
    assert {answer["id"] for answer in during} == {"q"}
    assert drained(asked) == drained(quiet)
    assert written(asked) == written(quiet)


def test_a_question_finds_its_shard_or_is_told_whose_it_is(tmp_path: Path) -> None:
    config = settings(tmp_path, partitions=3)
    fill(config, 0, 30)
    with running(config) as it:
        it.wait_idle()
        body = {"features": {"x": 9.0}}
        answers = [it.ask("predict", body, partition=p)["p"] for p in range(3)]
        assert it.ask("predict", body, key=b"7")["p"] == answers[murmur2(b"7") % 3]
        assert it.ask("predict", body)["p"] == answers[0]
        with pytest.raises(Elsewhere, match="partition 3"):
            it.ask("predict", body, partition=3)


def test_questions_that_do_not_fit(tmp_path: Path) -> None:
    config = settings(tmp_path)
    fill(config, 0, 5)
    with running(config) as it:
        it.wait_idle()
        for body in ({}, {"text": "x"}, {"features": {"x": "not a number"}}, [], {"features": {"x": 1}, "ts": -1}):
            with pytest.raises(BadRecord):
                it.ask("predict", body)
        with pytest.raises(NotFound):
            it.ask("guess", {"features": {}})
        assert it.sight.view.shards[0].counts["dead_letters"] == 0


def test_a_line_that_is_full_and_an_engine_that_ends_refuse(tmp_path: Path) -> None:
    config = settings(tmp_path)
    fill(config, 0, 5)
    engine = None

    def make() -> None:
        nonlocal engine
        engine = wiring.engine(config, "p", Sight("p", "classify", "", "events", "events-predictions"))
        engine.stop()
        futures = [engine.ask(Question("predict")) for _ in range(ROOM)]
        with pytest.raises(Transient):
            engine.ask(Question("predict"))
        engine.run()
        for future in futures:
            with pytest.raises(Transient):
                future.result(0)

    make()
