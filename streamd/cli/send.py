"""`streamd send TOPIC FILE`: append a file's records to a topic, as fast as the log takes them or at a pace."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, get_args

import typer
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from streamd import wiring
from streamd.cli.csv_source import Columns, Kind, csv_rows, rewindable, unfinished
from streamd.cli.options import ConfigFile, Json, load, note, print_json
from streamd.cli.sending import Pace, Sender
from streamd.cli.sources import Input, Item, json_lines, opened
from streamd.config import Config
from streamd.errors import EXIT_FAILURE, StreamdError
from streamd.ports import LogClient


class Format(StrEnum):
    auto = "auto"
    jsonl = "jsonl"
    csv = "csv"


class Sent(Struct, frozen=True):
    """What was sent. problem: why not all of the file was, if so."""

    topic: str
    records: int
    bytes: int
    labels_topic: str | None
    labels: int
    problem: str


def send(
    topic: Annotated[str, typer.Argument(help="The topic; made if it is missing.")],
    file: Annotated[str, typer.Argument(help="The file, .gz or not; - is stdin.")],
    config: ConfigFile = None,
    format: Annotated[Format, typer.Option(help="By default .csv is CSV, all else JSON lines.")] = Format.auto,
    key: Annotated[str | None, typer.Option(help="Field or column of the record's key. [default: id]")] = None,
    id: Annotated[str | None, typer.Option(help="CSV: the column of the id.")] = None,
    label: Annotated[str | None, typer.Option(help="CSV: the column of the label.")] = None,
    text: Annotated[str | None, typer.Option(help="CSV: the column of the text.")] = None,
    drop: Annotated[list[str] | None, typer.Option(help="CSV: a column to leave out. Repeatable.")] = None,
    type: Annotated[
        list[str] | None, typer.Option(help="CSV: COLUMN=number, boolean or string. Repeatable.")
    ] = None,
    missing: Annotated[
        list[str] | None, typer.Option(help="CSV: what a missing cell holds, besides nothing. Repeatable.")
    ] = None,
    delimiter: Annotated[str, typer.Option(help="CSV: between the cells.")] = ",",
    labels: Annotated[
        str | None, typer.Option(help="Send the labels to this topic, as their own records.")
    ] = None,
    delay: Annotated[int, typer.Option(min=0, help="Labels follow so many events behind their event.")] = 0,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Events per second.")] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Stop after so many events.")] = None,
    json: Json = False,
) -> None:
    """Append the records of FILE to TOPIC: JSON lines as they are, or CSV rows as events."""
    loaded = load(config)
    columns = Columns(
        id,
        key,
        label,
        text,
        frozenset(drop or ()),
        _types(type or []),
        frozenset(missing or ()) | {""},
        _delimiter(delimiter),
    )
    as_csv = format is Format.csv or (format is Format.auto and file.removesuffix(".gz").endswith(".csv"))
    with opened(file) as source, _rewindable(source, as_csv) as readable, _client(loaded) as client:
        split = labels is not None
        if as_csv and unfinished(readable):
            note(f"{file}: the last row has no line end; it is sent as it is")
        batches = csv_rows(readable, columns, split) if as_csv else json_lines(readable, key or "id", split)
        for name in filter(None, (topic, labels)):
            ensure(client, name, loaded.log.partitions)
        sender = Sender(client, topic, labels, delay, Pace(rate))
        problem = _send(sender, _first(batches, limit), readable)
    sent = Sent(topic, sender.records, sender.bytes, labels, sender.labels, problem)
    if json:
        print_json(sent)
    else:
        _print(sent, loaded)
    if problem:
        note(problem)
        raise typer.Exit(EXIT_FAILURE)


def ensure(client: LogClient, topic: str, partitions: int) -> None:
    """Make the topic if it is missing; one that exists may have any number of partitions."""
    if topic not in client.topics():
        client.create(topic, partitions)


def _send(sender: Sender, batches: Iterator[list[Item]], source: Input) -> str:
    """Send all; returns why the file could not be read to its end, if so."""
    problem = ""
    with _progress(source) as show:
        try:
            for items in batches:
                sender.send(items)
                show(sender.records)
        except StreamdError as error:
            if error.exit_code != EXIT_FAILURE:  # the log's, not the file's
                raise
            problem = str(error)
        sender.finish()
    return problem


def _first(batches: Iterator[list[Item]], limit: int | None) -> Iterator[list[Item]]:
    """No more than `limit` items in all."""
    left = limit
    for items in batches:
        if left is None:
            yield items
            continue
        yield items[:left]
        left -= len(items)
        if left <= 0:
            return


@contextmanager
def _progress(source: Input) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, over the bytes of the file; silence elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("sending", total=source.size or None)

        def show(records: int) -> None:
            bar.update(task, completed=source.position(), description=f"sent {records:,} records")

        yield show


@contextmanager
def _client(config: Config) -> Iterator[LogClient]:
    client = wiring.client(config)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def _rewindable(source: Input, as_csv: bool) -> Iterator[Input]:
    if not as_csv:
        yield source
        return
    with rewindable(source) as found:
        yield found


def _types(given: list[str]) -> dict[str, Kind]:
    """Raises BadParameter."""
    found: dict[str, Kind] = {}
    for one in given:
        column, _, kind = one.rpartition("=")
        known: dict[str, Kind] = {name: name for name in get_args(Kind)}
        if not column or kind not in known:
            raise typer.BadParameter(f"--type {one}: expected COLUMN=number, COLUMN=boolean or COLUMN=string")
        found[column] = known[kind]
    return found


def _delimiter(given: str) -> str:
    character = {"\\t": "\t", "tab": "\t"}.get(given, given)
    if len(character) != 1:
        raise typer.BadParameter(f"--delimiter {given}: expected one character")
    return character


def _print(sent: Sent, config: Config) -> None:
    labels = f" and {sent.labels:,} labels to {sent.labels_topic}" if sent.labels_topic else ""
    print(f"sent {sent.records:,} records to {sent.topic}{labels}")
    read = {topic for pipeline in config.pipeline.values() for topic in pipeline.inputs}
    for topic in filter(None, (sent.topic, sent.labels_topic)):
        if topic not in read:
            note(f"no pipeline of this configuration reads {topic}; they read {', '.join(sorted(read))}")
