"""Whether a shard's journal still makes the outputs that were written: for audit, and for trust in an upgrade.

The journal's records are decided anew, in the journal's order, from its start or from the oldest snapshot it leads
on from; every decision must be the one that was journalled, every output the record that lies in its topic.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import takewhile

from msgspec import Struct

from streamd import snapshot
from streamd.errors import Refused, StateError
from streamd.journal import Entry, decode
from streamd.ports import JournalEntry, LogClient, Output, Record, Store, partition_of
from streamd.restore import Identity, foreign
from streamd.shard import Shard

AT_ONCE = 2000  # records of one read
SHOWN = 160  # bytes of a record in a message


class Verified(Struct, frozen=True):
    """after: the epoch before the first that was verified; through: the last. deleted: outputs no longer kept.

    problem: what differs first; empty if nothing does.
    """

    partition: int
    after: int
    through: int
    records: int
    outputs: int
    deleted: int
    problem: str = ""


class _Differs(Exception):
    """Found a difference."""


class Verifier:
    """One pipeline's. journal: its topic; shared: output topics that others write to as well."""

    def __init__(
        self,
        client: LogClient,
        store: Store,
        journal: str,
        identity: Callable[[int], Identity],
        fresh: Callable[[int], Shard],
        shared: frozenset[str],
    ) -> None:
        self._client = client
        self._store = store
        self._journal = journal
        self._identity = identity
        self._fresh = fresh
        self._shared = shared

    def verify(self, partition: int, progress: Callable[[int], None]) -> Verified:
        """progress: told the records done. Raises StateError if nothing leads into the journal.

        What another configuration decided is passed over: a state that begins anew is verified from there.
        """
        shard, entries = self._start(partition)
        written = _Written(self._client, self._shared, from_start=shard.sequence == 0)
        after, done, problem, others = shard.sequence, 0, "", ""
        try:
            for sequence, raw, offset in entries:
                entry = decode(raw, sequence)
                if entry.live and sequence > 1:
                    shard = self._fresh(partition)
                    shard.place(sequence - 1, {}, offset, entry.partitions)
                    written = _Written(self._client, self._shared, from_start=False)
                    after, done = sequence - 1, 0
                if entry.live:
                    others = self._identity(partition).differs(entry.live)
                if others:
                    continue
                records = entry.records(partition)
                outputs = _again(shard, entry, records)
                for output in outputs:
                    if reason := written.holds(output):
                        raise _Differs(f"epoch {sequence:,}: {reason}")
                shard.committed(offset)
                done += len(records)
                progress(done)
            if others:
                raise _Differs(others)
            written.finish()
        except _Differs as difference:
            problem = str(difference)
        return Verified(partition, after, shard.sequence, done, written.compared, written.deleted, problem)

    def _start(self, partition: int) -> tuple[Shard, Iterator[JournalEntry]]:
        """A shard before the oldest entry that can be verified, and the entries from there."""
        shard = self._fresh(partition)
        try:
            return shard, self._entries(shard)
        except StateError as error:
            missing = error
        identity = self._identity(partition)
        for info in reversed(list(self._store.list(identity.name))):
            shard = self._fresh(partition)
            raw, chunks = self._store.load(identity.name, info.sequence)
            manifest = snapshot.read_manifest(raw)
            if foreign(manifest, identity):
                continue
            state = snapshot.decode(manifest, chunks)
            shard.restore(state, manifest.sequence, manifest.positions, manifest.journal_offset)
            try:
                return shard, self._entries(shard)
            except StateError as error:
                missing = error
        raise StateError(f"{identity.name}: neither its start nor a snapshot leads into the journal ({missing})")

    def _entries(self, shard: Shard) -> Iterator[JournalEntry]:
        """The entries after a shard's epoch; raises StateError at once if the first of them is missing."""
        found = self._client.journal(self._journal, shard.partition, shard.journal_offset, shard.sequence)
        first = next(found, None)

        def all_of_them() -> Iterator[JournalEntry]:
            if first is not None:
                yield first
                yield from found

        return all_of_them()


