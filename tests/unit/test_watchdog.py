"""When a process counts as alive, and what ends it."""

import threading

from engine_views import ENGINE, SHARD
from msgspec.structs import replace

from streamd.errors import EXIT_BUG, StateError
from streamd.views import EngineView, LagView
from streamd.watchdog import Liveness, Watchdog

STALL = 120.0


class Scene:
    """Engines and a clock that the test moves."""

    def __init__(self, *engines: EngineView) -> None:
        self.engines = engines
        self.now = 1000.0
        self.failure: BaseException | None = None
        self.liveness = Liveness(STALL, lambda: self.engines, lambda: self.failure, lambda: self.now)

    def after(self, seconds: float) -> str:
        self.now += seconds
        return self.liveness.look()


def test_an_engine_that_moves_is_alive() -> None:
    scene = Scene(ENGINE)
    assert scene.after(0) == ""
    for step in range(5):
        scene.engines = (replace(ENGINE, last_progress=ENGINE.last_progress + step + 1),)
        assert scene.after(STALL) == ""


def test_an_engine_that_does_not_move_is_dead_after_the_limit() -> None:
    scene = Scene(ENGINE, replace(ENGINE, pipeline="other", last_progress=1.0))
    assert scene.after(0) == ""
    assert scene.after(STALL) == ""
    scene.engines = (scene.engines[0], replace(scene.engines[1], last_progress=2.0))
    assert scene.after(1) == "adult: no progress for 120 s while records wait"


def test_a_clock_that_jumps_kills_nobody() -> None:
    # given an engine whose last progress was years ago by the wall clock
    scene = Scene(replace(ENGINE, last_progress=0.0))
    # when it is first seen, then it has its full time
    assert scene.after(0) == ""
    assert scene.after(STALL) == ""


def test_an_engine_that_shows_no_lag_but_nothing_else_either_is_dead() -> None:
    scene = Scene(replace(ENGINE, lag=()))
    scene.after(0)
    assert "no progress" in scene.after(STALL + 1)


def test_records_that_wait_on_a_paused_shard_do_not_count() -> None:
    paused = replace(ENGINE, shards=(replace(SHARD, phase="paused"), replace(SHARD, partition=2)))
    scene = Scene(paused)
    scene.after(0)
    assert scene.after(STALL + 1) == ""
    # but those on another partition do
    scene.engines = (replace(paused, lag=(*ENGINE.lag, LagView("people", 2, 1, 0.0))),)
    scene.after(0)
    assert "no progress" in scene.after(STALL + 1)


def test_a_dead_engine_is_told_with_its_reason() -> None:
    scene = Scene(ENGINE)
    scene.failure = StateError("the journal is damaged")
    assert scene.after(0) == "an engine ended: the journal is damaged"
    assert scene.liveness.stuck() == ""  # the main thread ends the process, with the failure's exit code


def test_the_watchdog_ends_the_process_once() -> None:
    ended: list[int] = []
    done = threading.Event()

    def end(code: int) -> None:
        ended.append(code)
        done.set()

    watchdog = Watchdog(0.01, lambda: "stuck", end)
    watchdog.start()
    assert done.wait(10)
    watchdog.stop()
    assert ended == [EXIT_BUG]


def test_the_watchdog_stops_when_told() -> None:
    watchdog = Watchdog(1000.0, lambda: "stuck", lambda code: None)
    watchdog.start()
    watchdog.stop()
