"""What a matching pipeline adds to `streamd.metrics`: its metrics, its counts, its samples."""

from collections.abc import Iterator, Mapping

from streamd.metrics.rows import SHARD, Row, Sample
from streamd.views import HindsightView, MatchingView, PoolView

POOL = (*SHARD, "pool")

TABLE: Mapping[str, Row] = {
    "streamd_arrivals": Row(
        "counter",
        (*SHARD, "outcome"),
        "Arrivals: decided, or repeated (answered again).",
    ),
    "streamd_matches": Row("counter", (*SHARD, "outcome"), "Decisions: matched or unmatched."),
    "streamd_attempts": Row("counter", (*SHARD, "outcome"), "Attempts that ended, by how."),
    "streamd_late_outcomes": Row(
        "counter", (*SHARD, "outcome"), "Outcomes after the time-out: accepted or ignored."
    ),
    "streamd_idle_outcomes": Row(
        "counter",
        (*SHARD, "outcome"),
        "Outcomes of attempts settled before: repeated or contradicting.",
    ),
    "streamd_surplus_successes": Row("counter", SHARD, "Successes beyond their resource's capacity."),
    "streamd_unknown_edges": Row("counter", SHARD, "Edges to resources that their pool does not know."),
    "streamd_reoffers": Row("counter", SHARD, "Arrivals offered again after a time-out."),
    "streamd_pool_records": Row("counter", (*SHARD, "kind"), "Resource and segment records applied."),
    "streamd_pool_resources": Row("gauge", POOL, "Resources that take matches."),
    "streamd_pool_open_attempts": Row("gauge", POOL, "Attempts that wait for their outcome."),
    "streamd_pool_waiting": Row("gauge", POOL, "Arrivals kept until somebody comes free."),
    "streamd_waits": Row(
        "counter", (*SHARD, "outcome"), "Arrivals that waited: begun, matched, in vain, or withdrawn."
    ),
    "streamd_pool_segments": Row("gauge", POOL, "Edge sets kept."),
    "streamd_pool_matched": Row("counter", POOL, "Arrivals matched."),
    "streamd_pool_unmatched": Row("counter", (*POOL, "reason"), "Arrivals left unmatched, by reason."),
    "streamd_pool_settled": Row("counter", POOL, "Attempts that ended with a success or a failure."),
    "streamd_pool_expected_successes": Row("counter", POOL, "Successes their probabilities promised: their load."),
    "streamd_pool_successes": Row("counter", POOL, "Successes of those attempts."),
    "streamd_pool_miscalibrated": Row(
        "gauge",
        POOL,
        "1 if the successes are more than four square roots of their expectation away from it, else 0.",
    ),
    "streamd_pool_miscalibrated_resources": Row("gauge", POOL, "Resources of which the same can be said."),
    "streamd_pool_group_share": Row(
        "gauge",
        (*POOL, "group"),
        "Fading share of a group's matches.",
    ),
    "streamd_pool_hindsight_arrivals": Row("gauge", POOL, "Last arrivals that were judged in hindsight."),
    "streamd_pool_hindsight_edges": Row("gauge", POOL, "Their edges."),
    "streamd_pool_hindsight_bound": Row("gauge", POOL, "Value of their matching LP: no rule expects more."),
    "streamd_pool_hindsight_reward": Row("gauge", POOL, "Expected worth of what was matched of them."),
    "streamd_pool_hindsight_ratio": Row(
        "gauge", POOL, "The reward's ratio to the bound; luck may lift it above 1."
    ),
    "streamd_pool_certified_ratio": Row(
        "gauge", (*POOL, "against", "assumes", "source"), "What the rule reaches in the worst case."
    ),
    "streamd_pool_rule_reward": Row("gauge", (*POOL, "rule"), "Mean reward of a rule on the same arrivals."),
    "streamd_pool_rule_ratio": Row("gauge", (*POOL, "rule"), "The same as a ratio to the bound."),
    "streamd_pool_rule_interval": Row("gauge", (*POOL, "rule"), "Half its 95 percent interval."),
}

COUNTS: Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "arrivals": (("streamd_arrivals", ("decided",)),),
    "repeated_arrivals": (("streamd_arrivals", ("repeated",)),),
    "matched": (("streamd_matches", ("matched",)),),
    "unmatched": (("streamd_matches", ("unmatched",)),),
    "successes": (("streamd_attempts", ("success",)),),
    "failures": (("streamd_attempts", ("failure",)),),
    "skipped": (("streamd_attempts", ("skipped",)),),
    "timeouts": (("streamd_attempts", ("timeout",)),),
    "late_successes": (("streamd_late_outcomes", ("accepted",)),),
    "late_ignored": (("streamd_late_outcomes", ("ignored",)),),
    "repeated_outcomes": (("streamd_idle_outcomes", ("repeated",)),),
    "contradictions": (("streamd_idle_outcomes", ("contradicting",)),),
    "surplus": (("streamd_surplus_successes", ()),),
    "unknown_edges": (("streamd_unknown_edges", ()),),
    "reoffered": (("streamd_reoffers", ()),),
    "waited": (("streamd_waits", ("begun",)),),
    "waited_matched": (("streamd_waits", ("matched",)),),
    "waited_in_vain": (("streamd_waits", ("in vain",)),),
    "withdrawn": (("streamd_waits", ("withdrawn",)),),
    "resources": (("streamd_pool_records", ("resource",)),),
    "segments": (("streamd_pool_records", ("segment",)),),
}


def samples(labels: tuple[str, ...], view: MatchingView) -> Iterator[Sample]:
    """labels: of the shard."""
    for pool in view.pools:
        yield from _pool((*labels, pool.pool), pool)


def _pool(labels: tuple[str, ...], pool: PoolView) -> Iterator[Sample]:
    yield "streamd_pool_resources", labels, pool.resources
    yield "streamd_pool_open_attempts", labels, pool.open
    yield "streamd_pool_waiting", labels, pool.waiting
    yield "streamd_pool_segments", labels, pool.segments
    yield "streamd_pool_matched", labels, pool.matched
    yield "streamd_pool_settled", labels, pool.settled
    yield "streamd_pool_expected_successes", labels, pool.expected
    yield "streamd_pool_successes", labels, pool.succeeded
    yield "streamd_pool_miscalibrated", labels, pool.alarm
    yield "streamd_pool_miscalibrated_resources", labels, pool.miscalibrated
    for reason, count in pool.unmatched.items():
        yield "streamd_pool_unmatched", (*labels, reason), count
    for group, share in pool.groups.items():
        yield "streamd_pool_group_share", (*labels, group), share
    if pool.hindsight is not None:
        yield from _hindsight(labels, pool.hindsight)


def _hindsight(labels: tuple[str, ...], found: HindsightView) -> Iterator[Sample]:
    yield "streamd_pool_hindsight_arrivals", labels, found.arrivals
    yield "streamd_pool_hindsight_edges", labels, found.edges
    yield "streamd_pool_hindsight_bound", labels, found.bound
    yield "streamd_pool_hindsight_reward", labels, found.reward
    yield "streamd_pool_hindsight_ratio", labels, found.ratio
    if found.certified is not None:
        about = (found.against, found.assumes, found.source)
        yield "streamd_pool_certified_ratio", (*labels, *about), found.certified
    for rule in found.rules:
        yield "streamd_pool_rule_reward", (*labels, rule.rule), rule.reward
        yield "streamd_pool_rule_ratio", (*labels, rule.rule), rule.ratio
        yield "streamd_pool_rule_interval", (*labels, rule.rule), rule.interval
