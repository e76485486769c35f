"""How what a former producer left behind is ended before the next one begins.

A transaction's coordinator ends what it knows to be open. It does not know of everything:

* offsets of a request that came late are pending in the group, and who waits for stable ones waits for ever;
* a Kafka (4.3.1) that shuts down may take a transaction for committed, or for aborted, whose marker is missing in
  some of its partitions. Nobody can read on there, and how the same producer ends its next transaction decides
  about what is open: aborted records are committed, committed ones are lost.

Both are ended here as the coordinator had decided, by transactions that hold nothing. It tells of the last one
only: so none may begin before the one before has its marker everywhere, which is looked at here, too.
"""

import time
from collections.abc import Collection, Mapping, Sequence, Set
from typing import Any

from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import TransactionState
from kafka.protocol.metadata import CoordinatorType
from kafka.protocol.producer.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    EndTxnRequest,
    InitProducerIdRequest,
)

from connectors.kafka_admin import Admin
from connectors.kafka_settings import SETTLE

UNDER_WAY = (TransactionState.PREPARE_COMMIT, TransactionState.PREPARE_ABORT, TransactionState.PREPARE_EPOCH_FENCE)
DECIDED = (TransactionState.COMPLETE_COMMIT, TransactionState.COMPLETE_ABORT)
NOBODY = -1  # a producer id that none has
PATIENCE = 1.0  # seconds that a marker may come after the answer to a commit
OFFSETS: Collection[TopicPartition] = ()  # the place of the group's offsets


