"""Where an output came from and what followed: an id through the journals and the topics of all pipelines.

    event id  e1      query id  e1#1      match id  e1#1/2, of an arrival and its attempt

All three lead to the same story: the input with its topic, partition and offset; the epoch that took it, the
newest snapshot before that which is kept, the digest of how the shard worked then; the outputs that name it; the
labels, queries, matches and outcomes that followed. Ids and places are told, not what the records say.

An output has the time of the input it came of, or a later one, so each topic is read from the first of the inputs
on, found by its time; predictions on the input's partition only, until the last is found. Journals have no index
but time: `since` bounds them.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
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
FOREVER = 1 << 62  # milliseconds
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


class Between(Struct, frozen=True):
    """Milliseconds since 1970: of journals when an epoch was committed; of outputs the record's own time, unless
    an input is found that they came of."""

    since: int = 0
    until: int = FOREVER


ALL = Between()


class Tracer:
    """group: of the configuration. values: tell the records whole, and who answered. progress: told the records
    read, of journals and topics."""

    def __init__(
        self,
        client: LogClient,
        store: Store,
        group: str,
        values: bool,
        between: Between = ALL,
        progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        self._client = client
        self._store = store
        self._group = group
        self._values = values
        self._between = between
        self._progress = progress
        self._read = 0

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
            records = entry.records(partition)
            self._told_so_far(len(records))
            for record in records:
                if not record.topic and record.key == b"reload":
                    config = record.value or b""
                elif record.topic and (told := self._told(event, record)) is not None:
                    role = roles.get(record.topic, record.topic)  # it may be no input any more
                    yield self._fact(role, name, record, told, sequence, before, digest(config))

    def _entries(self, shard: str, journal: str, partition: int) -> tuple[bytes, Iterator[JournalEntry]]:
        """(the configuration before them, all entries that are kept, or those of the time that is looked at)."""
        if self._between.since:
            return self._of_that_time(shard, journal, partition)
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

    def _of_that_time(self, shard: str, journal: str, partition: int) -> tuple[bytes, Iterator[JournalEntry]]:
        """The configuration is that of the newest snapshot before, if one is kept, else unknown at first."""
        start = self._client.journal_since(journal, partition, self._between.since)
        entries = _started(self._client.journal(journal, partition, start, None))
        first = next(entries, None)
        if first is None:
            return b"", iter(())
        for info in self._store.list(shard):
            if info.sequence < first.sequence:
                raw, chunks = self._store.load(shard, info.sequence)
                document = snapshot.decode(snapshot.read_manifest(raw), chunks).document
                return document.get(PART, {}).get("live", b""), chain((first,), entries)
        return b"", chain((first,), entries)

    def _told_so_far(self, more: int) -> None:
        self._read += more
        self._progress(self._read)

    def _given(
        self, event: str, name: str, role: str, topic: str, partition: int, taken: Sequence[Fact]
    ) -> Iterator[Fact]:
        """The outputs on one partition that name it, or that are the dead letter of an input that does."""
        places = {(fact.topic, fact.partition, fact.offset): fact for fact in taken}
        first, end = self._bounds(topic, partition, taken)
        predicted = [fact for fact in taken if fact.what == "events"]
        left = sum(fact.partition == partition for fact in predicted)
        if role == "predictions" and predicted and not left:
            return
        while first < end:
            records = self._client.read(topic, partition, first, min(AT_ONCE, end - first))
            if not records:
                return
            first = records[-1].offset + 1
            self._told_so_far(len(records))
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
                    left -= 1
                    if role == "predictions" and left == 0:
                        return

    def _bounds(self, topic: str, partition: int, taken: Sequence[Fact]) -> tuple[int, int]:
        """(the first offset to be read, the one after the last)."""
        first, end = self._client.ends(topic)[partition]
        since = min((fact.ts for fact in taken), default=self._between.since)
        if since > 0:
            first = max(first, self._client.since(topic, partition, since))
        if self._between.until < FOREVER:
            end = min(end, self._client.since(topic, partition, self._between.until + 1))
        return first, end

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
