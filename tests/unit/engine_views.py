"""Views as an engine would show them, for the tests of what reads views."""

from streamd.stages import matching, predicting
from streamd.views import (
    AlertsView,
    DeclarationView,
    DelayView,
    EngineView,
    GroupsView,
    GroupView,
    LagView,
    MatchingView,
    PoolView,
    QualityView,
    ShadowsView,
    ShadowView,
    ShardView,
    SnapshotView,
)

COUNTS = dict.fromkeys([*predicting.COUNTS, *matching.COUNTS])

GROUP = GroupView(
    name="sex=Female",
    seen=70,
    labels=60,
    effective=55.5,
    loss=0.25,
    everyone=0.375,
    own=0.3125,
    expected=0.28125,
    regret_everyone=-7.5,
    regret_own=-3.75,
    harm=-0.125,
    harm_low=-0.25,
    harm_high=-0.0625,
    R=2.0,
    C=9.0,
    bound=11.0,
    nearest=3.0,
    nearest_bound=10.0,
    fallback=0.01,
    covered=0.9,
    width=0.2,
    misses=1.5,
    misses_bound=20.0,
    ambiguity=0.02,
    discrepancy=0.15,
    best=0.125,
    regret_best=5.0,
    best_bound=50.0,
    alarms=("regret",),
)

GROUPS = GroupsView(
    groups=(GROUP,),
    declarations=(DeclarationView("sex=*", 4, 1),),
    observed=100,
    judged=90,
    clipped=2,
    born=3,
    retired=5,
    refused=6,
    crowded=7,
    hashed=8,
    guarded=9,
    nobody=10,
    nobody_loss=0.5,
)

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
    groups=GROUPS,
    alerts=AlertsView(5, 40, 3, 1, 2),
    snapshot=SnapshotView(40, 12_345, 1_700_000_100.0, 0.002, 0.05),
    commands={"rollback": 2},
    matching=MatchingView(
        (PoolView("desk", 5, 3, 40, {"no resource has room": 6}, 37, 20.5, 19, 1, False, 2, {"women": 0.4}),)
    ),
    shadows=ShadowsView(
        "linear/0badcafe", (ShadowView("bold", "river/0ddba11", 11, 1, {"accuracy": 0.6}, {"accuracy": 0.7}),)
    ),
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
