"""`streamd replay`: a recorded stream through one or more configurations, in memory, and their quality."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from msgspec import Struct
from rich.table import Table

from streamd import config as configuration
from streamd import wiring
from streamd.cli.csv_source import Columns
from streamd.cli.curves import svg
from streamd.cli.options import Json, console, print_json
from streamd.cli.progress import bar
from streamd.cli.replay_source import is_file, of_file, of_topics, renamed
from streamd.cli.replay_verify import report as report_verified
from streamd.cli.replay_verify import verify as verified
from streamd.config import Config
from streamd.config.keys import AnyPipeline
from streamd.errors import Refused
from streamd.operating import replaying
from streamd.operating.paired import LEVEL, Difference, difference
from streamd.operating.replaying import (
    FALLING,
    MEASURE,
    Replay,
    Replayed,
    Roles,
    by_partition,
    curve,
    quality,
    truth,
)
from streamd.ports import Record
from streamd.shard import Shard, Task

Configs = Annotated[
    list[Path] | None,
    typer.Option("--config", "-c", help="A configuration; give several to compare them with the first."),
]


class Run(Struct, frozen=True):
    """What one configuration made of the stream.

    score: mean over the events that could be scored, of Report.measure; quality: the shards' own measures. labels:
    those learned; withheld: answers in the recording to what this configuration did not ask; seconds: in the
    shards; per_second: records.
    """

    config: str
    pipeline: str
    model: str
    records: int
    events: int
    labels: int
    withheld: int
    queries: int
    matches: int
    dead_letters: int
    scored: int
    score: float | None
    quality: Mapping[str, float]
    seconds: float
    per_second: float
    curve: Sequence[tuple[int, float]]


class Report(Struct, frozen=True):
    """differences: of each configuration but the first from the first; None: no event was scored by both."""

    source: str
    task: str
    measure: str
    better: str
    runs: Sequence[Run]
    differences: Sequence[Difference | None]
    level: float = LEVEL


def replay(
    source: Annotated[
        str | None, typer.Argument(help="A file as `send` reads it, or an input topic: then all inputs are read.")
    ] = None,
    config: Configs = None,
    pipeline: Annotated[str, typer.Option(help="Which. [default: the one that reads the topic]")] = "",
    start: Annotated[str, typer.Option("--from", help="Topic: start, an offset, or a time.")] = "start",
    delay: Annotated[
        int | None, typer.Option(min=0, help="File: take labels out of the events, and give them so many later.")
    ] = None,
    id: Annotated[str | None, typer.Option(help="CSV: the column of the id.")] = None,
    label: Annotated[str | None, typer.Option(help="CSV: the column of the label.")] = None,
    text: Annotated[str | None, typer.Option(help="CSV: the column of the text.")] = None,
    missing: Annotated[list[str] | None, typer.Option(help="CSV: what a missing cell holds. Repeatable.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Instead: decide the journal anew, compare with what was written.")
    ] = False,
    picture: Annotated[Path | None, typer.Option(help="Write the curves to this file, as SVG.")] = None,
    json: Json = False,
) -> None:
    """See what a configuration would have done with a recorded stream, and what another one would have.

    Nothing is written to any topic or store. A file whose last line is cut is refused.
    """
    named = config or [configuration.default_path()]
    loaded = [configuration.load(path) for path in named]
    for one in loaded:
        wiring.check(one)
    if verify:
        if source is not None or len(loaded) > 1:
            raise Refused("--verify reads the journal: give it one configuration, and nothing to replay")
        wiring.warm_up(loaded[0])
        with bar("verifying", None) as show:
            found = verified(loaded[0], pipeline, show)
        report_verified(found, json)
        return
    if source is None:
        raise Refused("say what to replay: a file, or a topic that a pipeline reads")
    names = [_chosen(one, pipeline, source) for one in loaded]
    first = loaded[0].pipeline[names[0]]
    if is_file(source):
        columns = Columns(id, None, label, text, missing=frozenset(missing or ()) | {""})
        records = of_file(source, columns, roles(first), delay)
    elif source in first.inputs:
        records = of_topics(loaded[0], first.inputs, source, start)
    else:
        raise Refused(f"{source} is neither a file nor an input of pipeline {names[0]}: {', '.join(first.inputs)}")
    report = compare(source, list(zip(map(str, named), loaded, names, strict=True)), records)
    if picture is not None:
        lines = {f"{i + 1} {run.model}": run.curve for i, run in enumerate(report.runs)}
        picture.write_text(svg(lines, "events scored", f"{report.measure}, over a twentieth of the stream"))
    if json:
        print_json(report)
    else:
        _print(report)


def roles(pipeline: AnyPipeline) -> Roles:
    """The topics of a pipeline, by what they are."""
    return Roles(
        pipeline.task,
        pipeline.inputs,
        pipeline.events,
        getattr(pipeline, "labels", None),
        pipeline.answers,
        getattr(pipeline, "dead_letters_topic", ""),
        getattr(pipeline, "queries", None),
    )


def _chosen(config: Config, asked: str, source: str) -> str:
    """The pipeline to replay. Raises Refused."""
    names = list(config.pipeline)
    if asked and asked not in names:
        raise Refused(f"there is no pipeline {asked}; there are {', '.join(names)}")
    found = [asked] if asked else [name for name in names if source in config.pipeline[name].inputs]
    if len(found or names) > 1:
        raise Refused(f"which pipeline? {', '.join(found or names)}: say it with --pipeline")
    return (found or names)[0]


def compare(source: str, given: Sequence[tuple[str, Config, str]], records: Sequence[Record]) -> Report:
    """Replay the records through each (path, configuration, pipeline). Raises Refused for unequal tasks."""
    pipelines = [config.pipeline[name] for _, config, name in given]
    first = roles(pipelines[0])
    if any(one.task != first.task for one in pipelines):
        raise Refused("the configurations differ in their task; only equal tasks can be compared")
    known = truth(first.task, first.events, first.labels, records)
    runs: list[tuple[Run, Replayed]] = []
    with bar("replaying", len(records) * len(given)) as show:
        for i, (path, config, name) in enumerate(given):
            here = renamed(records, first.inputs, config.pipeline[name].inputs)
            _, fresh = wiring.shards(config, name)
            wiring.warm_up(config)
            one = Replay(roles(config.pipeline[name]), partial(_task, fresh), known)
            done = one.run(by_partition(here), partial(_told, show, i * len(records)))
            runs.append((_run(path, config, name, done), done))
    measure = MEASURE[first.task]
    found = [difference(runs[0][1].scores, done.scores) for _, done in runs[1:]]
    better = "less" if measure in FALLING else "more"
    return Report(source, first.task, measure, better, [run for run, _ in runs], found)


def _told(show: Callable[[int], None], before: int, done: int) -> None:
    show(before + done)


def _task(fresh: Callable[[int], Shard], partition: int) -> Task:
    return fresh(partition).task


def _run(path: str, config: Config, name: str, done: Replayed) -> Run:
    counts = replaying.counts(done.views)
    scored = int((~np.isnan(done.scores)).sum())
    return Run(
        config=path,
        pipeline=name,
        model=wiring.model(config.pipeline[name]),
        records=done.records,
        events=counts.get("events", 0) or counts.get("arrivals", 0),
        labels=counts.get("learned", 0),
        withheld=done.withheld,
        queries=done.queries,
        matches=done.matches,
        dead_letters=done.dead,
        scored=scored,
        score=float(done.scores[~np.isnan(done.scores)].mean()) if scored else None,
        quality=quality(done.views),
        seconds=done.seconds,
        per_second=done.records / done.seconds if done.seconds else 0.0,
        curve=curve(done.scores),
    )


def _print(report: Report) -> None:
    out = console()
    out.print(f"{report.source}: {report.runs[0].records:,} records")
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for run in report.runs:
        table.add_column(run.config, justify="right")
    table.add_row("model", *(run.model for run in report.runs))
    table.add_row(report.measure, *(_number(run.score) for run in report.runs))
    table.add_row(f"  difference ({report.level:.0%})", "", *map(_difference, report.differences))
    for name in dict.fromkeys(name for run in report.runs for name in run.quality if name != report.measure):
        table.add_row(name, *(_number(run.quality.get(name)) for run in report.runs))
    for name in ("events", "labels", "queries", "withheld", "matches", "dead_letters", "scored"):
        values = [getattr(run, name) for run in report.runs]
        if any(values) or name in ("events", "labels"):
            table.add_row(name.replace("_", " "), *(f"{value:,}" for value in values))
    table.add_row("records per second", *(f"{run.per_second:,.0f}" for run in report.runs))
    out.print(table)
    for run, found in zip(report.runs[1:], report.differences, strict=True):
        out.print(f"{run.config}: {_verdict(found, report.better)}", soft_wrap=True)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _difference(found: Difference | None) -> str:
    return "-" if found is None else f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def _verdict(found: Difference | None, better: str) -> str:
    if found is None:
        return "no event was scored by both"
    if not found.certain:
        return f"no difference from the first that {found.n:,} events can show"
    good = (found.mean > 0) == (better == "more")
    return f"{'better' if good else 'worse'} than the first, on {found.n:,} events"
