"""What crosses the log, and its codec. One JSON object a record; unknown fields are ignored unless echoed.

Decoding raises `BadRecord` with a reason that names the field and what was expected, never a value.
Times are milliseconds since 1970; a record may also carry them as an RFC 3339 string.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from streamd.errors import BadRecord
from streamd.ports import Headers, Output, Record

Id = Annotated[str, Meta(min_length=1, max_length=512)]
T = TypeVar("T")
Scalar = float | bool | str | None
RawLabel = str | bool | int | float | list[str] | dict[str, float] | None

DEAD_LETTER_HEADER = "streamd-dead-letter"


class Event(Struct, frozen=True, gc=False):
    """What arrives. `label` is there when the truth comes with the event (test, then learn).

    groups: tags, for a learner that keeps groups.  subject: whose it is, for alerts about subjects.
    """

    id: Id
    ts: int | str | None = None
    features: dict[str, Scalar] | None = None
    text: str | None = None
    subject: Any = None
    groups: tuple[str, ...] = ()
    label: RawLabel | UnsetType = UNSET


class Plain(Struct, frozen=True, gc=False):
    """An event whose features are still JSON; the other fields are `Event`'s, and what fits one fits the other."""

    id: Id
    ts: int | str | None = None
    features: msgspec.Raw = msgspec.Raw(b"null")
    text: str | None = None
    subject: Any = None
    groups: tuple[str, ...] = ()
    label: RawLabel | UnsetType = UNSET


class Label(Struct, frozen=True, gc=False):
    """The truth of an event, later, under its id. `skip`: the annotator passes; nothing is learned.

    query, annotator: whose request it answers, and who does; confidence: the weight with which it is learned.
    """

    id: Id
    label: RawLabel | UnsetType = UNSET
    skip: bool = False
    ts: int | str | None = None
    query: Annotated[str, Meta(max_length=600)] | None = None
    annotator: Annotated[str, Meta(max_length=256)] = ""
    confidence: Annotated[float, Meta(ge=0, le=1)] = 1.0


class Asked(Struct, frozen=True, gc=False):
    """Why the label of an event was asked for: what it is worth, the worth that the rule asked for, and the
    probability with which it was asked; null where there is no such number."""

    utility: float | None
    threshold: float | None
    p_ask: float


class Prediction(Struct, frozen=True, omit_defaults=True, gc=False):
    """What was predicted, and why. `label` null: nothing is known.

    interval, set: cover the truth as often as declared; the set may be empty.
    """

    id: str
    label: str | list[str] | UnsetType | None = UNSET  # classify; a list if there may be several
    p: dict[str, float] | UnsetType = UNSET  # classify: the likeliest classes
    value: float | UnsetType = UNSET  # regress
    interval: tuple[float, float] | UnsetType = UNSET  # regress
    set: list[str] | UnsetType = UNSET  # classify
    path: list[str] | UnsetType = UNSET  # choose: the edges
    why: list[list[Any]] | UnsetType = UNSET
    model: str = ""
    ts: int = 0
    echo: dict[str, msgspec.Raw] | UnsetType = UNSET
    asked: Asked | UnsetType = UNSET


class Alert(Struct, frozen=True, omit_defaults=True):
    """Enough was seen of a subject (a user) to say that it belongs to what is watched; key: the subject.

    category: the name of what is watched.  score: confidence for it minus that against it, of all posts so far.
    posts: how many they are.  why: the strongest of them, [id, score].  stands: false corrects an earlier alert.
    """

    id: str
    subject: str
    category: str
    score: float
    posts: int
    policy: str
    why: list[list[Any]]
    ts: int
    stands: bool = True


class DeadLetter(Struct, frozen=True):
    """Why a record was refused; a header of the dead letter, whose key, value and headers are the original's."""

    topic: str
    partition: int
    offset: int
    reason: str
    ts: int


_event = msgspec.json.Decoder(Event)
_plain = msgspec.json.Decoder(Plain)
_label = msgspec.json.Decoder(Label)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()
encode = _encoder.encode


def decode_event(value: bytes | None) -> Event:
    """An event from its record's value. Raises BadRecord."""
    try:
        return _event.decode(value)  # type: ignore[arg-type]  # None is refused as all else that is no JSON
    except UNREADABLE as error:
        raise _refusal(value, error) from None


