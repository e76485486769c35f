"""Group declarations: what they may say, and which groups an event is in.

A declaration is terms joined by `&`; all must hold.

    sex=Female        equals; also `vip=true`, `floor=3`, `town="New York"`
    sex!=Female       is there and differs
    race in {A, B}    one of a set
    age<30            also <=, >, >=; 18<=age<30
    age in [18, 30)   a range: [ ] include the end, ( ) exclude it
    income?           the feature is there
    sex=*             one group per value: a category, a boolean or a whole number
    #vip              a tag the event carries;  #* one group per tag

Names and words are letters, digits and any of _ . : / - ; others are quoted, with \\ before a quote or backslash.
A bare number is a number, `true` and `false` are booleans, any other word a category.

A term whose feature is missing, or of another type than the term speaks of, does not hold: the group is asleep.
Which of the two it was is counted.

>>> declared = parse("sex=* & age<30")
>>> declared.groups({"sex": "Female", "age": 25.0}, ())
(['sex=Female & age<30'], False, False)
>>> declared.groups({"sex": "Female", "age": "young"}, ())
([], False, True)
"""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import islice, product
from typing import Any, NamedTuple

from streamd.errors import ConfigError

TOKEN = re.compile(
    r'\s*(?:("(?:[^"\\]|\\.)*")|([^\W"][\w.:/-]*|[+-]?\.?\d[\w.+-]*)|(<=|>=|!=|[=<>&?#*{}\[\](),]))'
)
WORD = re.compile(r"[^\W\d][\w.:/-]*\Z")
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\Z")
MISSING, MISTYPED = "missing", "mistyped"
MOST = 1000  # groups one declaration may find for one event: several tags, combined

Value = float | bool | str
Found = Sequence[str] | str | None
"""What a term says of an event: the names it contributes (it holds), MISSING, MISTYPED, or None (it does not)."""


class Token(NamedTuple):
    kind: str  # word, quoted, sign, end
    text: str
    column: int  # of its first character, from 1


class Term(NamedTuple):
    """One condition. `open`: it makes one group per value."""

    test: Callable[[Mapping[str, Any], Sequence[str]], Found]
    open: bool


class Declaration(NamedTuple):
    """One declared family of groups. `open`: its groups are born when seen; else it is one group, `text`."""

    text: str
    terms: tuple[Term, ...]
    open: bool

    def groups(self, x: Mapping[str, Any], tags: Sequence[str]) -> tuple[list[str], bool, bool]:
        """(names of the groups the event is in, a feature was missing, a feature was of another type)."""
        names: list[Sequence[str]] = []
        for term in self.terms:
            found = term.test(x, tags)
            if found is None or isinstance(found, str):
                return [], found == MISSING, found == MISTYPED
            names.append(found)
        if not self.open:
            return [self.text], False, False
        return [" & ".join(parts) for parts in islice(product(*names), MOST)], False, False


def parse(text: str, key: str = "groups") -> Declaration:
    """Read one declaration. Raises ConfigError under `key`, with the column at which it could not be read."""
    reader = _Reader(text, key)
    terms = [reader.term()]
    while reader.take("&"):
        terms.append(reader.term())
    if reader.now.kind != "end":
        reader.refuse("`&` or the end")
    opens = any(term.open for term in terms)
    # The one group of a closed declaration is called as it was written, spaces apart.
    return Declaration(" ".join(text.split()), tuple(terms), opens)


