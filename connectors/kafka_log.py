"""The log on Kafka with kafka-python, the default client (port `Log`).

One consumer in a consumer group with a static seat, one transactional producer, both of one engine. DESIGN
section 4 is the protocol. A rebalance listener runs on the library's I/O thread, where nothing that asks the
broker may be called: it pauses and notes, and `poll` returns what it noted.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as kafka_errors
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.structs import ConsumerGroupMetadata, MemberState, OffsetAndMetadata

from connectors.kafka_cluster import Cluster, Seat, translated
from connectors.kafka_journal import read_journal
from connectors.kafka_lag import LagWatch
from connectors.kafka_order import in_order
from connectors.kafka_protocol import (
    check_names,
    check_output_partition,
    check_positions,
    to_chunks,
    to_committed,
    to_metadata,
    transactional_id,
    whole_partitions,
)
from connectors.kafka_settings import Security, own_settings, python_connection
from streamd.errors import ConfigError, StateError, Transient
from streamd.ports import Committed, Epoch, JournalEntry, Lag, Output, Polled, Record, TopicInfo, partition_of

T = TypeVar("T")
BATCH = 256 << 10  # bytes; each request then carries a useful amount
REQUEST = 64 << 20  # bytes; what a topic takes is for the broker to say
BACKOFF = {"retry_backoff_ms": 50, "reconnect_backoff_max_ms": 1000}


class KafkaLog:
    """group: `<group>.<pipeline>`. worker: the name of the seat. Times are in seconds.

    session_timeout: after how long without a heartbeat a dead worker's partitions move. transaction_timeout:
    when the broker aborts what a dead worker left open, if that worker does not come back before.
    poll_interval: how long the engine may work between two polls before it loses its partitions.
    request_timeout: how long any call here waits for the cluster before it raises Transient.
    """

    def __init__(
        self,
        brokers: Sequence[str],
        *,
        group: str,
        worker: str,
        inputs: Sequence[str],
        journal: str,
        security: Security | None = None,
        client_settings: Mapping[str, object] | None = None,
        session_timeout: float = 15.0,
        transaction_timeout: float = 15.0,
        poll_interval: float = 600.0,
        request_timeout: float = 10.0,
        probe_interval: float = 1.0,
    ) -> None:
        check_names(group, worker, inputs, journal)
        self._brokers = brokers
        self._group = group
        self._worker = worker
        self._inputs = tuple(inputs)
        self._journal = journal
        self._security = security or Security()
        self._connection = python_connection(brokers, self._security)
        self._timeout = request_timeout
        self._milliseconds = int(request_timeout * 1000)
        self._probe_interval = probe_interval
        self._consumer_settings = _consumer_settings(
            self._connection,
            client_settings or {},
            group,
            worker,
            session_timeout,
            poll_interval,
            self._milliseconds,
        )
        self._producer_settings = _producer_settings(
            self._connection, client_settings or {}, group, worker, transaction_timeout, self._milliseconds
        )
        self._cluster: Cluster | None = None
        self._seat: Seat | None = None
        self._consumer: KafkaConsumer | None = None
        self._producer: BoundedProducer | None = None
        self._rebalances = Rebalances()
        self._partitions = 0
        self._divided = 0  # partitions of the inputs when the group last divided them
        self._owned: set[int] = set()
        self._live: set[int] = set()
        self._counts: dict[str, int] = {}
        self._lag = LagWatch()

    def open(self) -> None:
        try:
            self._open()
        except BaseException:
            self._release()
            raise

    def _open(self) -> None:
        cluster = self._cluster = Cluster(self._brokers, self._security, self._timeout)
        self._partitions = cluster.check_inputs(self._inputs)
        self._divided = cluster.create_journal(self._journal, self._partitions)
        with translated("joining the group", opening=True):
            consumer = self._consumer = KafkaConsumer(**self._consumer_settings)
            self._rebalances.consumer = consumer
            consumer.subscribe(topics=list(self._inputs), listener=self._rebalances)
        self._seat = Seat(cluster, self._group, self._worker, self._member_id, self._probe_interval, self._timeout)
        self._producer = self._new_producer(opening=True)

    def _new_producer(self, opening: bool = False) -> "BoundedProducer":
        with translated("initialising transactions", opening):
            producer = BoundedProducer(**self._producer_settings)
            try:
                producer.init_transactions()
            except BaseException:
                producer.discard()
                raise
            return producer

    def topics(self) -> Mapping[str, TopicInfo]:
        return _opened(self._cluster).topics([*self._inputs, *(t for t in self._counts if t not in self._inputs)])

    def poll(self, max_records: int, timeout: float) -> Polled:
        _opened(self._seat).check()
        try:
            with translated("polling"):
                batches = _opened(self._consumer).poll(timeout_ms=int(timeout * 1000), max_records=max_records)
        except Transient as error:
            if isinstance(error.__cause__, kafka_errors.OffsetOutOfRangeError):
                raise StateError(f"records were deleted before they were read: {error.__cause__}") from error
            raise
        assigned, revoked = self._rebalanced()
        self._watch_growth()
        records = [_records(where, batch) for where, batch in batches.items() if where.partition in self._live]
        for run in records:
            self._lag.delivered(run[-1])
        return Polled(in_order(records), assigned, revoked)

    def _rebalanced(self) -> tuple[frozenset[int], frozenset[int]]:
        gained, lost = self._rebalances.take()
        if gained is None:
            return frozenset(), frozenset()
        revoked = frozenset(self._owned) if lost else frozenset()
        assigned = whole_partitions(gained, self._inputs)
        if assigned and max(assigned) >= self._partitions:
            self._grow()
        self._owned = set(assigned)
        self._live.clear()
        return assigned, revoked

    def _watch_growth(self) -> None:
        """The group's leader must see that partitions were added. After the restart of a static member the broker
        takes it for the leader still, which kafka-python 3.0.12 does not know: so every member watches."""
        if not self._owned:
            return
        consumer = _opened(self._consumer)
        with translated("looking for new partitions"):
            now = min(len(consumer.partitions_for_topic(topic)) for topic in self._inputs)
        if now > self._divided:
            self._divided = now
            consumer._coordinator.request_rejoin()

    def _grow(self) -> None:
        """The inputs were given more partitions since `open`; the journal needs as many."""
        cluster = _opened(self._cluster)
        self._partitions = cluster.check_inputs(self._inputs)
        cluster.create_journal(self._journal, self._partitions)

    def seek(self, partition: int, positions: Mapping[str, int]) -> Mapping[str, int]:
        self._check_owned(partition)
        consumer = _opened(self._consumer)
        wheres = [TopicPartition(topic, partition) for topic in self._inputs]
        with translated(f"looking up the offsets of partition {partition}"):
            oldest = consumer.beginning_offsets(wheres, timeout_ms=self._milliseconds)
            end = consumer.end_offsets(wheres, timeout_ms=self._milliseconds)
        check_positions(partition, positions, {where.topic: (oldest[where], end[where]) for where in wheres})
        starts = {where.topic: positions.get(where.topic, oldest[where]) for where in wheres}
        for where in wheres:
            consumer.seek(where, starts[where.topic])
            self._lag.starts(where.topic, partition, end[where])
        consumer.resume(*wheres)
        self._live.add(partition)
        return starts

    def pause(self, partition: int) -> None:
        self._check_owned(partition)
        _opened(self._consumer).pause(*(TopicPartition(topic, partition) for topic in self._inputs))
        self._live.discard(partition)

    def _check_owned(self, partition: int) -> None:
        if partition not in self._owned:
            raise Transient(f"partition {partition} is not assigned to {self._worker}")

    def committed(self, partition: int) -> Committed:
        found = {}
        with translated(f"reading the committed offsets of partition {partition}"):
            for topic in self._inputs:
                where = TopicPartition(topic, partition)
                at = _opened(self._consumer).committed(where, metadata=True, timeout_ms=self._milliseconds)
                if at is not None and at.offset >= 0:
                    found[topic] = (at.offset, at.metadata)
        return to_committed(found, self._group, partition)

    def commit(self, epoch: Epoch) -> Mapping[int, int]:
        for shard in epoch.shards:
            self._check_owned(shard.partition)
        membership = self._membership()
        producer = _opened(self._producer)
        with translated("committing an epoch"), stale_metadata():
            producer.begin_transaction()
            for output in epoch.outputs:
                self._send(producer, output)
            last = {
                shard.partition: self._send_entry(producer, shard.partition, *_entry(shard))
                for shard in epoch.shards
            }
            if epoch.shards:
                producer.send_offsets_to_transaction(_offsets(epoch), membership)
            producer.commit_transaction()
            return {partition: future.get(timeout=0).offset + 1 for partition, future in last.items()}

    def _membership(self) -> ConsumerGroupMetadata:
        """What lets the broker refuse a commit by a former member; without a seat nothing can be committed."""
        membership = _opened(self._consumer).group_metadata()
        if membership.state != MemberState.STABLE or membership.generation_id < 0:
            raise Transient(f"group {self._group}: {self._worker} is not a member now")
        return membership

    def _member_id(self) -> str:
        membership = _opened(self._consumer).group_metadata()
        return str(membership.member_id) if membership.state == MemberState.STABLE else ""

    def _send(self, producer: KafkaProducer, output: Output) -> None:
        partitions = self._known(output)
        check_output_partition(output.topic, output.partition, partitions)
        producer.send(
            output.topic,
            value=output.value,
            key=output.key,
            headers=list(output.headers) if output.headers else None,
            partition=partition_of(output, partitions),
            timestamp_ms=output.timestamp,
        )

    def _known(self, output: Output) -> int:
        """The partitions of an output's topic; asked for again where the topic must have grown since."""
        known = self._counts.get(output.topic, 0)
        return known if (output.partition or 0) < known else self._count(output.topic)

    def _count(self, topic: str) -> int:
        found = _opened(self._cluster).topics([topic]).get(topic)
        if found is None:
            raise ConfigError("", f"output topic {topic} does not exist (`streamd topics create` makes it)")
        self._counts[topic] = found.partitions
        return found.partitions

    def _send_entry(self, producer: KafkaProducer, partition: int, sequence: int, entry: bytes) -> Any:
        """Returns the future of the entry's last record."""
        future, now = None, int(time.time() * 1000)  # one time for all parts: `trim_journal` cuts no entry
        for headers, value in to_chunks(sequence, entry):
            future = producer.send(
                self._journal, value=value, headers=list(headers), partition=partition, timestamp_ms=now
            )
        return future

    def recover(self) -> None:
        if self._consumer is None:
            self.open()
            return
        _opened(self._seat).check_now()
        if self._producer is not None:
            self._producer.discard()
            self._producer = None
        self._counts.clear()
        self._producer = self._new_producer()

    def journal(self, partition: int, start: int, after: int, through: int | None) -> Iterator[JournalEntry]:
        return read_journal(self._connection, self._journal, partition, start, after, through, self._timeout)

    def trim_journal(self, partition: int, below: int, before: int) -> None:
        _opened(self._cluster).trim(self._journal, partition, below, before)

    def lag(self) -> Mapping[tuple[str, int], Lag]:
        consumer, now, found = _opened(self._consumer), time.time(), {}
        for topic in self._inputs:
            for partition in self._live:
                where = TopicPartition(topic, partition)
                if where in consumer.assignment():
                    position = consumer.position(where, timeout_ms=0)
                    found[topic, partition] = self._lag.lag(
                        topic, partition, position, consumer.highwater(where), now
                    )
        return found

    def close(self, leave: bool) -> None:
        cluster = self._cluster
        self._cluster = None
        self._release()
        if cluster is None:
            return
        try:
            if leave:
                cluster.leave(self._group, self._worker)
        finally:
            cluster.close()

    def _release(self) -> None:
        """Close whatever is open, in this order: no more transactions, then no more heartbeats."""
        producer, consumer, seat, cluster = self._producer, self._consumer, self._seat, self._cluster
        self._producer = self._consumer = self._seat = self._cluster = None
        if producer is not None:
            producer.discard()
        if seat is not None:
            seat.close()
        if consumer is not None:
            with translated("closing"):
                consumer.close(timeout_ms=1000)
        if cluster is not None:
            cluster.close()


