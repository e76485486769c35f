"""Reading a shard's journal back from its partition of the journal topic."""

import time
from collections.abc import Iterator, Mapping

from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors

from connectors.kafka_cluster import translated
from connectors.kafka_protocol import Assembler, to_chunk
from connectors.kafka_settings import hurry
from streamd.errors import Transient
from streamd.ports import JournalEntry

FETCH = 8 << 20  # bytes at a time


def read_journal(
    connection: Mapping[str, object],
    topic: str,
    partition: int,
    start: int,
    after: int | None,
    through: int | None,
    timeout: float,
) -> Iterator[JournalEntry]:
    """The committed entries `after < sequence <= through`, as `Log.journal` promises.

    connection: kafka-python's settings. timeout: seconds without any progress before Transient. A commit is
    known before its marker reaches the journal's partition, so an entry may be a moment away; it is missing
    only when the partition has been read to its end without it. An open end (through None) is that end, but not
    where everything that was written above `start` has been deleted.
    """
    entries = Assembler(f"{topic}[{partition}]", after, through)
    if entries.complete:
        return
    milliseconds = int(timeout * 1000)
    where = TopicPartition(topic, partition)
    with translated(f"reading journal {topic}[{partition}]"):
        consumer = KafkaConsumer(
            **connection,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=FETCH,
            fetch_max_bytes=FETCH,
            fetch_max_wait_ms=50,
            request_timeout_ms=milliseconds,
            bootstrap_timeout_ms=milliseconds,
            allow_auto_create_topics=False,
        )
    try:
        with translated(f"reading journal {topic}[{partition}]"):
            hurry(consumer._client.cluster)
            consumer.assign([where])
            oldest = consumer.beginning_offsets([where], timeout_ms=milliseconds)[where]
            consumer.seek(where, max(start, oldest))
        yield from _entries(consumer, where, entries, timeout)
        if oldest > start and after is not None:
            entries.check_found(f"the journal begins at {oldest}")
    finally:
        consumer.close(timeout_ms=0)


def _entries(
    consumer: KafkaConsumer, where: TopicPartition, entries: Assembler, timeout: float
) -> Iterator[JournalEntry]:
    name = f"{where.topic}[{where.partition}]"
    deadline = time.monotonic() + timeout
    while not entries.complete:
        try:
            with translated(f"reading journal {name}"):
                batch = consumer.poll(timeout_ms=200).get(where, ())
                end, position = consumer.highwater(where), consumer.position(where, timeout_ms=1000)
        except Transient as error:
            if isinstance(error.__cause__, kafka_errors.OffsetOutOfRangeError):
                raise entries.missing("the journal ends before it") from error
            raise
        for record in batch:
            chunk = to_chunk(record.headers, record.value, name)
            if (entry := entries.add(chunk, record.offset)) is not None:
                yield entry
                if entries.complete:
                    return
        now = time.monotonic()
        if batch:
            deadline = now + timeout
        elif end is not None and position is not None and position >= end:
            return entries.end(f"the journal ends at {end}")
        elif now > deadline:
            raise Transient(f"journal {name}: stands at {position} of {end}: a transaction is still open there")
