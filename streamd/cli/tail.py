"""`streamd tail TOPIC`: read a topic's records, for people or as JSON lines."""

import base64
import heapq
import json as stdlib_json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.json import JSON
from rich.text import Text

from streamd import wiring
from streamd.cli.options import ConfigFile, Json, console, existing, load, print_json
from streamd.errors import StreamdError
from streamd.ports import LogClient, Record
from streamd.records import DEAD_LETTER_HEADER

AT_ONCE = 1000  # records of one read
NAP = 0.2  # seconds between two looks for new records


def tail(
    topic: Annotated[str, typer.Argument(help="The topic.")],
    config: ConfigFile = None,
    start: Annotated[
        str | None, typer.Option("--from", help="start, end or an offset. [default: start; with --follow: end]")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what arrives.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=0, help="Stop after so many records.")] = None,
    json: Json = False,
) -> None:
    """Print the records of TOPIC, oldest first. A dead letter shows its reason."""
    client = wiring.client(existing(load(config)))
    try:
        show = _printer(json)
        for record in islice(records(client, topic, start or ("end" if follow else "start"), follow), limit):
            show(record)
    finally:
        client.close()


def records(
    client: LogClient, topic: str, start: str, follow: bool, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Record]:
    """What the topic holds in order of time, and with `follow` whatever is appended. Raises StreamdError."""
    known = client.topics()
    if topic not in known:
        raise StreamdError(f"there is no topic {topic}; there are {', '.join(sorted(known)) or 'none'}")
    ends = client.ends(topic)
    offsets = [_offset(start, first, end) for first, end in ends]
    parts = [_part(client, topic, p, offsets[p], end) for p, (_, end) in enumerate(ends)]
    yield from heapq.merge(*parts, key=lambda record: (record.timestamp, record.partition, record.offset))
    offsets = [max(offset, end) for offset, (_, end) in zip(offsets, ends, strict=True)]
    while follow:
        new = [list(client.read(topic, p, offset, AT_ONCE)) for p, offset in enumerate(offsets)]
        yield from (record for part in new for record in part)
        offsets = [part[-1].offset + 1 if part else at for part, at in zip(new, offsets, strict=True)]
        if not any(new):
            sleep(NAP)


def _offset(start: str, first: int, end: int) -> int:
    if start in ("start", "end"):
        return first if start == "start" else end
    if not start.isdecimal():
        raise typer.BadParameter(f"--from {start}: expected start, end or an offset")
    return int(start)


def _part(client: LogClient, topic: str, partition: int, offset: int, end: int) -> Iterator[Record]:
    """One partition's records up to an end seen before."""
    while offset < end and (found := client.read(topic, partition, offset, min(AT_ONCE, end - offset))):
        yield from found
        offset = found[-1].offset + 1


def _printer(json: bool) -> Callable[[Record], None]:
    if json:
        return lambda record: print_json(contract(record))
    out = console()
    return lambda record: _print(out, record)


def contract(record: Record) -> dict[str, Any]:
    """A record as plain data. What is not JSON (of a key and a header: not UTF-8) is there in base64 instead."""
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        **_text("key", record.key),
        **_parsed("value", record.value),
        "headers": [{"name": name, **_parsed("value", value)} for name, value in record.headers],
    }


def _text(name: str, raw: bytes | None) -> dict[str, Any]:
    try:
        return {name: None if raw is None else raw.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": _base64(raw)}


def _parsed(name: str, raw: bytes | None) -> dict[str, Any]:
    try:
        return {name: None if raw is None else msgspec.json.decode(raw)}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {f"{name}_base64": _base64(raw)}


def _base64(raw: bytes | None) -> str:
    return base64.b64encode(raw or b"").decode()


def _print(out: Console, record: Record) -> None:
    told = contract(record)
    moment = datetime.fromtimestamp(record.timestamp / 1000, UTC).isoformat(sep=" ", timespec="milliseconds")
    # Keys and values are shown as JSON: no byte of a record reaches the terminal as a control character.
    key = stdlib_json.dumps(told.get("key", told.get("key_base64")))
    head = Text(f"{record.topic}/{record.partition} {record.offset}  {moment[:23]}Z  {key}", style="dim")
    out.print(head, soft_wrap=True)
    for header in told["headers"]:
        if header["name"] == DEAD_LETTER_HEADER and isinstance(header.get("value"), dict):
            out.print(Text(f"  refused: {_why(header['value'])}", style="red"), soft_wrap=True)
    if "value" in told:
        indent = 2 if out.is_terminal else None
        out.print(JSON(stdlib_json.dumps(told["value"]), indent=indent), soft_wrap=True)
    else:
        out.print(Text(repr(record.value)), soft_wrap=True)


def _why(letter: dict[str, Any]) -> str:
    place = f"{letter.get('topic')}/{letter.get('partition')} {letter.get('offset')}"
    return stdlib_json.dumps(f"{letter.get('reason')} ({place})")[1:-1]
