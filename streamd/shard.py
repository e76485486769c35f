"""A pipeline on a partition: its stages, its position, its state. The unit of ownership, order and recovery.

A shard is *clean* right after a commit or a restore, *dirty* once it has taken a record since. Only committed work
is ever made into a snapshot; a dirty shard whose epoch is void is thrown away and restored.

A command of the operator is a record of the topic "" with a key, and an epoch of its own; see
`streamd.operating.mailbox`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from streamd.errors import Refused, StateError
from streamd.journal import Entry, EntryBuilder, Refusal
from streamd.operating.commanded import Apply, Commanded, exported_state, task_part
from streamd.operating.history import COMMAND, Span, cut, left, read, unpacked
from streamd.ports import Output, Record, ShardEpoch
from streamd.questions import Question
from streamd.snapshot import Manifest, State
from streamd.views import TaskView


class Taken(Protocol):
    """What a batch decided."""

    @property
    def outputs(self) -> Sequence[Output]: ...

    @property
    def refused(self) -> dict[int, Refusal]: ...

    @property
    def memos(self) -> Sequence[bytes]: ...

    @property
    def turns(self) -> bytes | bytearray:
        """Of alerts, see `streamd.journal`."""

    @property
    def decisions(self) -> Sequence[bytes]:
        """Of a query stage; empty without one."""


class Task(Protocol):
    """The stages of one kind of pipeline, as a shard drives them."""

    now: int
    """Event time, milliseconds since 1970."""

    past: Mapping[str, int]
    """Per topic the offset before which a record is history: it is not asked about, and answers no query."""

    @property
    def model(self) -> str:
        """Kind and digest of what is live; empty: what the configuration says."""

    def take(self, records: Sequence[Record], refused: Mapping[int, Refusal] = {}) -> Taken:
        """Decide and apply a batch, in order. refused: decided beforehand, by index: dead letters, not tried."""

    def replay(
        self,
        records: Sequence[Record],
        refused: Mapping[int, Refusal],
        memos: Sequence[bytes],
        turns: bytes = b"",
        decisions: Sequence[bytes] = (),
    ) -> None:
        """Apply a batch as it was decided."""

    def answer(self, question: Question) -> bytes:
        """Answer in JSON, and change nothing. Raises NotFound for a kind of question that is none of this task's,
        BadRecord for a body that does not fit."""

    def prepare(self, command: str, payload: bytes, memos: Sequence[bytes] | None = None) -> Apply:
        """What carries a command out; it returns the memos to be journalled. Nothing changes before it is called.

        memos: in a replay, those that were journalled. Raises Refused, with a sentence that says what to do.
        """

    def adopt(self, state: State, whole: bool) -> Apply:
        """What makes a state of before, or of another place, this one's. Event time never goes back.

        whole: all of it. Otherwise what was learned only: what waits, was spent or promised since stays.
        """

    def promised(self) -> State:
        """What was asked for and spent: a state that begins anew takes it over. Empty where there is nothing."""

    def take_over(self, promised: State) -> None:
        """Become what a former state promised. Called once, before anything is taken."""

    def deadline(self) -> int | None:
        """The next moment of event time at which something happens without a record."""

    def freeze(self) -> Callable[[], State]:
        """A cheap copy of the state; the function makes the arrays, in any thread."""

    def restore(self, state: State) -> None: ...

    def show(self) -> TaskView: ...


class Committed(NamedTuple):
    """A shard's state at a committed epoch, on its way to the store. begun: the epoch in which it began after a
    former one of the same shard; 0: there was none."""

    sequence: int
    positions: dict[str, int]
    journal_offset: int
    thaw: Callable[[], State]
    begun: int = 0


Unanswered = Callable[[Sequence[Output], bool], Sequence[Output]]
"""What is written of the outputs of history; and whether that was answered before."""


class Shard:
    """One shard. `positions` are the next offsets of its input topics, of all of them once it has sought."""

    def __init__(
        self,
        partition: int,
        inputs: Sequence[str],
        task: Task,
        fits: Callable[[Manifest], str] = lambda manifest: "",
        live: bytes = b"",
        remade: Callable[[bytes], Task] | None = None,
        unanswered: Unanswered = lambda outputs, again: outputs,
    ) -> None:
        """fits: why an exported snapshot cannot be continued here; empty if it can.

        live: how the task works, which may change while it does. remade: a fresh task that works otherwise; raises
        Refused. unanswered: what is written of the outputs of history.
        """
        self.partition = partition
        self.task = task
        self.sequence = 0
        self.inputs = tuple(inputs)
        self.positions: dict[str, int] = {}
        self.journal_offset = 0
        self.partitions = 0  # of its inputs, as far as its journal says; 0: it does not say
        self._entry = EntryBuilder(inputs)
        self._outputs: list[Output] = []
        self._fits = fits
        self._remade = remade
        self._unanswered = unanswered
        self._commanded = Commanded()
        self._commanded.live = live
        self._blank = True  # nothing was taken, restored or commanded
        self._begins = False  # the epoch under way makes all of the state

    @property
    def dirty(self) -> bool:
        return len(self._entry) > 0

    @property
    def uncommitted(self) -> Sequence[Record]:
        """What was taken since the last commit."""
        return self._entry.records

    def take(self, records: Sequence[Record]) -> None:
        """Apply records that follow this shard's positions. A tick is a record of the topic ''."""
        skips = self._commanded.skips
        self.task.past = self._commanded.history
        for past, run in cut(records, self._commanded.history):
            taken = self.task.take(run, skips.among(run) if skips else {})
            self._entry.add(run, taken.refused, taken.memos, taken.turns, taken.decisions)
            self._outputs.extend(self._written(taken.outputs) if past else taken.outputs)
        self._move(records)

    def _written(self, outputs: Sequence[Output]) -> Sequence[Output]:
        return self._unanswered(outputs, self._commanded.begun > 0)

    def _move(self, records: Sequence[Record]) -> None:
        self._blank = False
        for record in records:
            if record.topic:
                self.positions[record.topic] = record.offset + 1
        if self._commanded.skips:
            self._commanded.skips.passed(self.positions)
        if self._commanded.history and not self.history:
            self._commanded.history = {}

    def prepare(self, command: str, payload: bytes) -> Callable[[], None]:
        """What carries a command of the operator out, in this clean shard. Raises Refused; changes nothing yet."""
        assert not self.dirty
        apply = self._command(command, payload, None)

        def carry_out() -> None:
            now = int(time.time() * 1000)  # for whoever reads the journal
            record = Record("", self.partition, 0, now, command.encode(), payload)
            self._begins = self._blank
            self._entry.add([record], {}, apply())
            self._commanded.count(command)
            self._blank = False

        return carry_out

    def place(self, sequence: int, positions: Mapping[str, int], journal_offset: int, partitions: int) -> None:
        """Stand, with nothing learned yet, where a former state of this shard ended."""
        assert self._blank
        self.sequence, self.journal_offset, self.partitions = sequence, journal_offset, partitions
        self.positions = {topic: positions[topic] for topic in self.inputs if topic in positions}

    @property
    def blank(self) -> bool:
        """Nothing was taken, restored or commanded yet."""
        return self._blank

    @property
    def skips(self) -> Sequence[tuple[str, int]]:
        """Records ahead, by topic and offset, that are not to be tried."""
        return self._commanded.skips.document()

    @property
    def history(self) -> int:
        """How many offsets are left of a backfill."""
        return left(self._commanded.history, self.positions)

    @property
    def live(self) -> bytes:
        """How the task works now."""
        return self._commanded.live

    @property
    def commands(self) -> Mapping[str, int]:
        """How often each command was carried out."""
        return self._commanded.done

    def _command(self, command: str, payload: bytes, memos: Sequence[bytes] | None) -> Apply:
        if command == COMMAND:
            return self._backfill(read(payload, self._blank))
        if command == "skip":
            return self._commanded.skip(payload, self.inputs, self.positions)
        if command == "reload" and self._remade is not None:
            return self._reload(self._remade(payload), payload)
        if command in ("import", "rollback", "learned"):
            whole = command == "import"
            model = "" if whole else self.task.model.rpartition("/")[2]
            return self.task.adopt(exported_state(payload, self._fits, model), whole)
        return self.task.prepare(command, payload, memos)

    def _reload(self, task: Task, live: bytes) -> Apply:
        try:
            task.restore(self.task.freeze()())
        except StateError as error:
            raise Refused(f"its state cannot be continued so: {error}") from None

        def apply() -> Sequence[bytes]:
            self.task, self._commanded.live = task, live
            return ()

        return apply

    def _backfill(self, span: Span) -> Apply:
        def apply() -> Sequence[bytes]:
            self._commanded.begin(span, self.sequence + 1)
            self.positions.update(span.start)
            self.task.take_over(unpacked(span.promised))
            return ()

        return apply

    def tick(self, now: int) -> bool:
        """Let event time pass to `now` if something is due by then. Says whether it was."""
        deadline = self.task.deadline()
        if deadline is None or deadline > now:
            return False
        self.take([Record("", self.partition, 0, now, None, None)])
        return True

    def mark(self) -> None:
        """Have something to commit: a tick at which nothing is due."""
        self.take([Record("", self.partition, 0, self.task.now, None, None)])

    def epoch(self) -> tuple[Sequence[Output], ShardEpoch]:
        """What this shard brings to the epoch's commit."""
        sequence = self.sequence + 1
        positions, live = dict(self.positions), self.live if sequence == 1 or self._begins else b""
        entry = self._entry.encode(sequence, live, self.partitions, positions)
        return self._outputs, ShardEpoch(self.partition, sequence, positions, entry)

    def committed(self, journal_offset: int) -> None:
        """The epoch was committed; the next entry is found from this journal offset on."""
        self.sequence += 1
        self.journal_offset = journal_offset
        self._entry.clear()
        self._outputs = []
        self._begins = False

    def replay(self, entry: Entry) -> None:
        """Apply a committed epoch of the journal."""
        if entry.live not in (b"", self.live):
            made_for, self._commanded.live = self.live, entry.live
            self._work_as_then(made_for)
        records = entry.records(self.partition)
        if len(records) == 1 and records[0].key is not None and not records[0].topic:
            self._replay_command(records[0], entry)
        else:
            self.task.past = self._commanded.history
            self.task.replay(records, entry.refused, entry.memos, entry.turns, entry.decisions)
        self._move(records)
        self.positions.update(entry.positions)
        self.sequence = entry.sequence
        self.partitions = entry.partitions or self.partitions

    def _replay_command(self, record: Record, entry: Entry) -> None:
        assert record.key is not None
        try:
            self._command(record.key.decode(), record.value or b"", entry.memos)()
            self._commanded.count(record.key.decode())
        except Refused as refusal:
            raise StateError(f"epoch {entry.sequence} of the journal holds a command: {refusal}") from None

    def freeze(self) -> Committed:
        """A copy of the committed state. The shard must be clean."""
        assert not self.dirty
        thaw = self._commanded.beside(self.task.freeze())
        return Committed(self.sequence, dict(self.positions), self.journal_offset, thaw, self._commanded.begun)

    def _work_as_then(self, otherwise: bytes) -> None:
        """The journal is replayed as it was written; the engine brings the shard up to date after it."""
        try:
            if self._remade is not None:
                self.task = self._remade(self.live)
        except Refused:  # of another version, or a configuration that is no longer possible
            self._commanded.live = otherwise

    def restore(self, state: State, sequence: int, positions: Mapping[str, int], journal_offset: int) -> None:
        """Become what a snapshot says."""
        made_for = self.live
        self._blank = False
        self._commanded = Commanded(state)
        if self.live not in (b"", made_for):
            self._work_as_then(made_for)
        self._commanded.live = self.live or made_for
        self.task.restore(task_part(state))
        self.sequence = sequence
        self.positions.update(positions)
        self.journal_offset = journal_offset