class _Reader:
    """A recursive descent over one declaration."""

    def __init__(self, text: str, key: str) -> None:
        self._key = key
        self._text = text
        self._tokens = _tokens(text, self)
        self._at = 0

    @property
    def now(self) -> Token:
        return self._tokens[self._at]

    def refuse(self, expected: str, column: int | None = None) -> None:
        where = self.now.column if column is None else column
        raise ConfigError(self._key, f"{self._text!r}: expected {expected} at column {where}")

    def take(self, *signs: str) -> str:
        """The sign that stands here, and go on; "" if it is none of these."""
        token = self.now
        if token.kind != "sign" or token.text not in signs:
            return ""
        self._at += 1
        return token.text

    def need(self, *signs: str) -> str:
        sign = self.take(*signs)
        if not sign:
            self.refuse(" or ".join(f"`{sign}`" for sign in signs))
        return sign

    def term(self) -> Term:
        if self.take("#"):
            return _any_tag() if self.take("*") else _tag(self._name())
        if self.now.kind == "word" and NUMBER.match(self.now.text):
            return self._between()
        start = self._at
        name = self._name()
        shown = _shown(name)
        if self.take("?"):
            return _exists(name, shown + "?")
        if self.take("="):
            return _each(name, shown) if self.take("*") else self._closed(name, start, _equal(self._value(), True))
        if self.take("!="):
            return self._closed(name, start, _equal(self._value(), False))
        if sign := self.take("<", "<=", ">", ">="):
            return self._closed(name, start, _bound(sign, self._number()))
        if self.now == Token("word", "in", self.now.column):
            self._at += 1
            return self._closed(name, start, self._membership())
        self.refuse("one of = != < <= > >= ? in")
        raise AssertionError

    def _between(self) -> Term:
        start = self._at
        low = self._number()
        first = {"<": ">", "<=": ">="}[self.need("<", "<=")]
        name = self._name()
        second = self.need("<", "<=")
        return self._closed(name, start, _both(_bound(first, low), _bound(second, self._number())))

    def _membership(self) -> Callable[[Any], bool | str]:
        if self.take("{"):
            values = [self._value()]
            while self.take(","):
                values.append(self._value())
            self.need("}")
            return _one_of(values)
        if not (opening := self.take("[", "(")):
            self.refuse("`{`, `[` or `(`")
        column = self.now.column
        low = self._number()
        self.need(",")
        high = self._number()
        closing = self.need("]", ")")
        if low > high:
            self.refuse("a range whose first end is not the larger one", column)
        return _both(_bound(">=" if opening == "[" else ">", low), _bound("<=" if closing == "]" else "<", high))

    def _closed(self, name: str, start: int, holds: Callable[[Any], bool | str]) -> Term:
        tokens = self._tokens[start : self._at]
        text = self._text[tokens[0].column - 1 : self._tokens[self._at].column - 1].strip()
        return _on_value(name, " ".join(text.split()), holds)

    def _name(self) -> str:
        token = self.now
        if token.kind not in ("word", "quoted") or (token.kind == "word" and not WORD.match(token.text)):
            self.refuse("the name of a feature or tag")
        self._at += 1
        return token.text

    def _value(self) -> Value:
        token = self.now
        if token.kind not in ("word", "quoted"):
            self.refuse("a value")
        self._at += 1
        if token.kind == "quoted":
            return token.text
        if NUMBER.match(token.text):
            return float(token.text)
        return {"true": True, "false": False}.get(token.text, token.text)

    def _number(self) -> float:
        if self.now.kind != "word" or not NUMBER.match(self.now.text):
            self.refuse("a number")
        self._at += 1
        return float(self._tokens[self._at - 1].text)


def _tokens(text: str, reader: _Reader) -> list[Token]:
    tokens, at = [], 0
    end = len(text.rstrip())
    while at < end:
        match = TOKEN.match(text, at)
        if match is None:
            reader.refuse("a name, a value or a sign", at + 1 + len(text[at:]) - len(text[at:].lstrip()))
            raise AssertionError
        quoted, word, sign = match.groups()
        column = match.end() - len(match.group().lstrip()) + 1
        if quoted is not None:
            tokens.append(Token("quoted", re.sub(r"\\(.)", r"\1", quoted[1:-1]), column))
        else:
            tokens.append(Token("word", word, column) if word is not None else Token("sign", sign, column))
        at = match.end()
    return [*tokens, Token("end", "", end + 1)]


def _shown(text: str) -> str:
    """A name or a category as it would be declared."""
    if WORD.match(text) and text not in ("true", "false", "in"):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _each_value(value: Any) -> str | None:
    if isinstance(value, str):
        return _shown(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer() and abs(value) < 2**53):
        return str(int(value))
    return None


def _each(name: str, shown: str) -> Term:
    def test(x: Mapping[str, Any], tags: Sequence[str]) -> Found:
        value = x.get(name)
        if value is None:
            return MISSING
        text = _each_value(value)
        return MISTYPED if text is None else (f"{shown}={text}",)

    return Term(test, True)


def _exists(name: str, shown: str) -> Term:
    return Term(lambda x, tags: (shown,) if x.get(name) is not None else None, False)


def _tag(name: str) -> Term:
    shown = (f"#{_shown(name)}",)
    return Term(lambda x, tags: shown if name in tags else None, False)


def _any_tag() -> Term:
    return Term(lambda x, tags: [f"#{_shown(tag)}" for tag in dict.fromkeys(tags)] or None, True)


def _on_value(name: str, shown: str, holds: Callable[[Any], bool | str]) -> Term:
    names = (shown,)

    def test(x: Mapping[str, Any], tags: Sequence[str]) -> Found:
        value = x.get(name)
        if value is None:
            return MISSING
        held = holds(value)
        return names if held is True else held or None

    return Term(test, False)


def _same_type(value: Any, declared: Value) -> bool:
    if isinstance(declared, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(declared)


def _equal(declared: Value, wanted: bool) -> Callable[[Any], bool | str]:
    return lambda value: (value == declared) is wanted if _same_type(value, declared) else MISTYPED


def _one_of(declared: Sequence[Value]) -> Callable[[Any], bool | str]:
    def holds(value: Any) -> bool | str:
        alike = [one for one in declared if _same_type(value, one)]
        return value in alike if alike else MISTYPED

    return holds


def _bound(sign: str, limit: float) -> Callable[[Any], bool | str]:
    compare: dict[str, Callable[[float], bool]] = {
        "<": lambda value: value < limit,
        "<=": lambda value: value <= limit,
        ">": lambda value: value > limit,
        ">=": lambda value: value >= limit,
    }
    holds = compare[sign]
    return lambda value: holds(value) if _same_type(value, limit) else MISTYPED


def _both(first: Callable[[Any], bool | str], second: Callable[[Any], bool | str]) -> Callable[[Any], bool | str]:
    def holds(value: Any) -> bool | str:
        held = first(value)
        return second(value) if held is True else held

    return holds
