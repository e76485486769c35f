"""The engines of one process: a thread each, sharing nothing, so that one's trouble does not stop another."""

import gc
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from streamd.engine import Engine
from streamd.errors import NotFound, Transient
from streamd.operating.mailbox import Command, Outcome
from streamd.ports import Log
from streamd.questions import AGAIN, Question
from streamd.setup import Setup
from streamd.sight import Sight
from streamd.views import EngineView

YOUNG = 50_000  # new objects that bring on a collection: a few batches' own


class Part:
    """One engine, its thread, and what it died of."""

    def __init__(self, name: str, make: Callable[[Sight], Engine], sight: Sight) -> None:
        self.name = name
        self.sight = sight
        self.failure: BaseException | None = None
        self._make = make
        self._engine: Engine | None = None
        self._stopping = threading.Event()
        self._leaving = False
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def stop(self, leave: bool) -> None:
        self._leaving = leave
        self._stopping.set()
        if self._engine is not None:
            self._engine.stop(leave)

    def ask(self, question: Question) -> "Future[bytes]":
        """See `Engine.ask`."""
        if self._engine is None:
            raise Transient(f"pipeline {self.name} is starting", AGAIN)
        return self._engine.ask(question)

    def command(self, command: Command) -> "Future[tuple[Outcome, ...]]":
        """See `Engine.command`."""
        if self._engine is None:
            raise Transient(f"pipeline {self.name} is starting; nothing was changed", AGAIN)
        return self._engine.command(command)

    def reload(self, make: Callable[[Log], Setup]) -> "Future[None]":
        """See `Engine.reload`."""
        if self._engine is None:
            raise Transient(f"pipeline {self.name} is starting", AGAIN)
        return self._engine.reload(make)

    def _run(self) -> None:
        try:
            self._engine = self._make(self.sight)  # in its own thread: SQLite's connections belong to one
            gc.freeze()  # what is loaded by now stays; collections need not look through it again and again
            gc.set_threshold(YOUNG)  # what a batch makes goes with it, in no cycles
            if self._stopping.is_set():
                self._engine.stop(self._leaving)
            self._engine.run()
        except BaseException as failure:  # noqa: BLE001  handed over: the process ends with its exit code
            self.failure = failure


class Daemon:
    """All pipelines of one process."""

    def __init__(self, parts: Sequence[Part], drain: float) -> None:
        self._parts = parts
        self.drain = drain

    def start(self) -> None:
        for part in self._parts:
            part.thread.start()

    def stop(self, leave: bool = False) -> None:
        """Drain all engines within the deadline they share. Raises Transient if one does not make it.

        leave: give the seats in the groups up at once (scale-in), instead of keeping them for a restart.
        """
        for part in self._parts:
            part.stop(leave)
        deadline = time.monotonic() + self.drain
        for part in self._parts:
            part.thread.join(max(0.0, deadline - time.monotonic()))
            if part.thread.is_alive():
                raise Transient(f"pipeline {part.name} did not drain within {self.drain:g} s; nothing is lost")

    def failure(self) -> BaseException | None:
        """What the first failed engine died of."""
        return next((part.failure for part in self._parts if part.failure is not None), None)

    def idle(self) -> bool:
        """All logs are drained and all work is committed."""
        return all(part.sight.idle for part in self._parts)

    def ask(self, pipeline: str, question: Question) -> "Future[bytes]":
        """Ask a pipeline. Raises NotFound if there is none of that name, else see `Engine.ask`."""
        return self._part(pipeline).ask(question)

    def command(self, pipeline: str, command: Command) -> "Future[tuple[Outcome, ...]]":
        """Send a pipeline a command. Raises NotFound if there is none of that name, else see `Engine.command`."""
        return self._part(pipeline).command(command)

    def reload(self, pipeline: str, make: Callable[[Log], Setup]) -> "Future[None]":
        """Let a pipeline work otherwise. Raises NotFound if there is none of that name; see `Engine.reload`."""
        return self._part(pipeline).reload(make)

    def _part(self, pipeline: str) -> Part:
        for part in self._parts:
            if part.name == pipeline:
                return part
        raise NotFound(f"there is no pipeline {pipeline} here")

    def views(self) -> Sequence[EngineView]:
        return [part.sight.view for part in self._parts]
