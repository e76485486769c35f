"""The log on Kafka with confluent-kafka, the fast client (port `Log`); the extra `streamd[confluent]`.

The same protocol as `kafka_log`, the same names, offsets and journal: a worker may change its client between
two runs. Administration and the journal's reading go through kafka-python in both.

A partition is read only while it is in what we `assign` the consumer, which is less than what the group gave
us until `seek`: so nothing is fetched in vain, and no paused fetcher has to be cleaned up.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from connectors.kafka_cluster import Cluster, Seat
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
from connectors.kafka_settings import Security, librdkafka_connection, own_settings, python_connection
from streamd.errors import ConfigError, Fenced, StateError, Transient
from streamd.ports import Committed, Epoch, JournalEntry, Lag, Output, Polled, Record, ShardEpoch, TopicInfo

T = TypeVar("T")
FENCED = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()
HOPELESS = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_TIMESTAMP}
REFUSED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._INVALID_ARG,
}
BY_KEY = -1  # the library's partitioner, murmur2 as Java's
GRACE = 1.0  # seconds that a call may take beyond its time-out
QUEUE = 2_000_000  # records; an epoch is far smaller


class ConfluentLog:
    """The arguments are those of `KafkaLog`; client_settings are librdkafka's."""

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
        self._timeout = request_timeout
        self._probe_interval = probe_interval
        connection = librdkafka_connection(brokers, self._security) | {
            "client.id": worker,
            "socket.timeout.ms": int(request_timeout * 1000),
            "reconnect.backoff.max.ms": 1000,
            "allow.auto.create.topics": False,
            "log.connection.close": False,
        }
        given = client_settings or {}
        self._consumer_settings = _consumer_settings(
            connection, given, group, worker, session_timeout, poll_interval
        )
        self._producer_settings = _producer_settings(connection, given, group, worker, transaction_timeout)
        self._cluster: Cluster | None = None
        self._seat: Seat | None = None
        self._consumer: Consumer | None = None
        self._producer: Producer | None = None
        self._gained: list[TopicPartition] | None = None
        self._lost = False
        self._partitions = 0
        self._owned: set[int] = set()
        self._reading: dict[tuple[str, int], int] = {}  # next offset to deliver, of all partitions after `seek`
        self._reached: dict[tuple[str, int], int] = {}  # where the last end of a partition was met
        self._moved = False  # whether `_reading` must be assigned anew
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
        cluster.create_journal(self._journal, self._partitions)
        with translated("joining the group", opening=True):
            consumer = self._consumer = Consumer(self._consumer_settings, logger=_logger)
            consumer.subscribe(
                list(self._inputs), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
            )
        self._seat = Seat(cluster, self._group, self._worker, self._member_id, self._probe_interval, self._timeout)
        self._producer = self._new_producer(opening=True)

    def _new_producer(self, opening: bool = False) -> Producer:
        with translated("initialising transactions", opening):
            producer = Producer(self._producer_settings, logger=_logger)
            producer.init_transactions(self._timeout)
            return producer

    def topics(self) -> Mapping[str, TopicInfo]:
        return _opened(self._cluster).topics([*self._inputs, *(t for t in self._counts if t not in self._inputs)])

    def poll(self, max_records: int, timeout: float) -> Polled:
        _opened(self._seat).check()
        consumer = _opened(self._consumer)
        self._assign_moved(consumer)
        with translated("polling"):
            messages = consumer.consume(max_records, 0)
            if not messages and self._gained is None:
                messages = consumer.consume(1, timeout)
                if messages and max_records > 1:
                    messages += consumer.consume(max_records - 1, 0)
        assigned, revoked = self._rebalanced()
        return Polled(in_order(self._delivered(messages)), assigned, revoked)

    def _delivered(self, messages: Sequence[Message]) -> list[list[Record]]:
        runs: dict[tuple[str, int], list[Record]] = {}
        for message in messages:
            where = (message.topic(), message.partition())
            if message.error() is not None:
                self._note(message.error(), where, message.offset())
            elif where in self._reading:
                runs.setdefault(where, []).append(_record(message))
        for where, run in runs.items():
            self._reading[where] = run[-1].offset + 1
            self._lag.delivered(run[-1])
        return list(runs.values())

    def _note(self, error: KafkaError, where: tuple[str, int], offset: int) -> None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            self._reached[where] = offset
        elif code == KafkaError._AUTO_OFFSET_RESET and where in self._reading:
            raise StateError(f"{where[0]}[{where[1]}]: records were deleted before they were read: {error.str()}")
        elif FENCED in error.str():
            raise Fenced(f"group {self._group}: another worker runs under the name {self._worker}")
        elif code not in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._MAX_POLL_EXCEEDED):
            raise Transient(f"polling: {error}")

    def _rebalanced(self) -> tuple[frozenset[int], frozenset[int]]:
        gained, lost, self._gained, self._lost = self._gained, self._lost, None, False
        if gained is None:
            return frozenset(), frozenset()
        revoked = frozenset(self._owned) if lost else frozenset()
        assigned = whole_partitions(((where.topic, where.partition) for where in gained), self._inputs)
        if assigned and max(assigned) >= self._partitions:
            self._grow()
        self._owned = set(assigned)
        return assigned, revoked

    def _on_assign(self, consumer: Consumer, gained: list[TopicPartition]) -> None:
        self._gained = gained
        self._reading.clear()
        self._moved = False
        consumer.assign([])

    def _on_revoke(self, consumer: Consumer, lost: list[TopicPartition]) -> None:
        self._gained, self._lost = [], True
        self._reading.clear()
        self._moved = False
        consumer.unassign()

    def _assign_moved(self, consumer: Consumer) -> None:
        if self._moved:
            with translated("seeking"):
                consumer.assign([TopicPartition(*where, offset) for where, offset in self._reading.items()])
            self._moved = False

    def _grow(self) -> None:
        """The inputs were given more partitions since `open`; the journal needs as many."""
        cluster = _opened(self._cluster)
        self._partitions = cluster.check_inputs(self._inputs)
        cluster.create_journal(self._journal, self._partitions)

    def seek(self, partition: int, positions: Mapping[str, int]) -> Mapping[str, int]:
        self._check_owned(partition)
        kept = {}
        with translated(f"looking up the offsets of partition {partition}"):
            for topic in self._inputs:
                where = TopicPartition(topic, partition)
                kept[topic] = _opened(self._consumer).get_watermark_offsets(where, self._timeout)
        check_positions(partition, positions, kept)
        starts = {topic: positions.get(topic, oldest) for topic, (oldest, _) in kept.items()}
        for topic, (_, end) in kept.items():
            self._reading[topic, partition] = starts[topic]
            self._reached.pop((topic, partition), None)
            self._lag.starts(topic, partition, end)
        self._moved = True
        return starts

    def pause(self, partition: int) -> None:
        self._check_owned(partition)
        for topic in self._inputs:
            self._reading.pop((topic, partition), None)
        self._moved = True

    def _check_owned(self, partition: int) -> None:
        if partition not in self._owned:
            raise Transient(f"partition {partition} is not assigned to {self._worker}")

    def committed(self, partition: int) -> Committed:
        with translated(f"reading the committed offsets of partition {partition}"):
            wheres = [TopicPartition(topic, partition) for topic in self._inputs]
            found = _opened(self._consumer).committed(wheres, self._timeout)
            for where in found:
                if where.error is not None:
                    raise KafkaException(where.error)
        there = {where.topic: (where.offset, where.metadata) for where in found if where.offset != OFFSET_INVALID}
        return to_committed(there, self._group, partition)

    def commit(self, epoch: Epoch) -> Mapping[int, int]:
        for shard in epoch.shards:
            self._check_owned(shard.partition)
        if not self._member_id():
            raise Transient(f"group {self._group}: {self._worker} is not a member now")
        membership = _opened(self._consumer).consumer_group_metadata()
        producer = _opened(self._producer)
        last: dict[int, int] = {}
        with translated("committing an epoch"):
            producer.begin_transaction()
            for output in epoch.outputs:
                self._send(producer, output)
            for shard in epoch.shards:
                self._send_entry(producer, shard, last)
            if epoch.shards:
                bounded(producer.send_offsets_to_transaction, _offsets(epoch), membership, self._timeout)
            producer.commit_transaction(self._timeout)
        return {partition: offset + 1 for partition, offset in last.items()}

    def _member_id(self) -> str:
        return str(_opened(self._consumer).memberid() or "")

    def _send(self, producer: Producer, output: Output) -> None:
        partitions = self._known(output)
        partition = output.partition
        if partition is None:
            partition = BY_KEY if output.key is not None else 0
        else:
            check_output_partition(output.topic, partition, partitions)
        producer.produce(
            output.topic,
            value=output.value,
            key=output.key,
            partition=partition,
            timestamp=output.timestamp,
            headers=list(output.headers) if output.headers else None,
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

    def _send_entry(self, producer: Producer, shard: ShardEpoch, last: dict[int, int]) -> None:
        """Writes the offset of the entry's last record into `last` when it is acknowledged."""

        def acknowledged(error: KafkaError | None, message: Message) -> None:
            if error is None:
                last[shard.partition] = max(last.get(shard.partition, 0), message.offset())

        now = int(time.time() * 1000)  # one time for all parts: `trim_journal` cuts no entry
        for headers, value in to_chunks(shard.sequence, shard.entry):
            producer.produce(
                self._journal,
                value=value,
                timestamp=now,
                partition=shard.partition,
                headers=list(headers),
                on_delivery=acknowledged,
            )

    def recover(self) -> None:
        if self._consumer is None:
            self.open()
            return
        _opened(self._seat).check_now()
        self._discard_producer()
        self._counts.clear()
        self._producer = self._new_producer()

    def _discard_producer(self) -> None:
        """Let go of it without finishing anything: the next producer of this transactional id settles it."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            with suppress(KafkaException):  # a fenced one refuses even that
                producer.flush(0)

    def journal(self, partition: int, start: int, after: int, through: int | None) -> Iterator[JournalEntry]:
        connection = python_connection(self._brokers, self._security)
        return read_journal(connection, self._journal, partition, start, after, through, self._timeout)

    def trim_journal(self, partition: int, below: int, before: int) -> None:
        _opened(self._cluster).trim(self._journal, partition, below, before)

    def lag(self) -> Mapping[tuple[str, int], Lag]:
        consumer, now, found = _opened(self._consumer), time.time(), {}
        for where, position in self._reading.items():
            _, end = consumer.get_watermark_offsets(TopicPartition(*where), cached=True)
            at = max(position, self._reached.get(where, 0))
            found[where] = self._lag.lag(*where, at, end if end >= 0 else None, now)
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
        """Let go of whatever is open, in this order: no more transactions, then no more heartbeats.

        The consumer is dropped, not closed: a static member does not leave by closing, and a rebalance that comes
        within `close` can make it wait for ever (seen with confluent-kafka 2.16 in `assign`).
        """
        seat, cluster = self._seat, self._cluster
        self._seat = self._cluster = None
        self._discard_producer()
        if seat is not None:
            seat.close()
        self._consumer = None
        if cluster is not None:
            cluster.close()


@contextmanager
def translated(doing: str, opening: bool = False) -> Iterator[None]:
    """confluent-kafka's errors as ours. opening: what the cluster refuses is then the configuration's fault."""
    try:
        yield
    except KafkaException as failure:
        error: KafkaError = failure.args[0]
        code = error.code()
        if code == KafkaError.FENCED_INSTANCE_ID or FENCED in error.str():
            raise Fenced(f"{doing}: another worker has this name") from failure
        if code in HOPELESS:
            raise StateError(f"{doing}: Kafka will never take it ({error})") from failure
        if code in REFUSED and opening:
            raise ConfigError("log", f"{doing}: {error.str()}") from failure
        raise Transient(f"{doing}: {error.str()}") from failure
    except BufferError as error:
        raise Transient(f"{doing}: {error}") from error


def bounded(call: Callable[..., None], *arguments: Any) -> None:
    """Call with a time-out, in seconds, as the last argument, and see that it is kept.

    librdkafka's `send_offsets_to_transaction` does not keep it where the connection to the group's coordinator
    goes down at that moment (librdkafka issue 5456): it may never return. Its thread is then left behind with its
    producer, which the next one fences.
    """
    outcome: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            call(*arguments)
        except BaseException as error:  # noqa: BLE001  handed over: the caller raises it in its own thread
            outcome.put(error)
        else:
            outcome.put(None)

    threading.Thread(target=work, name="librdkafka", daemon=True).start()
    try:
        error = outcome.get(timeout=arguments[-1] + GRACE)
    except queue.Empty:
        raise Transient(f"no answer in {arguments[-1] + GRACE:g} s, nor a time-out") from None
    if error is not None:
        raise error


_logger = logging.getLogger("confluent_kafka")


def _opened(part: T | None) -> T:
    if part is None:
        raise Transient("the log is not open")
    return part


def _record(message: Message) -> Record:
    headers = message.headers()
    return Record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        tuple((name, value or b"") for name, value in headers) if headers else (),
    )


def _offsets(epoch: Epoch) -> list[TopicPartition]:
    return [
        TopicPartition(topic, shard.partition, position, to_metadata(shard.sequence))
        for shard in epoch.shards
        for topic, position in shard.positions.items()
    ]


def _consumer_settings(
    connection: Mapping[str, Any],
    given: Mapping[str, object],
    group: str,
    worker: str,
    session_timeout: float,
    poll_interval: float,
) -> dict[str, Any]:
    guarantee = {
        "group.id": group,
        "group.instance.id": worker,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "partition.assignment.strategy": "range",
        "group.protocol": "classic",
        "session.timeout.ms": int(session_timeout * 1000),
        "heartbeat.interval.ms": int(min(3.0, session_timeout / 4) * 1000),
        "max.poll.interval.ms": int(max(poll_interval, session_timeout) * 1000),
        "enable.partition.eof": True,
    }
    ours = {"fetch.wait.max.ms": 100, "fetch.error.backoff.ms": 50, "queued.max.messages.kbytes": 64 << 10}
    return {**connection, **ours, **own_settings(given, "consumer", guarantee), **guarantee}


def _producer_settings(
    connection: Mapping[str, Any],
    given: Mapping[str, object],
    group: str,
    worker: str,
    transaction_timeout: float,
) -> dict[str, Any]:
    guarantee = {
        "transactional.id": transactional_id(group, worker),
        "transaction.timeout.ms": int(transaction_timeout * 1000),
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2_random",
    }
    ours = {
        "retry.backoff.ms": 20,
        "linger.ms": 5,
        "queue.buffering.max.messages": QUEUE,
        "queue.buffering.max.kbytes": 1 << 20,
        "message.timeout.ms": int(transaction_timeout * 1000),
    }
    return {**connection, **ours, **own_settings(given, "producer", guarantee), **guarantee}
