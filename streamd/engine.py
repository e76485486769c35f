"""One pipeline in one thread: poll, hand to the shards, end the epoch.

Nothing leaves before the epoch's end; then one commit carries outputs, journal entries and positions. An epoch
commits or is void, and there is one way back from every failure in between: throw away what the epoch touched,
`recover` the log, restore those shards from what is committed, go on.
"""

import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

import msgspec

from streamd.batches import by_partition, slices
from streamd.errors import Elsewhere, OffsetGap, Refused, StreamdError, Transient
from streamd.operating.choices import CAUTIOUS, Choices
from streamd.operating.history import COMMAND
from streamd.operating.mailbox import Command, Mailbox, Outcome
from streamd.operating.poison import poisoned
from streamd.ports import Epoch, Log, Output, Polled, Record, ShardEpoch, Store, murmur2
from streamd.questions import AGAIN, Question, Questions
from streamd.recovery import Recovery, named
from streamd.restore import Paused
from streamd.setup import Reloads, Setup
from streamd.shard import Shard
from streamd.sight import Sight
from streamd.snapshots import Job, SnapshotWriter

BATCH = (64, 4096)  # records handed to the shards at once, at least and at most: as many as fit into an epoch
WORK, BETWEEN = 0.02, 0.005  # while questions come: seconds of work and of answers, in turn
POLLS = 4  # an epoch, then
GATHER = 0.01  # seconds between two polls of an epoch, at most a tenth of it
IDLE = 1.0  # seconds without a record after which a partition's event time passes by itself
BACKOFF = (0.1, 10.0)  # seconds: the first wait after a failure, and the longest


