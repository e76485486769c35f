"""`streamd active simulate`: what a query strategy would have cost and brought on a recorded, labelled stream."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from msgspec import Struct
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from streamd import records as codec
from streamd.cli.active_curves import svg
from streamd.cli.csv_source import Columns, csv_rows, rewindable
from streamd.cli.options import Json, console, note, print_json
from streamd.cli.sources import Item, opened
from streamd.errors import ConfigError, StreamdError
from streamd.learners import Learner, Predictions, members_of, registry
from streamd.querying import COMPARING, Asker, Keyed, strategy
from streamd.querying import registry as strategies
from streamd.querying.budgets import TokenBucket
from streamd.querying.measures import OF_CLASSES, Measure
from streamd.querying.simulation import Result, simulate
from streamd.querying.sketch import Sketch
from streamd.wiring.query import asked_by

active = typer.Typer(help="Query strategies, away from the daemon.", no_args_is_help=True)

Row = tuple[dict[str, Any], str]


class Run(Struct, frozen=True):
    """One simulation, as asked for. delay: events until a label comes; noise: share of wrong labels."""

    strategy: str
    budget: float
    delay: int
    noise: float
    seed: int


class Simulated(Struct, frozen=True):
    """One line of the table, and of `--json`."""

    run: Run
    result: Result


class _Stepwise:
    """A learner of the daemon, one event at a time."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._predictions: Predictions | None = None

    @property
    def classes(self) -> Sequence[str]:
        return self._learner.classes

    def predict(self, x: Any) -> list[float]:
        steps = self._learner.steps()
        row = steps.row(x)
        steps.predict(row)
        steps.observe(row)
        predictions = self._predictions = steps.execute()
        p: list[float] = predictions.values[0, : predictions.known[0]].tolist()
        return p

    def members(self) -> NDArray[np.float64] | None:
        told = self._predictions
        return None if told is None else members_of(self._learner, told, 0, told.memos()[0])

    def learn(self, x: Any, y: str, weight: float) -> None:
        steps = self._learner.steps()
        row = steps.row(x)
        steps.predict(row)
        steps.learn(row, y, 0, weight)
        steps.execute()


