"""`streamd ss3`: evaluate SS3 on labelled texts, and look into, write and explain with PySS3 model files."""

import csv
import gzip
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from streamd.cli import ss3_models as models
from streamd.cli.operating import Urls, Workers, addresses, carry_out, report
from streamd.cli.options import ConfigFile, Json, console, load, print_json
from streamd.cli.snapshots import taken
from streamd.cli.ss3_early import early
from streamd.errors import StreamdError
from streamd.learners.ss3 import model_file
from streamd.learners.ss3.evaluation import Tried, grid_search, surface
from streamd.learners.ss3.explain import LEVELS, as_html, insight
from streamd.learners.ss3.explain import explain as explained
from streamd.learners.ss3.model import SS3Classifier
from streamd.learners.ss3.vocabulary import Entry, stop_words
from streamd.learners.ss3.vocabulary import vocabulary as entries
from streamd.operating.mailbox import Command

ss3 = typer.Typer(help="SS3 on texts, and PySS3's model files.", no_args_is_help=True)

ss3.command()(early)

Texts = Annotated[Path, typer.Argument(help="A CSV file, perhaps .gz, with a header.")]
Model = Annotated[Path, typer.Argument(help="A PySS3 model file (.ss3m), or what `snapshot export` wrote.")]
TextColumn = Annotated[str, typer.Option("--text", help="The column of the text.")]
LabelColumn = Annotated[str, typer.Option("--label", help="The column of the label.")]
NGrams = Annotated[int, typer.Option("--n-grams", min=1, max=8, help="The longest n-grams, in words.")]
Values = Annotated[str, typer.Option(help="Values to try, with commas between.")]


@ss3.command()
def evaluate(
    file: Texts,
    text: TextColumn = "text",
    label: LabelColumn = "label",
    n_grams: NGrams = 1,
    sigma: Values = "0.45",
    lam: Values = "0.5",
    rho: Values = "1",
    alpha: Values = "0",
    k: Annotated[int, typer.Option(min=2, help="How many folds.")] = 5,
    seed: int = 0,
    picture: Annotated[
        Path | None, typer.Option(help="Write the surface over sigma and lambda here, as SVG.")
    ] = None,
    json: Json = False,
) -> None:
    """K-fold accuracy and F1 at every point of a grid of hyper-parameters, from counts learned once a fold."""
    texts, labels = read_texts(file, text, label)
    grid = (_numbers(sigma), _numbers(lam), _numbers(rho), _numbers(alpha))
    with _bar(shown=not json) as progress:
        tried = grid_search(texts, labels, grid, k, seed, progress, n_grams=n_grams)
    if picture is not None:
        picture.write_text(surface(tried), encoding="utf-8")
    if json:
        print_json(tried)
    else:
        _print_tried(tried)


@ss3.command()
def vocabulary(
    model: Model,
    category: Annotated[str | None, typer.Option(help="Only this category.")] = None,
    n: Annotated[int | None, typer.Option("-n", help="Only terms of so many words.")] = None,
    stop: Annotated[bool, typer.Option("--stop-words", help="Only the words that tell nothing.")] = False,
    parquet: Annotated[
        Path | None, typer.Option(help="Write Parquet here; needs the extra streamd[parquet].")
    ] = None,
    json: Json = False,
) -> None:
    """The terms of a model with fr, lv, sg, sn, gv and cv, as CSV, JSON or Parquet."""
    loaded = models.read(model)
    if stop:
        words = stop_words(loaded)
        print_json(words) if json else sys.stdout.writelines(f"{word}\n" for word in words)
    elif parquet is not None:
        models.write_parquet(parquet, entries(loaded, category, n))
    elif json:
        print_json(list(entries(loaded, category, n)))
    else:
        rows = csv.writer(sys.stdout, lineterminator="\n")
        rows.writerow(Entry.__struct_fields__)
        for entry in entries(loaded, category, n):
            rows.writerow([getattr(entry, name) for name in Entry.__struct_fields__])


