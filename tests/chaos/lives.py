"""Workers as forked children that say what they see in a status file, and can die or stop at a named step.

Whoever forks them touches neither Kafka nor Redis with a library, so that forking stays safe.
"""

import faulthandler
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from connectors.redis_store import RedisStore
from streamd import wiring
from streamd.config import Config
from streamd.errors import EXIT_BUG, StreamdError
from streamd.sight import Sight
from tests.chaos.watched import Reach, WatchedLog, WatchedStore
from tests.chaos.world import World
from tests.servers.process import die_with_parent

PATIENCE = 90.0  # seconds a condition is waited for before the run is given up as stuck


class Plan(NamedTuple):
    """What a worker does to itself: this signal at the nth time it reaches this step."""

    step: str = ""
    nth: int = 0
    signal: int = signal.SIGKILL


class Life:
    """A worker process."""

    def __init__(self, worker: str, pid: int, status: Path) -> None:
        self.worker = worker
        self.pid = pid
        self._status = status
        self._code: int | None = None

    def seen(self) -> dict[str, Any]:
        """partitions: that run; paused: partition -> reason; lag: partition -> records that wait; steps: how
        often each was reached."""
        try:
            found: dict[str, Any] = json.loads(self._status.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {"partitions": [], "paused": {}, "idle": False, "lag": {}, "steps": {}}
        return found

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def ended(self) -> int | None:
        """The exit code, negative for a signal, or None while it lives."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def stopped(self) -> bool:
        """Whether it has been stopped by SIGSTOP."""
        return self.ended() is None and _state(self.pid) == "T"

    def wait(self) -> int:
        until(lambda: self.ended() is not None, f"{self.worker} ends")
        assert self._code is not None
        return self._code

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {PATIENCE:g} s in vain until {what}")
        time.sleep(0.02)


def fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    die_with_parent()
    code = 0
    try:
        work()
    except StreamdError as error:
        code = error.exit_code
        print(f"child: {error!r}", file=sys.stderr, flush=True)
    except BaseException:  # noqa: BLE001  the parent must hear of it
        traceback.print_exc()
        code = EXIT_BUG
    os._exit(code)


def done(work: Callable[[], None]) -> None:
    """Do something with Kafka or Redis in a child, to its end."""
    _, status = os.waitpid(fork(work), 0)
    if status:
        raise RuntimeError(f"a child failed with status {status}")


def begin(world: World, worker: str, plan: Plan | None = None) -> Life:
    """Start a worker. SIGTERM drains it."""
    status = world.folder / f"{worker}-{time.monotonic_ns()}.json"
    return Life(worker, fork(lambda: _live(world.config(worker), plan or Plan(), status)), status)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _live(config: Config, plan: Plan, status: Path) -> None:
    lock, left, steps = threading.Lock(), [plan.nth], Counter[str]()

    def reach(name: str) -> None:
        with lock:
            steps[name] += 1
            if name != plan.step:
                return
            left[0] -= 1
            if left[0] != 0:
                return
        os.kill(os.getpid(), plan.signal)

    faulthandler.register(signal.SIGUSR1)
    sight = Sight("risk", "classify", "", "events", "predictions")
    log, store = wiring.log(config, "risk"), wiring.store(config)
    watch_commit(log, reach)
    assert isinstance(store, RedisStore)
    watch_store(store, reach)
    engine = wiring.engine(config, "risk", sight, WatchedLog(log, reach), WatchedStore(store, reach))
    signal.signal(signal.SIGTERM, lambda *_: engine.stop())
    over = threading.Event()

    def tell() -> None:
        while not over.is_set():
            view = sight.view
            seen = {
                "partitions": [shard.partition for shard in view.shards if shard.phase == "running"],
                "paused": {shard.partition: shard.reason for shard in view.shards if shard.phase == "paused"},
                "idle": sight.idle,
                "reasons": view.reasons,
                "lag": {
                    p: sum(lag.records for lag in view.lag if lag.partition == p)
                    for p in {lag.partition for lag in view.lag}
                },
                "steps": dict(steps),
            }
            draft = status.with_suffix(".draft")
            draft.write_text(json.dumps(seen))
            draft.rename(status)
            over.wait(0.02)

    threading.Thread(target=tell, daemon=True).start()
    engine.run()
    over.set()


def watch_commit(log: Any, reach: Reach) -> None:
    """Name the steps inside a commit."""
    _after(log, "_send", "commit: output handed over", reach)
    _after(log, "_send_entry", "commit: journal handed over", reach)
    make = log._make_producer

    def watched(*args: Any, **kwargs: Any) -> None:
        make(*args, **kwargs)
        log._producer = WatchedProducer(log._producer, reach)

    log._make_producer = watched


class WatchedProducer:
    """A client library's producer whose transaction is reached by name."""

    def __init__(self, producer: Any, reach: Reach) -> None:
        self._producer, self._reach = producer, reach

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def send_offsets_to_transaction(self, *args: Any) -> None:
        self._producer.send_offsets_to_transaction(*args)
        self._reach("commit: offsets sent")

    def commit_transaction(self, *args: Any) -> None:
        self._producer.commit_transaction(*args)
        self._reach("commit: answered")


def watch_store(store: RedisStore, reach: Reach) -> None:
    """Name the steps between the requests of one write or deletion."""
    _after(store, "_write", "snapshot written, not published", reach)
    _after(store, "_publish", "snapshot published, not cleaned", reach)
    _after(store, "_remove", "snapshot removed", reach)


def _after(owner: Any, method: str, step: str, reach: Reach) -> None:
    inner = getattr(owner, method)

    def outer(*args: Any, **kwargs: Any) -> Any:
        answer = inner(*args, **kwargs)
        reach(step)
        return answer

    setattr(owner, method, outer)