def decode_plain(value: bytes | None) -> Plain | None:
    """The same, its features left as they are; None for what `decode_event` may refuse."""
    try:
        return _plain.decode(value)  # type: ignore[arg-type]
    except UNREADABLE:
        return None


def decode_plain_ones(values: Sequence[bytes | None]) -> list[Plain | None]:
    """The same of many; None stays None."""
    decode = _plain.decode
    try:
        return [None if value is None else decode(value) for value in values]
    except UNREADABLE:
        return [decode_plain(value) for value in values]


def decode_label(value: bytes | None) -> Label:
    """A label from its record's value. Raises BadRecord."""
    try:
        label = _label.decode(value)  # type: ignore[arg-type]
    except UNREADABLE as error:
        raise _refusal(value, error) from None
    if label.label is UNSET and not label.skip:
        raise BadRecord("Object missing required field `label`")
    return label


def decode(decoder: msgspec.json.Decoder[T], value: bytes | None) -> T:
    """Any other record from its value, by a decoder of its type. Raises BadRecord."""
    try:
        return decoder.decode(value)  # type: ignore[arg-type]
    except UNREADABLE as error:
        raise _refusal(value, error) from None


UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError)
"""What a decoder raises at bytes that are no such record."""


def _refusal(value: bytes | None, error: Exception) -> BadRecord:
    if value is None:
        return BadRecord("the record has no value")
    if isinstance(error, msgspec.ValidationError):
        return BadRecord(str(error))
    if isinstance(error, RecursionError):
        return BadRecord("not JSON: nested too deeply")
    if isinstance(error, TypeError):
        raise error
    return BadRecord(f"not JSON: {error}")


def echo(value: bytes, names: Sequence[str]) -> dict[str, msgspec.Raw]:
    """The named top-level fields of a record that was decoded before, as they were written."""
    fields = _fields.decode(value)
    return {name: fields[name].copy() for name in names if name in fields}


def milliseconds(ts: int | str) -> int:
    """A record's `ts` in milliseconds since 1970. Raises BadRecord."""
    if isinstance(ts, str):
        try:
            moment = datetime.fromisoformat(ts)
        except ValueError:
            raise BadRecord("ts: expected milliseconds since 1970 or an RFC 3339 time") from None
        if moment.tzinfo is None:
            raise BadRecord("ts: the time has no offset from UTC")
        return int(moment.timestamp() * 1000)
    if not 0 <= ts < 253_402_300_800_000:
        raise BadRecord("ts: expected milliseconds between 1970 and 9999")
    return ts


def class_label(label: object) -> str:
    """A label of task classify: a string; booleans and integers become `true`, `false`, `7`. Raises BadRecord."""
    if type(label) is str:
        if label:
            return label
    elif type(label) is bool:
        return "true" if label else "false"
    elif type(label) is int:
        return str(label)
    raise BadRecord("label: expected a string that is not empty, a boolean or an integer")


def class_labels(label: object) -> list[str]:
    """Labels of an event that may have several, or none: a list, or one alone; each once, in order of their names.
    Raises BadRecord."""
    given = label if isinstance(label, list) else [label]
    return sorted({class_label(one) for one in given})


def value_label(label: object) -> float:
    """A label of task regress: a finite number. Raises BadRecord."""
    if type(label) in (int, float):
        try:
            value = float(label)  # type: ignore[arg-type]
        except OverflowError:
            value = math.inf
        if math.isfinite(value):
            return value
    raise BadRecord("label: expected a finite number")


def cost_label(label: object) -> dict[str, float]:
    """A label of task choose: an object of costs by edge. Raises BadRecord."""
    if type(label) is dict:
        return label
    raise BadRecord("label: expected an object, the cost of every edge")


LABEL_OF: Mapping[str, Callable[[object], Any]] = {
    "classify": class_label,
    "regress": value_label,
    "text": class_label,
    "choose": cost_label,
}
"""By task, what makes of a raw label the learner's; raises BadRecord."""


def dead_letter(topic: str, record: Record, reason: str, now: int, partition: int | None) -> Output:
    """The record as it came, with the reason in a header; sent back to its topic it is the original again."""
    about = DeadLetter(record.topic, record.partition, record.offset, reason, now)
    headers: Headers = (*record.headers, (DEAD_LETTER_HEADER, encode(about)))
    return Output(topic, record.key, record.value or b"", now, partition, headers)
