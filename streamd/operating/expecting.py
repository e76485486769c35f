"""Expectations of a pipeline, written beside its configuration: records given, and what must come out.

    [[test]]
    name = "what was learned is told"

    [[test.given]]                                  # in this order; topic: by default the pipeline's events
    value = { id = "1", features = { x = 2.0 }, label = "high" }
    repeat = 20                                     # every `{i}` in a string is the number of the repetition
    [[test.given]]
    value = { id = "2", features = { x = 2.0 } }

    [[test.expect]]                                 # topic: by default that of the answers
    where = { id = "2" }                            # of the records that hold this
    is = { label = "high", p = { high = "> 0.9" } } # every one must hold that, and there must be one
    count = 1                                       # so many must there be

What is not named may be anything. A string that begins with >, >=, <, <= or != and a number compares.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from streamd.errors import ConfigError
from streamd.ports import Output, Record
from streamd.records import DEAD_LETTER_HEADER
from streamd.shard import Shard

COMPARISON = re.compile(r"(>=|<=|!=|>|<)\s*(-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)")
COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "!=": lambda a, b: a != b,
}
START = 1_000_000_000_000  # milliseconds since 1970: of the first record, unless it says another
SHOWN = 3  # records in a message


class Given(Struct, frozen=True, forbid_unknown_fields=True):
    """A record. raw: its bytes as they are, instead of `value`. at: the log's timestamp, milliseconds; tick: no
    record, but event time passing to then. key: by default the value's id."""

    topic: str = ""
    value: dict[str, Any] | None = None
    raw: str | None = None
    key: str | None = None
    at: int | None = None
    tick: int | None = None
    repeat: int = 1


class Expect(Struct, frozen=True, forbid_unknown_fields=True):
    """Of the records of a topic. refused: a part of the reason of a dead letter."""

    topic: str = ""
    where: dict[str, Any] = {}
    is_: dict[str, Any] = msgspec.field(default_factory=dict, name="is")
    count: int | None = None
    refused: str = ""


class Test(Struct, frozen=True, forbid_unknown_fields=True):
    """One test: a fresh pipeline. pipeline: by default the only one."""

    name: str
    given: list[Given]
    expect: list[Expect]
    pipeline: str = ""


class Tests(Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    test: list[Test]


class Topics(Struct, frozen=True):
    """What a pipeline reads and writes."""

    inputs: tuple[str, ...]
    events: str
    answers: str
    dead: str


def failures(test: Test, shard: Shard, topics: Topics, path: str) -> list[str]:
    """Run a test on a fresh shard: a sentence for each expectation that does not hold. Raises ConfigError."""
    for record in _records(test, topics, path):
        shard.take([record])
    outputs, _ = shard.epoch()
    found = []
    for number, expect in enumerate(test.expect):
        if expect.topic in topics.inputs:
            raise ConfigError(f"{path}.expect[{number}].topic", "a topic the pipeline writes")
        if reason := _fails(expect, outputs, topics):
            found.append(f"expect[{number}]: {reason}")
    return found


def _records(test: Test, topics: Topics, path: str) -> Iterator[Record]:
    offsets = dict.fromkeys(topics.inputs, 0)
    now = START
    for number, given in enumerate(test.given):
        topic = given.topic or topics.events
        if given.tick is not None:
            now = given.tick
            yield Record("", 0, 0, now, None, None)
            continue
        if topic not in offsets:
            raise ConfigError(f"{path}.given[{number}].topic", f"one of {', '.join(topics.inputs)}")
        if (given.value is None) == (given.raw is None):
            raise ConfigError(f"{path}.given[{number}]", "either `value` or `raw`, or `tick`")
        for i in range(given.repeat):
            now = now + 1 if given.at is None else given.at
            yield Record(topic, 0, offsets[topic], now, *_content(given, i))
            offsets[topic] += 1


def _content(given: Given, i: int) -> tuple[bytes | None, bytes]:
    value = given.value if given.raw is None else None
    if value is None:
        return (None if given.key is None else given.key.encode()), (given.raw or "").encode()
    numbered: dict[str, Any] = _numbered(value, str(i))
    key = given.key if given.key is not None else numbered.get("id")
    return (None if key is None else str(key).encode()), msgspec.json.encode(numbered)


def _numbered(value: Any, i: str) -> Any:
    if isinstance(value, str):
        return value.replace("{i}", i)
    if isinstance(value, dict):
        return {name: _numbered(item, i) for name, item in value.items()}
    return [_numbered(item, i) for item in value] if isinstance(value, list) else value


def _fails(expect: Expect, outputs: Sequence[Output], topics: Topics) -> str:
    """Why an expectation does not hold; empty if it does."""
    topic = expect.topic or (topics.dead if expect.refused else topics.answers)
    told = [_plain(output) for output in outputs if output.topic == topic]
    chosen = [one for one in told if not _differs(expect.where, one, "")]
    if expect.refused:
        chosen = [one for one in chosen if expect.refused in str(one.get("refused", ""))]
    what = f"{topic}, of the {len(told)} records there"
    if expect.where:
        what += f", where {_shown(expect.where)}"
    if expect.refused:
        what += f", refused for {expect.refused!r}"
    if expect.count is not None and len(chosen) != expect.count:
        return f"{what}: expected {expect.count}, found {len(chosen)}{_some(chosen or told)}"
    if expect.count is None and not chosen:
        return f"{what}: there is none{_some(told)}"
    for one in chosen:
        if differences := _differs(expect.is_, one, ""):
            return f"{what}: {'; '.join(differences)}; in {_shown(one)}"
    return ""


def _plain(output: Output) -> dict[str, Any]:
    """A record's value as data; of a dead letter also why it was refused."""
    try:
        value = msgspec.json.decode(output.value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        value = output.value.decode(errors="replace")
    found = value if isinstance(value, dict) else {"raw": value}
    if (about := dict(output.headers).get(DEAD_LETTER_HEADER)) is not None:
        found = {**found, "refused": msgspec.json.decode(about)["reason"]}
    return found


def _differs(expected: Any, found: Any, path: str) -> list[str]:
    """Where `found` does not hold what is expected."""
    if isinstance(expected, dict) and isinstance(found, dict):
        inner = (_differs(item, found.get(name), f"{path}.{name}".lstrip(".")) for name, item in expected.items())
        return [difference for differences in inner for difference in differences]
    compared = COMPARISON.fullmatch(expected) if isinstance(expected, str) else None
    if compared and isinstance(found, int | float) and not isinstance(found, bool):
        holds = COMPARE[compared[1]](found, float(compared[2]))
    else:
        holds = expected == found and isinstance(expected, bool) == isinstance(found, bool)
    return [] if holds else [f"{path} expected {_shown(expected)}, found {_shown(found)}"]


def _some(told: Sequence[dict[str, Any]]) -> str:
    if not told:
        return ""
    more = f", and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
    return f"; there {'is' if len(told) == 1 else 'are'} {', '.join(_shown(one) for one in told[:SHOWN])}{more}"


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode()
