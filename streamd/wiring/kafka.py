"""From the keys of `[log]` to the two sides of a Kafka log."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from connectors.kafka_client import KafkaLogClient
from connectors.kafka_log import KafkaLog
from connectors.kafka_settings import Membership, Security, check_files
from streamd import config as configuration
from streamd.errors import ConfigError
from streamd.ports import Log, LogClient

if TYPE_CHECKING:
    from connectors.confluent_log import ConfluentLog


def log(
    keys: configuration.KafkaLog,
    group: str,
    worker: str,
    inputs: Sequence[str],
    journal: str,
    outputs: Sequence[str],
) -> Log:
    """The engine's side, for one pipeline. Raises ConfigError."""
    membership = Membership(
        brokers=keys.brokers,
        group=group,
        worker=worker,
        inputs=tuple(inputs),
        journal=journal,
        outputs=tuple(outputs),
        security=_security(keys.security),
        client_settings=keys.client_settings,
        session_timeout=keys.session_timeout,
        transaction_timeout=keys.transaction_timeout,
        poll_interval=keys.poll_interval,
        request_timeout=keys.request_timeout,
    )
    return _log_of(keys.client)(membership)


def warm(keys: configuration.KafkaLog) -> None:
    """Have the configured client imported, and reach nobody. Raises ConfigError."""
    _log_of(keys.client)


def client(keys: configuration.KafkaLog) -> LogClient:
    """The operator's side."""
    return KafkaLogClient(keys.brokers, security=_security(keys.security), timeout=keys.request_timeout)


def _log_of(client: str) -> "type[KafkaLog] | type[ConfluentLog]":
    if client == "kafka-python":
        return KafkaLog
    try:
        from connectors.confluent_log import ConfluentLog
    except ImportError:
        raise ConfigError("log.client", 'needs confluent-kafka: pip install "streamd[confluent]"') from None
    return ConfluentLog


def _security(keys: configuration.KafkaSecurity) -> Security:
    secret = configuration.secret
    found = Security(
        tls=keys.tls,
        ca_file=keys.ca_file or None,
        certificate_file=keys.certificate_file or None,
        key_file=keys.key_file or None,
        key_password=secret(keys.key_password_file, key="log.security.key_password_file"),
        check_hostname=keys.check_hostname,
        mechanism=keys.mechanism,
        username=keys.username or None,
        password=secret(keys.password_file, keys.password_env, key="log.security.password_file"),
    )
    if found.tls:
        check_files(found)
    return found
