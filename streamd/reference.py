"""The configuration reference of README, generated from the structs and the learners themselves.

`python -m streamd.reference` rewrites the part of README.md between its two markers; a test holds them equal.
"""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as kinds

from streamd.config import BYTES, PIPELINES, SECONDS, Config, Duration, Size
from streamd.config.keys import AnyPipeline
from streamd.errors import StreamdError
from streamd.learners import registry

BEGIN = "<!-- config reference: begin -->"
END = "<!-- config reference: end -->"

UNITS: Mapping[type, Mapping[str, float]] = {Duration: SECONDS, Size: BYTES}
WORDS: Mapping[type, str] = {
    kinds.StrType: "string",
    kinds.IntType: "integer",
    kinds.FloatType: "number",
    kinds.BoolType: "boolean",
    kinds.AnyType: "anything",
    kinds.DictType: "table",
}
SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def reference() -> str:
    """The whole reference as Markdown."""
    parts = [*_tables(kinds.type_info(Config), ""), *(_learner(*found) for found in registry().items())]
    return "\n".join(parts)


def rewrite(text: str) -> str:
    """A page with the reference between its markers. Raises StreamdError if it lacks them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise StreamdError(f"the page lacks the markers {BEGIN} and {END}")
    return f"{before}{begin}\n{reference()}{end}{after}"


# --- tables of the configuration


def _tables(info: kinds.Type, path: str) -> Iterator[str]:
    """A struct's own keys, then the tables inside it."""
    assert isinstance(info, kinds.StructType)
    title, _, about = inspect.cleandoc(info.cls.__doc__ or "").partition(": ")
    yield f"#### {title if path else 'Top level'}\n"
    if path:
        yield f"{about[:1].upper()}{about[1:]}\n"
    yield _table([("kind", f'`"{info.tag}"`', f'`"{info.tag}"`', "")] if info.tag else [], info)
    for field in info.fields:
        for inner, name in _inner(field):
            yield from _tables(inner, f"{path}.{name}".lstrip("."))


def _inner(field: kinds.Field) -> Iterator[tuple[kinds.Type, str]]:
    """The structs of a field, with the name of their table."""
    kind = _bare(field.type)
    if isinstance(kind, kinds.DictType):
        value = _bare(kind.value_type)
        if isinstance(value, kinds.CustomType) and value.cls is AnyPipeline:
            yield from ((kinds.type_info(task), f"{field.name}.NAME") for task in PIPELINES)
        if isinstance(value, kinds.StructType):
            yield value, f"{field.name}.NAME"
    options = kind.types if isinstance(kind, kinds.UnionType) else (kind,)
    yield from ((option, field.name) for option in map(_bare, options) if isinstance(option, kinds.StructType))


def _table(rows: list[tuple[str, str, str, str]], info: kinds.StructType) -> str:
    for field in info.fields:
        if not any(_inner(field)):
            rows.append((field.name, _kind(field.type), _default(field), _description(field.type)))
    lines = ["| key | value | default | |", "|---|---|---|---|"]
    lines += [
        f"| `{name}` | {_cell(kind)} | {_cell(default)} | {_cell(about)} |" for name, kind, default, about in rows
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _bare(kind: kinds.Type) -> kinds.Type:
    """Without its description, and without `None` beside it."""
    if isinstance(kind, kinds.Metadata):
        return _bare(kind.type)
    if isinstance(kind, kinds.UnionType):
        types = [option for option in kind.types if not isinstance(option, kinds.NoneType)]
        return _bare(types[0]) if len(types) == 1 else kinds.UnionType(tuple(types))
    return kind


def _description(kind: kinds.Type) -> str:
    if isinstance(kind, kinds.Metadata):
        return str((kind.extra_json_schema or {}).get("description", "")) or _description(kind.type)
    return ""


def _kind(kind: kinds.Type) -> str:
    """What may be written, in words."""
    kind = _bare(kind)
    if isinstance(kind, kinds.LiteralType):
        return " or ".join(f"`{_value(value)}`" for value in kind.values)
    if isinstance(kind, kinds.CustomType):
        return kind.cls.__name__.lower()
    if isinstance(kind, kinds.TupleType):
        return " and ".join(map(_kind, kind.item_types))
    if isinstance(kind, kinds.VarTupleType | kinds.ListType):
        return f"list of {_kind(kind.item_type)}s"
    if isinstance(kind, kinds.UnionType):
        return " or ".join(map(_kind, kind.types))
    limits = {sign: getattr(kind, name, None) for name, sign in SIGNS.items()}
    bounds = [f"{sign} {limit:,}" for sign, limit in limits.items() if limit is not None]
    return " ".join([WORDS[type(kind)], " and ".join(bounds)]).strip()


def _default(field: kinds.Field) -> str:
    if field.required:
        return "needed"
    value = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    if value in (None, "", (), {}):
        return ""
    return f"`{_value(value)}`"


def _value(value: object) -> str:
    """A value as TOML."""
    units = UNITS.get(type(value))
    if units is None:
        return msgspec.json.encode(value).decode()
    assert isinstance(value, int | float)
    # The largest unit in which the value is a whole number: a day, not 24 hours; 1,500 ms, not 1.5 s.
    fitting = [unit for unit, size in units.items() if round(value / size, 6) == round(value / size)]
    return f'"{round(value / units[fitting[-1]])}{fitting[-1]}"'


# --- learners


def _learner(name: str, constructor: Callable[..., Any]) -> str:
    kind, _, task = name.partition("/")
    rows = [
        f"| `{parameter.name}` | {_cell(_annotation(parameter))} | {_cell(_parameter_default(parameter))} |"
        for parameter in inspect.signature(constructor).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    about = inspect.getdoc(constructor) or ""
    title = f'#### `[pipeline.NAME.learner]` with `kind = "{kind}"`, task {task}\n'
    return "\n".join([title, "| key | type | default |", "|---|---|---|", *rows, "", *_paragraphs(about), ""])


def _paragraphs(docstring: str) -> Iterator[str]:
    """A docstring as Markdown; a line that says what a parameter is becomes an item of a list."""
    listing = False
    for line in docstring.splitlines():
        names, colon, _ = line.partition(":")
        listed = bool(colon) and all(name.strip().isidentifier() for name in names.split(","))
        if listing and not listed and line and not line.startswith(" "):
            yield ""
        yield f"- {line}" if listed else line
        listing = listed or (listing and line.startswith(" "))


def _annotation(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _parameter_default(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return "needed"
    return "" if parameter.default is None else f"`{_value(parameter.default)}`"


def main(page: str = "README.md") -> None:
    path = Path(page)
    path.write_text(rewrite(path.read_text()))


if __name__ == "__main__":
    main(*sys.argv[1:2])
