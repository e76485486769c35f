"""What a feature may be, and where its weight is: the check at the door of every learner that takes features.

A feature is a number, a boolean or a string (a category). What a name was at first sight it stays; another type
under it is a BadRecord. null is a missing value and is skipped.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamd.errors import BadRecord, StateError

LIMIT = 1e100  # magnitude of a number: sums of squares stay finite
HEAVIEST = 1e6  # a label's weight
LONGEST = 256  # characters of a name, of a category, of a class: state is bounded in bytes, too
Kind = str
LINES = msgspec.json.Decoder(tuple[Kind, str, str])
CACHED = 1 << 16  # hashes kept at hand
NOWHERE = ~0  # an entry of value 0 that touches nothing: a feature that has no slot yet

NO_REASON = 0  # the intercept's slot: it is no feature

KINDS = NUMBER, BOOLEAN, CATEGORY = "number", "boolean", "category"


def check_size(x: Any, most: int) -> None:
    """Raises BadRecord unless `x` is an object of at most `most` features."""
    if not isinstance(x, Mapping):
        raise BadRecord("features: not an object")
    if len(x) > most:
        raise BadRecord(f"features: {len(x)} of them, at most {most} are taken")


def kind_of(name: Any, value: Any) -> Kind:
    """The kind of one feature. Raises BadRecord if it is none, or too long, or not a finite number."""
    if not isinstance(name, str):
        raise BadRecord(f"features: a name of type {type(name).__name__}")
    _check_text("name", name, name)
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, str):
        _check_text("category", name, value)
        return CATEGORY
    check_number(f"feature {name!r}", value)
    return NUMBER


def check_number(what: str, value: Any) -> float:
    """A finite number, or BadRecord."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRecord(f"{what}: {type(value).__name__} is not a number")
    if not -LIMIT < value < LIMIT:
        raise BadRecord(f"{what}: not a finite number below 1e100 in magnitude")
    return float(value)


