"""How an engine works, and how it is told to work otherwise."""

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue

from msgspec import Struct

from streamd.errors import Refused, StateError, Transient
from streamd.operating.history import Begin
from streamd.ports import Log
from streamd.recovery import Anew
from streamd.restore import Identity
from streamd.shard import Shard
from streamd.snapshots import Policy


class Pacing(Struct, frozen=True):
    """interval, max_records: of an epoch; give_up: seconds the log may be away."""

    interval: float
    max_records: int
    give_up: float


class Setup(Struct, frozen=True):
    """What of an engine a reload can change. live: how its shards work, see `Shard`.

    backfill: the history that new shards learn first; anew: how one begins where another configuration's ended.
    """

    identity: Callable[[int], Identity]
    fresh: Callable[[int], Shard]
    live: bytes
    pacing: Pacing
    policy: Policy
    backfill: Begin | None = None
    anew: Anew | None = None


class Reloads:
    """Reloads that were asked for, from any thread; carried out by the engine's."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[tuple[Callable[[Log], Setup], Future[None]]] = SimpleQueue()
        self._under_way: list[Future[None]] = []

    def ask(self, make: Callable[[Log], Setup]) -> "Future[None]":
        future: Future[None] = Future()
        self._asked.put((make, future))
        return future

    def newest(self, log: Log, setup: Setup) -> Setup:
        """How to work from now on; `setup` if nobody asked. Those who did hear of it by `done` or `refuse`."""
        while not self._asked.empty():
            make, future = self._asked.get()
            setup = make(log)
            self._under_way.append(future)
        return setup

    def done(self) -> None:
        while self._under_way:
            self._under_way.pop().set_result(None)

    def refuse(self, refusal: Refused) -> None:
        """A shard could not follow. Raises StateError if nobody asked: the shard is a former worker's."""
        if not self._under_way:
            raise StateError(f"a shard cannot go on with this configuration: {refusal}") from refusal
        self._fail(refusal)

    def close(self) -> None:
        """The engine has ended."""
        while not self._asked.empty():
            self._under_way.append(self._asked.get()[1])
        self._fail(Transient("the pipeline stopped before it was known to work otherwise"))

    def _fail(self, why: Exception) -> None:
        while self._under_way:
            self._under_way.pop().set_exception(why)
