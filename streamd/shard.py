"""A pipeline on a partition: its stages, its position, its state. The unit of ownership, order and recovery.

A shard is *clean* right after a commit or a restore, *dirty* once it has taken a record since. Only committed work
is ever made into a snapshot; a dirty shard whose epoch is void is thrown away and restored.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from streamd.journal import Entry, EntryBuilder, Refusal
from streamd.ports import Output, Record, ShardEpoch
from streamd.questions import Question
from streamd.snapshot import State
from streamd.views import TaskView


class Taken(Protocol):
    """What a batch decided."""

    @property
    def outputs(self) -> Sequence[Output]: ...

    @property
    def refused(self) -> dict[int, Refusal]: ...

    @property
    def memos(self) -> Sequence[bytes]: ...


class Task(Protocol):
    """The stages of one kind of pipeline, as a shard drives them."""

    now: int
    """Event time, milliseconds since 1970."""

    def take(self, records: Sequence[Record]) -> Taken:
        """Decide and apply a batch, in order."""

    def replay(self, records: Sequence[Record], refused: Mapping[int, Refusal], memos: Sequence[bytes]) -> None:
        """Apply a batch as it was decided."""

    def answer(self, question: Question) -> bytes:
        """Answer in JSON, and change nothing. Raises NotFound for a kind of question that is none of this task's,
        BadRecord for a body that does not fit."""

    def deadline(self) -> int | None:
        """The next moment of event time at which something happens without a record."""

    def freeze(self) -> Callable[[], State]:
        """A cheap copy of the state; the function makes the arrays, in any thread."""

    def restore(self, state: State) -> None: ...

    def show(self) -> TaskView: ...


class Committed(NamedTuple):
    """A shard's state at a committed epoch, on its way to the store."""

    sequence: int
    positions: dict[str, int]
    journal_offset: int
    thaw: Callable[[], State]


class Shard:
    """One shard. `positions` are the next offsets of its input topics, of all of them once it has sought."""

    def __init__(self, partition: int, inputs: Sequence[str], task: Task) -> None:
        self.partition = partition
        self.task = task
        self.sequence = 0
        self.inputs = tuple(inputs)
        self.positions: dict[str, int] = {}
        self.journal_offset = 0
        self._entry = EntryBuilder(inputs)
        self._outputs: list[Output] = []

    @property
    def dirty(self) -> bool:
        return len(self._entry) > 0

    def take(self, records: Sequence[Record]) -> None:
        """Apply records that follow this shard's positions. A tick is a record of the topic ''."""
        taken = self.task.take(records)
        self._entry.add(records, taken.refused, taken.memos)
        self._outputs.extend(taken.outputs)
        for record in records:
            if record.topic:
                self.positions[record.topic] = record.offset + 1

    def tick(self, now: int) -> bool:
        """Let event time pass to `now` if something is due by then. Says whether it was."""
        deadline = self.task.deadline()
        if deadline is None or deadline > now:
            return False
        self.take([Record("", self.partition, 0, now, None, None)])
        return True

    def epoch(self) -> tuple[Sequence[Output], ShardEpoch]:
        """What this shard brings to the epoch's commit."""
        sequence = self.sequence + 1
        moved = ShardEpoch(self.partition, sequence, dict(self.positions), self._entry.encode(sequence))
        return self._outputs, moved

    def committed(self, journal_offset: int) -> None:
        """The epoch was committed; the next entry is found from this journal offset on."""
        self.sequence += 1
        self.journal_offset = journal_offset
        self._entry.clear()
        self._outputs = []

    def replay(self, entry: Entry) -> None:
        """Apply a committed epoch of the journal."""
        records = entry.records(self.partition)
        self.task.replay(records, entry.refused, entry.memos)
        for record in records:
            if record.topic:
                self.positions[record.topic] = record.offset + 1
        self.sequence = entry.sequence

    def freeze(self) -> Committed:
        """A copy of the committed state. The shard must be clean."""
        assert not self.dirty
        return Committed(self.sequence, dict(self.positions), self.journal_offset, self.task.freeze())

    def restore(self, state: State, sequence: int, positions: Mapping[str, int], journal_offset: int) -> None:
        """Become what a snapshot says."""
        self.task.restore(state)
        self.sequence = sequence
        self.positions.update(positions)
        self.journal_offset = journal_offset