def _check_text(what: str, name: str, text: str) -> None:
    if len(text) > LONGEST:
        raise BadRecord(f"feature {name[:32]!r}: a {what} of {len(text)} characters, at most {LONGEST}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadRecord(f"feature {name[:32]!r}: the {what} is not valid Unicode") from None


def _mistyped(name: str, kind: Kind, pinned: Kind) -> BadRecord:
    return BadRecord(f"feature {name!r}: a {kind}, but it was a {pinned} before")


class FeatureTypes:
    """Names and their kinds, as first seen; for learners that keep their own features.

    max_features: names remembered; from then on a new name is accepted and its kind is not remembered.
    max_features_per_event: above it an event is a BadRecord.
    """

    def __init__(self, max_features: int, max_features_per_event: int) -> None:
        self.max_features = max_features
        self.max_features_per_event = max_features_per_event
        self._kinds: dict[str, Kind] = {}

    def check(self, x: Any) -> dict[str, Any]:
        """The features without the missing ones. Raises BadRecord; changes nothing."""
        check_size(x, self.max_features_per_event)
        present = {name: value for name, value in x.items() if value is not None}
        for name, value in present.items():
            kind = kind_of(name, value)
            if (pinned := self._kinds.get(name, kind)) != kind:
                raise _mistyped(name, kind, pinned)
        return present

    def observe(self, x: Mapping[str, Any]) -> None:
        """Remember the kinds of checked features."""
        for name, value in x.items():
            if name not in self._kinds and len(self._kinds) < self.max_features:
                self._kinds[name] = kind_of(name, value)

    def document(self) -> list[tuple[str, Kind]]:
        return list(self._kinds.items())

    def restore(self, document: Sequence[tuple[str, Kind]]) -> None:
        self._kinds = dict(document)


class FeatureIndex:
    """Features to slots: an array position each for a number's or a boolean's name and for a name=category.

    Slot 0 is the intercept's. A *code* is what a row holds: `slot` for a number, `~slot` for what is taken as it
    is. There are two forms:

    learned: features get slots in the order in which `observe` meets them. When `max_features` have one, each
        further feature shares a slot by the hash of its name; it is counted in `hashed` whenever observed, and its
        type is not remembered.
    hashed: `bits` given; all features share 2^bits slots by hash. Nothing is remembered, types neither.
    """

    def __init__(self, max_features: int, max_features_per_event: int, bits: int | None = None) -> None:
        self.max_features = 1 << bits if bits is not None else max_features
        self.max_features_per_event = max_features_per_event
        self.hashed = 0
        self.size = 1 + (self.max_features if bits is not None else 0)
        self.numbers: dict[str, int] = {}
        self.booleans: dict[str, int] = {}
        self.categories: dict[str, dict[str, int]] = {}
        self._learned = bits is None
        self._cached = 0
        self.names = bytearray()  # one JSON line per slot, in order: what is kept
        self.texts: list[str | None] = [None]  # per slot that is one feature's: how a reason names it

    @property
    def all_own(self) -> bool:
        """Whether no slot is shared, so that it names its feature."""
        return self._learned and self.size <= self.max_features

    def codes(self, x: Any, late: bool = False) -> tuple[list[int], list[float], bool]:
        """(codes, values, whether all have slots of their own), in the order of `x`, missing ones left out.

        Raises BadRecord; changes nothing. A feature which may get a slot but has none yet is NOWHERE.
        late: `x` was checked before; what has got another type since then counts as missing.
        """
        check_size(x, self.max_features_per_event)
        codes, values, complete = [], [], True
        for name, value in x.items():
            if value is None:
                continue
            kind = kind_of(name, value)
            pinned = self._pinned(name, kind)
            if pinned != kind and not late:
                raise _mistyped(name, kind, pinned)
            code = self._find(name, value, kind) if pinned == kind else NOWHERE
            complete = complete and code is not None
            if code is None:
                code = NOWHERE if self.size <= self.max_features else self._hash(name, value, kind)
            codes.append(code)
            values.append(0.0 if code == NOWHERE else 1.0 if kind == CATEGORY else float(value))
        return codes, values, complete

    def observe(self, x: Mapping[str, Any]) -> None:
        """Give slots to the new features of a checked row, as long as there are any."""
        for name, value in x.items():
            if value is None:
                continue
            kind = kind_of(name, value)
            if self._pinned(name, kind) == kind and self._find(name, value, kind) is None:
                self._add(name, value, kind)

    def _pinned(self, name: str, otherwise: Kind) -> Kind:
        if not self._learned:
            return otherwise
        if name in self.numbers:
            return NUMBER
        if name in self.booleans:
            return BOOLEAN
        return CATEGORY if name in self.categories else otherwise

    def state(self) -> NDArray[np.uint8]:
        """The names, slot by slot, as bytes."""
        return np.frombuffer(bytes(self.names), np.uint8)

    def restore(self, names: NDArray[np.uint8], hashed: int) -> None:
        """Take back what `state` gave. Raises StateError if it is not that."""
        try:
            lines = LINES.decode_lines(names.tobytes())
        except msgspec.MsgspecError as error:
            raise StateError(f"the feature names cannot be read: {error}") from None
        if len(lines) > self.max_features or (lines and not self._learned):
            raise StateError(f"{len(lines)} feature names do not fit this learner's index")
        if self._learned:
            self.size, self.names, self.texts = 1, bytearray(), [None]
            self._forget()
        for kind, name, value in lines:
            self._add(name, value, kind)
        self.hashed = hashed

    def _find(self, name: str, value: Any, kind: Kind) -> int | None:
        if not self._learned:
            return self._remember(name, value, kind)
        if kind == NUMBER:
            return self.numbers.get(name)
        if kind == BOOLEAN:
            return self.booleans.get(name)
        return self.categories.get(name, {}).get(value)

    def _hash(self, name: str, value: Any, kind: Kind) -> int:
        key = f"{name}={value}" if kind == CATEGORY else name
        slot = 1 + zlib.crc32(key.encode()) % self.max_features
        return slot if kind == NUMBER else ~slot

    def _add(self, name: str, value: Any, kind: Kind) -> None:
        if self.size > self.max_features:
            self.hashed += 1
            return
        self._put(name, value, kind, self.size if kind == NUMBER else ~self.size)
        self.names += msgspec.json.encode((kind, name, value if kind == CATEGORY else "")) + b"\n"
        self.texts.append(f"{name}={value}" if kind == CATEGORY else name)
        self.size += 1

    def _put(self, name: str, value: Any, kind: Kind, code: int) -> None:
        if kind == NUMBER:
            self.numbers[name] = code
        elif kind == BOOLEAN:
            self.booleans[name] = code
        else:
            self.categories.setdefault(name, {})[value] = code

    def _remember(self, name: str, value: Any, kind: Kind) -> int:
        """A hash, kept in the tables of the fast path; here they are a cache, emptied when full."""
        if self._cached >= CACHED:
            self._forget()
        code = self._hash(name, value, kind)
        self._put(name, value, kind, code)
        self._cached += 1
        return code

    def _forget(self) -> None:
        self.numbers.clear()
        self.booleans.clear()
        self.categories.clear()
        self._cached = 0
