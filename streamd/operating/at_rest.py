"""A command of the operator while no daemon runs: the same epoch in the same journal, without taking a record.

The command takes a seat in the pipeline's group, as a worker does, so that no two work on one shard; restores each
shard it is for, carries the command out, commits that, and leaves. The next worker finds it in the journal.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from streamd.errors import Refused, StateError, Transient
from streamd.operating.mailbox import Command, Outcome
from streamd.ports import Epoch, Log, Store
from streamd.restore import Changed, Identity, Paused, restore
from streamd.shard import Shard

POLL = 0.2  # seconds
ELSEWHERE = "partition {} is with a worker that could not be asked; name its address with --url, or stop it first"


class AtRest:
    """One pipeline. patience: seconds to wait for the seat and for the partitions, others' time-outs included."""

    def __init__(
        self,
        log: Log,
        store: Store,
        identity: Callable[[int], Identity],
        fresh: Callable[[int], Shard],
        patience: float,
    ) -> None:
        self._log = log
        self._store = store
        self._identity = identity
        self._fresh = fresh
        self._patience = patience

    def carry_out(self, command: Command, wanted: Sequence[int]) -> tuple[Outcome, ...]:
        """In these partitions, one after the other. Raises what stands in the way of all."""
        self._log.open()
        try:
            held = self._assigned(wanted)
            return tuple(self._in_one(command, partition, held) for partition in wanted)
        finally:
            self._store.close()
            self._log.close(leave=True)

    def start(self, partition: int, payload: bytes, positions: Mapping[str, int]) -> Outcome:
        """A shard that never was, from an exported snapshot, at these positions in its inputs; epoch 1 is that."""
        self._log.open()
        try:
            held = self._assigned([partition])
            shard = self._fresh(partition)
            self._check_new(partition, shard, positions)
            if partition not in held:
                raise Refused(ELSEWHERE.format(partition))
            shard.prepare("import", payload)()
            try:
                shard.positions.update(self._log.seek(partition, positions))
            except StateError as error:
                raise Refused(str(error)) from None
            return Outcome(partition, True, self._commit(shard))
        finally:
            self._store.close()
            self._log.close(leave=True)

    def _check_new(self, partition: int, shard: Shard, positions: Mapping[str, int]) -> None:
        """Raises Refused where there is a shard already, or a position is missing."""
        if missing := [topic for topic in shard.inputs if topic not in positions]:
            raise Refused(f"the next offset of {', '.join(missing)} is needed, too")
        if foreign := [topic for topic in positions if topic not in shard.inputs]:
            raise Refused(f"{', '.join(foreign)} is no input; the inputs are {', '.join(shard.inputs)}")
        name = self._identity(partition).name
        if self._log.committed(partition).sequence or self._store.list(name):
            raise Refused(
                f"partition {partition} has a state of its own; an import at given offsets starts a new one. "
                "Without offsets its state is replaced, and its place in the inputs stays"
            )

    def _assigned(self, wanted: Iterable[int]) -> frozenset[int]:
        """Poll until the group has given us the partitions, or time is over."""
        held: frozenset[int] = frozenset()
        deadline = time.monotonic() + self._patience
        while not held.issuperset(wanted) and time.monotonic() < deadline:
            polled = self._log.poll(1, POLL)
            held = (held - polled.revoked) | polled.assigned
        return held

    def _in_one(self, command: Command, partition: int, held: frozenset[int]) -> Outcome:
        try:
            if partition not in held:
                raise Refused(ELSEWHERE.format(partition))
            shard = self._restore(partition, command.name)
            shard.prepare(command.name, command.payload)()
            return Outcome(partition, True, self._commit(shard))
        except Refused as refusal:
            return Outcome(partition, False, reason=str(refusal))

    def _restore(self, partition: int, command: str) -> Shard:
        topics = self._log.topics()
        fresh = partial(self._fresh, partition)
        restored = restore(self._log, self._store, self._identity(partition), fresh, topics, lambda: None)
        if isinstance(restored, Changed) and command == "import":  # needs nothing of what is there
            shard, at = fresh(), self._log.committed(partition)
            count = topics[shard.inputs[0]].partitions
            shard.place(
                at.sequence, self._log.seek(partition, at.positions), self._log.journal_end(partition), count
            )
            return shard
        if isinstance(restored, Changed):
            raise Refused(f"{restored.reason}; `snapshot import` of one of this configuration takes its place")
        if isinstance(restored, Paused):
            raise Refused(f"partition {partition} is paused: {restored.reason}")
        restored.shard.positions.update(self._log.seek(partition, restored.shard.positions))
        return restored.shard

    def _commit(self, shard: Shard) -> int:
        """The epoch of the command. Returns its sequence number."""
        outputs, moved = shard.epoch()
        try:
            ends = self._log.commit(Epoch(outputs, [moved]))
        except Transient as failure:
            raise Refused(
                f"partition {shard.partition}: whether it was committed is not known ({failure}); "
                "look whether it took effect"
            ) from failure
        shard.committed(ends[shard.partition])
        return shard.sequence
