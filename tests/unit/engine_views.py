"""Views as an engine would show them, for the tests of what reads views."""

from streamd.stages.predicting import COUNTS
from streamd.views import DelayView, EngineView, LagView, QualityView, ShardView, SnapshotView

SHARD = ShardView(
    partition=1,
    phase="running",
    reason="",
    sequence=41,
    digest="d1",
    event_time=1_700_000_000_000,
    counts={name: 100 + i for i, name in enumerate(COUNTS)},
    pending=7,
    pending_bytes=700,
    early=3,
    classes=2,
    delay=DelayView((1.0, 10.0), (5, 4, 3), 99.5),
    quality=QualityView(12, {"accuracy": 0.75, "log_loss": 0.5}, {"accuracy": 0.8, "log_loss": 0.4}, 2),
    snapshot=SnapshotView(40, 12_345, 1_700_000_100.0, 0.002, 0.05),
)

ENGINE = EngineView(
    pipeline="adult",
    task="classify",
    model="linear/0badcafe",
    events="people",
    predictions="people-predictions",
    ready=True,
    reasons=(),
    shards=(SHARD,),
    lag=(LagView("people", 1, 9, 1.5),),
    epochs=10,
    epoch_seconds=2.5,
    commit_seconds=0.5,
    epoch_bytes=4096,
    last_epoch=1_700_000_200.0,
    voids=1,
    restores=2,
    restore_seconds=0.25,
    last_progress=1_700_000_201.0,
    away=False,
    unwritten=4,
)
