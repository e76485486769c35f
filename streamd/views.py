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
    kept: int = 0  # bytes of all the shard's snapshots in the store after it
    memory: int = 0  # bytes of the state's arrays, as they are in memory


class DelayView(Struct, frozen=True):
    """Event time from an event to its label, as a histogram: counts per upper bound (the last is infinite)."""

    bounds: tuple[float, ...]  # seconds
    counts: tuple[int, ...]  # one more than bounds
    sum: float  # seconds


class QualityView(Struct, frozen=True):
    """Prequential quality: always of the prediction made at the time.

    total, fading: over all labels and over the fading window. classify: accuracy, majority (the accuracy of the
    class most frequent so far), kappa, log_loss (nats); several
    labels: accuracy (all of them right), jaccard, f1, majority (the jaccard of the label most frequent so far);
    regress: mae, rmse, mean (the MAE of the mean so far).
    """

    labels: int
    total: Mapping[str, float]
    fading: Mapping[str, float]
    drifts: int


class GroupView(Struct, frozen=True):
    """One group of a groupwise learner. None where there is nothing to say (no labels yet, no everyone).

    Losses are means over the group's labelled events, in the label's units (squared for squared loss, nats for log
    loss); they and `regret_...`, their differences summed, are weighted by 1/P where a query stage asked for the
    label with probability P. R, C and bounds count each label once, in losses scaled to [0, 1].

    seen: events it was awake in, for born groups as Space-Saving counts them. labels: labelled events; effective:
    (sum w)^2 / sum w^2. loss, everyone, own: of what was played, of the single model, of the group's own oracle;
    expected: of the experts, by their weights. harm: loss - everyone, between harm_low and harm_high at all times
    (level 0.95). R, C, bound: of the expert (group, own oracle). nearest, nearest_bound: R and bound of the
    group's expert that comes nearest to its bound, or exceeds it. fallback: share of labels at which all weights
    were 0. covered, width: of the intervals; misses: those above alpha labels, misses_bound: how far from 0 that
    may be. ambiguity, discrepancy: mean spread of the awake models around what was played, their largest
    difference, scaled units. best, regret_best, best_bound: task choose, the cheapest path in hindsight,
    unweighted, and the bound of the regret to it.
    """

    name: str
    seen: int
    labels: int
    effective: float
    loss: float | None = None
    everyone: float | None = None
    own: float | None = None
    expected: float | None = None
    regret_everyone: float | None = None
    regret_own: float | None = None
    harm: float | None = None
    harm_low: float | None = None
    harm_high: float | None = None
    R: float = 0.0
    C: float = 0.0
    bound: float = 0.0
    nearest: float = 0.0
    nearest_bound: float = 0.0
    fallback: float | None = None
    covered: float | None = None
    width: float | None = None
    misses: float | None = None
    misses_bound: float | None = None
    ambiguity: float | None = None
    discrepancy: float | None = None
    best: float | None = None
    regret_best: float | None = None
    best_bound: float | None = None
    alarms: tuple[str, ...] = ()  # "regret", "harm"


class DeclarationView(Struct, frozen=True):
    """How often a declared predicate's feature was missing, or of another type, in an event."""

    text: str
    missing: int
    mistyped: int


class GroupsView(Struct, frozen=True):
    """All groups, and what was counted.

    judged: labels. clipped: those outside the declared range. born, retired: groups; refused: births for which
    there was no slot. crowded: groups of an event beyond `max_awake`. hashed: features beyond `max_features`.
    guarded: learning steps at which rounding had to be mended. nobody: labels of events without an awake group;
    nobody_loss: their mean.
    """

    groups: tuple[GroupView, ...]
    declarations: tuple[DeclarationView, ...]
    observed: int
    judged: int
    clipped: int
    born: int
    retired: int
    refused: int
    crowded: int
    hashed: int
    guarded: int
    nobody: int
    nobody_loss: float | None


class RuleView(Struct, frozen=True):
    """A rule run over a pool's window with simulated outcomes: mean reward, ratio to the bound, 95 % interval."""

    rule: str
    reward: float
    ratio: float
    interval: float


class HindsightView(Struct, frozen=True):
    """A pool's last arrivals in hindsight. bound: the value of the matching LP; reward: the expected worth of what
    was matched; ratio: of the two (luck may lift it above 1). certified: what the rule reaches in the worst case,
    of `against`, if all is as it `assumes`. rules: the acting one and its shadows, under the same outcomes.
    """

    arrivals: int
    edges: int
    bound: float
    reward: float
    ratio: float
    certified: float | None
    against: str
    assumes: str
    source: str
    rules: tuple[RuleView, ...]


