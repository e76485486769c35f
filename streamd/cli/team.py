"""`streamd run --workers N`: N worker processes of one group on this machine, and somebody who looks after them.

Who looks after them imports, compiles and loads all that a worker of this configuration needs, opens nothing, and
forks: a worker that is started again begins with everything there. It is the program that was on disk when the
first one started, and reads the configuration file itself, at each start. Worker i is called `<worker.name>-<i>`
and listens on `http.port` plus i. One that ends with a code that a restart may mend (70, 75, a signal) is started
again; one that ends with 65 or 78 needs a person: the others are drained and the code is passed on. More workers
on other machines join by themselves.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial

from msgspec.structs import replace

from streamd import wiring
from streamd.cli.forks import HEARD, fork, hold_back
from streamd.config import Config, SqliteLog
from streamd.errors import EXIT_CONFIG, EXIT_OK, EXIT_STATE, EXIT_TRY_AGAIN, ConfigError

log = logging.getLogger("streamd")

HOPELESS = (EXIT_STATE, EXIT_CONFIG)
SOON = 30.0  # seconds: a life that is shorter may be one of many
WAIT = (0.5, 30.0)  # seconds before the second start after such lives, and at most
LOOK = 0.1  # seconds between two looks at who looks after a worker
GRACE = 5.0  # seconds beyond `worker.drain` until a worker that does not end is killed


def member(config: Config, index: int) -> Config:
    """The configuration of worker `index`."""
    name = f"{config.worker.name.removesuffix('-0')}-{index}"
    port = config.http.port + index if config.http.port else 0
    return replace(config, worker=replace(config.worker, name=name), http=replace(config.http, port=port))


def follow(parent: int) -> None:
    """In a worker: drain when whoever looks after it is gone. Its successor starts workers of the same names.

    parent: its process id, as known before it could be gone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="follow", daemon=True).start()


class Patience:
    """When a worker that has ended is started again: at once, unless it ends again and again.

    What ends a worker once (a kill, the kernel short of memory, a bug that one moment brought out) is over when it
    has ended, and every second until the next start is a second without predictions. So the first restart is
    immediate, whatever life it follows, one that was killed right after its start too. But what ends a worker
    that was just restarted may be there to stay: a broker that is away, a record that no start survives. So each
    further restart waits, 0.5 s and twice as long each time, up to 30 s, until a life longer than SOON proves
    that it can live: then the next one is immediate again. A loop of crashes so has one restart at once, or, if
    it takes longer than SOON each time, fewer than two a minute.
    """

    def __init__(self) -> None:
        self._next = 0.0

    def wait(self, lived: float) -> float:
        """Seconds until the next start. lived: for how long the last one went well."""
        if lived > SOON:
            self._next = 0.0
        wait, self._next = self._next, min(max(2 * self._next, WAIT[0]), WAIT[1])
        return wait


class Worker:
    """One process, started again and again. work: what it does, to an exit code."""

    def __init__(self, index: int, work: Callable[[], int]) -> None:
        self.done: int | None = None  # the exit code it ended with for good
        self.start_at = 0.0
        """When it is to be started, if it does not run; of the monotonic clock."""
        self._index = index
        self._work = work
        self._patience = Patience()
        self._began = 0.0
        self._pid = 0

    @property
    def runs(self) -> bool:
        return self._pid != 0

    @property
    def waits(self) -> bool:
        """It is to be started."""
        return self._pid == 0 and self.done is None

    def look(self) -> None:
        """Take note of its end; start it if it is time."""
        code = self.ended()
        if code is not None:
            if code == EXIT_OK or code in HOPELESS:
                self.done = code
                return
            again_in = self._patience.wait(time.monotonic() - self._began)
            self.start_at = time.monotonic() + again_in
            facts = {"worker": self._index, "exit": code, "again_in": again_in}
            log.warning("worker ended", extra={"facts": facts})
        if self.waits and time.monotonic() >= self.start_at:
            self._began = time.monotonic()
            self._pid = fork(self._work)
            log.info("worker started", extra={"facts": {"worker": self._index, "pid": self._pid}})

    def ended(self) -> int | None:
        """The exit code it has ended with since it was asked last."""
        if not self._pid:
            return None
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if not pid:
            return None
        self._pid = 0
        return os.waitstatus_to_exitcode(status)

    def signal(self, number: int) -> None:
        if self._pid:
            os.kill(self._pid, number)

    def kill(self) -> None:
        """End it now, if it runs still."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid, self.done = 0, EXIT_TRY_AGAIN


def run(config: Config, count: int, work: Callable[[int, int], int]) -> int:
    """Look after `count` workers until a signal, or until all are done. Returns the exit code.

    work: what a worker does, given its number and this process's id. Raises ConfigError.
    """
    if isinstance(config.log, SqliteLog):
        raise ConfigError("log.kind", "the embedded log has one worker; --workers needs Kafka")
    wiring.warm(config)
    hold_back()
    workers = [Worker(i, partial(work, i, os.getpid())) for i in range(count)]
    return _end(workers, _look_after(workers), config.worker.drain + GRACE)


def _look_after(workers: list[Worker]) -> int:
    """Until a signal that ends it, or until all are done. Returns the signal they are to have."""
    while True:
        for worker in workers:
            worker.look()
        if any(w.done in HOPELESS for w in workers) or all(w.done is not None for w in workers):
            return signal.SIGTERM
        heard = _hear(min((w.start_at for w in workers if w.waits), default=None))
        if heard == signal.SIGHUP:
            _tell(workers, heard)
        elif heard in HEARD:
            return heard


def _end(workers: list[Worker], number: int, patience: float) -> int:
    """Drain them all. Returns the gravest exit code: that of a refusal before that of a failure.

    A further signal is passed on, too: a second one ends a worker at once.
    """
    deadline = time.monotonic() + patience
    heard: int | None = number
    while any(worker.runs for worker in workers) and time.monotonic() < deadline:
        if heard in HEARD:
            _tell(workers, heard)
        heard = _hear(deadline)
        for worker in workers:
            if (code := worker.ended()) is not None:
                worker.done = code
    for worker in workers:
        worker.kill()
    codes = [worker.done or EXIT_OK for worker in workers]
    worst = max(codes, key=lambda code: (code in HOPELESS, code != EXIT_OK))
    return worst if worst >= 0 else EXIT_TRY_AGAIN


def _hear(until: float | None) -> int | None:
    """Wait for a signal, not beyond this moment of the monotonic clock. SIGCHLD says that some worker ended."""
    awaited = (*HEARD, signal.SIGCHLD)
    if until is None:
        return signal.sigwaitinfo(awaited).si_signo
    heard = signal.sigtimedwait(awaited, max(0.0, until - time.monotonic()))
    return None if heard is None else heard.si_signo


def _tell(workers: Iterable[Worker], number: int) -> None:
    for worker in workers:
        worker.signal(number)
