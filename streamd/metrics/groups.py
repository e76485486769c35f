"""The metrics of a groupwise learner's groups; what each means is told by `streamd.views.GroupView`.

At most SHOWN groups of a shard have series: those with an alarm first, then the most seen. All of them are in
`/v1/pipelines`, and all count in `streamd_groups` and `streamd_group_alarms`.
"""

from collections.abc import Iterator, Mapping

from streamd.metrics.rows import SHARD, Row, Sample
from streamd.views import GroupsView, GroupView

SHOWN = 50
ALARMS = ("regret", "harm")
GROUP = (*SHARD, "group")

TABLE: Mapping[str, Row] = {
    "streamd_groups": Row("gauge", SHARD, "Groups there are, shown below or not."),
    "streamd_group_events": Row("gauge", GROUP, "Events the group was awake in; a rare one's may be overcounted."),
    "streamd_group_labels": Row("gauge", GROUP, "Labels of its events."),
    "streamd_group_effective_labels": Row("gauge", GROUP, "How many labels of equal weight would say as much."),
    "streamd_group_loss": Row(
        "gauge",
        (*GROUP, "model"),
        "Mean loss, in the label's units: of what was played, of the experts by weight (expected), of the single"
        " model (everyone), of the group's own model; task choose: of the best path in hindsight.",
    ),
    "streamd_group_regret": Row(
        "gauge", (*GROUP, "model"), "Loss played beyond the model's, summed, in the label's units."
    ),
    "streamd_group_harm": Row(
        "gauge", (*GROUP, "end"), "Mean loss played beyond the single model's, and the ends of its interval."
    ),
    "streamd_group_expert_regret": Row(
        "gauge", (*GROUP, "expert"), "R, scaled losses: of the own model, and of the expert nearest to its bound."
    ),
    "streamd_group_expert_bound": Row("gauge", (*GROUP, "expert"), "What R cannot exceed."),
    "streamd_group_expert_movement": Row("gauge", GROUP, "C of the own model: the sum of all |r|."),
    "streamd_group_best_bound": Row(
        "gauge", GROUP, "Task choose: what the regret to the best path cannot exceed."
    ),
    "streamd_group_fallback_share": Row("gauge", GROUP, "Share of the labels at which all weights were 0."),
    "streamd_group_coverage": Row(
        "gauge", GROUP, "Share of the labels within their prediction's interval or set."
    ),
    "streamd_group_interval_width": Row("gauge", GROUP, "Mean half-width of the intervals, the range being 1."),
    "streamd_group_misses": Row("gauge", GROUP, "Labels outside their interval, beyond those expected."),
    "streamd_group_misses_bound": Row("gauge", GROUP, "How far from 0 that can be."),
    "streamd_group_ambiguity": Row("gauge", GROUP, "Mean spread of the awake models around what was played."),
    "streamd_group_discrepancy": Row("gauge", GROUP, "Mean largest difference of two awake models."),
    "streamd_group_alarm": Row("gauge", (*GROUP, "alarm"), "1: regret above its bound; harm beyond its interval."),
    "streamd_group_alarms": Row("gauge", (*SHARD, "alarm"), "Groups with that alarm, shown or not."),
    "streamd_group_asleep": Row(
        "counter", (*SHARD, "declaration", "reason"), "Events whose feature was missing, or of another type."
    ),
    "streamd_groupwise_counts": Row(
        "counter",
        (*SHARD, "name"),
        "Events observed, labels judged, clipped to the range or with nobody awake; groups born, retired, refused"
        " a slot, crowded out of an event; features hashed; learning steps guarded.",
    ),
    "streamd_groupwise_nobody_loss": Row("gauge", SHARD, "Mean loss where nobody was awake."),
}

COUNTS = (
    *("observed", "judged", "clipped", "nobody", "born", "retired", "refused", "crowded"),
    *("hashed", "guarded"),
)


def group_samples(labels: tuple[str, ...], view: GroupsView) -> Iterator[Sample]:
    """labels: the shard's."""
    yield "streamd_groups", labels, len(view.groups)
    for alarm in ALARMS:
        yield "streamd_group_alarms", (*labels, alarm), sum(alarm in group.alarms for group in view.groups)
    for name in COUNTS:
        yield "streamd_groupwise_counts", (*labels, name), getattr(view, name)
    if view.nobody_loss is not None:
        yield "streamd_groupwise_nobody_loss", labels, view.nobody_loss
    for one in view.declarations:
        yield "streamd_group_asleep", (*labels, one.text, "missing"), one.missing
        yield "streamd_group_asleep", (*labels, one.text, "mistyped"), one.mistyped
    for group in sorted(view.groups, key=lambda group: (not group.alarms, -group.seen))[:SHOWN]:
        yield from _group((*labels, group.name), group)


def _group(labels: tuple[str, ...], group: GroupView) -> Iterator[Sample]:
    for name, extra, value in _values(group):
        if value is not None:
            yield f"streamd_group_{name}", (*labels, *extra), value


def _values(group: GroupView) -> Iterator[tuple[str, tuple[str, ...], float | None]]:
    yield "events", (), group.seen
    yield "labels", (), group.labels
    yield "effective_labels", (), group.effective
    yield "loss", ("played",), group.loss
    yield "loss", ("expected",), group.expected
    yield "loss", ("everyone",), group.everyone
    yield "loss", ("own",), group.own
    yield "loss", ("best",), group.best
    yield "regret", ("everyone",), group.regret_everyone
    yield "regret", ("own",), group.regret_own
    yield "regret", ("best",), group.regret_best
    yield "best_bound", (), group.best_bound
    yield "harm", ("mean",), group.harm
    yield "harm", ("low",), group.harm_low
    yield "harm", ("high",), group.harm_high
    yield "expert_regret", ("own",), group.R
    yield "expert_regret", ("nearest",), group.nearest
    yield "expert_bound", ("own",), group.bound
    yield "expert_bound", ("nearest",), group.nearest_bound
    yield "expert_movement", (), group.C
    yield "fallback_share", (), group.fallback
    yield "coverage", (), group.covered
    yield "interval_width", (), group.width
    yield "misses", (), group.misses
    yield "misses_bound", (), group.misses_bound
    yield "ambiguity", (), group.ambiguity
    yield "discrepancy", (), group.discrepancy
    for alarm in ALARMS:
        yield "alarm", (alarm,), alarm in group.alarms
