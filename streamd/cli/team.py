"""`streamd run --workers N`: N worker processes of one group on this machine, and somebody who looks after them.

Worker i is called `<worker.name>-<i>` and listens on `http.port` plus i. One that ends with a code that a restart
may mend (70, 75, a signal) is started again, later each time it fails soon; one that ends with 65 or 78 needs a
person: the others are drained and the code is passed on. More workers on other machines join by themselves.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from msgspec.structs import replace

from streamd.config import Config, SqliteLog
from streamd.errors import EXIT_CONFIG, EXIT_OK, EXIT_STATE, EXIT_TRY_AGAIN, ConfigError
from streamd.operating.choices import Choices

log = logging.getLogger("streamd")

HOPELESS = (EXIT_STATE, EXIT_CONFIG)
SOON = 30.0  # seconds: an end before is a failure to start, and the next start waits longer
WAIT = (0.5, 30.0)  # seconds before the first such start, and at most
LOOK = 0.1
GRACE = 5.0  # seconds beyond `worker.drain` until a worker that does not end is killed


def member(config: Config, index: int) -> Config:
    """The configuration of worker `index`."""
    name = f"{config.worker.name.removesuffix('-0')}-{index}"
    port = config.http.port + index if config.http.port else 0
    return replace(config, worker=replace(config.worker, name=name), http=replace(config.http, port=port))


def follow() -> None:
    """In a worker: drain when whoever looks after it is gone. Its successor starts workers of the same names."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="follow", daemon=True).start()


class Worker:
    """One process, started again and again."""

    def __init__(self, index: int, command: list[str]) -> None:
        self.index = index
        self.done: int | None = None  # the exit code it ended with for good
        self._command = [*command, "--index", str(index)]
        self._wait = WAIT[0]
        self._start_at = 0.0
        self._began = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def look(self) -> None:
        """Start it if it is time; take note of its end."""
        if self.done is not None:
            return
        if self._process is None:
            if time.monotonic() >= self._start_at:
                self._began = time.monotonic()
                self._process = subprocess.Popen(self._command)
            return
        code = self._process.poll()
        if code is None:
            return
        self._process = None
        if code == EXIT_OK or code in HOPELESS:
            self.done = code
            return
        lived = time.monotonic() - self._began
        self._wait = WAIT[0] if lived > SOON else min(2 * self._wait, WAIT[1])
        self._start_at = time.monotonic() + self._wait
        facts = {"worker": self.index, "exit": code, "again_in": self._wait}
        log.warning("worker ended", extra={"facts": facts})

    def signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def end(self, deadline: float) -> int:
        """Wait for its end, kill it after the deadline. Returns its exit code."""
        if self._process is not None:
            try:
                self.done = self._process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                self.done = EXIT_TRY_AGAIN
        return self.done or EXIT_OK


def run(config: Config, file: Path, count: int, until_idle: bool, choices: Choices) -> int:
    """Look after `count` workers until a signal, or until all are done. Returns the exit code."""
    if isinstance(config.log, SqliteLog):
        raise ConfigError("log.kind", "the embedded log has one worker; --workers needs Kafka")
    command = [sys.executable, "-m", "streamd.cli", "run", "--config", str(file), *choices.options()]
    workers = [Worker(i, command + ["--until-idle"] * until_idle) for i in range(count)]
    asked: list[int] = []
    turn = threading.Event()

    def on_signal(number: int, _: object) -> None:
        asked.append(number)
        turn.set()

    def reload(number: int, _: object) -> None:
        for worker in workers:
            worker.signal(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, on_signal)
    signal.signal(signal.SIGHUP, reload)
    while not asked and not _over(workers):
        for worker in workers:
            worker.look()
        turn.wait(LOOK)
    return _end(workers, asked[0] if asked else signal.SIGTERM, config.worker.drain + GRACE)


def _over(workers: list[Worker]) -> bool:
    return any(w.done in HOPELESS for w in workers) or all(w.done is not None for w in workers)


def _end(workers: list[Worker], number: int, patience: float) -> int:
    """Drain them all. Returns the gravest exit code: that of a refusal before that of a failure."""
    for worker in workers:
        worker.signal(number)
    deadline = time.monotonic() + patience
    codes = [worker.end(deadline) for worker in workers]
    worst = max(codes, key=lambda code: (code in HOPELESS, code != EXIT_OK))
    return worst if worst >= 0 else EXIT_TRY_AGAIN
