"""kafka-python's admin client, with what it lacks: it tells who refuses it, and can be made to ask anew."""

from typing import Any

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

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

    def forget(self) -> None:
        self._manager.refusals.clear()
        self._manager.cluster._coordinators.clear()
        self._controller_id = None
