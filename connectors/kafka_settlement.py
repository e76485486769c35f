"""How what a former producer left behind is ended before the next one begins.

A transaction's coordinator ends what it knows to be open. It does not know of everything:

* offsets of a request that came late are pending in the group, and who waits for stable ones waits for ever;
* a Kafka (4.3.1) that shuts down may take a transaction for committed, or for aborted, whose marker is missing in
  some of its partitions. Nobody can read on there, and whatever the same producer ends there next decides about what
  is open: aborted records are committed, committed ones are lost.

Both are ended here as the coordinator had decided, by transactions that hold nothing.
"""

import logging
import time
from collections.abc import Collection, Mapping
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
GOES_ON = (TransactionState.COMPLETE_COMMIT, TransactionState.ONGOING)  # who went on had committed what was before
_log = logging.getLogger("streamd")


class Settlement:
    """One worker's. topics: what it writes to, with their partitions. transaction_timeout: as the producer's;
    timeout: until KafkaError is raised; milliseconds."""

    def __init__(
        self,
        admin: Admin,
        transactional_id: str,
        group: str,
        topics: Mapping[str, int],
        *,
        transaction_timeout: int,
        timeout: int,
    ) -> None:
        self._admin = admin
        self._name = transactional_id
        self._group = group
        self._written = [TopicPartition(topic, p) for topic, count in topics.items() for p in range(count)]
        self._transaction_timeout = transaction_timeout
        self._deadline = time.monotonic() + timeout / 1000
        self._node: Any = None
        self._producer: Mapping[str, Any] = {}

    async def reach(self) -> None:
        """A coordinator that has just begun, or is another one now, is asked again."""
        while True:
            try:
                return await self._settle()
            except kafka_errors.RetriableError:
                if time.monotonic() > self._deadline:
                    raise
                self._admin.forget()
                await self._admin._net.sleep(SETTLE / 1000)

    async def _settle(self) -> None:
        last = await self._last()
        left = await self._left(last)  # before anything is asked that the coordinator forgets the last one by
        self._node = await self._admin._find_coordinator_id(self._name, CoordinatorType.TRANSACTION)
        await self._begin()
        if left:
            await self._end(_partitions(self._producer, left), committed=last.state in GOES_ON)
        offsets = AddOffsetsToTxnRequest(**self._producer, group_id=self._group, max_version=3)
        committed = last is not None and last.state is TransactionState.COMPLETE_COMMIT
        await self._end(offsets, committed)
        await self._begin()  # once the markers are there: librdkafka waits longer for them

    async def _last(self) -> Any:
        """What the coordinator knows of the last transaction; None if of none, or if it cannot tell (before 3.0)."""
        try:
            found = (await self._admin._async_describe_transactions([self._name]))[self._name]
        except (kafka_errors.TransactionalIdNotFoundError, kafka_errors.UnsupportedVersionError):
            return None
        if found.state in UNDER_WAY:
            raise kafka_errors.ConcurrentTransactionsError(f"{self._name}: {found.state.value}")
        return found

    async def _left(self, last: Any) -> list[TopicPartition]:
        """Where records of this producer are open that are not of the transaction which the coordinator knows."""
        if last is None:
            return []
        producers = await self._admin._async_describe_producers(set(self._written) - last.topic_partitions)
        left = [
            where
            for where, found in producers.items()
            for producer in found.active_producers
            if producer.producer_id == last.producer_id and producer.current_transaction_start_offset >= 0
        ]
        if left:
            told = ", ".join(f"{where.topic}[{where.partition}]" for where in sorted(left))
            facts = {"transactional_id": self._name, "partitions": told, "coordinator": last.state.value}
            _log.warning("Kafka left a transaction open", extra={"facts": facts})
            if last.state not in (*GOES_ON, TransactionState.COMPLETE_ABORT):
                raise kafka_errors.InvalidTxnStateError(
                    f"records of {self._name} are open in {told}, and Kafka has forgotten whether they were"
                    " committed: end them with kafka-transactions.sh"
                )
        return left

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

    async def _end(self, places: Any, committed: bool) -> None:
        """A transaction of nothing, in these places."""
        await self._answered(places)
        await self._answered(EndTxnRequest(**self._producer, committed=committed, max_version=3))

    async def _answered(self, request: Any) -> Any:
        """Ask again until nothing of the transaction before is under way. Raises KafkaError."""
        while True:
            response = await self._admin._manager.send(request, node_id=self._node)
            errors = _errors(response)
            if not errors:
                return response
            if kafka_errors.ConcurrentTransactionsError not in errors or time.monotonic() > self._deadline:
                raise errors[0](f"{type(request).__name__} of {self._name}")
            await self._admin._net.sleep(SETTLE / 1000)


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