@contextmanager
def stale_metadata() -> Iterator[None]:
    """kafka-python's producer refuses, as a ValueError, a partition that is newer than what it knows of the
    topic; the producer that `recover` makes knows."""
    try:
        yield
    except ValueError as error:
        raise Transient(f"committing an epoch: {error}") from error


class BoundedProducer(KafkaProducer):  # type: ignore[misc]
    """kafka-python's producer waits without end for the answers that settle a transaction; this one waits
    `max_block_ms`, as its `init_transactions` does."""

    def send_offsets_to_transaction(self, offsets: Mapping[Any, Any], group_metadata: Any) -> None:
        self._settle(self._transaction_manager.send_offsets_to_transaction(offsets, group_metadata))

    def commit_transaction(self) -> None:
        self._settle(self._transaction_manager.begin_commit())

    def _settle(self, result: Any) -> None:
        self._sender.wakeup()
        if not result.wait(timeout_ms=self.config["max_block_ms"]):
            raise kafka_errors.KafkaTimeoutError(f"no answer in {self.config['max_block_ms']} ms")

    def discard(self) -> None:
        """Close without finishing anything: the next producer of this transactional id settles it."""
        self._sender.force_close()
        self._sender.join(1.0)
        try:
            self.close(timeout=0)
        except kafka_errors.KafkaTimeoutError:
            return  # batches that nobody waits for


class Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]
    """Notes what the group decided; runs on the library's I/O thread, inside a poll."""

    def __init__(self) -> None:
        self.consumer: KafkaConsumer | None = None
        self._gained: list[TopicPartition] | None = None
        self._lost = False

    def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        self._gained, self._lost = [], True
        # kafka-python 3.0.12 forgets a rebalance that the group's leader began because of new partitions, if the
        # poll's time is over between its JoinGroup and its SyncGroup: it stays out of the group, without a word.
        _opened(self.consumer)._coordinator.request_rejoin()

    def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        self._gained = list(assigned)
        consumer = _opened(self.consumer)
        consumer.pause(*assigned)
        for where in assigned:
            consumer.seek(where, 0)  # any position: the library then asks for none; `seek` sets the true one

    def take(self) -> tuple[list[TopicPartition] | None, bool]:
        """(what is assigned since the last rebalance or None without one, whether anything before it was lost)."""
        gained, lost, self._gained, self._lost = self._gained, self._lost, None, False
        return gained, lost


def _opened(part: T | None) -> T:
    if part is None:
        raise Transient("the log is not open")
    return part


def _entry(shard: Any) -> tuple[int, bytes]:
    return shard.sequence, shard.entry


def _offsets(epoch: Epoch) -> dict[TopicPartition, OffsetAndMetadata]:
    return {
        TopicPartition(topic, shard.partition): OffsetAndMetadata(position, to_metadata(shard.sequence), -1)
        for shard in epoch.shards
        for topic, position in shard.positions.items()
    }


