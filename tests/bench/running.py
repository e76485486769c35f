"""Logs filled with real events, and an engine run on them to the end of its work."""

import gc
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from streamd import config as configuration
from streamd import wiring
from streamd.config import Config
from streamd.demo import sample
from streamd.ports import Output
from streamd.questions import Question
from streamd.sight import Sight
from streamd.views import EngineView
from tests.bench.rounds import Timed

PIPELINE = "bench"
EVENTS, LABELS, PREDICTIONS = "events", "labels", "events-predictions"
LATE = 5_000  # events between an event and its label record, at most
PATIENCE = 0.005  # seconds between two looks at the engine


class Sent(NamedTuple):
    """A record to be filled in."""

    topic: str
    key: bytes
    value: bytes


def config(folder: Path, labels: bool, more: str = "") -> Config:
    """A `linear` classifier on the embedded log. labels: as records of their own. more: further TOML lines."""
    topic = f'labels = "{LABELS}"' if labels else ""
    text = f"""
    [log]
    path = "log.db"
    [http]
    enabled = false
    [pipeline.{PIPELINE}]
    task = "classify"
    events = "{EVENTS}"
    {topic}
    learner = {{kind = "linear"}}
    {more}
    """
    return configuration.resolve(configuration.parse(text), folder)


def adult(events: int, labels: bool) -> Iterator[Sent]:
    """UCI Adult, over again with new ids if need be; labels in the events, or LATE events later."""
    waiting: list[Sent] = []
    for number, row in enumerate(islice(cycle(sample.people()), events)):
        row = sample.Row(str(number), row.label, row.features)
        yield Sent(EVENTS, row.key, row.event if labels else row.event_with_label)
        if labels:
            waiting.append(Sent(LABELS, row.key, row.label_record))
        if len(waiting) == LATE:
            yield from waiting
            waiting.clear()
    yield from waiting


def fill(config: Config, records: Iterable[Sent]) -> None:
    """Append to the log, in this order over all topics."""
    now = int(time.time() * 1000)
    with closing(wiring.client(config)) as client:
        for topic in config.pipeline[PIPELINE].inputs:
            client.create(topic, 1)
        topic, part = "", list[Output]()
        for sent in records:
            if part and (sent.topic != topic or len(part) == 10_000):
                client.append(topic, part)
                part = []
            topic = sent.topic
            part.append(Output(topic, sent.key, sent.value, now))
        if part:
            client.append(topic, part)


def file(config: Config) -> Path:
    """The log's file."""
    assert isinstance(config.log, configuration.SqliteLog)
    return Path(config.log.path)


def copied(config: Config, folder: Path) -> Config:
    """The same log in a new file in another folder, so that each run starts from the same one."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in file(config).parent.glob("log.db*"):
        if path.suffix != ".lock":
            shutil.copy(path, folder / path.name)
    return _kept_in(config, folder)


def _kept_in(config: Config, folder: Path) -> Config:
    path = str(folder / "log.db")
    log = msgspec.structs.replace(config.log, path=path)
    return msgspec.structs.replace(config, log=log, store=msgspec.structs.replace(config.store, path=path))


class Running:
    """An engine at work in its thread, its kernels compiled before the watch starts."""

    def __init__(self, config: Config) -> None:
        self._sight = Sight(PIPELINE, "classify", "", EVENTS, PREDICTIONS)
        self._ready = threading.Event()
        self._go = threading.Event()
        self._failure: BaseException | None = None
        self._config = config
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait()
        self.began, self._cpu = time.time(), time.process_time()
        self._go.set()

    def _run(self) -> None:
        try:
            self._engine = wiring.engine(self._config, PIPELINE, self._sight)
            gc.freeze()  # as the daemon does
            self._ready.set()
            self._go.wait()
            self._engine.run()
        except BaseException as failure:  # noqa: BLE001  raised again in the thread that waits
            self._failure = failure
            self._ready.set()

    @property
    def view(self) -> EngineView:
        return self._sight.view

    def wait(self, events: int) -> Timed:
        """Until so many events were applied and the engine is idle; the time to its last commit."""
        while not (self._sight.idle and self.applied() >= events):
            if self._failure is not None:
                raise self._failure
            time.sleep(PATIENCE)
        return Timed(self.view.last_epoch - self.began, time.process_time() - self._cpu)

    def ask(self, question: Question) -> "Future[bytes]":
        """Ask the live model."""
        return self._engine.ask(question)

    def applied(self) -> int:
        return sum(shard.counts.get("events", 0) for shard in self.view.shards)

    def stop(self) -> None:
        self._engine.stop()
        self._thread.join()
        if self._failure is not None:
            raise self._failure


@contextmanager
def running(config: Config) -> Iterator[Running]:
    """Run the engine of a configuration."""
    engine = Running(config)
    try:
        yield engine
    finally:
        engine.stop()
