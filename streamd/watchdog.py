"""Is this process alive? A stuck engine cannot say so itself: it is asked from outside, and ended if it is stuck.

An engine is stuck when its `last_progress` has not changed for `stall` seconds: an idle one renews it, so records
wait, or the engine shows nothing at all. Shards that are paused wait for the operator, not for a restart; they do
not count. The clock is monotonic and starts when a value is first seen, so neither a suspended machine nor a clock
that is set makes a live engine look dead.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from streamd.errors import EXIT_BUG
from streamd.views import EngineView

log = logging.getLogger(__name__)

LOOKS = 10  # per `stall`


class _Seen(NamedTuple):
    progress: float
    since: float


class Liveness:
    """What was seen of the engines' progress. `look` may be called by several threads.

    stall: seconds. failure: what ended an engine's thread, if something did.
    """

    def __init__(
        self,
        stall: float,
        views: Callable[[], Sequence[EngineView]],
        failure: Callable[[], BaseException | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stall = stall
        self._views = views
        self._failure = failure
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._lock = threading.Lock()

    def look(self) -> str:
        """Why the process is not alive; empty if it is."""
        if (failure := self._failure()) is not None:
            return f"an engine ended: {failure}"
        return self.stuck()

    def stuck(self) -> str:
        """Which engine is stuck; empty if none is."""
        with self._lock:
            now = self._clock()
            stuck = [engine.pipeline for engine in self._views() if self._still(engine, now) > self.stall]
        return f"{', '.join(stuck)}: no progress for {self.stall:g} s while records wait" if stuck else ""

    def _still(self, engine: EngineView, now: float) -> float:
        """For how many seconds the engine has not moved."""
        seen = self._seen.get(engine.pipeline)
        if seen is None or seen.progress != engine.last_progress or waits_for_operator(engine):
            seen = self._seen[engine.pipeline] = _Seen(engine.last_progress, now)
        return now - seen.since


def waits_for_operator(engine: EngineView) -> bool:
    """Everything that waits, waits on shards that are paused."""
    paused = {shard.partition for shard in engine.shards if shard.phase == "paused"}
    waiting = {lag.partition for lag in engine.lag if lag.records}
    return bool(waiting) and waiting <= paused


class Watchdog:
    """A thread that ends the process, exit 70, when an engine is stuck. What was committed is safe."""

    def __init__(self, stall: float, stuck: Callable[[], str], end: Callable[[int], None] = os._exit) -> None:
        self._pause = stall / LOOKS
        self._stuck = stuck
        self._end = end
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._pause):
            if reason := self._stuck():
                log.critical("watchdog ends the process", extra={"reason": reason, "exit": EXIT_BUG})
                for handler in logging.getLogger().handlers:
                    handler.flush()
                self._end(EXIT_BUG)
                return
