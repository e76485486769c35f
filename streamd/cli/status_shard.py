"""What `streamd status` tells of pipelines and shards, wherever it comes from."""

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from streamd.views import (
    AlertsView,
    EngineView,
    GroupsView,
    MatchingView,
    QueryingView,
    ShadowsView,
    ShardView,
    TaskView,
    VocabularyView,
)
from streamd.waits import waits


class SnapshotStatus(Struct, frozen=True):
    """written: seconds since 1970."""

    sequence: int
    bytes: int
    written: float


class ShardStatus(Struct, frozen=True):
    """waiting: records not yet processed, per input topic. positions: next offsets; when stopped, of the newest
    snapshot. last_epoch: seconds since 1970, 0 if none here yet. memory: of its state. waits: what waits for what.
    """

    partition: int
    phase: str
    reason: str
    sequence: int
    waiting: Mapping[str, int]
    positions: Mapping[str, int] | None
    events: int | None = None
    labels: int | None = None
    pending: int | None = None
    quality: Mapping[str, float] = {}
    snapshot: SnapshotStatus | None = None
    groups: GroupsView | None = None  # of a groupwise learner
    alerts: AlertsView | None = None
    vocabulary: VocabularyView | None = None  # of SS3
    matching: MatchingView | None = None
    shadows: ShadowsView | None = None
    fading: Mapping[str, float] = {}  # the quality over the fading window
    querying: QueryingView | None = None
    last_epoch: float = 0.0
    memory: int = 0
    waits: Sequence[str] = ()

    def with_task(self, shown: TaskView | ShardView, task: str) -> "ShardStatus":
        """The same, with what its task shows."""
        return replace(
            self,
            events=shown.counts.get("arrivals" if task == "match" else "events", 0),
            labels=shown.quality.labels,
            pending=shown.pending,
            quality=shown.quality.total,
            fading=shown.quality.fading,
            groups=shown.groups,
            alerts=shown.alerts,
            vocabulary=shown.vocabulary,
            matching=shown.matching,
            shadows=shown.shadows,
            querying=shown.querying,
        )


class PipelineStatus(Struct, frozen=True):
    pipeline: str
    ready: bool
    reasons: Sequence[str]
    shards: Sequence[ShardStatus]


def live(view: EngineView, shard: ShardView) -> ShardStatus:
    """A shard of a running daemon."""
    newest = shard.snapshot
    found = ShardStatus(
        partition=shard.partition,
        phase=shard.phase,
        reason=shard.reason,
        sequence=shard.sequence,
        waiting={lag.topic: lag.records for lag in view.lag if lag.partition == shard.partition},
        positions=shard.positions,
        snapshot=None if newest is None else SnapshotStatus(newest.sequence, newest.bytes, newest.written),
        last_epoch=shard.last_epoch,
        memory=0 if newest is None else newest.memory,
        waits=tuple(waits(view, shard)),
    )
    return found.with_task(shard, view.task)
