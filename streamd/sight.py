"""What an engine lets be seen: its view, made anew a few times a second, and one log line per fact.

Written by the engine's thread only; `view` and `idle` may be read by any.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from msgspec.structs import replace

from streamd import snapshot
from streamd.errors import OffsetGap, Transient
from streamd.ports import Lag, Output, ShardEpoch
from streamd.restore import Restored
from streamd.shard import Shard
from streamd.snapshots import Written
from streamd.views import EngineView, GroupsView, GroupView, LagView, Phase, ShardView, SnapshotView, TaskView

logger = logging.getLogger("streamd")

AGAIN = 600.0  # seconds until an alarm that goes on is said again
FRESH = 0.2  # seconds between two views when nothing but numbers changed


class Sight:
    """One engine's."""

    def __init__(self, pipeline: str, task: str, model: str, events: str, predictions: str) -> None:
        self.idle = False
        """Nothing waits and nothing is uncommitted."""
        self._pipeline = pipeline
        self._phases: dict[int, tuple[Phase, str]] = {}  # partition -> phase, reason
        self._shards: dict[int, ShardView] = {}
        self._snapshots: dict[int, tuple[SnapshotView, str]] = {}
        self._ended: dict[int, float] = {}  # partition -> when its last epoch was committed
        self._lag: tuple[LagView, ...] = ()
        self._away = "not connected yet"
        self._next = 0.0
        self._due: dict[int, float] = {}  # partition -> when it is shown anew
        self._said: dict[tuple[int, str, str], float] = {}  # partition, group, alarm -> when it was said last
        now = time.time()
        self.view = EngineView(
            pipeline=pipeline,
            task=task,
            model=model,
            events=events,
            predictions=predictions,
            ready=False,
            reasons=("starting",),
            shards=(),
            lag=(),
            epochs=0,
            epoch_seconds=0.0,
            commit_seconds=0.0,
            epoch_bytes=0,
            last_epoch=now,
            voids=0,
            restores=0,
            restore_seconds=0.0,
            last_progress=now,
            away=True,
            unwritten=0,
            gaps=0,
            missed=0,
            lost_epochs=0,
        )

    @property
    def held(self) -> Collection[int]:
        """The partitions that are with this worker, whatever they wait for. For the engine's thread."""
        return self._phases

    # --- facts

    def moved(self) -> None:
        """Something moved: a record, an entry of a replay."""
        self._change(last_progress=time.time())

    def restoring(self, partition: int) -> None:
        self._phase(partition, "restoring", "being restored")

    def paused(self, partition: int, reason: str) -> None:
        self._say(logging.ERROR, "shard paused", partition=partition, reason=reason)
        self._phase(partition, "paused", reason)

    def running(self, shard: Shard) -> None:
        self._phase(shard.partition, "running", "")

    def forget(self, partition: int) -> None:
        self._say(logging.INFO, "shard released", partition=partition)
        self._phases.pop(partition, None)
        self._shards.pop(partition, None)
        self._publish()

    def restored(self, restored: Restored, seconds: float) -> None:
        partition = restored.shard.partition
        if restored.snapshot is not None:
            found = restored.snapshot
            written = restored.snapshot_written / 1000
            shown = SnapshotView(
                found.sequence, restored.snapshot_bytes, written, 0.0, 0.0, memory=snapshot.memory(found)
            )
            self._snapshots[partition] = (shown, restored.snapshot.digest)
        self._say(
            logging.INFO,
            "shard restored",
            partition=partition,
            epoch=restored.shard.sequence,
            snapshot=0 if restored.snapshot is None else restored.snapshot.sequence,
            replayed=restored.replayed,
            seconds=round(seconds, 3),
        )
        live = restored.shard.task.model
        if live and self.view.model and live != self.view.model:
            self._say(
                logging.WARNING, "a promoted model is live", partition=partition, live=live, file=self.view.model
            )
        if restored.lost:
            self._say(logging.WARNING, "state lost", partition=partition, epochs=restored.lost)
        if restored.accepted:
            self._say(logging.WARNING, "grown topic accepted", partition=partition, reason=restored.accepted)
        view = self.view
        self._change(
            restores=view.restores + 1,
            restore_seconds=view.restore_seconds + seconds,
            lost_epochs=view.lost_epochs + restored.lost,
        )

    def begun_anew(self, partition: int, reason: str, start: Mapping[str, int], until: Mapping[str, int]) -> None:
        """The operator chose to learn a new state from history."""
        told = {"from": dict(start), "until": dict(until)}
        self._say(logging.WARNING, "state begun anew", partition=partition, reason=reason, **told)

    def passed(self, gaps: Iterable[OffsetGap]) -> None:
        """The operator chose to go on past these."""
        for gap in gaps:
            self._say(logging.WARNING, "offset gap passed", reason=str(gap), goes_on_at=gap.nearest)
            self._change(gaps=self.view.gaps + 1, missed=self.view.missed + gap.missed)

    def committed(
        self, outputs: Sequence[Output], moved: Sequence[ShardEpoch], epoch: float, commit: float
    ) -> None:
        """An epoch was committed. epoch: seconds from its first record to its commit; commit: seconds of that."""
        size = sum(len(output.value) for output in outputs) + sum(len(shard.entry) for shard in moved)
        view, now = self.view, time.time()
        self._ended.update(dict.fromkeys((shard.partition for shard in moved), now))
        self._change(
            epochs=view.epochs + 1,
            epoch_seconds=view.epoch_seconds + epoch + commit,
            commit_seconds=view.commit_seconds + commit,
            epoch_bytes=view.epoch_bytes + size,
            last_epoch=now,
            last_progress=now,
        )

    def written(self, written: Written) -> None:
        if written.view is None:
            self._say(logging.WARNING, "snapshot not written", partition=written.partition, reason=written.reason)
            over = self.view.over_budget + written.over
            self._change(unwritten=self.view.unwritten + 1, over_budget=over)
            return
        self._snapshots[written.partition] = (written.view, written.digest)
        self._say(
            logging.DEBUG,
            "snapshot written",
            partition=written.partition,
            epoch=written.view.sequence,
            bytes=written.view.bytes,
            seconds=round(written.view.seconds, 3),
        )

    def void(self, failure: Transient) -> None:
        self._say(logging.WARNING, "epoch void", reason=str(failure))
        self._change(voids=self.view.voids + 1)

    def away(self, failure: Transient) -> None:
        self._away = str(failure)
        self._change(last_progress=time.time())  # the engine waits on purpose, and gives up by itself
        self._say(logging.WARNING, "log away", reason=self._away)
        self._publish()

    def back(self, finished: Iterable[str]) -> None:
        """finished: what the log had left undone, as `Log.recover` tells it."""
        for reason in finished:
            self._say(logging.WARNING, "log left a transaction open", reason=reason)
            self._change(last_unfinished=time.time())
        if self._away:
            self._away = ""
            self._say(logging.INFO, "log reached")
            self._publish()

    def ended(self) -> None:
        self._away = "stopped"
        self._publish()

    # --- the view

    def look(
        self,
        shards: Iterable[Shard],
        lag: Callable[[], Mapping[tuple[str, int], Lag]],
        clean: bool,
        last: bool = False,
    ) -> None:
        """Make the view anew if the old one has grown stale. clean: nothing polled is uncommitted.

        A shard is shown as it was when clean: what is not committed may be void, and a counter never goes back.
        """
        now = time.monotonic()
        for shard in shards:
            if not shard.dirty and (last or now >= self._due.get(shard.partition, 0.0)):
                self._due[shard.partition] = now + FRESH
                self._shards[shard.partition] = self._shard(shard)
        if now < self._next and not last:
            return
        self._next = now + FRESH
        found = {} if last else lag()
        self._lag = tuple(LagView(topic, p, lag.records, lag.seconds) for (topic, p), lag in found.items())
        behind = any(view.records for view in self._lag)
        if not behind:
            self._change(last_progress=time.time())
        self._publish()
        self.idle = clean and not behind and self.view.ready

    def _shard(self, shard: Shard) -> ShardView:
        snapshot, digest = self._snapshots.get(shard.partition, (None, ""))
        shown: TaskView = shard.task.show()
        if shown.groups is not None:
            self._alarms(shard.partition, shown.groups)
        return ShardView(
            partition=shard.partition,
            phase="running",
            reason="",
            sequence=shard.sequence,
            digest=digest,
            event_time=shard.task.now,
            counts=shown.counts,
            pending=shown.pending,
            pending_bytes=shown.pending_bytes,
            early=shown.early,
            classes=shown.classes,
            delay=shown.delay,
            quality=shown.quality,
            groups=shown.groups,
            alerts=shown.alerts,
            vocabulary=shown.vocabulary,
            snapshot=snapshot,
            commands=dict(shard.commands),
            positions=dict(shard.positions),
            last_epoch=self._ended.get(shard.partition, 0.0),
            history=shard.history,
            matching=shown.matching,
            shadows=shown.shadows,
            querying=shown.querying,
        )

    def _alarms(self, partition: int, groups: GroupsView) -> None:
        """Say which groups have an alarm: each when it begins, and now and then while it goes on."""
        now = time.monotonic()
        self._said = {key: said for key, said in self._said.items() if now < said + AGAIN}
        for group in groups.groups:
            for alarm in group.alarms:
                if (partition, group.name, alarm) not in self._said:
                    self._said[partition, group.name, alarm] = now
                    self._say(
                        logging.WARNING, f"group alarm: {alarm}", partition=partition, **_facts(group, alarm)
                    )

    def _phase(self, partition: int, phase: Phase, reason: str) -> None:
        self._phases[partition] = (phase, reason)
        self._publish()

    def _publish(self) -> None:
        """Put phases and reasons together."""
        reasons = [self._away] if self._away else []
        reasons += [f"partition {p}: {reason}" for p, (_, reason) in sorted(self._phases.items()) if reason]
        if not self._phases and not reasons:
            reasons = ["no partition is assigned"]
        shards = tuple(
            replace(self._shards.get(partition) or ShardView(partition), phase=phase, reason=reason)
            for partition, (phase, reason) in sorted(self._phases.items())
        )
        away = bool(self._away)
        self._change(shards=shards, lag=self._lag, ready=not reasons, reasons=tuple(reasons), away=away)

    def _change(self, **fields: object) -> None:
        self.view = replace(self.view, **fields)

    def _say(self, level: int, what: str, **facts: object) -> None:
        logger.log(level, what, extra={"facts": {"pipeline": self._pipeline, **facts}})


def _facts(group: GroupView, alarm: str) -> Mapping[str, object]:
    if alarm == "regret":
        return {"group": group.name, "regret": group.nearest, "bound": group.nearest_bound}
    return {"group": group.name, "loss": group.loss, "everyone": group.everyone, "labels": group.labels}