class PoolView(Struct, frozen=True):
    """One pool of a matching pipeline.

    settled: attempts that ended with a success or a failure; expected: the
    successes their probabilities promised, succeeded: those that came. Chance alone hardly ever puts the two more
    than 4 sqrt(expected) apart: if they are (`alarm`), the probabilities are wrong. miscalibrated: resources of
    which the same can be said.
    """

    pool: str
    resources: int
    open: int
    matched: int
    unmatched: Mapping[str, int]  # by reason
    settled: int
    expected: float
    succeeded: int
    miscalibrated: int
    alarm: bool
    segments: int
    groups: Mapping[str, float]  # the fading share of the matches of each group that has a least share
    hindsight: HindsightView | None = None
    waiting: int = 0  # arrivals that nobody is free for


class MatchingView(Struct, frozen=True):
    """What a matching pipeline shows of its pools."""

    pools: tuple[PoolView, ...]


class ShadowView(Struct, frozen=True):
    """A shadow: the labels it was judged by, the events and labels it refused, its quality as `QualityView`'s."""

    shadow: str
    model: str
    labels: int
    refused: int
    total: Mapping[str, float]
    fading: Mapping[str, float]


class ShadowsView(Struct, frozen=True):
    """The shadows of a shard, and the model that is live: a promotion may have exchanged them."""

    live: str
    shadows: tuple[ShadowView, ...]


class AlertsView(Struct, frozen=True):
    """Alerts about subjects. subjects: kept now; the others are counts: posts taken in, alerts given, alerts taken
    back, subjects forgotten."""

    subjects: int
    posts: int
    alerts: int
    corrected: int
    forgotten: int


class VocabularyView(Struct, frozen=True):
    """What SS3 has stored. pairs: (term, category). evicted: terms that had to give way; from then on no count is
    lower than the truth by more than `error`. bytes: of the counts in memory, the names of words not."""

    terms: int
    bound: int
    pairs: int
    evicted: int
    error: float
    bytes: int


class EstimateView(Struct, frozen=True):
    """Quality from the labels asked for: accuracy, or with task regress the mean absolute error; null: not known.

    raw: over all of them, biased to what is hard; weighted: each by 1 / P(asked), as precise as `effective`
    labels; holdout: of the random slice alone, with its standard error.
    """

    raw: float | None
    weighted: float | None
    effective: float | None
    holdout: float | None
    error: float | None
    answers: int
    drawn: int


class AnnotatorView(Struct, frozen=True):
    """Who answers. agreement: with the consensus. load: queries open. bad: clearly worse than the others."""

    name: str
    accuracy: float
    agreement: float | None
    seconds: float | None
    cost: float
    load: int
    answers: int
    skips: int
    bad: bool


class QueryingView(Struct, frozen=True):
    """The label loop. counts: see `streamd.querying.asker.COUNTS`. level: labels in the budget's bucket, lost:
    those a full one had no room for, null for a budget without one; share: labels per event that it allows."""

    strategy: str
    counts: Mapping[str, int]
    pending: int
    level: float | None
    share: float
    estimates: EstimateView
    annotators: tuple[AnnotatorView, ...]
    lost: float | None = None


class TaskView(Struct, frozen=True):
    """What the stages of a shard show. counts: see `streamd.stages.predicting.COUNTS`."""

    counts: Mapping[str, int]
    pending: int  # events waiting for a label
    pending_bytes: int
    early: int  # labels waiting for their event
    classes: int
    delay: DelayView
    quality: QualityView
    groups: GroupsView | None = None  # of a groupwise learner
    matching: MatchingView | None = None
    shadows: ShadowsView | None = None
    alerts: AlertsView | None = None
    vocabulary: VocabularyView | None = None
    querying: QueryingView | None = None


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
    groups: GroupsView | None = None
    alerts: AlertsView | None = None
    vocabulary: VocabularyView | None = None
    snapshot: SnapshotView | None = None
    commands: Mapping[str, int] = {}  # of the operator, carried out
    positions: Mapping[str, int] = {}  # next offsets of its inputs
    last_epoch: float = 0.0  # when its last epoch was committed here, seconds since 1970; 0 before that
    matching: MatchingView | None = None
    shadows: ShadowsView | None = None
    querying: QueryingView | None = None
    history: int = 0  # offsets left of a backfill


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
    over_budget: int = 0  # of those, the ones that would have exceeded the budget
    gaps: int = 0  # offset gaps passed at the operator's choice
    missed: int = 0  # records in them that were never read
    lost_epochs: int = 0  # whose learning the operator chose to go on without
    last_unfinished: float = 0.0  # seconds since 1970 when the log was last found to have left a transaction open
