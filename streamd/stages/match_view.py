"""What a matching pipeline shows of its pools."""

from streamd.matching.pool import Pool
from streamd.matching.resources import DEVIATIONS
from streamd.views import HindsightView, PoolView


def shown(name: str, pool: Pool, hindsight: HindsightView | None) -> PoolView:
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
    )
