"""Commands of the operator, on their way to an engine's shards, and what became of each.

A command is an input like any other: in every shard it is for it becomes a record of the topic "" with the
command's name as key and its payload as value, in an epoch of its own, between two batches; the journal keeps it,
and replay applies it. It is carried out in all the shards it is for, or in none; who sent it is told once that is
committed.
"""

import threading
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future

from msgspec import Struct

from streamd.errors import Refused, StreamdError, Transient
from streamd.shard import Shard

ROOM = 16  # commands that may wait
AGAIN = 1.0  # seconds after which sending one again makes sense
VOID = "the epoch that held it was void, so nothing was changed; send it again"


class Command(Struct, frozen=True):
    """name: `skip`, `rollback`, ...; payload: as it defines it; partition: None for every shard here."""

    name: str
    payload: bytes = b""
    partition: int | None = None


class Outcome(Struct, frozen=True):
    """What became of a command in one shard. epoch: that holds it. reason: why it was not done.

    elsewhere: because another worker has the shard.
    """

    partition: int
    done: bool
    epoch: int = 0
    reason: str = ""
    elsewhere: bool = False


class _Order(Struct):
    """A command under way. awaited: partition -> the epoch that must be committed."""

    command: Command
    future: "Future[tuple[Outcome, ...]]"
    awaited: dict[int, int]
    outcomes: dict[int, Outcome]

    def close(self) -> None:
        if not self.awaited:
            self.future.set_result(tuple(self.outcomes[partition] for partition in sorted(self.outcomes)))


class Mailbox:
    """One engine's. `post` may be called by any thread, all else by the engine's."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._lock = threading.Lock()
        self._closed = False
        self._waiting: deque[_Order] = deque()
        self._under_way: list[_Order] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def post(self, command: Command) -> "Future[tuple[Outcome, ...]]":
        """Send a command. The future gets what became of it, a shard each; or Transient if nobody will ever know.

        Raises Transient if too many wait already, or the engine is stopping.
        """
        with self._lock:
            if self._closed or len(self._waiting) >= self._room:
                reason = "the pipeline is stopping" if self._closed else "too many commands wait"
                raise Transient(f"{reason}; nothing was changed", AGAIN)
            order = _Order(command, Future(), {}, {})
            order.future.set_running_or_notify_cancel()
            self._waiting.append(order)
            return order.future

    def carry_out(self, shards: Mapping[int, Shard], held: Collection[int]) -> None:
        """The command that waits longest, in clean shards. held: the partitions that are with this worker."""
        order = self._waiting.popleft()
        partition = order.command.partition
        wanted = sorted(held) if partition is None else [partition]
        try:
            _carry_out(order, wanted, shards, held)
        except StreamdError as refusal:
            reason = str(refusal)
            order.outcomes = {p: Outcome(p, False, 0, reason, p not in held) for p in wanted}
        self._under_way.append(order)
        self._close(order)

    def settle(self, partition: int, sequence: int) -> None:
        """A shard is at this committed sequence number: what was carried out in it is in it now, or void."""
        for order in list(self._under_way):
            if (epoch := order.awaited.pop(partition, None)) is not None:
                done = sequence >= epoch
                order.outcomes[partition] = Outcome(partition, done, epoch * done, "" if done else VOID)
                self._close(order)

    def lost(self, partition: int, why: str) -> None:
        """It cannot be known here whether what was carried out in a shard was committed."""
        for order in list(self._under_way):
            if order.awaited.pop(partition, None) is not None:
                reason = f"{why} before the command was known to be committed; look whether it took effect"
                order.outcomes[partition] = Outcome(partition, False, reason=reason)
                self._close(order)

    def close(self) -> None:
        """The engine ends."""
        with self._lock:
            self._closed = True
        unknown = "the pipeline stopped before the command was known to be committed"
        for order in self._under_way:
            order.future.set_exception(Transient(unknown))
        for order in self._waiting:
            order.future.set_exception(Transient("the pipeline stopped; nothing was changed"))
        self._under_way.clear()
        self._waiting.clear()

    def _close(self, order: _Order) -> None:
        order.close()
        if not order.awaited:
            self._under_way.remove(order)


def _carry_out(order: _Order, wanted: Sequence[int], shards: Mapping[int, Shard], held: Collection[int]) -> None:
    """In all or in none. Raises Refused, and what the shards make of it."""
    command = order.command
    for partition in wanted:
        if partition not in shards:
            raise Refused(
                f"partition {partition} is not ready; see `streamd status`, and send the command again"
                if partition in held
                else f"partition {partition} is not with this worker; send the command to the one that has it"
            )
    ready = {partition: shards[partition].prepare(command.name, command.payload) for partition in wanted}
    for partition, apply in ready.items():
        apply()
        order.awaited[partition] = shards[partition].sequence + 1
