"""The groups of a groupwise learner, for `streamd status`."""

from rich.table import Table

from streamd.views import GroupsView, GroupView

SHOWN = 20
COLUMNS = (
    *("events", "labels", "effective", "loss", "single", "own", "regret own", "regret single", "R", "C", "bound"),
    *("fallback", "covered"),
)
COUNTED = ("clipped", "born", "retired", "refused", "crowded", "hashed", "guarded", "nobody")


def groups_table(partition: int, view: GroupsView) -> Table:
    """The groups with an alarm first, then the most seen; what was counted and is not 0 below."""
    table = Table(box=None, pad_edge=False, caption=_caption(view), caption_justify="left")
    table.add_column(f"groups of partition {partition}")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    table.add_column("alarms", style="red")
    for group in sorted(view.groups, key=lambda group: (not group.alarms, -group.seen))[:SHOWN]:
        table.add_row(group.name, *_numbers(group), ", ".join(group.alarms))
    return table


def _numbers(group: GroupView) -> list[str]:
    counts = [f"{group.seen:,}", f"{group.labels:,}", f"{group.effective:,.0f}"]
    losses = [group.loss, group.everyone, group.own, group.regret_own, group.regret_everyone]
    meta = [group.R, group.C, group.bound]
    shares = [group.fallback, group.covered]
    return [
        *counts,
        *("" if value is None else f"{value:.4g}" for value in (*losses, *meta)),
        *("" if value is None else f"{value:.1%}" for value in shares),
    ]


def _caption(view: GroupsView) -> str:
    said = [f"{len(view.groups) - SHOWN} groups more: --json"] if len(view.groups) > SHOWN else []
    said += [f"{name} {value:,}" for name in COUNTED if (value := getattr(view, name))]
    for one in view.declarations:
        said += [f"{one.text} missing {one.missing:,}"] if one.missing else []
        said += [f"{one.text} of another type {one.mistyped:,}"] if one.mistyped else []
    return "; ".join(said)
