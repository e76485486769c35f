"""The two ports, `Log` and `Store`, and `LogClient`, the operator's side of a log.

This page is the contract; an author of a connector needs no other. Connectors own I/O and nothing else:
they neither retry, nor sleep, nor log a line. What they raise is from `streamd.errors`; the engine decides.

A *shard* is one pipeline on one partition. All methods of one `Log` are called by one thread, the engine's.
A `Store` is called by the engine (`list`, `load`) and by its snapshot thread (`put`, `delete`), never
concurrently for one shard.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

Headers = tuple[tuple[str, bytes], ...]


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record as the log holds it."""

    topic: str
    partition: int
    offset: int
    timestamp: int  # milliseconds since 1970, given by the producer or the log
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Output(msgspec.Struct, frozen=True, gc=False):
    """One record to be written when the epoch commits.

    partition: None lets the connector choose by `murmur2(key)`, as Java's default partitioner does; a number
    is obeyed (a prediction stays on its event's partition, whoever chose that).
    """

    topic: str
    key: bytes | None
    value: bytes
    timestamp: int  # milliseconds since 1970, above 0: librdkafka takes 0 for "now"
    partition: int | None = None
    headers: Headers = ()


class ShardEpoch(msgspec.Struct, frozen=True):
    """What one shard moved in an epoch."""

    partition: int
    sequence: int  # of the journal entry; the first is 1, without gaps
    positions: Mapping[str, int]  # next offset to read, for *all* input topics, moved or not
    entry: bytes  # the journal entry, already compressed; any length


class Epoch(msgspec.Struct, frozen=True):
    """The work between two commits."""

    outputs: Sequence[Output]
    shards: Sequence[ShardEpoch]


class Committed(msgspec.Struct, frozen=True):
    """Where the log says a shard is. `sequence` 0 and no positions: the shard never committed."""

    sequence: int
    positions: Mapping[str, int]


class JournalEntry(NamedTuple):
    sequence: int
    entry: bytes
    offset: int  # where in the journal it starts; `Log.journal` may be given it as `start`


class TopicInfo(msgspec.Struct, frozen=True):
    """id: changes when a topic is deleted and made again under its old name."""

    id: str
    partitions: int


class Lag(msgspec.Struct, frozen=True):
    """What waits in one input partition: records not yet polled, and the age of the oldest in seconds."""

    records: int
    seconds: float


class Polled(msgspec.Struct, frozen=True):
    """The answer of a poll.

    records: per partition in the order to be applied. Within a topic that is offset order; a log that knows
    the order of appends across topics (SQLite) keeps it.
    assigned: partitions gained since the last poll; they deliver nothing until `seek`.
    revoked: partitions lost; nothing of them is in `records`, and they can no longer be committed.
    A partition lost and regained between two polls is in both.
    """

    records: Sequence[Record] = ()
    assigned: frozenset[int] = frozenset()
    revoked: frozenset[int] = frozenset()


class Log(Protocol):
    """One pipeline's view of the partitioned log: a consumer group of its input topics, and a journal.

    Made by `wiring` with group `<group>.<pipeline>`, the input topics, and the journal topic
    `<group>.<pipeline>.journal`. Any method may raise `Transient` (the log is away: the engine voids the epoch
    and calls `recover` until it succeeds), `Fenced` (the process ends, 78) or `StateError` (it ends, 65).
    """

    def open(self) -> Sequence[str]:
        """Called first. Joins the group; makes the journal topic if it is missing. Returns what `recover` does.

        Raises ConfigError if it is refused (TLS, user, password, right), if an input topic is missing, or if the
        input topics differ in partitions and there is no journal yet. Those that have grown apart since are
        assigned as they are: the engine pauses them.
        """

    def topics(self) -> Mapping[str, TopicInfo]:
        """The input topics as they are now (ids, partition counts), and every topic asked for by an output."""

    def poll(self, max_records: int, timeout: float) -> Polled:
        """At most `max_records` records; waits up to `timeout` seconds for the first. Never blocks longer.

        Raises OffsetGap if records were deleted before they were delivered; after `pause` and `seek` of that
        partition polling goes on.
        """

    def seek(self, partition: int, positions: Mapping[str, int]) -> Mapping[str, int]:
        """Deliver this assigned partition from these next offsets on; topics not named: from the oldest kept.

        Returns the next offsets of all input topics. Called after every assignment and every void epoch. Raises
        OffsetGap if a position is below the oldest offset kept or above the end (records were lost): one topic's;
        the engine may ask again with another position for it.
        """

    def pause(self, partition: int) -> None:
        """Deliver nothing more of this partition until `seek`."""

    def committed(self, partition: int) -> Committed:
        """The stable committed position; waits for, or excludes, a transaction still open."""

    def commit(self, epoch: Epoch) -> Mapping[int, int]:
        """Write outputs, journal entries and positions: all of it or none, visible to readers all at once.

        Returns, per partition, the journal offset from which `journal` finds the next entry.
        After an exception nothing may be assumed: the engine calls `recover`, then `committed`.
        """

    def recover(self) -> Sequence[str]:
        """Settle whatever was open (after this, `committed` tells whether the last commit took effect). Returns
        what the log itself had decided and not carried out, which was done now: sentences, for an operator."""

    def journal(
        self, partition: int, start: int, after: int | None, through: int | None
    ) -> Iterator[JournalEntry]:
        """The committed entries `after < sequence <= through`, in order, each once; through None: to the end,
        after None: from the first that is there.

        start: a journal offset at or before them, 0 if none is known. Raises StateError when an entry in the
        range is missing or damaged.
        """

    def journal_end(self, partition: int) -> int:
        """The journal offset from which `journal` finds what is committed from now on."""

    def trim_journal(self, partition: int, below: int, before: int) -> None:
        """Entries that lie wholly below this journal offset, and were written before this time (milliseconds
        since 1970), may be deleted. A wish; may do less, never more."""

    def lag(self) -> Mapping[tuple[str, int], Lag]:
        """Per assigned (topic, partition). Cheap: called once an epoch."""

    def owner(self, partition: int) -> str | None:
        """The worker that has this partition, as far as is known; from memory."""

    def close(self, leave: bool) -> None:
        """Release everything. leave: also leave the group at once (scale-in), else keep the seat for a restart."""


