"""An epoch's journal entry of one shard: the records in the order applied, ticks among them, and what was decided.

Columns, not rows: an epoch of twenty thousand records is one msgpack document of a few long byte strings. The
records are in it whole, so that replay needs neither the input topics nor their retention. Layout (msgpack map):

    v, sequence
    topics      names; a record's topic is an index into them, TICK for a tick
    topic       uint8[n]      offset, timestamp   int64[n]
    keys, values            n byte strings or nil
    headers     {record: [[name, bytes], ...]}, only of records that have some
    refused     {record: [whole, reason]}; `whole` false: only its label was refused
    memos       one byte string per prediction, in order
    turns       with alerts: a byte per post and label of a post, 1 where an alert began or ended
    live        of an epoch that begins a state, a shard's first or one after which nothing of before matters: how
                the shard worked, see `streamd.shard`
    decisions   with a query stage: one byte string per prediction, empty where there was nothing to decide
    partitions  how many the input topics had; 0 in entries of before
    positions   {topic: next offset}, as they were committed with it; none in entries of before
"""

from collections.abc import Mapping, Sequence

import lz4.frame
import msgspec
import numpy as np

from streamd.errors import StateError
from streamd.ports import Headers, Record

VERSION = 1
TICK = 255


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """Why a record was refused. `whole` false: it was applied but for its label."""

    whole: bool
    reason: str


class Entry(msgspec.Struct, frozen=True):
    """One epoch of one shard."""

    v: int
    sequence: int
    topics: list[str]
    topic: bytes
    offset: bytes
    timestamp: bytes
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: dict[int, Headers]
    refused: dict[int, Refusal]
    memos: list[bytes]
    turns: bytes = b""
    decisions: list[bytes] = []
    live: bytes = b""
    partitions: int = 0
    positions: dict[str, int] = {}

    def records(self, partition: int) -> list[Record]:
        """The records in the order applied; a tick is a record of the topic ''."""
        names = dict(enumerate(self.topics)) | {TICK: ""}
        offsets = np.frombuffer(self.offset, np.int64).tolist()
        timestamps = np.frombuffer(self.timestamp, np.int64).tolist()
        columns = zip(self.topic, offsets, timestamps, self.keys, self.values, strict=True)
        headers = self.headers
        return [
            Record(names[topic], partition, offset, ts, key, value, headers.get(i, ()) if headers else ())
            for i, (topic, offset, ts, key, value) in enumerate(columns)
        ]


class EntryBuilder:
    """Collects an epoch; `encode` makes its bytes."""

    def __init__(self, topics: Sequence[str]) -> None:
        self.topics = list(topics)
        self._codes = {name: i for i, name in enumerate(topics)} | {"": TICK}
        self.clear()

    def clear(self) -> None:
        self._records: list[Record] = []
        self._refused: dict[int, Refusal] = {}
        self._memos: list[bytes] = []
        self._turns = bytearray()
        self._decisions: list[bytes] = []

    def __len__(self) -> int:
        return len(self._records)

    @property
    def records(self) -> Sequence[Record]:
        return tuple(self._records)

    def add(
        self,
        records: Sequence[Record],
        refused: dict[int, Refusal],
        memos: Sequence[bytes],
        turns: bytes | bytearray = b"",
        decisions: Sequence[bytes] = (),
    ) -> None:
        """One batch: its records, the refusals by index in the batch, the memos of its predictions, the
        turns of its alerts, the decisions of its query stage."""
        base = len(self._records)
        self._records.extend(records)
        self._memos.extend(memos)
        self._turns.extend(turns)
        self._decisions.extend(decisions)
        for i, refusal in refused.items():
            self._refused[base + i] = refusal

    def encode(
        self,
        sequence: int,
        live: bytes = b"",
        partitions: int = 0,
        positions: Mapping[str, int] | None = None,
    ) -> bytes:
        records, codes = self._records, self._codes
        entry = Entry(
            VERSION,
            sequence,
            self.topics,
            bytes([codes[r.topic] for r in records]),
            np.array([r.offset for r in records], np.int64).tobytes(),
            np.array([r.timestamp for r in records], np.int64).tobytes(),
            [r.key for r in records],
            [r.value for r in records],
            {i: r.headers for i, r in enumerate(records) if r.headers},
            self._refused,
            self._memos,
            bytes(self._turns),
            self._decisions,
            live,
            partitions,
            dict(positions or {}),
        )
        packed: bytes = lz4.frame.compress(msgspec.msgpack.encode(entry))
        return packed


_decoder = msgspec.msgpack.Decoder(Entry)


def decode(raw: bytes, sequence: int) -> Entry:
    """An entry back from its bytes. Raises StateError if it is damaged, foreign or not of this sequence number."""
    try:
        entry = _decoder.decode(lz4.frame.decompress(raw))
    except (RuntimeError, msgspec.MsgspecError) as error:
        raise StateError(f"journal entry {sequence}: {error}") from None
    if entry.v != VERSION or entry.sequence != sequence:
        raise StateError(f"journal entry {sequence}: found version {entry.v}, sequence {entry.sequence}")
    return entry
