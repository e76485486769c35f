"""`streamd groupwise report`: what groupwise learning would have brought on a recorded, labelled stream."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from streamd import records as codec
from streamd.cli.csv_source import Columns, csv_rows, rewindable
from streamd.cli.groupwise_curves import svg
from streamd.cli.options import Json, console, note, print_json
from streamd.cli.sources import opened
from streamd.errors import BadRecord, StreamdError
from streamd.learners.groupwise import GroupwiseRegressor
from streamd.learners.groupwise.hindsight import Judged, Recorded, judge

groupwise = typer.Typer(help="Groupwise learning, away from the daemon.", no_args_is_help=True)


@groupwise.command("report")
def report(
    file: Annotated[Path, typer.Argument(help="CSV with a header line, plain or .gz, in the order of time.")],
    label: Annotated[str, typer.Option("--label", help="The column with the truth, a number.")],
    group: Annotated[list[str] | None, typer.Option("--group", "-g", help="A predicate; repeat it.")] = None,
    range_: Annotated[
        str, typer.Option("--range", help="LOW,HIGH of the label. [default: its least and largest value]")
    ] = "",
    drop: Annotated[list[str] | None, typer.Option("--drop", help="A column to leave out; repeat it.")] = None,
    meta: Annotated[str, typer.Option("--meta", help="anh, aa, ewa or mlpoly.")] = "anh",
    experts: Annotated[str, typer.Option("--experts", help="own, own+everyone or pairs.")] = "own",
    oracle: Annotated[str, typer.Option("--oracle", help="ridge or vaw.")] = "ridge",
    features: Annotated[int, typer.Option("--features", help="Columns of a feature vector, at most.")] = 100,
    shuffle: Annotated[int | None, typer.Option("--shuffle", help="Another order, by this seed.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N events.")] = None,
    picture: Annotated[Path | None, typer.Option("--picture", help="Write regret curves here, SVG.")] = None,
    as_json: Json = False,
) -> None:
    """Loss and regret of the single and the groupwise model on every group, against its best fit in hindsight."""
    stream = list(_recorded(file, label, tuple(drop or ()), limit))
    if not stream:
        raise StreamdError(f"{file}: no events")
    if shuffle is not None:
        order = np.random.RandomState(shuffle).permutation(len(stream)).tolist()
        stream = [stream[i] for i in order]
    learner = GroupwiseRegressor(
        _range(range_, stream), group or [], meta=meta, experts=experts, oracle=oracle, max_features=features
    )
    try:
        found = judge(learner, stream)
    except BadRecord as refusal:
        raise StreamdError(f"{file}: {refusal.reason}") from None
    if learner.clipped:
        note(f"{learner.clipped} labels lay outside the range, and were learned as its nearer end")
    if learner.index.hashed:
        note(f"{features} columns are too few: features shared one {learner.index.hashed} times")
    if picture is not None:
        picture.write_text(svg(found), encoding="utf-8")
    if as_json:
        print_json(found)
    else:
        console().print(_table(found))


def _table(found: Sequence[Judged]) -> Table:
    table = Table(caption="sums of squared errors; regret: to the group's own least squares in hindsight")
    table.add_column("group", no_wrap=True)
    for name in ("events", "hindsight", "single", "groupwise", "change", "regret single", "regret groupwise"):
        table.add_column(name, justify="right")
    for one in found:
        change = f"{one.groupwise / one.single - 1:+.1%}" if one.single else ""
        sums = [f"{value:.5g}" for value in (one.hindsight, one.single, one.groupwise)]
        table.add_row(
            one.name, f"{one.n:,}", *sums, change, f"{one.single_regret:+.4g}", f"{one.groupwise_regret:+.4g}"
        )
    return table


def _recorded(file: Path, label: str, drop: tuple[str, ...], limit: int | None) -> Iterator[Recorded]:
    columns = Columns(label=label, drop=frozenset(drop))
    taken = 0
    with opened(str(file)) as source, rewindable(source) as again:
        for batch in csv_rows(again, columns, False):
            for item in batch:
                event = codec.decode_event(item.value)
                yield Recorded(event.features or {}, _number(file, label, event.label), event.groups)
                taken += 1
                if taken == limit:
                    return


def _number(file: Path, label: str, value: Any) -> float:
    try:
        return codec.value_label(value)
    except BadRecord:
        raise StreamdError(f"{file}: the column {label} holds what is not a number") from None


def _range(given: str, stream: Sequence[Recorded]) -> tuple[float, float]:
    if not given:
        values = [event.y for event in stream]
        return min(values), max(values)
    try:
        low, high = (float(part) for part in given.split(","))
    except ValueError:
        raise StreamdError("--range: expected LOW,HIGH") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise StreamdError("--range: expected two numbers, the first below the second")
    return low, high
