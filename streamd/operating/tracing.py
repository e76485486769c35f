"""Where an output came from and what followed: an id through the journals and the topics of all pipelines.

    event id  e1      query id  e1#1      match id  e1#1/2, of an arrival and its attempt

All three lead to the same story: the input with its topic, partition and offset; the epoch that took it, the
newest snapshot before that which is kept, the digest of how the shard worked then; the outputs that name it; the
labels, queries, matches and outcomes that followed. Ids and places are told, not what the records say.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from streamd import snapshot
from streamd.config.keys import AnyPipeline
from streamd.errors import StateError
from streamd.journal import decode
from streamd.operating.commanded import PART, digest
from streamd.ports import JournalEntry, LogClient, Record, Store
from streamd.records import DEAD_LETTER_HEADER

AT_ONCE = 2000  # records of one read
NAMES = ("id", "event", "arrival", "query")  # fields that hold an id
TOLD = (*NAMES, "model", "annotator", "resource", "pool", "reason", "success", "unmatched", "skip")
IDS = {*NAMES, "model", "pool", "reason", "success", "unmatched", "skip"}  # without persons: told unasked


class Fact(Struct, frozen=True):
    """One record of the story. epoch, snapshot, config: of inputs, and of outputs whose input is known.

    what: `events`, `labels`, `predictions`, ... as the configuration calls the topic. ts: milliseconds since 1970.
    """

    what: str
    pipeline: str
    topic: str
    partition: int
    offset: int
    ts: int
    epoch: int | None = None
    snapshot: int | None = None
    config: str = ""
    told: dict[str, Any] = {}
    value: str | None = None


class Tracer:
    """group: of the configuration. values: tell the records whole, and who answered."""

    def __init__(self, client: LogClient, store: Store, group: str, values: bool) -> None:
        self._client = client
        self._store = store
        self._group = group
        self._values = values

    def trace(self, given: str, pipelines: Mapping[str, AnyPipeline]) -> list[Fact]:
        """The story of an id, in the order of the log's timestamps, inputs before the outputs they led to."""
        found = self._story(root(given), pipelines)
        if not any(fact.what == "events" for fact in found):
            found = self._story(_arrival(given), pipelines) or found
        return found

    def _story(self, event: str, pipelines: Mapping[str, AnyPipeline]) -> list[Fact]:
        found: list[Fact] = []
        there = self._client.topics()
        for name, pipeline in pipelines.items():
            roles = {topic: role for role, topic in _inputs(pipeline)}
            shards = there[pipeline.inputs[0]].partitions if pipeline.inputs[0] in there else 0
            taken = [fact for p in range(shards) for fact in self._taken(event, name, roles, p)]
            outputs = [
                fact
                for role, topic in pipeline.outputs.items()
                if topic in there
                for partition in range(there[topic].partitions)
                for fact in self._given(event, name, role, topic, partition, taken)
            ]
            found += [*taken, *outputs]
        return sorted(_once(found), key=lambda fact: fact.ts)

    def _taken(self, event: str, name: str, roles: Mapping[str, str], partition: int) -> Iterator[Fact]:
        """The inputs of one shard that name it, from its journal."""
        shard, journal = f"{self._group}.{name}.{partition}", f"{self._group}.{name}.journal"
        kept = [info.sequence for info in self._store.list(shard)]
        config, entries = self._entries(shard, journal, partition)
        for sequence, raw, _ in entries:
            entry = decode(raw, sequence)
            config = entry.live or config
            before = max((at for at in kept if at < sequence), default=0)
            for record in entry.records(partition):
                if not record.topic and record.key == b"reload":
                    config = record.value or b""
                elif record.topic and (told := self._told(event, record)) is not None:
                    yield self._fact(roles[record.topic], name, record, told, sequence, before, digest(config))

    def _entries(self, shard: str, journal: str, partition: int) -> tuple[bytes, Iterator[JournalEntry]]:
        """(the configuration before them, all entries that are kept)."""
        try:
            return b"", _started(self._client.journal(journal, partition, 0, 0))
        except StateError as error:
            missing = error
        for info in reversed(list(self._store.list(shard))):
            raw, chunks = self._store.load(shard, info.sequence)
            manifest = snapshot.read_manifest(raw)
            config = snapshot.decode(manifest, chunks).document.get(PART, {}).get("live", b"")
            try:
                found = self._client.journal(journal, partition, manifest.journal_offset, info.sequence)
                return config, _started(found)
            except StateError as error:
                missing = error
        raise StateError(f"{shard}: no snapshot leads into the journal ({missing})")

    def _given(
        self, event: str, name: str, role: str, topic: str, partition: int, taken: Sequence[Fact]
    ) -> Iterator[Fact]:
        """The outputs on one partition that name it, or that are the dead letter of an input that does."""
        places = {(fact.topic, fact.partition, fact.offset): fact for fact in taken}
        first, end = self._client.ends(topic)[partition]
        predicted = [fact for fact in taken if fact.what == "events"]
        while first < end:
            records = self._client.read(topic, partition, first, min(AT_ONCE, end - first))
            if not records:
                return
            first = records[-1].offset + 1
            for record in records:
                told, about = self._told(event, record), dict(record.headers).get(DEAD_LETTER_HEADER)
                cause = None
                if role == "dead letters" and about is not None:
                    refused = msgspec.json.decode(about, type=dict[str, Any])
                    cause = places.get((refused["topic"], refused["partition"], refused["offset"]))
                    told = {"reason": refused["reason"], "offset": refused["offset"]} if cause or told else None
                elif told is not None:
                    cause = _cause(role, told, taken, predicted)
                if told is not None:
                    how = (cause.epoch, cause.snapshot, cause.config) if cause else (None, None, "")
                    yield self._fact(role, name, record, told, *how)

    def _told(self, event: str, record: Record) -> dict[str, Any] | None:
        """What a record says of it; None if it does not name it."""
        if record.value is None or event.encode() not in record.value:
            return None
        try:
            fields = msgspec.json.decode(record.value)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        if not isinstance(fields, dict) or not any(_leads_to(event, fields.get(name)) for name in NAMES):
            return None
        return {name: fields[name] for name in TOLD if name in fields and (self._values or name in IDS)}

    def _fact(
        self,
        what: str,
        name: str,
        record: Record,
        told: dict[str, Any],
        epoch: int | None,
        kept: int | None,
        config: str,
    ) -> Fact:
        value = (record.value or b"").decode(errors="backslashreplace") if self._values else None
        place = (record.topic, record.partition, record.offset, record.timestamp)
        return Fact(what, name, *place, epoch, kept, config, _plain(told), value)