class LogClient(Protocol):
    """What `streamd send`, `tail`, `topics` and the tests use: the log from outside the daemon."""

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic; nothing happens if it exists with as many partitions, else ConfigError."""

    def topics(self) -> Mapping[str, TopicInfo]:
        """All topics."""

    def append(self, topic: str, records: Iterable[Output]) -> int:
        """Append all, durably and at once; `topic` in each Output is ignored. Returns how many."""

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[Record]:
        """Committed records from this offset on; an offset below the oldest kept starts at the oldest."""

    def ends(self, topic: str) -> Sequence[tuple[int, int]]:
        """Per partition: (oldest offset kept, next offset to be written)."""

    def since(self, topic: str, partition: int, moment: int) -> int:
        """The first offset whose record is not older than this time, milliseconds since 1970; else the end."""

    def journal(self, topic: str, partition: int, start: int, after: int | None) -> Iterator[JournalEntry]:
        """The committed entries after this sequence number, to the end, as `Log.journal` gives them; none if there
        is no such journal yet. topic: the journal's. after None: from the first that begins at `start` or later.
        """

    def journal_since(self, topic: str, partition: int, moment: int) -> int:
        """The journal offset from which all entries are found that were committed at this time or later."""

    def close(self) -> None: ...


class SnapshotInfo(msgspec.Struct, frozen=True):
    sequence: int
    bytes: int
    written: int  # milliseconds since 1970


class Store(Protocol):
    """Where snapshots live. `shard` is a name without spaces, unique per group, pipeline and partition.

    Every method may raise Transient (the engine goes on without the store, says so, and tries again later), and
    ConfigError while the store has refused us (TLS, user, password, right) ever since it was made.
    """

    def put(self, shard: str, sequence: int, manifest: bytes, chunks: Iterable[bytes]) -> None:
        """Write the chunks (each under 8 MB, made lazily), then the manifest, which makes the snapshot exist.

        Idempotent per (shard, sequence): a second put of the same sequence replaces nothing that is visible
        by something incomplete. A put that dies half-way leaves no snapshot; its rest is removed by a later
        `put` or `delete` for the same shard.
        """

    def list(self, shard: str) -> Sequence[SnapshotInfo]:
        """Complete snapshots, newest first."""

    def load(self, shard: str, sequence: int) -> tuple[bytes, Iterator[bytes]]:
        """(manifest, chunks in order). Raises StateError if there is no such snapshot or a chunk is gone."""

    def delete(self, shard: str, sequence: int) -> None:
        """Remove one snapshot: the manifest first, then its chunks. Nothing happens if there is none."""

    def shards(self) -> Sequence[str]:
        """The names of all shards that have a snapshot."""

    def close(self) -> None: ...


def murmur2(key: bytes) -> int:
    """Java's `Utils.murmur2`, made non-negative, as Kafka's default partitioner uses it."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    length = len(key)
    h = (0x9747B28C ^ length) & mask
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(key[i : i + 4], "little") * m & mask
        k = (k ^ (k >> 24)) * m & mask
        h = (h * m & mask) ^ k
    if tail := key[whole:]:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ (h >> 13)) * m & mask
    return (h ^ (h >> 15)) & 0x7FFFFFFF


def partition_of(output: Output, partitions: int) -> int:
    """The partition an output goes to: the one it names, else by its key, else 0."""
    if output.partition is not None:
        return output.partition
    return murmur2(output.key) % partitions if output.key is not None and partitions > 1 else 0
