"""What every Kafka log of ours agrees on, whichever client library carries it.

A committed offset carries the shard's sequence number as its metadata. A journal entry is one or more records
of under 1 MB in the shard's journal partition, all in the transaction that commits it; a header tells which
part of which entry each is.
"""

import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from streamd.errors import ConfigError, OffsetGap, StateError
from streamd.ports import Committed, Headers, JournalEntry

CHUNK = 900_000  # bytes; below the 1,048,588 that a broker takes by default, headers and batch included
CHUNK_HEADER = "streamd"
_CHUNK = struct.Struct(">QII")  # sequence, number of the chunk from 0, number of chunks
_METADATA = re.compile(r"streamd/1:(\d+)")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
JOURNAL_CONFIGS = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}


class Chunk(NamedTuple):
    sequence: int
    part: int  # from 0
    parts: int
    data: bytes


def check_names(group: str, worker: str, inputs: Sequence[str], journal: str) -> None:
    """Raises ConfigError for a name that Kafka would refuse much later."""
    for key, name in (("worker.name", worker), ("log.group", group), ("journal", journal)):
        if not _NAME.fullmatch(name) or name in (".", ".."):
            raise ConfigError(key, f"{name!r}: letters, digits, '.', '_' and '-' only, at most 249")
    if not inputs or len(set(inputs)) != len(inputs):
        raise ConfigError("", f"a pipeline needs input topics, each once; given: {list(inputs)}")


def transactional_id(group: str, worker: str) -> str:
    """One producer per pipeline and worker name; `/` occurs in neither, so two pairs never share one."""
    return f"{group}/{worker}"


def to_metadata(sequence: int) -> str:
    return f"streamd/1:{sequence}"


def to_committed(topics: Mapping[str, tuple[int, str]], group: str, partition: int) -> Committed:
    """The committed state from (offset, metadata) per topic. Topics that were never committed are absent."""
    sequences = {}
    for topic, (_, metadata) in topics.items():
        match = _METADATA.fullmatch(metadata or "")
        if match is None:
            raise StateError(
                f"group {group}: the committed offset of {topic}[{partition}] carries no sequence number "
                f"({metadata!r}); it was set by another program"
            )
        sequences[topic] = int(match[1])
    if len(set(sequences.values())) > 1:
        raise StateError(
            f"group {group}: the offsets of partition {partition} are of different epochs ({sequences}); "
            "some were set by another program"
        )
    sequence = next(iter(sequences.values()), 0)
    return Committed(sequence, {topic: offset for topic, (offset, _) in topics.items()})


def to_chunks(sequence: int, entry: bytes) -> list[tuple[Headers, bytes]]:
    """A journal entry as (headers, value) of the records that carry it, in order; at least one."""
    count = max(1, -(-len(entry) // CHUNK))
    return [
        (((CHUNK_HEADER, _CHUNK.pack(sequence, index, count)),), entry[index * CHUNK : (index + 1) * CHUNK])
        for index in range(count)
    ]


def to_chunk(headers: Iterable[tuple[str, bytes]], value: bytes | None, where: str) -> Chunk:
    """The inverse for one record. Raises StateError for a record that is not of a journal."""
    for name, raw in headers:
        if name == CHUNK_HEADER and len(raw) == _CHUNK.size and value is not None:
            sequence, part, parts = _CHUNK.unpack(raw)
            return Chunk(sequence, part, parts, value)
    raise StateError(f"journal {where}: a record that is not a part of a journal entry")


class Assembler:
    """Puts the entries `after < sequence <= through` together from the chunks of a journal partition.

    after: None for the first that is whole. through: None for all that follow. Chunks of earlier entries are
    skipped; after them each chunk must be the one that follows. Raises StateError at the first that is not.
    """

    def __init__(self, where: str, after: int | None, through: int | None) -> None:
        self._where = where
        self._first = after is None  # the first whole entry is still to be found
        self._next = 1 if after is None else after + 1
        self._through = through
        self._parts: list[bytes] = []
        self._start = 0
        self._seen = 0

    @property
    def complete(self) -> bool:
        return self._through is not None and self._next > self._through

    def end(self, reason: str) -> None:
        """There are no more chunks. Raises StateError unless that is an end that was asked for."""
        if self._through is not None or self._parts:
            raise self.missing(reason)

    def check_found(self, reason: str) -> None:
        """Raises StateError if no chunk was seen where some had been."""
        if not self._seen and not self.complete:
            raise self.missing(reason)

    def missing(self, reason: str) -> StateError:
        return StateError(f"journal {self._where}: entry {self._next} is missing ({reason})")

    def add(self, chunk: Chunk, offset: int) -> JournalEntry | None:
        """Take the next record; the entry that it completes, if it does."""
        if chunk.sequence < self._seen:
            raise StateError(
                f"journal {self._where}: entry {chunk.sequence} follows {self._seen} at {offset}: begun anew"
            )
        self._seen = chunk.sequence
        if self._first and chunk.part == 0:
            self._first, self._next = False, chunk.sequence
        if self._first:
            return None
        if chunk.sequence < self._next and not self._parts:
            return None
        if (chunk.sequence, chunk.part) != (self._next, len(self._parts)):
            raise self.missing(
                f"part {len(self._parts)} expected, found entry {chunk.sequence} part {chunk.part} at {offset}"
            )
        if not self._parts:
            self._start = offset
        self._parts.append(chunk.data)
        if len(self._parts) < chunk.parts:
            return None
        entry = JournalEntry(chunk.sequence, b"".join(self._parts), self._start)
        self._parts.clear()
        self._next += 1
        return entry


def whole_partitions(assigned: Iterable[tuple[str, int]], inputs: Sequence[str]) -> frozenset[int]:
    """The partitions of an assignment of (topic, partition). Raises StateError unless each has all inputs."""
    topics: dict[int, set[str]] = {}
    for topic, partition in assigned:
        topics.setdefault(partition, set()).add(topic)
    for partition, present in sorted(topics.items()):
        if absent := sorted(set(inputs) - present):
            raise StateError(
                f"partition {partition} was assigned without {', '.join(absent)}: the input topics differ in "
                "partitions, or another member of the group uses another assignor"
            )
    return frozenset(topics)


def check_positions(partition: int, positions: Mapping[str, int], kept: Mapping[str, tuple[int, int]]) -> None:
    """Raises OffsetGap where a position lies outside of (oldest kept, end) of its topic."""
    for topic, position in positions.items():
        if topic in kept and not kept[topic][0] <= position <= kept[topic][1]:
            raise OffsetGap(topic, partition, position, *kept[topic])


def check_output_partition(topic: str, partition: int | None, partitions: int) -> None:
    if partition is not None and not 0 <= partition < partitions:
        raise ConfigError("", f"topic {topic} has {partitions} partitions, an output names partition {partition}")
