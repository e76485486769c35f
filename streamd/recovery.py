"""Shards brought back to where the log says they are: the one set aside, if it has not moved since, else one made
anew from snapshot and journal. For the engine's thread."""

import time
from collections.abc import Callable, Mapping
from functools import partial

import msgspec
from msgspec import Struct

from streamd.errors import OffsetGap, Refused, StateError, Transient
from streamd.operating.choices import Choices
from streamd.operating.history import COMMAND, Begin, until_there
from streamd.ports import Log, Store, TopicInfo
from streamd.questions import AGAIN
from streamd.restore import Changed, Identity, Paused, Restored, changed, restore
from streamd.shard import Shard
from streamd.sight import Sight
from streamd.snapshot import State
from streamd.snapshots import Job, SnapshotWriter, put

Fresh = Callable[[int], Shard]
Named = Callable[[int], Identity]
ANEW = (
    "; `streamd run --on-changed-model backfill` learns a new one from what the log still holds and goes on where "
    "this one ended"
)


class Anew(Struct, frozen=True):
    """How a state begins where one of another configuration ended.

    history: of a partition, as of now. former: a maker of shards that work as the journal's `live` says; raises
    Refused where that is no longer possible.
    """

    history: Begin
    former: Callable[[bytes], tuple[Named, Fresh]]


class Recovery:
    """Of one engine. inputs: partition -> the topics its state is of."""

    def __init__(self, sight: Sight, log: Log, store: Store, writer: SnapshotWriter, choices: Choices) -> None:
        self.inputs: dict[int, Mapping[str, TopicInfo]] = {}
        self._sight = sight
        self._log = log
        self._store = store
        self._writer = writer
        self._choices = choices
        self._aside: dict[int, Shard] = {}  # taken away while clean; good if they come back unmoved

    def set_aside(self, shard: Shard) -> None:
        """Keep a shard that was taken away, unless it is dirty: what it did since its commit was never sent."""
        if not shard.dirty:
            self._aside[shard.partition] = shard

    def bring_back(self, partition: int, identity: Named, fresh: Fresh, anew: Anew | None) -> Shard | Paused:
        """A shard at its committed position, or why it must not go on. anew: how one can, after another's."""
        aside = self._aside.pop(partition, None)
        topics = self._log.topics()
        same = aside is not None and not changed(self.inputs[partition], topics)
        if aside is not None and same and aside.sequence == self._log.committed(partition).sequence:
            return aside
        began = time.monotonic()
        restored = self._restore(partition, identity, fresh, topics)
        if isinstance(restored, Changed) and anew is not None:
            restored = self._begin_anew(partition, restored, fresh, anew, topics)
        if isinstance(restored, Paused):
            return restored
        if restored.lost or restored.accepted:
            self._keep(restored, identity, topics)
        self._writer.watch(partition, 0 if restored.snapshot is None else restored.snapshot.sequence)
        self._sight.restored(restored, time.monotonic() - began)
        self.inputs[partition] = {topic: topics[topic] for topic in restored.shard.inputs}
        return restored.shard

    def seek(self, shard: Shard) -> None:
        """Let the log deliver from the shard's positions on, past gaps if the operator chose so."""
        wanted, gaps = dict(shard.positions), []
        while True:
            try:
                shard.positions.update(self._log.seek(shard.partition, wanted))
                break
            except OffsetGap as gap:
                self.judge(gap)
                wanted[gap.topic] = gap.nearest
                gaps.append(gap)
        if gaps:
            shard.mark()  # the next commit holds the new positions: they are not asked for again
            self._sight.passed(gaps)

    def judge(self, gap: OffsetGap) -> None:
        """Raises StateError unless the operator chose to go on with what is kept."""
        if self._choices.on_offset_gap == "stop":
            raise StateError(
                f"{gap}. Possible: bring the records back; or `streamd run --on-offset-gap nearest` goes on at "
                f"{gap.nearest}. Nothing was changed"
            ) from gap

    def copy(self, partition: int, identity: Named, fresh: Fresh) -> Shard:
        """A second copy of a shard, without what it took since the last commit."""
        found = restore(
            self._log,
            self._store,
            identity(partition),
            partial(fresh, partition),
            self._log.topics(),
            self._sight.moved,
        )
        if isinstance(found, Paused):
            raise StateError(found.reason)
        return found.shard

    def partitions(self) -> int:
        """How many the inputs have. Raises Transient before the first restore."""
        for topics in self.inputs.values():
            return max(topic.partitions for topic in topics.values())
        raise Transient("no shard has been restored yet", AGAIN)

    def _begin_anew(
        self, partition: int, found: Changed, fresh: Fresh, anew: Anew, topics: Mapping[str, TopicInfo]
    ) -> Restored | Paused:
        """A shard about to learn history, from where the former one ended. What is begun by its next epoch only
        replaces anything then; the former's state is in the store before."""
        if self._choices.on_changed_model != "backfill":
            return Paused(found.reason + ANEW)
        former = self._former(partition, found, anew, topics)
        if isinstance(former, Paused):
            return former
        at = self._log.committed(partition)
        sequence = at.sequence or (0 if former is None else former.sequence)
        positions = at.positions or ({} if former is None else former.positions)
        if not sequence:
            return Paused(f"{found.reason}, and where it ended cannot be told")
        shard = fresh(partition)
        end, count = self._log.journal_end(partition), topics[shard.inputs[0]].partitions
        shard.place(sequence, positions, end, count)
        promised, skips = (State({}, {}), ()) if former is None else (former.task.promised(), former.skips)
        span = until_there(anew.history(partition), positions, promised, skips)
        shard.prepare(COMMAND, msgspec.json.encode(span))()
        self._sight.begun_anew(partition, found.reason, span.start, span.until)
        return Restored(shard, None, 0, 0, 0)

    def _former(
        self, partition: int, found: Changed, anew: Anew, topics: Mapping[str, TopicInfo]
    ) -> Shard | Paused | None:
        """The shard as it was left, written to the store to go back to; None if it can no longer be made."""
        try:
            identity, fresh = anew.former(found.live)
        except Refused:
            return None
        restored = self._restore(partition, identity, fresh, topics)
        if isinstance(restored, Paused):
            return restored
        if restored.snapshot is None or restored.snapshot.sequence < restored.shard.sequence:
            self._keep(restored, identity, topics)
        return restored.shard

    def _restore(
        self, partition: int, identity: Named, fresh: Fresh, topics: Mapping[str, TopicInfo]
    ) -> Restored | Paused:
        own = partial(fresh, partition)
        return restore(self._log, self._store, identity(partition), own, topics, self._sight.moved, self._choices)

    def _keep(self, restored: Restored, identity: Named, topics: Mapping[str, TopicInfo]) -> None:
        """Write what the operator settled for to the store, before anything is built on it."""
        shard = restored.shard
        inputs = {topic: topics[topic] for topic in shard.inputs}
        put(self._store, Job(shard.partition, named(shard, identity), inputs, shard.freeze(), 0.0))


def named(shard: Shard, identity: Named) -> Identity:
    """Whose state a shard's is, by the model that is live in it."""
    return identity(shard.partition).of(shard.task.model.rpartition("/")[2])
