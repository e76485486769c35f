"""A Kafka cluster from outside the daemon (port `LogClient`), whichever client the daemon uses."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from connectors.kafka_cluster import Cluster, translated
from connectors.kafka_journal import read_journal
from connectors.kafka_protocol import check_output_partition
from connectors.kafka_settings import Security, python_connection
from streamd.errors import ConfigError
from streamd.ports import JournalEntry, Output, Record, TopicInfo, partition_of


class KafkaLogClient:
    """timeout: seconds that a call waits for the cluster before Transient. patience: seconds that `read` waits
    for a transaction that is being committed while it looks."""

    def __init__(
        self,
        brokers: Sequence[str],
        *,
        security: Security | None = None,
        timeout: float = 10.0,
        patience: float = 0.5,
    ) -> None:
        self._connection = python_connection(brokers, security or Security())
        self._milliseconds = int(timeout * 1000)
        self._patience = patience
        self._cluster = Cluster(brokers, security or Security(), timeout)
        self._producer: KafkaProducer | None = None
        self._consumer: KafkaConsumer | None = None

    def create(self, topic: str, partitions: int) -> None:
        self._cluster.create(topic, partitions)

    def topics(self) -> Mapping[str, TopicInfo]:
        return self._cluster.topics()

    def append(self, topic: str, records: Iterable[Output]) -> int:
        partitions = self._partitions(topic)
        if self._producer is None:
            with translated("connecting", opening=True):
                self._producer = KafkaProducer(
                    **self._connection,
                    enable_idempotence=True,
                    acks=-1,
                    batch_size=256 << 10,
                    linger_ms=5,
                    request_timeout_ms=self._milliseconds,
                    bootstrap_timeout_ms=self._milliseconds,
                    max_block_ms=self._milliseconds,
                    delivery_timeout_ms=2 * self._milliseconds,
                    allow_auto_create_topics=False,
                )
        sent = []
        with translated(f"appending to {topic}"):
            for record in records:
                check_output_partition(topic, record.partition, partitions)
                future = self._producer.send(
                    topic,
                    value=record.value,
                    key=record.key,
                    headers=list(record.headers),
                    partition=partition_of(record, partitions),
                    timestamp_ms=record.timestamp,
                )
                sent.append(future)
            self._producer.flush(timeout=2 * self._milliseconds / 1000)
            for future in sent:
                future.get(timeout=0)
        return len(sent)

    def _partitions(self, topic: str) -> int:
        found = self._cluster.topics([topic], opening=True).get(topic)
        if found is None:
            raise ConfigError("", f"topic {topic} does not exist")
        return found.partitions

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[Record]:
        check_output_partition(topic, partition, self._partitions(topic))
        where = TopicPartition(topic, partition)
        with translated(f"reading {topic}[{partition}]"):
            consumer = self._reader()
            consumer.assign([where])
            oldest = consumer.beginning_offsets([where], timeout_ms=self._milliseconds)[where]
            end = consumer.end_offsets([where], timeout_ms=self._milliseconds)[where]
            if offset > end:
                return []
            consumer.seek(where, max(offset, oldest))
            return self._read(consumer, where, limit)

    def _read(self, consumer: KafkaConsumer, where: TopicPartition, limit: int) -> Sequence[Record]:
        found: list[Record] = []
        progress = time.monotonic()
        while len(found) < limit:
            batch = consumer.poll(timeout_ms=20, max_records=limit - len(found)).get(where, ())
            found += [
                Record(
                    where.topic,
                    where.partition,
                    r.offset,
                    r.timestamp,
                    r.key,
                    r.value,
                    tuple(r.headers) if r.headers else (),
                )
                for r in batch
            ]
            now, end = time.monotonic(), consumer.highwater(where)
            if batch:
                progress = now
                continue
            if end is not None and consumer.position(where, timeout_ms=self._milliseconds) >= end:
                break
            if now - progress > (self._patience if end is not None else self._milliseconds / 1000):
                break
        return found

    def ends(self, topic: str) -> Sequence[tuple[int, int]]:
        wheres = [TopicPartition(topic, partition) for partition in range(self._partitions(topic))]
        with translated(f"looking up the offsets of {topic}"):
            consumer = self._reader()
            oldest = consumer.beginning_offsets(wheres, timeout_ms=self._milliseconds)
            end = consumer.end_offsets(wheres, timeout_ms=self._milliseconds)
        return [(oldest[where], end[where]) for where in wheres]

    def since(self, topic: str, partition: int, moment: int) -> int:
        check_output_partition(topic, partition, self._partitions(topic))
        where = TopicPartition(topic, partition)
        with translated(f"looking up the times of {topic}[{partition}]"):
            found = self._reader().offsets_for_times({where: moment}, timeout_ms=self._milliseconds).get(where)
            if found is not None:
                return int(found.offset)
            return int(self._reader().end_offsets([where], timeout_ms=self._milliseconds)[where])

    def journal_since(self, topic: str, partition: int, moment: int) -> int:
        return self.since(topic, partition, moment) if self._cluster.topics([topic]) else 0

    def journal(self, topic: str, partition: int, start: int, after: int | None) -> Iterator[JournalEntry]:
        if self._cluster.topics([topic]):
            yield from read_journal(
                self._connection, topic, partition, start, after, None, self._milliseconds / 1000
            )

    def _reader(self) -> KafkaConsumer:
        if self._consumer is None:
            self._consumer = KafkaConsumer(
                **self._connection,
                isolation_level="read_committed",
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                fetch_max_wait_ms=20,
                max_partition_fetch_bytes=4 << 20,
                request_timeout_ms=self._milliseconds,
                bootstrap_timeout_ms=self._milliseconds,
                allow_auto_create_topics=False,
            )
        return self._consumer

    def close(self) -> None:
        with translated("closing"):
            if self._producer is not None:
                self._producer.close(timeout=1)
            if self._consumer is not None:
                self._consumer.close(timeout_ms=1000)
            self._cluster.close()