@active.command("simulate")
def simulate_command(
    file: Annotated[Path, typer.Argument(help="CSV with a header line, plain or .gz, in the order of time.")],
    label: Annotated[str, typer.Option("--label", help="The column with the truth.")] = "class",
    drop: Annotated[list[str] | None, typer.Option("--drop", help="A column to leave out; repeat it.")] = None,
    learner: Annotated[str, typer.Option("--learner", help="Its kind, with its defaults.")] = "linear",
    strategies_: Annotated[
        str, typer.Option("--strategy", help="Names, comma between them; `all` for all.")
    ] = "auto,random",
    utility: Annotated[
        str, typer.Option("--utility", help="What a label is worth; a committee's disagreement, too.")
    ] = "least_confident",
    committee: Annotated[
        int, typer.Option("--committee", min=2, help="Members beside a learner that has none of its own.")
    ] = 10,
    budgets: Annotated[
        str, typer.Option("--budget", help="Labels per event, comma between them.")
    ] = "0.01,0.05,0.1",
    delays: Annotated[str, typer.Option("--delay", help="Events until a label comes.")] = "0",
    noises: Annotated[str, typer.Option("--noise", help="Share of the labels that are wrong.")] = "0",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of each, with other draws.")] = 1,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N events.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=0, help="Processes; 0: one per core.")] = 0,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Write label-efficiency curves here, SVG.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run query strategies over a recorded stream: the accuracy for the labels spent."""
    names = sorted(strategies()) if strategies_ == "all" else strategies_.split(",")
    if unknown := sorted(set(names) - set(strategies())):
        raise StreamdError(f"--strategy: no {unknown[0]}; there are {', '.join(sorted(strategies()))}")
    kind = f"{learner}/classify"
    if kind not in registry():
        raise StreamdError(f"--learner: {learner} is none that classifies features")
    if utility not in OF_CLASSES:
        raise StreamdError(f"--utility: no {utility}; there are {', '.join(OF_CLASSES)}")
    try:
        make = asked_by("--utility", utility, learner, registry()[kind], committee)
    except ConfigError as refusal:
        raise StreamdError(str(refusal)) from None
    grid = product(
        _numbers("--delay", delays, 1e9), _numbers("--noise", noises), _numbers("--budget", budgets), names
    )
    runs = [
        Run(name, budget, int(delay), noise, seed)
        for delay, noise, budget, name in grid
        for seed in range(1, seeds + 1)
    ]
    if not file.exists():
        raise StreamdError(f"{file} cannot be read: there is no such file")
    # Rows are kept by the file's place and time: another folder's file of the same name is another stream.
    source = (file.resolve(), file.stat().st_mtime_ns, label, tuple(drop or ()), limit)
    _rows(*source)  # a file that is no stream is refused before anything starts
    done = _all(source, make, utility, runs, jobs or os.cpu_count() or 1)
    if picture is not None:
        picture.write_text(svg([(one.run.strategy, one.run.budget, one.result.accuracy) for one in done]))
        note(f"curves in {picture}")
    if as_json:
        print_json(done)
    else:
        console().print(_table(done))


Source = tuple[Path, int, str, tuple[str, ...], int | None]


def _all(
    source: Source, make: Callable[[], Learner], utility: str, runs: Sequence[Run], jobs: int
) -> list[Simulated]:
    """All runs, in parallel processes, with a progress bar on stderr."""
    with (
        Progress(console=Console(stderr=True), transient=True) as bar,
        ProcessPoolExecutor(min(jobs, len(runs))) as pool,
    ):
        task = bar.add_task("simulating", total=len(runs))
        done = []
        for one in pool.map(partial(_one, source, make, utility), runs):
            done.append(one)
            bar.advance(task)
        return done


def _one(source: Source, make: Callable[[], Learner], utility: str, run: Run) -> Simulated:
    made = Asker(
        strategy(run.strategy, TokenBucket(run.budget)),
        Keyed(run.seed, "simulate"),
        rho=0.1 if run.strategy == "auto" else 0.0,
        wait=1 << 50,
    )
    measure = Measure(utility)
    sketch = Sketch() if run.strategy in COMPARING or measure.compares else None
    result = simulate(
        _rows(*source),
        _Stepwise(make()),
        made,
        delay=run.delay,
        noise=run.noise,
        seed=run.seed,
        sketch=sketch,
        measure=measure,
    )
    return Simulated(run, result)


@lru_cache(maxsize=1)
def _rows(file: Path, written: int, label: str, drop: tuple[str, ...], limit: int | None) -> list[Row]:
    found: list[Row] = []
    columns = Columns(label=label, drop=frozenset(drop), types={label: "string"})
    with opened(str(file)) as source, rewindable(source) as twice:
        for item in _items(csv_rows(twice, columns, split=False), limit):
            event = codec.decode_event(item.value)
            if not isinstance(event.label, str) or event.features is None:
                raise StreamdError(f"{file}: an event has no label")
            found.append((dict(event.features), event.label))
    if not found:
        raise StreamdError(f"{file}: no events")
    return found


def _items(batches: Iterator[list[Item]], limit: int | None) -> Iterator[Item]:
    left = limit if limit is not None else -1
    for batch in batches:
        for item in batch:
            if left == 0:
                return
            left -= 1
            yield item


def _numbers(option: str, text: str, most: float = 1.0) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise StreamdError(f"{option}: {text} is no list of numbers") from None
    if not all(0 <= number <= most for number in found):
        raise StreamdError(f"{option}: must be within 0 and {most:g}")
    return found


def _table(done: Sequence[Simulated]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("strategy", "budget", "delay", "noise", "seed"):
        table.add_column(name, justify="left" if name == "strategy" else "right")
    for name in ("labels", "spent / budget", "accuracy", "kappa", "as estimated", "on the random slice"):
        table.add_column(name, justify="right")
    for one in done:
        run, result = one.run, one.result
        spent = f"{result.share / run.budget:.2f}" if run.budget else "-"
        table.add_row(
            run.strategy,
            f"{run.budget:.1%}",
            str(run.delay),
            f"{run.noise:.0%}",
            str(run.seed),
            f"{result.asked:,}",
            spent,
            f"{result.accuracy:.2%}",
            f"{result.kappa:.3f}",
            _share(result.weighted),
            _share(result.holdout),
        )
    return table


def _share(value: float) -> str:
    return "-" if value != value else f"{value:.1%}"
