"""The pools of a matching pipeline, as `streamd status` prints them."""

from collections.abc import Iterator

from rich.table import Table

from streamd.views import HindsightView, MatchingView, PoolView

NUMBERS = ("resources", "open", "waiting", "matched", "settled", "successes", "expected")


def pools_table(partition: int, view: MatchingView) -> Table:
    """A row per pool of a partition."""
    table = Table(box=None, pad_edge=False)
    table.add_column("pool")
    table.add_column("partition", justify="right")
    for name in NUMBERS:
        table.add_column(name, justify="right")
    table.add_column("unmatched")
    table.add_column("in hindsight")
    for pool in view.pools:
        table.add_row(pool.pool, str(partition), *_cells(pool))
    return table


def _cells(pool: PoolView) -> Iterator[str]:
    for number in (pool.resources, pool.open, pool.waiting, pool.matched, pool.settled, pool.succeeded):
        yield f"{number:,}"
    yield f"{pool.expected:,.1f}{' (miscalibrated)' if pool.alarm else ''}"
    yield ", ".join(f"{reason} {count:,}" for reason, count in pool.unmatched.items())
    yield "" if pool.hindsight is None else hindsight(pool.hindsight)


def hindsight(found: HindsightView) -> str:
    """The ratio to the matching LP of the last arrivals, what is certified, what other rules would have got."""
    certified = "nothing certified"
    if found.certified is not None:
        certified = (
            f"certified {found.certified:.3f} of the {found.against} bound: {found.assumes}; {found.source}"
        )
    simulated = ", ".join(f"{rule.rule} {rule.ratio:.3f} ± {rule.interval:.3f}" for rule in found.rules)
    beside = f"; simulated {simulated}" if simulated else ""
    return f"{found.ratio:.3f} of the matching LP of {found.arrivals:,} arrivals ({certified}{beside})"