class Engine:
    """One pipeline. All methods but `stop`, `ask` and `command` are called by the engine's own thread."""

    def __init__(
        self,
        sight: Sight,
        log: Log,
        store: Store,
        make: Callable[[Log], Setup],
        choices: Choices = CAUTIOUS,
    ) -> None:
        self._sight = sight
        self._log = log
        self._store = store
        self._setup = make(log)
        self._writer = SnapshotWriter(store, self._setup.policy)
        self._recovery = Recovery(sight, log, store, self._writer, choices)
        self._reloads = Reloads()
        self._shards: dict[int, Shard] = {}
        self._waiting: list[int] = []  # assigned, to be restored
        self._began = time.monotonic()  # the epoch
        self._taken = 0  # records in the epoch
        self._brief = False  # whether the epoch ends with its first batch
        self._speed = math.inf  # records a second, of the last batch
        self._polled = 0.0  # when
        self._quiet: dict[int, float] = {}  # partition -> when its last record came
        self._questions = Questions()
        self._mailbox = Mailbox()
        self._stopping = threading.Event()
        self._leaving = False

    # --- from any thread

    def stop(self, leave: bool = False) -> None:
        """End the epoch, write snapshots, then `run` returns. leave: give the seat in the group up at once."""
        self._leaving = leave
        self._stopping.set()

    def ask(self, question: Question) -> "Future[bytes]":
        """A question to the live model, answered between two batches. Raises Transient if too many wait."""
        return self._questions.ask(question)

    def command(self, command: Command) -> "Future[tuple[Outcome, ...]]":
        """A command of the operator, carried out between two batches. Raises Transient if too many wait."""
        return self._mailbox.post(command)

    def reload(self, make: Callable[[Log], Setup]) -> "Future[None]":
        """Work otherwise from now on. The future is done when all shards that run here do, and it is committed; it
        gets Refused where one cannot, and then none does."""
        return self._reloads.ask(make)

    # --- the loop

    def run(self) -> None:
        """Until `stop`. Raises what a supervisor must see: Fenced, StateError, Transient past the limit, a bug."""
        try:
            self._reach(self._log.open)
            while not self._stopping.is_set():
                try:
                    self._step()
                except Transient as failure:
                    self._void(failure)
            self._drain()
        finally:
            self._release()

    def _step(self) -> None:
        polled = self._poll()
        self._follow(polled)
        self._take(polled.records)
        self._restore_next()
        self._keep_up()
        self._obey()
        self._let_time_pass()
        if self._due():
            self._commit()
        self._look()
        self._questions.answer(self._answer)

    def _poll(self) -> Polled:
        self._let_gather()
        self._polled = time.monotonic()
        try:
            return self._log.poll(self._room(), self._patience())
        except OffsetGap as gap:
            self._recovery.judge(gap)
            partition = gap.partition
        if self._dirty():
            self._commit()
        self._log.pause(partition)
        self._set_aside(partition)
        self._await_restore(partition)
        return Polled()

    def _let_gather(self) -> None:
        """While an epoch lasts nothing is in a hurry: many records at once cost less than few, again and again."""
        if not self._dirty() or self._waiting or self._questions.come:
            return
        interval = self._setup.pacing.interval
        due = min(self._polled + min(GATHER, interval / 10), self._began + interval)
        if (left := due - time.monotonic()) > 0:
            self._stopping.wait(left)

    def _follow(self, polled: Polled) -> None:
        """The log has given or taken partitions. What a lost shard did since its commit was never sent."""
        for partition in polled.revoked | polled.assigned:
            self._set_aside(partition)
        for partition in polled.revoked:
            if partition in self._waiting:
                self._waiting.remove(partition)
            self._sight.forget(partition)
            self._mailbox.lost(partition, "the partition moved to another worker")
        for partition in sorted(polled.assigned):
            self._await_restore(partition)

    def _set_aside(self, partition: int) -> None:
        shard = self._shards.pop(partition, None)
        if shard is not None:
            self._recovery.set_aside(shard)

    def _await_restore(self, partition: int) -> None:
        if partition not in self._waiting:
            self._waiting.append(partition)
        self._sight.restoring(partition)

    def _restore_next(self) -> None:
        """One shard at a time, so that polls go on in between."""
        if not self._waiting:
            return
        partition = self._waiting[0]
        shard = self._recovery.bring_back(partition, self._setup.identity, self._setup.fresh, self._setup.anew)
        if isinstance(shard, Paused):
            self._log.pause(partition)
            self._waiting.pop(0)
            self._sight.paused(partition, shard.reason)
            self._mailbox.lost(partition, "the shard was paused")
            return
        if self._setup.backfill is not None and shard.sequence == 0 and not shard.positions:
            shard.prepare(COMMAND, msgspec.json.encode(self._setup.backfill(partition)))()
        self._recovery.seek(shard)
        self._waiting.pop(0)
        self._shards[partition] = shard
        self._brief = True  # somebody has waited for this shard
        self._quiet[partition] = time.monotonic()
        self._sight.running(shard)
        self._mailbox.settle(partition, shard.sequence)
        if shard.dirty:
            self._commit()

    def _take(self, records: Sequence[Record]) -> None:
        if not records:
            return
        if self._taken == 0:
            self._began = time.monotonic()
        self._taken += len(records)
        first = time.monotonic()
        for partition, own in by_partition(records).items():
            shard = self._shards.get(partition)
            if shard is None:  # its epoch was void: it will seek back to them
                continue
            began = time.monotonic()
            for part in slices(own, self._at_once()):
                self._apply(shard, part)
                self._questions.answer(self._answer, BETWEEN)
            self._quiet[partition] = time.monotonic()
            self._writer.worked(partition, self._quiet[partition] - began)
        self._speed = len(records) / max(time.monotonic() - first, 1e-9)

    def _apply(self, shard: Shard, records: Sequence[Record]) -> None:
        try:
            shard.take(records)
        except StreamdError:
            raise
        except Exception as bug:
            copy = partial(self._recovery.copy, shard.partition, self._setup.identity, self._setup.fresh)
            raise poisoned(copy, shard.uncommitted, records, bug) from bug

    def _keep_up(self) -> None:
        """Reload; shards that came from a worker of another configuration, too. It is an epoch of its own."""
        former = self._setup
        self._setup = self._reloads.newest(self._log, former)
        behind = [shard for shard in self._shards.values() if shard.live != self._setup.live]
        if behind:
            if self._dirty():
                self._commit()
            try:
                ready = [shard.prepare("reload", self._setup.live) for shard in behind]
            except Refused as refusal:
                self._setup = former
                self._reloads.refuse(refusal)
                return
            for apply in ready:
                apply()
            self._commit()
        self._writer.policy = self._setup.policy
        self._reloads.done()

    def _obey(self) -> None:
        """Carry one command of the operator out. It is an epoch of its own: what was begun is ended before."""
        if not self._mailbox:
            return
        if self._dirty():
            self._commit()
        self._mailbox.carry_out(self._shards, self._sight.held)
        if self._dirty():
            self._commit()

    def _let_time_pass(self) -> None:
        """An idle partition's event time goes on with the clock, so that deadlines pass."""
        for partition, shard in self._shards.items():
            idle = time.monotonic() - self._quiet[partition]
            if idle > IDLE and shard.tick(shard.task.now + int(idle * 1000)):
                self._quiet[partition] = time.monotonic()

    def _due(self) -> bool:
        full = self._brief or self._taken >= self._setup.pacing.max_records
        return self._dirty() and (full or time.monotonic() - self._began >= self._setup.pacing.interval)

    def _commit(self) -> None:
        """The epoch's end: all of it becomes visible at once, or none."""
        shards = [shard for shard in self._shards.values() if shard.dirty]
        outputs: list[Output] = []
        moved: list[ShardEpoch] = []
        for shard in shards:
            own, epoch = shard.epoch()
            outputs.extend(own)
            moved.append(epoch)
        began = time.monotonic()
        ends = self._log.commit(Epoch(outputs, moved))
        for shard in shards:
            shard.committed(ends[shard.partition])
            self._mailbox.settle(shard.partition, shard.sequence)
        self._sight.committed(outputs, moved, began - self._began, time.monotonic() - began)
        self._taken, self._brief = 0, False
        self._began = time.monotonic()
        for shard in shards:
            if self._writer.due(shard.partition):
                self._snapshot(shard)

    def _snapshot(self, shard: Shard) -> None:
        """Copy a clean shard's state; the rest happens in the writer's thread."""
        began = time.monotonic()
        state = shard.freeze()
        inputs, identity = self._recovery.inputs[shard.partition], named(shard, self._setup.identity)
        job = Job(shard.partition, identity, inputs, state, time.monotonic() - began)
        self._writer.submit(job)

    def _look(self) -> None:
        """See what the writer has done, and show what is to be seen."""
        for written in self._writer.finished():
            self._sight.written(written)
            if written.view is not None and written.partition in self._shards:
                before = int((time.time() - self._writer.policy.journal) * 1000)
                self._log.trim_journal(written.partition, written.oldest_journal_offset, before)
        self._sight.look(self._shards.values(), self._log.lag, clean=not self._waiting and not self._dirty())

    def _answer(self, question: Question) -> bytes:
        """What the shard that is asked says. Raises Elsewhere if another worker has it, Transient while it is not
        ready, and what the task makes of the question."""
        partition = question.partition
        if partition is None and question.key is not None:
            partition = murmur2(question.key) % self._recovery.partitions()
        if partition is None:
            partition = min(self._shards, default=None)
        if partition is not None and (shard := self._shards.get(partition)) is not None:
            return shard.task.answer(question)
        if partition is None or partition in self._sight.held:
            raise Transient("; ".join(self._sight.view.reasons) or "not ready", AGAIN)
        raise Elsewhere(partition, self._log.owner(partition))

    # --- the way back

    def _void(self, failure: Transient) -> None:
        """The epoch is void: what it touched is thrown away, and restored when the log is back."""
        self._sight.void(failure)
        for partition, shard in list(self._shards.items()):
            if shard.dirty:
                del self._shards[partition]
                self._await_restore(partition)
        self._taken = 0
        self._reach(self._log.recover, failure)

    def _reach(self, call: Callable[[], Sequence[str]], failure: Transient | None = None) -> None:
        """Call until it succeeds, waiting longer each time, but not for ever."""
        began, wait = time.monotonic(), BACKOFF[0]
        while not self._stopping.is_set():
            if failure is not None:
                if time.monotonic() - began > self._setup.pacing.give_up:
                    raise failure
                self._stopping.wait(failure.retry_after or wait * random.uniform(0.5, 1.0))
                wait = min(wait * 2, BACKOFF[1])
            try:
                self._sight.back(call())
                return
            except Transient as again:
                failure = again
                self._sight.away(again)

    # --- the end

    def _drain(self) -> None:
        """End the epoch, snapshot what moved since its last one, then leave: a planned upgrade replays nothing."""
        try:
            if self._dirty():
                self._commit()
            for shard in self._shards.values():
                if self._writer.stale(shard.partition, shard.sequence):
                    self._snapshot(shard)
        except Transient as failure:
            self._sight.void(failure)  # the restart takes it from what is committed
        self._writer.close()
        for written in self._writer.finished():
            self._sight.written(written)
        self._sight.look(self._shards.values(), dict, clean=True, last=True)

    def _release(self) -> None:
        """Let go of everything, whatever ended the loop: the snapshots first, for they speak of the log's seat."""
        self._questions.close()
        self._mailbox.close()
        self._reloads.close()
        self._writer.close()
        self._store.close()
        self._log.close(self._leaving)
        self._sight.ended()

    # --- small questions

    def _dirty(self) -> bool:
        return any(shard.dirty for shard in self._shards.values())

    def _room(self) -> int:
        """How many records to poll for: what can be done within an epoch, so that none lasts much longer."""
        least, most = BATCH
        turn = self._setup.pacing.interval / (POLLS if self._questions.come else 1)
        fitting = min(most, max(least, self._speed * turn))
        return min(int(fitting), max(1, self._setup.pacing.max_records - self._taken))

    def _at_once(self) -> float:
        """How many records a shard takes before questions are answered again: while none come, all."""
        return max(BATCH[0], self._speed * WORK) if self._questions.come else math.inf

    def _patience(self) -> float:
        """How long a poll may wait: not past the epoch's end, and not at all while a shard is to be restored."""
        if self._waiting:
            return 0.0
        if self._questions.come:
            return WORK
        if self._dirty():
            return max(0.0, self._began + self._setup.pacing.interval - time.monotonic())
        return min(self._setup.pacing.interval, IDLE / 4)
