"""A recorded stream of resources and arrivals, read from JSON lines; a replay's report, as a table."""

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct
from rich.table import Table

from streamd.cli.options import console
from streamd.errors import BadRecord, StreamdError
from streamd.matching import replay as replaying
from streamd.matching.arrivals import Edge
from streamd.matching.instance import Instance, instance
from streamd.matching.replay import Report, Score
from streamd.matching.rules import Rule


class _Line(Struct):
    """A resource has a capacity, an arrival or a segment edges, an arrival may name a segment instead."""

    id: str
    op: str = "put"
    capacity: float | None = None
    weight: float = 1.0
    cost: float = 1.0
    edges: list[Edge] | None = None
    segment: str | None = None


def read(lines: Iterable[bytes]) -> Instance:
    """A stream of JSON lines. Raises StreamdError with the number of the line that is wrong.

    Capacity is the one first given; resources may come after arrivals that name them. Lines with edges and a
    segment's name that is used by an arrival are segments.
    """
    resources: dict[str, _Line] = {}
    asked: list[_Line] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            told = msgspec.json.decode(line, type=_Line)
        except msgspec.MsgspecError as error:
            raise StreamdError(f"line {number}: {error}") from None
        if told.capacity is not None:
            resources.setdefault(told.id, told)
        elif told.edges is not None or told.segment is not None:
            asked.append(told)
        elif told.op != "leave":
            raise StreamdError(f"line {number}: neither a capacity nor edges nor a segment")
    return _instance(resources, asked)


def _instance(resources: Mapping[str, _Line], asked: list[_Line]) -> Instance:
    slots = {name: u for u, name in enumerate(resources)}
    used = {line.segment for line in asked if line.segment is not None}
    segments = {line.id: line.edges for line in asked if line.edges is not None and line.id in used}
    arrivals = []
    for line in asked:
        if line.id in segments:
            continue
        edges = line.edges if line.segment is None else segments.get(line.segment)
        arrivals.append([(slots[e.resource], _p(line, e)) for e in edges or () if e.resource in slots])
    weight = [line.weight / line.cost for line in resources.values()]
    capacity = [line.capacity or 0.0 for line in resources.values()]
    try:
        return instance(arrivals, weight, capacity, list(resources))
    except BadRecord as error:
        raise StreamdError(str(error)) from None


def _p(line: _Line, edge: Edge) -> float:
    if edge.p is None:
        raise StreamdError(f"arrival {line.id}: an edge has no p; a replay needs them given")
    return edge.p


def chosen(names: list[str] | None) -> dict[str, Rule]:
    """The rules of these names, all if there are none. Raises StreamdError."""
    if not names:
        return dict(replaying.ALL)
    unknown = [name for name in names if name not in replaying.ALL]
    if unknown:
        raise StreamdError(f"rule {unknown[0]}: expected one of {', '.join(replaying.ALL)}")
    return {name: replaying.ALL[name] for name in names}


def show(report: Report) -> None:
    """Print a report."""
    out = console()
    out.print(
        f"{report.resources:,} resources, {report.arrivals:,} arrivals, {report.edges:,} edges; "
        f"{report.runs} runs, outcomes known after {report.delay} arrivals"
    )
    out.print(
        f"bounds: matching LP {_number(report.matching_lp)}, stochastic configuration LP "
        f"{_number(report.stochastic_lp)} (one unit each), exact optimum {_number(report.exact)} (tiny pools)"
    )
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in (
        "rule",
        "reward",
        "±95 %",
        "",
        "matching",
        "stochastic",
        "exact",
        "matched",
        "surplus",
        "certified",
    ):
        table.add_column(column, justify="left" if column in ("rule", "", "certified") else "right")
    best = max((score.reward for score in report.scores), default=0.0)
    for score in report.scores:
        table.add_row(*_row(score, best))
    out.print(table)


def _row(score: Score, best: float) -> tuple[str, ...]:
    bar = "█" * round(20 * score.reward / best) if best > 0 else ""
    ratios = (score.ratio_matching, score.ratio_stochastic, score.ratio_exact)
    certified = "-"
    if score.certified is not None:
        certified = f"{score.certified:.3f} of {score.certified_against}; {score.assumes}; {score.source}"
    told = (f"{score.matched:.1%}", f"{score.surplus:.2f}", certified)
    return (score.rule, f"{score.reward:.2f}", f"{score.interval:.2f}", bar, *map(_ratio, ratios), *told)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.3f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
