"""The label loop of a shard, for `streamd status`."""

from rich.table import Table

from streamd.querying.answer import COUNTS
from streamd.views import QueryingView

COLUMNS = ("accuracy", "agreement", "seconds", "cost", "open", "answers", "skips")


def querying_lines(partition: int, view: QueryingView) -> list[str]:
    """What was asked and what became of it, the budget, and how good the predictions are by what was answered."""
    counts = ", ".join(f"{name} {view.counts[name]:,}" for name in COUNTS if view.counts.get(name))
    level = "" if view.level is None else f", {view.level:.4g} labels in the bucket"
    level += f" ({view.lost:,.0f} lost: no event came while it was full)" if view.lost and view.lost >= 1 else ""
    budget = f"{view.share:.2%} of the events{level}, {view.pending:,} pending"
    estimates = view.estimates
    found = [f"queries of partition {partition}: {view.strategy}, {budget}"]
    found += [f"  {counts}"] if counts else []
    if estimates.raw is not None:
        blind = "" if estimates.holdout is None else f", on the blind slice {estimates.holdout:.4g}"
        error = "" if estimates.error is None else f" ± {estimates.error:.2g}"
        weighted = "" if estimates.weighted is None else f", weighted {estimates.weighted:.4g}"
        found.append(f"  of {estimates.answers:,} answers: raw {estimates.raw:.4g}{weighted}{blind}{error}")
    return found


def annotators_table(view: QueryingView) -> Table:
    """Who answers; the bad ones are marked."""
    table = Table(box=None, pad_edge=False)
    table.add_column("annotator")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    table.add_column("", style="red")
    for one in view.annotators:
        agreement = "" if one.agreement is None else f"{one.agreement:.1%}"
        seconds = "" if one.seconds is None else f"{one.seconds:,.0f}"
        numbers = (f"{one.load:,}", f"{one.answers:,}", f"{one.skips:,}")
        bad = "worse than the others" if one.bad else ""
        table.add_row(one.name, f"{one.accuracy:.1%}", agreement, seconds, f"{one.cost:.4g}", *numbers, bad)
    return table
