"""What an implementation brings to the suites of laws, and the words the laws are written in."""

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from streamd.ports import Epoch, Log, LogClient, Output, Record, ShardEpoch, Store

DEADLINE = 60.0  # seconds for what a real broker does in its own time
PATIENCE = 0.2  # seconds a poll waits

Positions = Mapping[str, int]


class LogHarness(Protocol):
    """One log, empty or shared with others: every test uses names of its own."""

    def make_log(self, group: str, inputs: Sequence[str]) -> Log:
        """A Log, not opened, always of the same worker name; its journal is `<group>.journal`."""

    def make_client(self) -> LogClient: ...

    def truncate(self, topic: str, partition: int, below: int) -> None:
        """Remove the records below this offset, as retention does."""


class StoreHarness(Protocol):
    def make_store(self) -> Store:
        """A Store on the same contents every time."""


def unique(word: str) -> str:
    return f"{word}-{uuid.uuid4().hex[:12]}"


class World:
    """A log with one group's inputs; closes what it opened."""

    def __init__(self, harness: LogHarness) -> None:
        self.harness = harness
        self.client = harness.make_client()
        self.group = unique("group")
        self._logs: list[Log] = []

    def topic(self, partitions: int = 1, word: str = "topic") -> str:
        name = unique(word)
        self.client.create(name, partitions)
        return name

    def make(self, *inputs: str) -> Log:
        log = self.harness.make_log(self.group, inputs)
        self._logs.append(log)
        return log

    def joined(self, *inputs: str) -> Log:
        """A Log that has been given all partitions and delivers nothing yet."""
        log = self.make(*inputs)
        log.open()
        assign(log, set(range(self.client.topics()[inputs[0]].partitions)))
        return log

    def started(self, *inputs: str) -> Log:
        """A Log that delivers from what its group committed."""
        log = self.joined(*inputs)
        for partition in range(self.client.topics()[inputs[0]].partitions):
            log.seek(partition, log.committed(partition).positions)
        return log

    def crash(self, log: Log) -> None:
        """Let go of a Log without its leaving the group; what it did not commit is void."""
        self._logs.remove(log)
        log.close(leave=False)

    def fill(self, topic: str, count: int, partition: int = 0, first: int = 0) -> list[Record]:
        """Append numbered records: all the records of the partition as a reader sees them."""
        self.client.append(topic, [numbered(i, partition) for i in range(first, first + count)])
        return self.records(topic, first + count, partition)

    def records(self, topic: str, count: int, partition: int = 0) -> list[Record]:
        """All records of a partition, which must be `count`."""
        return read_until(self.client, topic, count, partition)

    def close(self) -> None:
        for log in self._logs:
            log.close(leave=True)
        self.client.close()


def numbered(i: int, partition: int | None = 0, topic: str = "") -> Output:
    return Output(topic, b"key-%d" % i, b"value-%d" % i, 1_700_000_000_000 + i, partition)


def epoch(sequence: int, positions: Positions, outputs: Sequence[Output] = (), partition: int = 0) -> Epoch:
    """One shard's epoch; its journal entry names its sequence."""
    return Epoch(outputs, (ShardEpoch(partition, sequence, positions, b"entry-%d" % sequence),))


def after(records: Iterable[Record]) -> Positions:
    """The positions behind these records."""
    return {record.topic: record.offset + 1 for record in records}


def until(done: Callable[[], bool]) -> None:
    """Call until it is true."""
    deadline = time.monotonic() + DEADLINE
    while not done():
        assert time.monotonic() < deadline, "it did not happen before the deadline"


def assign(log: Log, partitions: set[int]) -> None:
    """Poll until exactly these partitions are assigned; nothing may be delivered meanwhile."""
    held: set[int] = set()

    def done() -> bool:
        polled = log.poll(100, PATIENCE)
        assert not polled.records
        held.difference_update(polled.revoked)
        held.update(polled.assigned)
        return held == partitions

    until(done)


def poll_until(log: Log, count: int, max_records: int = 1000) -> list[Record]:
    """Poll until `count` records have come. A log may take several polls, and must not deliver more."""
    records: list[Record] = []

    def done() -> bool:
        polled = log.poll(max_records, PATIENCE)
        assert len(polled.records) <= max_records
        records.extend(polled.records)
        return len(records) >= count

    until(done)
    assert len(records) == count
    return records


def quiet(log: Log) -> bool:
    """True if two polls deliver nothing."""
    return not any(log.poll(1000, PATIENCE).records for _ in range(2))


def read_until(client: LogClient, topic: str, count: int, partition: int = 0) -> list[Record]:
    """Read a partition from its beginning; it must hold exactly `count` committed records."""
    records: list[Record] = []

    def done() -> bool:
        start = records[-1].offset + 1 if records else 0
        records.extend(client.read(topic, partition, start, 1000))
        return len(records) >= count

    until(done)
    assert len(records) == count
    return records


def contents(record: Record) -> tuple[object, ...]:
    """What a producer gave."""
    return record.key, record.value, record.timestamp, record.headers
