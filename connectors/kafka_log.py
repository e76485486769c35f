"""The log on Kafka with kafka-python, the default client (port `Log`).

One consumer in a consumer group with a static seat, one transactional producer, both of one engine. DESIGN
section 4 is the protocol. A rebalance listener runs on the library's I/O thread, where nothing that asks the
broker may be called: it pauses and notes, and `poll` returns what it noted.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as kafka_errors
from kafka.structs import ConsumerGroupMetadata, MemberState, OffsetAndMetadata

from connectors.kafka_cluster import translated
from connectors.kafka_member import LOST, Member, opened
from connectors.kafka_order import in_order
from connectors.kafka_protocol import check_positions, to_chunks, to_metadata
from connectors.kafka_settings import Membership, hurry, python_consumer, python_producer
from streamd.errors import Transient
from streamd.ports import Epoch, Lag, Output, Record, partition_of

AGAIN = 100  # milliseconds until the library is woken again, if a transaction's answer has not come


class KafkaLog(Member):
    """One worker of one group, with kafka-python."""

    def __init__(self, membership: Membership) -> None:
        super().__init__(membership)
        self._milliseconds = int(self._timeout * 1000)
        self._consumer_settings = python_consumer(membership)
        self._producer_settings = python_producer(membership)
        self._consumer: KafkaConsumer | None = None
        self._producer: BoundedProducer | None = None
        self._rebalances = Rebalances(self._noted)
        self._live: set[int] = set()

    def _join(self) -> None:
        with translated("joining the group", opening=True):
            consumer = self._consumer = KafkaConsumer(**self._consumer_settings)
            hurry(consumer._client.cluster)
            keep_joins(consumer._coordinator)
            self._rebalances.consumer = consumer
            consumer.subscribe(topics=list(self._inputs), listener=self._rebalances)

    def _leave(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with translated("closing"):
                consumer.close(timeout_ms=1000)

    def _make_producer(self, opening: bool = False) -> None:
        with translated("initialising transactions", opening):
            producer = BoundedProducer(**self._producer_settings)
            hurry(producer._metadata)
            try:
                producer.init_transactions()
            except BaseException:
                producer.discard()
                raise
            self._producer = producer

    def _discard_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.discard()

    def _read(self, max_records: int, timeout: float) -> Sequence[Record]:
        try:
            with translated("polling"):
                batches = self._polled(opened(self._consumer), int(timeout * 1000), max_records)
        except Transient as error:
            if isinstance(error.__cause__, kafka_errors.OffsetOutOfRangeError):
                self._refuse_gap(*error.__cause__.args[0].popitem())
            raise
        if self._noted:
            self._live.clear()
        records = [_records(where, batch) for where, batch in batches.items() if where.partition in self._live]
        for run in records:
            self._lag.delivered(run[-1])
        return in_order(records)

    def _polled(self, consumer: KafkaConsumer, milliseconds: int, max_records: int) -> Mapping[Any, Any]:
        """What the library's poll returns. It joins the group first, and then goes on to wait for records although
        there can be none of what was just assigned: this one does not."""
        if consumer._coordinator.need_rejoin():
            began = time.monotonic()
            consumer._coordinator.poll(timeout_ms=milliseconds)
            gone = int((time.monotonic() - began) * 1000)
            milliseconds = 0 if any(tuple(self._noted)) else max(0, milliseconds - gone)
        batches: Mapping[Any, Any] = consumer.poll(timeout_ms=milliseconds, max_records=max_records)
        return batches

    def _refuse_gap(self, where: TopicPartition, offset: int) -> None:
        """Raises OffsetGap, unless the offset is there after all."""
        check_positions(where.partition, {where.topic: offset}, self._kept(where.partition))

    def _start(self, partition: int, starts: Mapping[str, int]) -> None:
        consumer = opened(self._consumer)
        for topic, start in starts.items():
            where = TopicPartition(topic, partition)
            consumer.seek(where, start)
            # kafka-python 3.0.12 puts aside what it has read of a paused partition, and reads nothing more of it
            # until that is delivered: which waits until some other partition gets a record.
            consumer._fetcher._paused_partition_records.pop(where, None)
            consumer._fetcher._paused_completed_fetches.pop(where, None)
            consumer.resume(where)
        self._live.add(partition)

    def pause(self, partition: int) -> None:
        self._check_owned(partition)
        consumer = opened(self._consumer)
        held = consumer.assignment()
        wheres = (TopicPartition(topic, partition) for topic in self._inputs)
        consumer.pause(*(where for where in wheres if where in held))
        self._live.discard(partition)

    def _fetch_committed(self, partition: int) -> Mapping[str, tuple[int, str]]:
        # One request for all topics, which `committed` cannot: who sleeps between two of them sees two epochs.
        coordinator = opened(self._consumer)._coordinator
        coordinator._offset_fetch_futures.clear()  # a question that timed out would be answered as of then
        wheres = [TopicPartition(topic, partition) for topic in self._inputs]
        with translated(f"reading the committed offsets of partition {partition}"):
            told = coordinator.fetch_committed_offsets(wheres, timeout_ms=self._milliseconds)
        return {where.topic: (at.offset, at.metadata) for where, at in told.items() if at.offset >= 0}

    def _write(self, epoch: Epoch) -> Mapping[int, int]:
        membership = self._membership()
        producer = opened(self._producer)
        with translated("committing an epoch"), stale_metadata(), producer.transaction():
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
        membership = opened(self._consumer).group_metadata()
        if membership.state != MemberState.STABLE or membership.generation_id < 0:
            raise Transient(f"group {self._given.group}: {self._given.worker} is not a member now")
        return membership

    def _member_id(self) -> str:
        membership = opened(self._consumer).group_metadata()
        return str(membership.member_id) if membership.state == MemberState.STABLE else ""

    def _send(self, producer: KafkaProducer, output: Output) -> None:
        partitions = self._checked(output)
        producer.send(
            output.topic,
            value=output.value,
            key=output.key,
            headers=list(output.headers) if output.headers else None,
            partition=partition_of(output, partitions),
            timestamp_ms=output.timestamp,
        )

    def _send_entry(self, producer: KafkaProducer, partition: int, sequence: int, entry: bytes) -> Any:
        """Returns the future of the entry's last record."""
        future, now = None, int(time.time() * 1000)  # one time for all parts: `trim_journal` cuts no entry
        for headers, value in to_chunks(sequence, entry):
            future = producer.send(
                self._given.journal, value=value, headers=list(headers), partition=partition, timestamp_ms=now
            )
        return future

    def lag(self) -> Mapping[tuple[str, int], Lag]:
        consumer, now, found = opened(self._consumer), time.time(), {}
        for topic in self._inputs:
            for partition in self._live:
                where = TopicPartition(topic, partition)
                if where in consumer.assignment():
                    position = consumer.position(where, timeout_ms=0)
                    found[topic, partition] = self._lag.lag(
                        topic, partition, position, consumer.highwater(where), now
                    )
        return found


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
    `max_block_ms`, as its `init_transactions` does. And kafka-python (3.0.12) commits a transaction of which a
    batch has timed out, without that batch; this one commits when every record is there."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """From its begin. A record that was refused is the reason, whatever is said of what comes after it."""
        self._sent: list[Any] = []
        self.begin_transaction()
        try:
            yield
        except kafka_errors.KafkaError as error:
            for future in self._sent:
                if future.failed():
                    raise future.exception from error
            raise

    def send(self, *args: Any, **kwargs: Any) -> Any:
        future = super().send(*args, **kwargs)
        self._sent.append(future)
        return future

    def send_offsets_to_transaction(self, offsets: Mapping[Any, Any], group_metadata: Any) -> None:
        self._settle(self._transaction_manager.send_offsets_to_transaction(offsets, group_metadata))

    def commit_transaction(self) -> None:
        deadline = time.monotonic() + self.config["max_block_ms"] / 1000
        for future in self._sent:
            future.get(timeout=max(0.0, deadline - time.monotonic()))
        self._settle(self._transaction_manager.begin_commit())

    def _settle(self, result: Any) -> None:
        """kafka-python (3.0.12) drops one request after an error, and sleeps on the others: so wake it again."""
        deadline = time.monotonic() + self.config["max_block_ms"] / 1000
        self._sender.wakeup()
        while not result.wait(timeout_ms=AGAIN):
            if time.monotonic() > deadline:
                raise kafka_errors.KafkaTimeoutError(f"no answer in {self.config['max_block_ms']} ms")
            self._sender.wakeup()

    def discard(self) -> None:
        """Close without finishing anything: the next producer of this transactional id settles it."""
        self._sender.force_close()
        self._sender.join(1.0)
        try:
            self.close(timeout=0)
        except kafka_errors.KafkaTimeoutError:
            return  # batches that nobody waits for


def keep_joins(coordinator: Any) -> None:
    """kafka-python (3.0.12) throws a join away that was done between two polls, and joins again: which drives
    everybody out of the group once more, without end if each join ends so. With this a join is kept until a poll
    takes it. If the group has gone on since, the next heartbeat tells, and no commit is taken."""
    ask, generation, assigned = coordinator._do_join_and_sync_async, None, b""

    async def join() -> bytes:
        nonlocal generation, assigned
        # A poll that takes it makes the member STABLE; one that left is UNJOINED.
        waits = coordinator.state == MemberState.REBALANCING and coordinator._generation is generation
        if not waits:
            generation = None
            assigned = await ask()
            generation = coordinator._generation
        return assigned

    coordinator._do_join_and_sync_async = join


class Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]
    """Notes what the group decided; runs on the library's I/O thread, inside a poll."""

    def __init__(self, noted: deque[Sequence[tuple[str, int]]]) -> None:
        self.consumer: KafkaConsumer | None = None
        self._noted = noted

    def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        self._noted.append(LOST)
        # kafka-python 3.0.12 forgets a rebalance that the group's leader began because of new partitions, if the
        # poll's time is over between its JoinGroup and its SyncGroup: it stays out of the group, without a word.
        opened(self.consumer)._coordinator.request_rejoin()

    def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        consumer = opened(self.consumer)
        consumer.pause(*assigned)
        for where in assigned:
            consumer.seek(where, 0)  # any position: the library then asks for none; `seek` sets the true one
        self._noted.append(tuple(assigned))


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
