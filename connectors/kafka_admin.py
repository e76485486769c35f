"""kafka-python's admin client, with what it lacks: it tells who refuses it, and can be made to ask anew."""

import time
from typing import Any

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.protocol.metadata import CoordinatorType
from kafka.protocol.producer.transaction import AddOffsetsToTxnRequest, EndTxnRequest, InitProducerIdRequest

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

    def settle(self, transactional_id: str, group: str, transaction_timeout: int, timeout: int) -> None:
        """Become the producer of this transactional id, and be it no more: what the former one left open is
        aborted. transaction_timeout: as the producer's; timeout: until KafkaError is raised; milliseconds.

        A transaction of nothing but the group's offsets is begun and aborted besides. Its marker in their
        partition ends what a former producer's late request may have left pending there: nothing else would while
        nobody commits, and nobody does who waits for stable offsets. From then on such requests are refused.
        """
        self._manager.run(self._settle, transactional_id, group, transaction_timeout, timeout)

    async def _settle(self, transactional_id: str, group: str, transaction_timeout: int, timeout: int) -> None:
        deadline = time.monotonic() + timeout / 1000
        node = await self._find_coordinator_id(transactional_id, CoordinatorType.TRANSACTION)
        begin = InitProducerIdRequest(
            transactional_id=transactional_id,
            transaction_timeout_ms=transaction_timeout,
            producer_id=-1,
            producer_epoch=-1,
            max_version=4,
        )
        given = await self._answered(node, begin, deadline)
        producer = {
            "transactional_id": transactional_id,
            "producer_id": given.producer_id,
            "producer_epoch": given.producer_epoch,
        }
        await self._answered(node, AddOffsetsToTxnRequest(**producer, group_id=group, max_version=3), deadline)
        await self._answered(node, EndTxnRequest(**producer, committed=False, max_version=3), deadline)
        await self._answered(node, begin, deadline)  # once the marker is there: librdkafka waits longer for it

    async def _answered(self, node: Any, request: Any, deadline: float) -> Any:
        """Ask again until nothing of the transaction before is under way. Raises KafkaError."""
        while True:
            response = await self._manager.send(request, node_id=node)
            error = kafka_errors.for_code(response.error_code)
            if error is kafka_errors.NoError:
                return response
            if error is not kafka_errors.ConcurrentTransactionsError or time.monotonic() > deadline:
                raise error(f"{type(request).__name__} of {request.transactional_id}")
            await self._net.sleep(SETTLE / 1000)

    def forget(self) -> None:
        self._manager.refusals.clear()
        self._manager.cluster._coordinators.clear()
        self._controller_id = None