def _again(shard: Shard, entry: Entry, records: list[Record]) -> list[Output]:
    """Decide an epoch anew. Raises _Differs where it is decided otherwise."""
    where = f"epoch {entry.sequence:,}"
    try:
        if len(records) == 1 and not records[0].topic and records[0].key is not None:
            shard.prepare(records[0].key.decode(), records[0].value or b"")()
        else:
            shard.take(records)
    except Refused as refusal:
        raise _Differs(f"{where}: a command is refused now: {refusal}") from None
    outputs, moved = shard.epoch()
    now = decode(moved.entry, entry.sequence)
    if now.refused != entry.refused:
        i = min(i for i in now.refused.keys() | entry.refused.keys() if now.refused.get(i) != entry.refused.get(i))
        raise _Differs(f"{where}: {_place(records[i])} is refused otherwise than it was")
    for name in ("memos", "turns", "decisions"):
        told, then = getattr(now, name), getattr(entry, name)
        if told != then:
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(told, then, strict=False)))
            raise _Differs(f"{where}: its {name}, from number {same + 1:,} on, are others than in the journal")
    return list(outputs)


def _place(record: Record) -> str:
    return f"{record.topic} partition {record.partition} offset {record.offset}"


class _Written:
    """The output topics, read along. Outputs whose partition the key chooses may be interleaved with others'."""

    def __init__(self, client: LogClient, shared: frozenset[str], *, from_start: bool) -> None:
        self._client = client
        self._shared = shared
        self._from_start = from_start
        self._partitions: Mapping[str, int] = {name: info.partitions for name, info in client.topics().items()}
        self._readers: dict[tuple[str, int], _Reader] = {}
        self.compared = 0
        self.deleted = 0

    def holds(self, output: Output) -> str:
        """Why the next record is not this output; empty if it is."""
        if output.topic not in self._partitions:
            return f"there is no topic {output.topic}"
        partition = partition_of(output, self._partitions[output.topic])
        reader = self._readers.get((output.topic, partition))
        if reader is None:
            shared = output.topic in self._shared or output.partition is None
            reader = _Reader(self._client, output.topic, partition, shared or not self._from_start)
            self._readers[output.topic, partition] = reader
            reader.loose = shared
        reason, deleted = reader.next_is(output)
        self.deleted += deleted
        self.compared += not deleted and not reason
        return reason

    def finish(self) -> None:
        for reader in self._readers.values():
            if reader.unmatched:
                raise _Differs(f"none of the outputs is among the records kept in {reader.name}")


class _Reader:
    """One output partition. seeking: the next output may lie further on; loose: that stays so."""

    def __init__(self, client: LogClient, topic: str, partition: int, seeking: bool) -> None:
        self.name = f"{topic} partition {partition}"
        oldest, self._end = client.ends(topic)[partition]
        self._trimmed = oldest > 0  # outputs of before may be gone
        self._records = self._read(client, topic, partition, oldest)
        self._head = next(self._records, None)
        self._seeking = seeking
        self.loose = False
        self.unmatched = False

    def _read(self, client: LogClient, topic: str, partition: int, offset: int) -> Iterator[Record]:
        while offset < self._end and (found := client.read(topic, partition, offset, AT_ONCE)):
            yield from found
            offset = found[-1].offset + 1

    def next_is(self, output: Output) -> tuple[str, bool]:
        """(why not, whether it may have been deleted instead)."""
        if self._head is not None and _same(output, self._head):
            self._step()
            return "", False
        if self._trimmed:
            self.unmatched = self._head is not None
            return "", True
        while self._seeking and self._head is not None and not _same(output, self._head):
            self._head = next(self._records, None)
        if self._head is None:
            return f"an output is missing in {self.name}: {_shown(output.value)}", False
        if not _same(output, self._head):
            now, then = _shown(output.value), _shown(self._head.value or b"")
            return f"{self.name} offset {self._head.offset} was {then} and would be {now}", False
        self._step()
        return "", False

    def _step(self) -> None:
        self._head = next(self._records, None)
        self._trimmed = self.unmatched = False
        self._seeking = self.loose


def _same(output: Output, record: Record) -> bool:
    return (output.value, output.key, tuple(output.headers)) == (record.value, record.key, tuple(record.headers))


def _shown(value: bytes) -> str:
    text = value.decode(errors="replace")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
