"""What an engine shows of itself: immutable, made by the engine's thread after every epoch, read by anyone.

Metrics, the HTTP API and `streamd status` read these and nothing else, so a scrape never touches live state.
Counts are part of a shard's state: they survive a restart and are exact.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

Phase = Literal["restoring", "running", "paused"]


class SnapshotView(Struct, frozen=True):
    """The newest snapshot written by this process or found at restore."""

    sequence: int
    bytes: int
    written: float  # seconds since 1970
    pause: float  # seconds the engine stood still for the copy
    seconds: float  # seconds of writing in the background


class DelayView(Struct, frozen=True):
    """Event time from an event to its label, as a histogram: counts per upper bound (the last is infinite)."""

    bounds: tuple[float, ...]  # seconds
    counts: tuple[int, ...]  # one more than bounds
    sum: float  # seconds


class QualityView(Struct, frozen=True):
    """Prequential quality: always of the prediction made at the time.

    total, fading: over all labels and over the fading window. classify: accuracy, majority (the accuracy of the
    class most frequent so far), kappa, log_loss (nats); regress: mae, rmse, mean (the MAE of the mean so far).
    """

    labels: int
    total: Mapping[str, float]
    fading: Mapping[str, float]
    drifts: int


class TaskView(Struct, frozen=True):
    """What the stages of a shard show. counts: see `streamd.stages.predicting.COUNTS`."""

    counts: Mapping[str, int]
    pending: int  # events waiting for a label
    pending_bytes: int
    early: int  # labels waiting for their event
    classes: int
    delay: DelayView
    quality: QualityView


class ShardView(Struct, frozen=True):
    """One partition."""

    partition: int
    phase: Phase = "restoring"
    reason: str = ""  # of a phase other than running
    sequence: int = 0  # committed epochs
    digest: str = ""  # of the state at the last snapshot; empty before one
    event_time: int = 0  # milliseconds since 1970; 0 before the first record
    counts: Mapping[str, int] = {}
    pending: int = 0
    pending_bytes: int = 0
    early: int = 0
    classes: int = 0
    delay: DelayView = DelayView((), (0,), 0.0)
    quality: QualityView = QualityView(0, {}, {}, 0)
    snapshot: SnapshotView | None = None


class LagView(Struct, frozen=True):
    topic: str
    partition: int
    records: int
    seconds: float


class EngineView(Struct, frozen=True):
    """One pipeline in this process."""

    pipeline: str
    task: str
    model: str  # kind of learner and digest of its configuration
    events: str
    predictions: str
    ready: bool
    reasons: tuple[str, ...]  # why it is not ready
    shards: tuple[ShardView, ...]
    lag: tuple[LagView, ...]
    epochs: int  # committed by this process
    epoch_seconds: float  # spent between their first poll and their commit, in all
    commit_seconds: float  # of that, in the commit
    epoch_bytes: int  # of outputs and journal, in all
    last_epoch: float  # when the last commit returned, seconds since 1970; start of the process before the first
    voids: int  # epochs given up
    restores: int
    restore_seconds: float
    last_progress: float  # seconds since 1970 when anything last moved, or nothing waited
    away: bool  # the log is: not reached yet, or lost
    unwritten: int  # snapshots the store did not take
