"""`streamd crowd TOPIC TRUTH`: a simulated crowd of annotators that answers the queries of a topic."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import msgspec
import typer
from msgspec import Struct

from streamd import records as codec
from streamd import wiring
from streamd.cli.csv_source import Columns, csv_rows, rewindable
from streamd.cli.options import ConfigFile, Json, existing, load, note, print_json
from streamd.cli.sources import Item, json_lines, opened
from streamd.crowd import Crowd, Habits, Truth
from streamd.crowd.attendance import NAP, Attendance, Clock
from streamd.errors import BadRecord, ConfigError, StreamdError
from streamd.ports import LogClient


class Told(Struct, frozen=True):
    """sent: answers written. counts: see `streamd.crowd.COUNTS`."""

    topic: str
    sent: int
    counts: dict[str, int]


class Line(Struct, frozen=True):
    """A line of the file with the truth: an event with its label, or a label."""

    id: str
    label: codec.RawLabel


def crowd(
    topic: Annotated[
        str, typer.Argument(help="The queries of a pipeline, or the matches of the one that routes.")
    ],
    truth: Annotated[str, typer.Argument(help="CSV or JSON lines, .gz or not: events with their labels.")],
    config: ConfigFile = None,
    id: Annotated[str | None, typer.Option(help="CSV: the column of the id.")] = None,
    label: Annotated[str, typer.Option(help="CSV: the column of the truth.")] = "label",
    number: Annotated[bool, typer.Option("--number", help="The truth is a number: task regress.")] = False,
    annotator: Annotated[
        list[str] | None, typer.Option(help="NAME or NAME=ACCURACY. Repeatable. [default: five of them]")
    ] = None,
    accuracy: Annotated[float, typer.Option(min=0, max=1, help="Of those not given their own.")] = 0.9,
    skip: Annotated[float, typer.Option(min=0, max=1, help="How often a query is passed over.")] = 0.0,
    silent: Annotated[float, typer.Option(min=0, max=1, help="How often nobody ever answers.")] = 0.0,
    delay: Annotated[float, typer.Option(min=0, help="Seconds until an answer, in the mean.")] = 60.0,
    clock: Annotated[Clock, typer.Option(help="Whose seconds: the wall's, or those of event time.")] = Clock.wall,
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what arrives.")] = False,
    limit: Annotated[int | None, typer.Option(min=0, help="Stop after so many answers.")] = None,
    json: Json = False,
) -> None:
    """Answer the queries of TOPIC as a crowd of annotators would: late, wrong, with skips or never.

    Without --follow the queries that are there are answered, and all answers given at once.
    """
    loaded = existing(load(config))
    columns = Columns(id, None, label, types={label: "number" if number else "string"})
    known = _truth(truth, columns, number)
    made = Crowd(
        known, _habits(annotator or [], accuracy, skip, silent, delay), _usual(accuracy, skip, silent, delay), seed
    )
    client = wiring.client(loaded)
    try:
        sent = _attend(client, topic, made, clock, follow, limit)
    finally:
        client.close()
    told = Told(topic, sent, made.counts)
    if json:
        print_json(told)
    else:
        print(_sentence(told))


def _attend(client: LogClient, topic: str, crowd: Crowd, clock: Clock, follow: bool, limit: int | None) -> int:
    """Returns how many answers were given."""
    attendance = None
    try:
        _wait_for(client, topic, follow)
        attendance = Attendance(client, topic, crowd, clock)
        while limit is None or attendance.sent < limit:
            if not attendance.step():
                if not follow:
                    attendance.finish()
                    break
                time.sleep(NAP)
    except KeyboardInterrupt:
        note("stopped; started again, it goes on with what was not answered")
    return 0 if attendance is None else attendance.sent


def _wait_for(client: LogClient, topic: str, follow: bool) -> None:
    while topic not in (known := client.topics()):
        if not follow:
            raise StreamdError(f"there is no topic {topic}; there are {', '.join(sorted(known)) or 'none'}")
        time.sleep(NAP)


def _usual(accuracy: float, skip: float, silent: float, delay: float) -> Habits:
    try:
        return Habits(accuracy, skip, silent, delay)
    except ConfigError as error:
        raise typer.BadParameter(f"--{error.key}: {error.expected}") from None


def _habits(given: Sequence[str], accuracy: float, skip: float, silent: float, delay: float) -> dict[str, Habits]:
    """Raises BadParameter."""
    found = {}
    for one in given or [f"annotator-{i}" for i in range(1, 6)]:
        name, _, own = one.partition("=")
        try:
            right = float(own) if own else accuracy
        except ValueError:
            raise typer.BadParameter(f"--annotator {one}: expected NAME or NAME=ACCURACY") from None
        found[name] = _usual(right, skip, silent, delay)
    return found


def _truth(file: str, columns: Columns, number: bool) -> dict[str, Truth]:
    """The label of each event. Raises StreamdError."""
    found: dict[str, Truth] = {}
    as_csv = file.removesuffix(".gz").endswith(".csv")
    with opened(file) as source:
        if as_csv:
            with rewindable(source) as twice:
                _collect(csv_rows(twice, columns, split=False), number, found)
        else:
            _collect(json_lines(source, "id", split=False), number, found)
    if not found:
        raise StreamdError(f"{file}: no event with a label")
    return found


_line = msgspec.json.Decoder(Line)


def _collect(batches: Iterator[list[Item]], number: bool, found: dict[str, Truth]) -> None:
    read: Callable[[object], Truth] = codec.value_label if number else _classes
    for batch in batches:
        for item in batch:
            try:
                one = codec.decode(_line, item.value)
                found[one.id] = read(one.label)
            except BadRecord:
                continue  # an event whose truth nobody knows


def _classes(label: object) -> Truth:
    """Of an event with one class, or with several: a list."""
    return codec.class_labels(label) if isinstance(label, list) else codec.class_label(label)


def _sentence(told: Told) -> str:
    counts = ", ".join(f"{count:,} {name}" for name, count in told.counts.items() if count)
    return f"{told.sent:,} answers to {told.topic}: {counts or 'nothing was asked'}"
