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
from typing import Any

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from connectors.kafka_member import LOST, Member, opened
from connectors.kafka_order import in_order
from connectors.kafka_protocol import check_positions, to_chunks, to_metadata
from connectors.kafka_settings import Membership, librdkafka_consumer, librdkafka_producer
from streamd.errors import ConfigError, Fenced, StateError, Transient
from streamd.ports import Epoch, Lag, Output, Record, ShardEpoch

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
LOOK = 0.01  # seconds between two looks whether the group has given a first partition
GRACE = 1.0  # seconds that a call may take beyond its time-out


class ConfluentLog(Member):
    """One worker of one group, with confluent-kafka."""

    def __init__(self, membership: Membership) -> None:
        super().__init__(membership)
        self._consumer_settings = librdkafka_consumer(membership)
        self._producer_settings = librdkafka_producer(membership)
        self._consumer: Consumer | None = None
        self._producer: Producer | None = None
        self._reading: dict[tuple[str, int], int] = {}  # next offset to deliver, of all partitions after `seek`
        self._reached: dict[tuple[str, int], int] = {}  # where the last end of a partition was met
        self._moved = False  # whether `_reading` must be assigned anew

    def _join(self) -> None:
        with translated("joining the group", opening=True):
            consumer = self._consumer = Consumer(self._consumer_settings, logger=_logger)
            consumer.subscribe(
                list(self._inputs), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
            )

    def _leave(self) -> None:
        """Dropped, not closed: a static member does not leave by closing, and a rebalance that comes within
        `close` can make it wait for ever (seen with confluent-kafka 2.16 in `assign`)."""
        self._consumer = None

    def _make_producer(self, opening: bool = False) -> None:
        with translated("initialising transactions", opening):
            producer = Producer(self._producer_settings, logger=_logger)
            producer.init_transactions(self._timeout)
            self._producer = producer

    def _discard_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            with suppress(KafkaException):  # a fenced one refuses even that
                producer.flush(0)

    def _read(self, max_records: int, timeout: float) -> Sequence[Record]:
        consumer = opened(self._consumer)
        self._assign_moved(consumer)
        with translated("polling"):
            messages = consumer.consume(max_records, 0)
            if not messages and not self._noted:
                messages = self._awaited(consumer, timeout)
                if messages and max_records > 1:
                    messages += consumer.consume(max_records - 1, 0)
        return in_order(self._delivered(messages))

    def _awaited(self, consumer: Consumer, timeout: float) -> list[Message]:
        """The next message within this time; none as soon as the group gave something, for then the library's call
        goes on to wait although there can be none."""
        if self._owned:
            return list(consumer.consume(1, timeout))
        messages: list[Message] = []
        deadline = time.monotonic() + timeout
        while not messages and not self._noted and (left := deadline - time.monotonic()) > 0:
            messages = consumer.consume(1, min(left, LOOK))
        return messages

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
            topic, partition = where
            check_positions(partition, {topic: self._reading[where]}, self._kept(partition))
        elif FENCED in error.str():
            raise Fenced(f"group {self._given.group}: another worker runs under the name {self._given.worker}")
        elif code not in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._MAX_POLL_EXCEEDED):
            raise Transient(f"polling: {error}")

    def _on_assign(self, consumer: Consumer, gained: list[TopicPartition]) -> None:
        self._noted.append([(where.topic, where.partition) for where in gained])
        self._reading.clear()
        self._moved = False
        consumer.assign([])

    def _on_revoke(self, consumer: Consumer, lost: list[TopicPartition]) -> None:
        self._noted.append(LOST)
        self._reading.clear()
        self._moved = False
        consumer.unassign()

    def _assign_moved(self, consumer: Consumer) -> None:
        if self._moved:
            with translated("seeking"):
                consumer.assign([TopicPartition(*where, offset) for where, offset in self._reading.items()])
            self._moved = False

    def _start(self, partition: int, starts: Mapping[str, int]) -> None:
        for topic, start in starts.items():
            self._reading[topic, partition] = start
            self._reached.pop((topic, partition), None)
        self._moved = True

    def pause(self, partition: int) -> None:
        self._check_owned(partition)
        for topic in self._inputs:
            self._reading.pop((topic, partition), None)
        self._moved = True

    def _fetch_committed(self, partition: int) -> Mapping[str, tuple[int, str]]:
        with translated(f"reading the committed offsets of partition {partition}"):
            wheres = [TopicPartition(topic, partition) for topic in self._inputs]
            found = opened(self._consumer).committed(wheres, self._timeout)
            for where in found:
                if where.error is not None:
                    raise KafkaException(where.error)
        return {where.topic: (where.offset, where.metadata) for where in found if where.offset != OFFSET_INVALID}

    def _write(self, epoch: Epoch) -> Mapping[int, int]:
        if not self._member_id():
            raise Transient(f"group {self._given.group}: {self._given.worker} is not a member now")
        membership = opened(self._consumer).consumer_group_metadata()
        producer = opened(self._producer)
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
        return str(opened(self._consumer).memberid() or "")

    def _send(self, producer: Producer, output: Output) -> None:
        self._checked(output)
        partition = output.partition
        if partition is None:
            partition = BY_KEY if output.key is not None else 0
        producer.produce(
            output.topic,
            value=output.value,
            key=output.key,
            partition=partition,
            timestamp=output.timestamp,
            headers=list(output.headers) if output.headers else None,
        )

    def _send_entry(self, producer: Producer, shard: ShardEpoch, last: dict[int, int]) -> None:
        """Writes the offset of the entry's last record into `last` when it is acknowledged."""

        def acknowledged(error: KafkaError | None, message: Message) -> None:
            if error is None:
                last[shard.partition] = max(last.get(shard.partition, 0), message.offset())

        now = int(time.time() * 1000)  # one time for all parts: `trim_journal` cuts no entry
        for headers, value in to_chunks(shard.sequence, shard.entry):
            producer.produce(
                self._given.journal,
                value=value,
                timestamp=now,
                partition=shard.partition,
                headers=list(headers),
                on_delivery=acknowledged,
            )

    def lag(self) -> Mapping[tuple[str, int], Lag]:
        consumer, now, found = opened(self._consumer), time.time(), {}
        for where, position in self._reading.items():
            _, end = consumer.get_watermark_offsets(TopicPartition(*where), cached=True)
            at = max(position, self._reached.get(where, 0))
            found[where] = self._lag.lag(*where, at, end if end >= 0 else None, now)
        return found


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
            key = "log" if code == KafkaError._INVALID_ARG else "log.security.username"
            raise ConfigError(key, f"{doing}: {error.str()}") from failure
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
