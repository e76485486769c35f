"""What a matching pipeline shows."""

from collections.abc import Mapping

from streamd.matching.pool import COUNTS, Pool
from streamd.matching.resources import DEVIATIONS
from streamd.stages.hindsight import Watch
from streamd.stages.match_waiting import Line
from streamd.views import DelayView, HindsightView, MatchingView, PoolView, QualityView, TaskView


def task_view(pools: Mapping[str, Pool], more: Mapping[str, int], line: Line, watch: Watch) -> TaskView:
    """more: the counts that are none of a pool's."""
    counts = {name: sum(pool.counts[name] for pool in pools.values()) for name in COUNTS}
    counts.update(more)
    settled = counts["successes"] + counts["failures"] + counts["timeouts"]
    total = {"success": counts["successes"] / settled if settled else 0.0}
    return TaskView(
        counts=counts,
        pending=sum(len(pool.attempts.open) for pool in pools.values()),
        pending_bytes=0,
        early=0,
        classes=0,
        delay=DelayView((), (0,), 0.0),
        quality=QualityView(settled, total, {}, 0),
        matching=MatchingView(
            tuple(_shown(name, pool, line.size(name), watch.found(name)) for name, pool in pools.items())
        ),
    )


def _shown(name: str, pool: Pool, waiting: int, hindsight: HindsightView | None) -> PoolView:
    counts, expected = pool.counts, pool.expected
    return PoolView(
        name,
        len(pool.resources),
        len(pool.attempts.open),
        counts["matched"],
        dict(pool.reasons),
        counts["successes"] + counts["failures"] + counts["timeouts"],
        expected,
        pool.succeeded,
        pool.resources.off,
        abs(pool.succeeded - expected) > DEVIATIONS * max(expected, 1.0) ** 0.5,
        len(pool.segments.kept),
        pool.resources.group_shares(),
        hindsight,
        waiting,
    )