def _cause(role: str, told: Mapping[str, Any], taken: Sequence[Fact], predicted: list[Fact]) -> Fact | None:
    """The input that an output came of: of an outcome the label; of predictions one event after the other."""
    if role == "outcomes":
        return next((one for one in taken if one.what == "labels" and one.told.get("query") == told["id"]), None)
    if not predicted:
        return None
    return predicted[0] if len(predicted) == 1 or role != "predictions" else predicted.pop(0)


def _once(facts: Sequence[Fact]) -> list[Fact]:
    """Pipelines may share a topic: a record is told by those that wrote it or took it, if they are known."""
    known = {(fact.what, fact.topic, fact.partition, fact.offset) for fact in facts if fact.epoch is not None}
    others: dict[tuple[str, str, int, int], Fact] = {}
    for fact in facts:
        place = (fact.what, fact.topic, fact.partition, fact.offset)
        if fact.epoch is None and place not in known:
            others.setdefault(place, fact)
    return [*(fact for fact in facts if fact.epoch is not None), *others.values()]


def root(given: str) -> str:
    """The event behind the id of an event, a query or a match."""
    return re.sub(r"#\d+$", "", re.sub(r"(#\d+)/\d+$", r"\1", given))


def _leads_to(event: str, value: Any) -> bool:
    return isinstance(value, str) and event in (value, root(value), _arrival(value))


def _arrival(match: str) -> str:
    """The arrival behind the id of a match."""
    return re.sub(r"/\d+$", "", match)


def _plain(told: Mapping[str, Any]) -> dict[str, Any]:
    """A match repeats its query whole: its id is enough."""
    return {name: value.get("id") if isinstance(value, dict) else value for name, value in told.items()}


def _inputs(pipeline: AnyPipeline) -> Iterator[tuple[str, str]]:
    for role in ("events", "labels", "resources", "outcomes"):
        if (topic := getattr(pipeline, role, None)) in pipeline.inputs:
            yield role, topic


def _started(entries: Iterator[JournalEntry]) -> Iterator[JournalEntry]:
    """The same entries; raises at once what the first of them raises."""
    first = next(entries, None)

    def all_of_them() -> Iterator[JournalEntry]:
        if first is not None:
            yield first
            yield from entries

    return all_of_them()