def _records(where: TopicPartition, batch: Sequence[Any]) -> list[Record]:
    topic, partition = where
    return [
        Record(topic, partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers) if r.headers else ())
        for r in batch
    ]


def _consumer_settings(
    connection: Mapping[str, Any],
    given: Mapping[str, object],
    group: str,
    worker: str,
    session_timeout: float,
    poll_interval: float,
    milliseconds: int,
) -> dict[str, Any]:
    guarantee = {
        "group_id": group,
        "group_instance_id": worker,
        "isolation_level": "read_committed",
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "partition_assignment_strategy": [RangePartitionAssignor],
        "session_timeout_ms": int(session_timeout * 1000),
        "heartbeat_interval_ms": int(min(3.0, session_timeout / 4) * 1000),
        "max_poll_interval_ms": int(poll_interval * 1000),
        "allow_auto_create_topics": False,
    }
    timing = {"request_timeout_ms": milliseconds, "bootstrap_timeout_ms": milliseconds, "client_id": worker}
    chosen = own_settings(given, "consumer", guarantee)
    _check_known(chosen, KafkaConsumer.DEFAULT_CONFIG, KafkaProducer.DEFAULT_CONFIG)
    return {
        **connection,
        **BACKOFF,
        **timing,
        "max_partition_fetch_bytes": 4 << 20,
        **{key: value for key, value in chosen.items() if key in KafkaConsumer.DEFAULT_CONFIG},
        **guarantee,
    }


def _producer_settings(
    connection: Mapping[str, Any],
    given: Mapping[str, object],
    group: str,
    worker: str,
    transaction_timeout: float,
    milliseconds: int,
) -> dict[str, Any]:
    guarantee = {
        "transactional_id": transactional_id(group, worker),
        "transaction_timeout_ms": int(transaction_timeout * 1000),
        "enable_idempotence": True,
        "acks": -1,
        "allow_auto_create_topics": False,
    }
    timing = {
        "request_timeout_ms": milliseconds,
        "bootstrap_timeout_ms": milliseconds,
        "max_block_ms": milliseconds,
        "delivery_timeout_ms": 2 * milliseconds,
        "client_id": worker,
    }
    chosen = own_settings(given, "producer", guarantee)
    _check_known(chosen, KafkaProducer.DEFAULT_CONFIG, KafkaConsumer.DEFAULT_CONFIG)
    return {
        **connection,
        **BACKOFF,
        **timing,
        "batch_size": BATCH,
        "max_request_size": REQUEST,
        **{key: value for key, value in chosen.items() if key in KafkaProducer.DEFAULT_CONFIG},
        **guarantee,
    }


def _check_known(chosen: Mapping[str, object], *known: Mapping[str, object]) -> None:
    for key in chosen:
        if not any(key in settings for settings in known):
            raise ConfigError(f"log.client_settings.{key}", "kafka-python knows no such setting")