class Settlement:
    """One worker's, from its first producer to its last: what is decided and not done yet is known to it alone.
    transaction_timeout: seconds."""

    def __init__(self, transactional_id: str, group: str, transaction_timeout: float) -> None:
        self._name = transactional_id
        self._group = group
        self._transaction_timeout = int(transaction_timeout * 1000)
        self._finished: list[str] = []
        self._deadline = 0.0
        self._producer: Mapping[str, Any] = {}
        self._leaders: dict[TopicPartition, int] = {}
        self._rest: list[tuple[Collection[TopicPartition], bool]] = []  # places to be ended, and whether committed

    def finished(self) -> Sequence[str]:
        """What was found left open, and ended, since this was asked last: sentences."""
        told, self._finished = self._finished, []
        return told

    async def reach(self, admin: Admin, topics: Mapping[str, int], timeout: int) -> None:
        """topics: what is written to, with their partitions; timeout: milliseconds until KafkaError is raised. A
        coordinator that has just begun, or is another one now, is asked again."""
        self._admin = admin
        self._deadline = time.monotonic() + timeout / 1000
        written = {TopicPartition(topic, p) for topic, count in topics.items() for p in range(count)}
        while True:
            try:
                return await self._settle(written)
            except kafka_errors.RetriableError:
                if time.monotonic() > self._deadline:
                    raise
                self._admin.forget()
                await self._admin._net.sleep(SETTLE / 1000)
            except kafka_errors.KafkaError:
                self._rest.clear()
                raise

    async def _settle(self, written: Set[TopicPartition]) -> None:
        if not self._rest:
            last = await self._last()
            committed = last is not None and last.state is TransactionState.COMPLETE_COMMIT
            if left := await self._left(last, written):
                self._rest.append((left, committed))
            self._rest.append((OFFSETS, committed))
            self._producer = {}
        if not self._producer:
            await self._begin()  # from here on the coordinator no longer knows of the last one
        while self._rest:
            places, committed = self._rest[0]
            await self._end(places, committed)
            self._rest.pop(0)
            if places:
                decided = TransactionState.COMPLETE_COMMIT if committed else TransactionState.COMPLETE_ABORT
                self._finished.append(f"Kafka had no marker of {self._name} ({decided.value}) in {_told(places)}")
        await self._begin()  # once the markers are there: librdkafka waits longer for them

    async def _last(self) -> Any:
        """What the coordinator knows of the last transaction; None if of none."""
        try:
            found = (await self._admin._async_describe_transactions([self._name]))[self._name]
        except kafka_errors.TransactionalIdNotFoundError:
            return None
        if found.state in UNDER_WAY:
            raise kafka_errors.ConcurrentTransactionsError(f"{self._name}: {found.state.value}")
        return found

    async def _left(self, last: Any, written: Set[TopicPartition]) -> list[TopicPartition]:
        """Where records of this producer are open that are not of the transaction which the coordinator knows."""
        if last is None:
            return await self._open(NOBODY, written)  # nothing, if we may ask at all
        left = await self._open(last.producer_id, written - last.topic_partitions)
        if left and last.state not in DECIDED:
            raise kafka_errors.InvalidTxnStateError(
                f"records of {self._name} are open in {_told(left)}, and Kafka has forgotten whether they were"
                " committed: end them with kafka-transactions.sh"
            )
        return left

    async def _open(self, producer_id: int, places: Set[TopicPartition]) -> list[TopicPartition]:
        """Where this producer has a transaction open."""
        if not places <= self._leaders.keys():
            found = await self._admin._async_get_leader_for_partitions(places)
            self._leaders.update((where, leader) for leader, wheres in found.items() for where in wheres)
        told: dict[TopicPartition, Any] = {}
        try:
            for leader in {self._leaders[where] for where in places}:
                own = [where for where in places if self._leaders[where] == leader]
                told |= await self._admin._async_describe_producers(own, leader)
        except kafka_errors.KafkaError:
            self._leaders.clear()
            raise
        return [
            where
            for where, found in told.items()
            for producer in found.active_producers
            if producer.producer_id == producer_id and producer.current_transaction_start_offset >= 0
        ]

    async def ended(self, places: Set[TopicPartition]) -> None:
        """Wait until the last transaction has its marker in all these places. Raises KafkaError if it does not get
        it, or if nobody can tell."""
        deadline = time.monotonic() + PATIENCE
        while left := await self._open(self._producer["producer_id"], places):
            if time.monotonic() > deadline:
                raise kafka_errors.KafkaTimeoutError(f"no end of the last transaction in {sorted(left)}")
            await self._admin._net.sleep(SETTLE / 1000)

    async def _begin(self) -> None:
        """Become the producer of this name, and abort what the coordinator knows to be open."""
        begin = InitProducerIdRequest(
            transactional_id=self._name,
            transaction_timeout_ms=self._transaction_timeout,
            producer_id=-1,
            producer_epoch=-1,
            max_version=4,
        )
        given = await self._answered(begin)
        self._producer = {
            "transactional_id": self._name,
            "producer_id": given.producer_id,
            "producer_epoch": given.producer_epoch,
        }

    async def _end(self, places: Collection[TopicPartition], committed: bool) -> None:
        """A transaction of nothing, in these places."""
        producer = self._producer
        offsets = AddOffsetsToTxnRequest(**producer, group_id=self._group, max_version=3)
        await self._answered(_partitions(producer, places) if places else offsets)
        await self._answered(EndTxnRequest(**self._producer, committed=committed, max_version=3))

    async def _answered(self, request: Any) -> Any:
        """Ask again until nothing of the transaction before is under way. Raises KafkaError."""
        while True:
            node = await self._admin._find_coordinator_id(self._name, CoordinatorType.TRANSACTION)
            response = await self._admin._manager.send(request, node_id=node)
            errors = _errors(response)
            if not errors:
                return response
            if kafka_errors.ConcurrentTransactionsError not in errors or time.monotonic() > self._deadline:
                raise errors[0](f"{type(request).__name__} of {self._name}")
            await self._admin._net.sleep(SETTLE / 1000)


def _told(places: Collection[TopicPartition]) -> str:
    return ", ".join(f"{where.topic}[{where.partition}]" for where in sorted(places))


def _partitions(producer: Mapping[str, Any], wheres: Collection[TopicPartition]) -> AddPartitionsToTxnRequest:
    topics: dict[str, list[int]] = {}
    for topic, partition in wheres:
        topics.setdefault(topic, []).append(partition)
    added = AddPartitionsToTxnRequest.AddPartitionsToTxnTopic
    return AddPartitionsToTxnRequest(
        **{f"v3_and_below_{key}": value for key, value in producer.items()},
        v3_and_below_topics=[added(name=topic, partitions=partitions) for topic, partitions in topics.items()],
        max_version=3,
    )


def _errors(response: Any) -> list[type[Exception]]:
    """What a transaction's coordinator refuses, the reasons first."""
    if isinstance(response, AddPartitionsToTxnResponse):
        topics = response.results_by_topic_v3_and_below
        codes = {result.partition_error_code for topic in topics for result in topic.results_by_partition}
    else:
        codes = {response.error_code}
    found = {kafka_errors.for_code(code) for code in codes} - {kafka_errors.NoError}
    return sorted(found, key=lambda error: error is kafka_errors.OperationNotAttemptedError)