@ss3.command()
def train(
    file: Texts,
    model: Annotated[Path, typer.Argument(help="The PySS3 model file (.ss3m) to write.")],
    text: TextColumn = "text",
    label: LabelColumn = "label",
    n_grams: NGrams = 1,
) -> None:
    """Learn labelled texts, one after the other, and write what PySS3 can load."""
    texts, labels = read_texts(file, text, label)
    learner = SS3Classifier(n_grams=n_grams, compatibility="pyss3")
    learner.learn_many(texts, labels)
    model.write_bytes(model_file.write(learner))


@ss3.command()
def export(
    pipeline: Annotated[str, typer.Argument(help="The pipeline.")],
    model: Annotated[Path, typer.Argument(help="The PySS3 model file (.ss3m) to write.")],
    partition: Annotated[int, typer.Option("--partition", "-p", min=0, help="The shard.")] = 0,
    config: ConfigFile = None,
) -> None:
    """Write what a pipeline had learned by its newest snapshot as a model file that PySS3 can load."""
    learner = models.of_snapshot(taken(load(config), pipeline, partition, None))
    model.write_bytes(model_file.write(learner))
    print(f"{len(learner.classes)} categories, {learner.terms:,} terms in {model}")


@ss3.command("import")
def import_model(
    pipeline: Annotated[str, typer.Argument(help="The pipeline.")],
    model: Model,
    partition: Annotated[int, typer.Option("--partition", "-p", min=0, help="The shard.")] = 0,
    config: ConfigFile = None,
    url: Urls = None,
    workers: Workers = 1,
    json: Json = False,
) -> None:
    """Make what a model file has learned what a pipeline has learned: an epoch in its journal, so it survives any
    crash. The hyper-parameters stay those of the configuration."""
    loaded = load(config)
    command = Command("learned", models.as_snapshot(loaded, pipeline, partition, model), partition)
    report(carry_out(loaded, pipeline, [command], addresses(loaded, url, workers)), json)


@ss3.command()
def explain(
    model: Model,
    text: Annotated[str, typer.Argument(help="The text to decide on.")],
    html: Annotated[Path | None, typer.Option(help="Write a page with the text in colour here.")] = None,
    native: Annotated[bool, typer.Option(help="Cut the text as streamd does, not as PySS3 does.")] = True,
    snippets: Annotated[
        str | None, typer.Option(help=f"Only the pieces that spoke for it: {', '.join(LEVELS)}.")
    ] = None,
    category: Annotated[str | None, typer.Option(help="Of --snippets. [default: the strongest]")] = None,
    window: Annotated[int, typer.Option(min=0, help="Of --snippets word: words around a word.")] = 3,
) -> None:
    """Decide on a text and say why: document, paragraphs, sentences and terms, as JSON."""
    tree = explained(models.read(model, compatibility=None if native else "pyss3"), text)
    if html is not None:
        html.write_text(as_html(tree), encoding="utf-8")
    print_json(tree if snippets is None else insight(tree, snippets, category, window))


def read_texts(path: Path, text: str, label: str) -> tuple[list[str], list[str]]:
    """Two columns of a CSV file. Raises StreamdError if the file or a column is not there."""
    raw = _bytes(path)
    try:
        rows = list(
            csv.DictReader((gzip.decompress(raw) if path.suffix == ".gz" else raw).decode().splitlines(True))
        )
        return [row[text] or "" for row in rows], [row[label] or "" for row in rows]
    except KeyError as error:
        raise StreamdError(f"{path} has no column {error}") from None
    except (ValueError, OSError, csv.Error) as error:
        raise StreamdError(f"{path} cannot be read: {error}") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StreamdError(f"{path} cannot be read: {error.strerror}") from None


def _numbers(values: str) -> list[float]:
    try:
        return [float(value) for value in values.split(",")]
    except ValueError:
        raise StreamdError(f"{values!r} is not a list of numbers with commas between") from None


@contextmanager
def _bar(shown: bool) -> Iterator[Callable[[int, int], None]]:
    with Progress(transient=True, disable=not shown, console=None) as bar:
        task = bar.add_task("trials")
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_tried(tried: list[Tried]) -> None:
    table = Table(*Tried.__struct_fields__)
    for point in tried:
        values = [getattr(point, name) for name in Tried.__struct_fields__]
        table.add_row(*(f"{value:g}" for value in values[:4]), *(f"{value:.4f}" for value in values[4:]))
    console().print(table)
