"""kafka-python's admin client, with what it lacks: it tells who refuses it, and can be made to ask anew."""

import time
from collections.abc import Mapping
from typing import Any

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.protocol.metadata import CoordinatorType
from kafka.protocol.producer.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    EndTxnRequest,
    InitProducerIdRequest,
)

from connectors.kafka_settings import SETTLE
from connectors.refusals import of_tls

UNKNOWN = (kafka_errors.AuthorizationError, kafka_errors.SaslAuthenticationFailedError)
MECHANISM = (kafka_errors.UnsupportedSaslMechanismError, kafka_errors.IllegalSaslStateError)


def _hear_last_words(transport: Any) -> None:
    """A broker that refuses us says why and hangs up; kafka-python throws away what it said if both have arrived
    by the time it looks. What was received is handed on; the end is found at the next look."""
    receive = transport._sock_recv

    def hear(self: Any) -> tuple[bytes, Exception | None]:
        received, error = receive(self)
        return received, None if received else error

    transport._sock_recv = hear


_hear_last_words(KafkaTCPTransport)
_hear_last_words(KafkaSSLTransport)


class TlsRefused(kafka_errors.KafkaError):  # type: ignore[misc]
    """There is no TLS with this broker. The argument is why."""


class Connections(KafkaConnectionManager):  # type: ignore[misc]
    """kafka-python tries to reach a first broker until the time is over, whatever the reason; this raises at the
    second attempt where the first was refused. refusals: by node, until `forget`."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.refusals: dict[Any, Exception] = {}

    def get_connection(self, node_id: Any, *arguments: Any, **settings: Any) -> Any:
        if node_id in self.refusals:
            raise self.refusals[node_id]
        connection = super().get_connection(node_id, *arguments, **settings)
        connection.init_future.add_errback(self._note, node_id)
        return connection

    def _note(self, node_id: Any, error: Exception) -> None:
        if (refusal := of_tls(error)) is not None:
            self.refusals[node_id] = TlsRefused(refusal)
        elif isinstance(error, (*UNKNOWN, *MECHANISM)):
            self.refusals[node_id] = error


def connected(**settings: Any) -> KafkaNetClient:
    """What kafka-python's admin client works with."""
    net = NetworkSelector(**settings)
    return KafkaNetClient(net, Connections(net, **settings), **settings)


class Admin(KafkaAdminClient):  # type: ignore[misc]
    """kafka-python's admin client asks once who coordinates a group and who makes topics, and goes on to ask these
    when they are dead or have handed over; this one can be told to ask anew. It leaves nothing behind where it
    reaches nobody."""

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(kafka_client=connected, **settings)
        except kafka_errors.KafkaError:
            self._client.close()
            self._net.stop()
            raise

    def settle(
        self,
        transactional_id: str,
        group: str,
        topics: Mapping[str, int],
        transaction_timeout: int,
        timeout: int,
    ) -> None:
        """Become the producer of this transactional id, and be it no more: what the former one left open is
        aborted. topics: what it writes to, with their partitions. transaction_timeout: as the producer's; timeout:
        until KafkaError is raised; milliseconds.

        A transaction of the group's offsets and of nothing in each of the partitions is begun and aborted besides.
        Its markers end whatever of a former producer is left in any of them, which the coordinator need not know
        of: offsets of a late request (who waits for stable ones would wait for ever), and records of a transaction
        that a broker has aborted while it shut down, without a marker where they are (seen with Kafka 4.3: the
        next commit there would commit them, too). From then on late requests are refused.
        """
        self._manager.run(self._settle, timeout, transactional_id, group, topics, transaction_timeout)

    async def _settle(self, timeout: int, *what: Any) -> None:
        """A coordinator that has just begun, or is another one now, is asked again."""
        deadline = time.monotonic() + timeout / 1000
        while True:
            try:
                return await self._settled(deadline, *what)
            except kafka_errors.RetriableError:
                if time.monotonic() > deadline:
                    raise
                self.forget()
                await self._net.sleep(SETTLE / 1000)

    async def _settled(
        self, deadline: float, name: str, group: str, topics: Mapping[str, int], transaction_timeout: int
    ) -> None:
        node = await self._find_coordinator_id(name, CoordinatorType.TRANSACTION)
        begin = InitProducerIdRequest(
            transactional_id=name,
            transaction_timeout_ms=transaction_timeout,
            producer_id=-1,
            producer_epoch=-1,
            max_version=4,
        )
        given = await self._answered(node, begin, deadline)
        producer = {
            "transactional_id": name,
            "producer_id": given.producer_id,
            "producer_epoch": given.producer_epoch,
        }
        partitions = AddPartitionsToTxnRequest(
            **{f"v3_and_below_{key}": value for key, value in producer.items()},
            v3_and_below_topics=[
                AddPartitionsToTxnRequest.AddPartitionsToTxnTopic(name=topic, partitions=list(range(count)))
                for topic, count in topics.items()
            ],
            max_version=3,
        )
        await self._answered(node, AddOffsetsToTxnRequest(**producer, group_id=group, max_version=3), deadline)
        await self._answered(node, partitions, deadline)
        await self._answered(node, EndTxnRequest(**producer, committed=False, max_version=3), deadline)
        await self._answered(node, begin, deadline)  # once the markers are there: librdkafka waits longer for them

    async def _answered(self, node: Any, request: Any, deadline: float) -> Any:
        """Ask again until nothing of the transaction before is under way. Raises KafkaError."""
        while True:
            response = await self._manager.send(request, node_id=node)
            errors = _errors(response)
            if not errors:
                return response
            if kafka_errors.ConcurrentTransactionsError not in errors or time.monotonic() > deadline:
                raise errors[0](type(request).__name__)
            await self._net.sleep(SETTLE / 1000)

    def forget(self) -> None:
        self._manager.refusals.clear()
        self._manager.cluster._coordinators.clear()
        self._controller_id = None


def _errors(response: Any) -> list[type[Exception]]:
    """What a transaction's coordinator refuses, the reasons first."""
    if isinstance(response, AddPartitionsToTxnResponse):
        results = [
            result for topic in response.results_by_topic_v3_and_below for result in topic.results_by_partition
        ]
        codes = {result.partition_error_code for result in results}
    else:
        codes = {response.error_code}
    found = {kafka_errors.for_code(code) for code in codes} - {kafka_errors.NoError}
    return sorted(found, key=lambda error: error is kafka_errors.OperationNotAttemptedError)
