"""`streamd dead-letters`: what was refused, by reason, topic and time; sent through its input again or dropped."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer
from msgspec import Struct
from rich.table import Table

from streamd import wiring
from streamd.cli.options import ConfigFile, Json, console, existing, load, moment, print_json
from streamd.config import Config
from streamd.errors import Refused
from streamd.operating.letters import Letter, Letters, Wanted

dead_letters = typer.Typer(name="dead-letters", help="What was refused, as it came.", no_args_is_help=True)

Pipeline = Annotated[str, typer.Option(help="Of this pipeline. [default: all]")]
Reason = Annotated[str, typer.Option(help="Whose reason holds this text.")]
Topic = Annotated[str, typer.Option(help="Whose record came from this topic.")]
Since = Annotated[str, typer.Option(help="Whose record came since: a time (RFC 3339), or how long ago, as 2h.")]
Until = Annotated[str, typer.Option(help="Whose record came before.")]
At = Annotated[str, typer.Option(help="The one at PARTITION/OFFSET of the dead letters' topic.")]
Everything = Annotated[bool, typer.Option("--everything", help="All that are open, where nothing else is said.")]
All = Annotated[bool, typer.Option("--all", help="Those retried or dropped, too.")]


class Kind(Struct, frozen=True):
    """Dead letters of one kind. first, last: when their records came, milliseconds since 1970."""

    pipeline: str
    topic: str
    reason: str
    open: int
    handled: int
    first: int
    last: int


class Shown(Struct, frozen=True):
    """One dead letter. at: its place in the dead letters' topic. value: only where it was asked for."""

    pipeline: str
    at: str
    topic: str
    partition: int
    offset: int
    reason: str
    ts: int
    status: str
    tries: int
    value: str | None


class Handled(Struct, frozen=True):
    """How many were retried or dropped."""

    action: str
    letters: int


@dead_letters.command("list")
def list_letters(
    pipeline: Pipeline = "",
    reason: Reason = "",
    topic: Topic = "",
    since: Since = "",
    until: Until = "",
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Count the dead letters by pipeline, topic and reason."""
    kinds: dict[tuple[str, str, str], list[Letter]] = {}
    for letters in of(existing(load(config)), pipeline):
        for one in letters.find(wanted(reason, topic, since, until, "", True)):
            kinds.setdefault((one.pipeline, one.about.topic, one.about.reason), []).append(one)
    found = [_kind(key, of_kind) for key, of_kind in sorted(kinds.items())]
    if json:
        print_json(found)
        return
    table = Table(box=None, pad_edge=False)
    for name in ("pipeline", "topic", "open", "handled", "last", "reason"):
        table.add_column(name, justify="right" if name in ("open", "handled") else "left")
    for kind in found:
        row = (kind.pipeline, kind.topic, f"{kind.open:,}", f"{kind.handled:,}", _time(kind.last), kind.reason)
        table.add_row(*row)
    console().print(table if found else "there are no dead letters")


@dead_letters.command()
def show(
    pipeline: Pipeline = "",
    reason: Reason = "",
    topic: Topic = "",
    since: Since = "",
    until: Until = "",
    at: At = "",
    every: All = False,
    values: Annotated[
        bool, typer.Option("--values", help="Print the records, too: they may hold personal data.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1)] = 20,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Show single dead letters: where each came from, why it was refused, what was done with it."""
    found: list[Shown] = []
    for letters in of(existing(load(config)), pipeline):
        for one in letters.find(wanted(reason, topic, since, until, at, every)):
            if len(found) < limit:
                found.append(_shown(one, values))
    if json:
        print_json(found)
        return
    for letter in found:
        print(
            f"{letter.pipeline} {letter.at}  {_time(letter.ts)}  {letter.status}, tried again {letter.tries} times"
        )
        print(f"  {letter.topic} partition {letter.partition} offset {letter.offset}: {letter.reason}")
        if letter.value is not None:
            print(f"  {letter.value}")


def _handles(name: str, done: str, about: str, handle: Callable[[Letters, list[Letter]], int]) -> None:
    """Make a verb that does something with the dead letters chosen, once with each."""

    def command(
        pipeline: Pipeline = "",
        reason: Reason = "",
        topic: Topic = "",
        since: Since = "",
        until: Until = "",
        at: At = "",
        every: Everything = False,
        config: ConfigFile = None,
        json: Json = False,
    ) -> None:
        chosen = _chosen(reason, topic, since, until, at, every)
        with _client(existing(load(config)), pipeline) as found:
            number = sum(handle(letters, list(letters.find(chosen))) for letters in found)
        _report(Handled(done, number), json)

    dead_letters.command(name, help=about)(command)


_handles(
    "retry",
    "retried",
    "Send refused records through their input once more. None is sent twice, however often this is called.",
    Letters.retry,
)
_handles(
    "drop",
    "dropped",
    "Put refused records aside for good: they are listed no more, and the log keeps that it was done.",
    Letters.drop,
)


def wanted(reason: str, topic: str, since: str, until: str, at: str, handled: bool) -> Wanted:
    """Raises Refused for a time that is none."""
    first = int(moment(since) * 1000) if since else 0
    last = int(moment(until) * 1000) if until else 1 << 62
    return Wanted(reason, topic, first, last, at, handled)


def of(config: Config, pipeline: str) -> Iterator[Letters]:
    """The dead letters of one pipeline, or of all. Raises Refused."""
    with _client(config, pipeline) as found:
        yield from found


@contextmanager
def _client(config: Config, pipeline: str) -> Iterator[list[Letters]]:
    if pipeline and pipeline not in config.pipeline:
        raise Refused(f"there is no pipeline {pipeline}; there are {', '.join(config.pipeline)}")
    names = [pipeline] if pipeline else list(config.pipeline)
    with closing(wiring.client(config)) as client:
        yield [Letters(client, name, config.pipeline[name].outputs["dead letters"]) for name in names]


def _chosen(reason: str, topic: str, since: str, until: str, at: str, every: bool) -> Wanted:
    if not every and not any((reason, topic, since, until, at)):
        raise Refused("say which: --reason, --topic, --since, --until, --at, or --everything")
    return wanted(reason, topic, since, until, at, False)


def _kind(key: tuple[str, str, str], letters: list[Letter]) -> Kind:
    handled = sum(one.status in ("retried", "dropped") for one in letters)
    times = [one.record.timestamp for one in letters]
    return Kind(*key, len(letters) - handled, handled, min(times), max(times))


def _shown(one: Letter, values: bool) -> Shown:
    value = (one.record.value or b"").decode(errors="backslashreplace") if values else None
    about, place = one.about, f"{one.partition}/{one.offset}"
    told = (about.topic, about.partition, about.offset, about.reason, one.record.timestamp)
    return Shown(one.pipeline, place, *told, one.status, one.tries, value)


def _report(done: Handled, json: bool) -> None:
    if json:
        print_json(done)
    else:
        print(f"{done.action} {done.letters:,} dead letters")


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
