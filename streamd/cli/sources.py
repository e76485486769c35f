"""What `send` reads: a file or stdin, plain or gzip; and JSON lines, as batches of records to be sent.

A batch is what one read gave, so that a slow pipe is sent as it flows. `csv_source` reads CSV.
"""

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, cast

import msgspec

from streamd.errors import StreamdError

CHUNK = 1 << 16  # bytes of one read


class Item(NamedTuple):
    """A record to be sent. label: the label record that follows it later, if labels are sent apart."""

    key: bytes | None
    value: bytes
    label: bytes | None = None


class Input(NamedTuple):
    """An opened file. position: bytes of the file read so far; size: of how many, 0 if that is not known."""

    name: str
    stream: io.BufferedIOBase
    raw: io.BufferedIOBase
    size: int

    def position(self) -> int:
        return self.raw.tell() if self.size else 0


@contextmanager
def opened(name: str) -> Iterator[Input]:
    """Open a file or, for `-`, stdin; `.gz` is decompressed. Raises StreamdError."""
    if name == "-":
        stdin = cast(io.BufferedIOBase, sys.stdin.buffer)
        yield Input("stdin", stdin, stdin, 0)
        return
    try:
        raw = Path(name).open("rb")  # noqa: SIM115  closed below
    except OSError as error:
        raise StreamdError(f"{name} cannot be read: {error.strerror}") from None
    with raw:
        stream: io.BufferedIOBase = gzip.GzipFile(fileobj=raw) if name.endswith(".gz") else raw
        yield Input(name, stream, raw, Path(name).stat().st_size)


def json_lines(source: Input, key: str, split: bool) -> Iterator[list[Item]]:
    """The lines as they are, keyed by a field. split: take the label out, into a record of its own.

    Raises StreamdError for a last line without its end that is not JSON: the file was cut.
    """
    rest, count = b"", 0
    while chunk := _read(source):
        *lines, rest = (rest + chunk).split(b"\n")
        count += len(lines)
        if items := [_item(line, key, split) for line in lines if line.strip()]:
            yield items
    if rest.strip():
        if not _is_json(rest):
            raise StreamdError(f"{source.name}: line {count + 1}, the last, is incomplete and was left out")
        yield [_item(rest, key, split)]


def _read(source: Input) -> bytes:
    try:
        return source.stream.read1(CHUNK)
    except (EOFError, zlib.error, OSError) as error:
        raise StreamdError(f"{source.name}: reading failed, the rest was not sent: {error}") from None


def _item(line: bytes, key: str, split: bool) -> Item:
    """What is not a JSON object goes as it is: the daemon refuses it with a reason."""
    line = line.rstrip(b"\r")
    try:
        fields = _fields.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Item(None, line)
    found = _key(fields.get(key))
    if not split or "label" not in fields or "id" not in fields:
        return Item(found, line)
    label = msgspec.json.encode({"id": fields["id"], "label": fields.pop("label")})
    return Item(found, msgspec.json.encode(fields), label)


_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _key(raw: msgspec.Raw | None) -> bytes | None:
    """A string's characters, a number's digits."""
    value = None if raw is None else msgspec.json.decode(raw)
    if isinstance(value, str):
        return value.encode()
    return bytes(raw) if raw is not None and isinstance(value, int | float) else None


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True
