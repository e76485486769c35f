"""A simulated crowd of annotators: answers to query records, late, wrong, passed over or never given.

It reads the queries of a pipeline, or the matches of a match pipeline that routes them, and knows the truth. All
it does is decided by a hash of the seed, the record and the annotator: the same queries get the same answers, in
whatever order they are read, so a crowd that is started again repeats itself and nothing else.

    a query that names its annotator    that one answers
    a query of a pool, or unnamed       one of the crowd, another one for each query of an event; where the query
                                        wants several answers and names no pool, so many of them
    a match                             the resource matched answers; nobody, where there was none

Answers are records for the query's reply topic, under its reply key and on its partition; they copy the query's id
(of a match: the match's) and the annotator. Nothing here reads a clock or a log.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct

from streamd import records as codec
from streamd.errors import BadRecord, ConfigError
from streamd.ports import Output
from streamd.querying import Keyed

COUNTS = {
    "queries": "records read that ask for a label",
    "answers": "labels given",
    "wrong": "of these, labels that were not the truth",
    "skipped": "queries passed over by an answer that says so",
    "silent": "queries that were never answered",
    "unknown": "queries about events whose truth is not known",
    "unmatched": "matches with nobody",
    "others": "records that ask for nothing",
}


Truth = str | float | list[str]
"""A class, a value, or several classes in the order of their names."""


class Habits(Struct, frozen=True):
    """accuracy: of a label. skip, silent: how often a query is passed over, or never answered. delay: seconds
    until an answer, in the mean; they are exponentially distributed."""

    accuracy: float = 0.9
    skip: float = 0.0
    silent: float = 0.0
    delay: float = 60.0

    def __post_init__(self) -> None:
        for name in ("accuracy", "skip", "silent"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(name, "must be within 0 and 1")
        if not 0.0 <= self.delay < math.inf:
            raise ConfigError("delay", "must be 0 seconds or more")


class Reply(Struct, frozen=True):
    topic: str
    key: str
    partition: int | None = None


class Query(Struct, frozen=True):
    """As a pipeline writes it."""

    id: str
    event: str
    reply: Reply
    ts: int = 0
    kind: str = "label"
    answers: int = 1
    pool: str | None = None
    proposed: str | None = None
    annotator: str | None = None
    exclude: tuple[str, ...] = ()


class Match(Struct, frozen=True):
    """As a match pipeline writes it."""

    id: str
    query: Query
    resource: str | None = None
    ts: int = 0


class Answer(NamedTuple):
    """asked: event time of the query; after: milliseconds from it to the answer. query, annotator: as told."""

    topic: str
    key: bytes
    partition: int | None
    asked: int
    after: int
    query: str
    annotator: str
    fields: dict[str, object]

    def output(self, now: int, ts: int | None = None) -> Output:
        """The record. ts: event time, if it is to say so."""
        told = self.fields if ts is None else self.fields | {"ts": ts}
        return Output(self.topic, self.key, codec.encode(told), now, self.partition)


_query = msgspec.json.Decoder(Query)
_match = msgspec.json.Decoder(Match)


class Crowd:
    """truth: of each event. annotators: their habits by name; who is not among them, a resource of a match or an
    annotator that a query names, has the habits of `others`."""

    def __init__(
        self,
        truth: Mapping[str, Truth],
        annotators: Mapping[str, Habits],
        others: Habits | None = None,
        seed: int = 0,
    ) -> None:
        if not annotators:
            raise ConfigError("annotators", "expected at least one")
        self.counts = dict.fromkeys(COUNTS, 0)
        self._truth = truth
        self._annotators = dict(annotators)
        self._names = sorted(annotators)
        self._others = others if others is not None else Habits()
        self._keyed = Keyed(seed, "crowd")
        sets = [value if isinstance(value, list) else [value] for value in truth.values()]
        self._classes = sorted({name for value in sets for name in value if isinstance(name, str)})
        self._spread = _spread([value for value in truth.values() if not isinstance(value, str | list)])

    def ask(self, value: bytes | None) -> Iterator[Answer]:
        """The answers to one record."""
        try:
            match = codec.decode(_match, value)
        except BadRecord:
            yield from self._asked(value)
            return
        self.counts["queries"] += 1
        if match.resource is None:
            self.counts["unmatched"] += 1
            return
        if (answer := self._one(match.query, match.id, match.resource, match.ts)) is not None:
            yield answer

    def _asked(self, value: bytes | None) -> Iterator[Answer]:
        try:
            query = codec.decode(_query, value)
        except BadRecord:
            self.counts["others"] += 1
            return
        self.counts["queries"] += 1
        for name in self._chosen(query):
            if (answer := self._one(query, query.id, name, query.ts)) is not None:
                yield answer

    def _chosen(self, query: Query) -> Sequence[str]:
        """Who answers: by a hash of the event, so that its queries go to one after the other."""
        if query.annotator is not None:
            return [query.annotator]
        names = [name for name in self._names if name not in query.exclude]
        if not names:
            return []
        draws = self._keyed.of(query.event)
        order = sorted(names, key=lambda name: draws.uniform(f"turn/{name}"))
        if query.pool is None:
            return order[: query.answers]
        number = query.id.rpartition("#")[2]
        return [order[(int(number) if number.isdecimal() else 0) % len(order)]]

    def _one(self, query: Query, id: str, name: str, asked: int) -> Answer | None:
        truth = self._truth.get(query.event)
        if truth is None:
            self.counts["unknown"] += 1
            return None
        habits = self._annotators.get(name, self._others)
        draws = self._keyed.of(f"{id}/{name}")
        if draws.uniform("silent") < habits.silent:
            self.counts["silent"] += 1
            return None
        after = round(-math.log(1.0 - draws.uniform("delay")) * habits.delay * 1000)
        fields: dict[str, object] = {"id": query.event, "query": id, "annotator": name}
        if draws.uniform("skip") < habits.skip:
            self.counts["skipped"] += 1
            fields["skip"] = True
        else:
            right = draws.uniform("right") < habits.accuracy
            said = truth if right else self._mistaken(truth, draws.uniform("which"), draws.normal("off"))
            self.counts["answers"] += 1
            self.counts["wrong"] += said != truth
            fields["label"] = ("yes" if said == query.proposed else "no") if query.kind == "confirm" else said
        reply = query.reply
        return Answer(reply.topic, reply.key.encode(), reply.partition, asked, after, id, name, fields)

    def _mistaken(self, truth: Truth, u: float, off: float) -> Truth:
        """Another class, one of several classes too many or missing, or a number off by about as much as the
        numbers differ."""
        if isinstance(truth, list):
            other = self._classes[int(u * len(self._classes))] if self._classes else ""
            return sorted({*truth} ^ {other}) if other else truth
        if not isinstance(truth, str):
            return truth + off * self._spread
        others = [name for name in self._classes if name != truth]
        return others[int(u * len(others))] if others else truth


def _spread(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 1.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values)) or 1.0
