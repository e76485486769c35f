"""CSV with types, for `send`. A file is read twice: first checked whole and its types found, then sent.

So nothing of a file is sent that has a row with too few or too many cells, or a cell that is not of the type
forced on its column.
"""

import csv
import io
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal, cast

import msgspec
from msgspec import Struct

from streamd.cli.sources import Input, Item
from streamd.errors import StreamdError

Kind = Literal["number", "boolean", "string"]
Value = int | float | bool | str

ROWS = 500  # of one batch
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
INTEGER = re.compile(r"[+-]?\d{1,15}")
BOOLEANS = {"true": True, "false": False}


class Columns(Struct, frozen=True):
    """What the columns of a CSV file are. The columns not named become `features`.

    id: default the column `id`, else file name and row number. key: default the id. types: forced; the other
    columns' are inferred over the whole file. missing: cells that mean nothing, left out of the event.
    """

    id: str | None = None
    key: str | None = None
    label: str | None = None
    text: str | None = None
    drop: frozenset[str] = frozenset()
    types: Mapping[str, Kind] = {}
    missing: frozenset[str] = frozenset({""})
    delimiter: str = ","


@contextmanager
def rewindable(source: Input) -> Iterator[Input]:
    """CSV is read twice, for the types and for the rows: a pipe is kept in a temporary file."""
    if source.size:
        yield source
        return
    with tempfile.TemporaryFile() as kept:
        shutil.copyfileobj(source.stream, kept)
        size = kept.tell()
        kept.seek(0)
        stream = cast(io.BufferedIOBase, kept)
        yield Input(source.name, stream, stream, size)


def unfinished(source: Input) -> bool:
    """The last row has no line end: it may have been cut in its last cell. Not known of compressed files."""
    if source.name.endswith(".gz"):
        return False
    source.stream.seek(0, os.SEEK_END)
    if source.stream.tell() == 0:
        return False
    source.stream.seek(-1, os.SEEK_END)
    return source.stream.read(1) != b"\n"


def csv_rows(source: Input, columns: Columns, split: bool) -> Iterator[list[Item]]:
    """The rows as events. split: the label becomes a record of its own.

    Raises StreamdError, before the first one, for a file that is not what its columns promise.
    """
    names = _header(source, columns)
    types = _types(source, names, columns)
    maker = _EventMaker(source.name, names, types, columns, split)
    rows = enumerate(_rows(source, columns.delimiter, len(names)), 1)
    while batch := [maker.item(row, cells) for row, cells in islice(rows, ROWS)]:
        yield batch


def _header(source: Input, columns: Columns) -> list[str]:
    names = [name.strip() for name in next(_table(source, columns.delimiter), [])]
    if not names:
        raise StreamdError(f"{source.name}: empty; expected a line with the names of the columns")
    if len(set(names)) < len(names):
        raise StreamdError(f"{source.name}: two columns have the same name")
    named = {columns.id, columns.key, columns.label, columns.text, *columns.drop, *columns.types} - {None}
    if unknown := sorted(named - set(names), key=str):
        raise StreamdError(f"{source.name}: no column {unknown[0]}; there are {', '.join(names)}")
    return names


def _rows(source: Input, delimiter: str, width: int) -> Iterator[list[str]]:
    table = _table(source, delimiter)
    next(table)
    for row, cells in enumerate(table, 1):
        if not cells:
            continue
        if len(cells) != width:
            raise StreamdError(f"{source.name}: row {row} has {len(cells)} cells, expected {width}")
        yield [cell.strip() for cell in cells]


def _table(source: Input, delimiter: str) -> Iterator[list[str]]:
    source.stream.seek(0)
    # Closing the reader must not close the file, which is read again.
    text = io.TextIOWrapper(cast(BinaryIO, source.stream), encoding="utf-8-sig", newline="")
    try:
        yield from csv.reader(text, delimiter=delimiter, skipinitialspace=True)
    except (csv.Error, UnicodeDecodeError, EOFError, zlib.error, OSError) as error:
        raise StreamdError(f"{source.name}: reading failed, the rest was not sent: {error}") from None
    finally:
        text.detach()


def _types(source: Input, names: Sequence[str], columns: Columns) -> dict[str, Kind]:
    """As forced; else number or boolean if every cell of the column is one, or string."""
    possible: dict[str, set[Kind]] = {name: {"number", "boolean"} for name in names}
    filled: set[str] = set()
    for row, cells in enumerate(_rows(source, columns.delimiter, len(names)), 1):
        for name, cell in zip(names, cells, strict=True):
            if cell in columns.missing:
                continue
            if name in columns.types:
                _insist(source, row, name, cell, columns.types[name])
            elif possible[name]:
                filled.add(name)
                possible[name] = {kind for kind in possible[name] if _convert(cell, kind) is not None}
    found = {name: min(kinds) if kinds and name in filled else "string" for name, kinds in possible.items()}
    return {**found, **columns.types}


def _insist(source: Input, row: int, name: str, cell: str, kind: Kind) -> None:
    if _convert(cell, kind) is None:
        raise StreamdError(f"{source.name}: row {row}, column {name}: expected a {kind}")


def _convert(cell: str, kind: Kind) -> Value | None:
    """The cell as that kind of value; None if it is none."""
    if kind == "string":
        return cell
    if kind == "boolean":
        return BOOLEANS.get(cell.lower())
    if INTEGER.fullmatch(cell):
        return int(cell)
    number = float(cell) if NUMBER.fullmatch(cell) else float("inf")
    return number if abs(number) < float("inf") else None


class _EventMaker:
    """Rows of one file into records."""

    def __init__(
        self, source: str, names: Sequence[str], types: Mapping[str, Kind], columns: Columns, split: bool
    ) -> None:
        self._columns = columns
        self._stem = Path(source).name.partition(".")[0]
        self._id = columns.id or ("id" if "id" in names else None)
        self._split = split
        apart: Collection[str | None] = {self._id, columns.label, columns.text, *columns.drop}
        self._features = [name for name in names if name not in apart]
        self._names = names
        self._types = types

    def item(self, row: int, cells: Sequence[str]) -> Item:
        raw = dict(zip(self._names, cells, strict=True))
        event: dict[str, object] = {"id": raw[self._id] if self._id else f"{self._stem}:{row}"}
        key = raw[self._columns.key] if self._columns.key else str(event["id"])
        features = {name: self._value(name, raw[name]) for name in self._features}
        if present := {name: value for name, value in features.items() if value is not None}:
            event["features"] = present
        if self._columns.text:
            event["text"] = raw[self._columns.text]
        label = self._value(self._columns.label, raw[self._columns.label]) if self._columns.label else None
        if label is None:
            return Item(key.encode(), msgspec.json.encode(event))
        if self._split:
            apart = msgspec.json.encode({"id": event["id"], "label": label})
            return Item(key.encode(), msgspec.json.encode(event), apart)
        return Item(key.encode(), msgspec.json.encode({**event, "label": label}))

    def _value(self, name: str, cell: str) -> Value | None:
        return None if cell in self._columns.missing else _convert(cell, self._types[name])
