"""How to reach a Kafka cluster, in words that belong to neither client library, and in each library's own."""

import ssl
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from kafka import KafkaConsumer, KafkaProducer
from kafka.coordinator.assignors.range import RangePartitionAssignor

from connectors.kafka_protocol import transactional_id
from streamd.errors import ConfigError

BATCH = 256 << 10  # bytes; each request then carries a useful amount
REQUEST = 64 << 20  # bytes; what a topic takes is for the broker to say
SETTLE = 20  # milliseconds until a producer asks again whether the transaction before is settled
LOOK = 10  # milliseconds between two questions about the cluster
QUEUE = 2_000_000  # records; an epoch is far smaller


class Security(msgspec.Struct, frozen=True):
    """TLS and SASL. Paths are files in PEM format; mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."""

    tls: bool = False
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    key_password: str | None = None
    check_hostname: bool = True
    mechanism: str | None = None
    username: str | None = None
    password: str | None = None

    @property
    def protocol(self) -> str:
        return ("SASL_" if self.mechanism else "") + ("SSL" if self.tls else "PLAINTEXT")


def check_files(security: Security) -> None:
    """Raises ConfigError with the key whose file OpenSSL cannot use: a client library does not say which it was,
    and OpenSSL asks at the terminal for a password that it is not given."""
    context, asked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), []

    def password() -> str:
        asked.append(True)
        return security.key_password or ""

    key, path = "", None
    try:
        for key in ("ca_file", "certificate_file"):
            if path := getattr(security, key):
                context.load_verify_locations(path)
        if security.certificate_file:
            key, path = "key_file", security.key_file or security.certificate_file
            context.load_cert_chain(security.certificate_file, security.key_file, password)
    except (OSError, ValueError) as error:
        key, reason = ("key_password_file", " (it is locked)") if asked else (key, "")
        raise ConfigError(f"log.security.{key}", f"{path} cannot be used{reason}: {error}") from error


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's place in a group. group: `<group>.<pipeline>`. worker: the name of the seat. Times in seconds.

    outputs: the topics that are written to, beside the journal; what a former producer of this name may have left
    open in others is not looked after.
    session_timeout: after how long without a heartbeat a dead worker's partitions move. transaction_timeout:
    when the broker aborts what a dead worker left open, if that worker does not come back before.
    poll_interval: how long the engine may work between two polls before it loses its partitions.
    request_timeout: how long any call waits for the cluster before it raises Transient.
    client_settings: for the client library, in its own words.
    """

    brokers: Sequence[str]
    group: str
    worker: str
    inputs: tuple[str, ...]
    journal: str
    outputs: tuple[str, ...] = ()
    security: Security = Security()
    client_settings: Mapping[str, object] = {}
    session_timeout: float = 15.0
    transaction_timeout: float = 15.0
    poll_interval: float = 600.0
    request_timeout: float = 10.0
    probe_interval: float = 1.0


def _present(settings: Mapping[str, object]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if value is not None}


def python_connection(brokers: Sequence[str], security: Security) -> dict[str, Any]:
    """Settings common to kafka-python's consumer, producer and admin client."""
    return {"bootstrap_servers": list(brokers), "security_protocol": security.protocol} | _present(
        {
            "ssl_cafile": security.ca_file,
            "ssl_certfile": security.certificate_file,
            "ssl_keyfile": security.key_file,
            "ssl_password": security.key_password,
            "ssl_check_hostname": security.check_hostname if security.tls else None,
            "sasl_mechanism": security.mechanism,
            "sasl_plain_username": security.username,
            "sasl_plain_password": security.password,
        }
    )


def hurry(cluster: Any) -> None:
    """kafka-python asks about the cluster no more than ten times a second, whatever it is told, and so lets a new
    client wait for its topic, which its first question did not name."""
    cluster.config["retry_backoff_ms"] = LOOK


def librdkafka_connection(brokers: Sequence[str], security: Security) -> dict[str, Any]:
    """The same for confluent-kafka."""
    hostname = None if not security.tls else "https" if security.check_hostname else "none"
    return {"bootstrap.servers": ",".join(brokers), "security.protocol": security.protocol} | _present(
        {
            "ssl.ca.location": security.ca_file,
            "ssl.certificate.location": security.certificate_file,
            "ssl.key.location": security.key_file,
            "ssl.key.password": security.key_password,
            "ssl.endpoint.identification.algorithm": hostname,
            "sasl.mechanism": security.mechanism,
            "sasl.username": security.username,
            "sasl.password": security.password,
        }
    )


def own_settings(given: Mapping[str, object], role: str, guarantee: Mapping[str, object]) -> dict[str, Any]:
    """The user's client settings for one role (`consumer` or `producer`).

    `consumer.x` and `producer.x` are for one role, `x` is for both. A setting that the guarantee rests on
    (a key of `guarantee`) may not be given: ConfigError.
    """
    chosen = {}
    for key, value in given.items():
        prefix, dot, rest = key.partition(".")
        name = rest if dot and prefix in ("consumer", "producer") else key
        if name in guarantee:
            raise ConfigError(f"log.client_settings.{key}", "is set by streamd itself: exactly once rests on it")
        if name == key or prefix == role:
            chosen[name] = value
    return chosen


def python_consumer(member: Membership) -> dict[str, Any]:
    """Settings of kafka-python's consumer. Raises ConfigError for a client setting that it does not know."""
    guarantee = {
        "group_id": member.group,
        "group_instance_id": member.worker,
        "isolation_level": "read_committed",
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "partition_assignment_strategy": [RangePartitionAssignor],
        "session_timeout_ms": int(member.session_timeout * 1000),
        "heartbeat_interval_ms": int(min(3.0, member.session_timeout / 4) * 1000),
        "max_poll_interval_ms": int(member.poll_interval * 1000),
        "allow_auto_create_topics": False,
    }
    ours = _python_timing(member) | {"max_partition_fetch_bytes": 4 << 20}
    return _python(member, "consumer", ours, guarantee, KafkaConsumer.DEFAULT_CONFIG)


def python_producer(member: Membership) -> dict[str, Any]:
    """Settings of kafka-python's producer. Raises ConfigError for a client setting that it does not know."""
    guarantee = {
        "transactional_id": transactional_id(member.group, member.worker),
        "transaction_timeout_ms": int(member.transaction_timeout * 1000),
        "enable_idempotence": True,
        "acks": -1,
        "allow_auto_create_topics": False,
    }
    milliseconds = int(member.request_timeout * 1000)
    ours = _python_timing(member) | {
        "retry_backoff_ms": SETTLE,
        "max_block_ms": milliseconds,
        "delivery_timeout_ms": 2 * milliseconds,
        "batch_size": BATCH,
        "max_request_size": REQUEST,
    }
    return _python(member, "producer", ours, guarantee, KafkaProducer.DEFAULT_CONFIG)


def _python_timing(member: Membership) -> dict[str, Any]:
    milliseconds = int(member.request_timeout * 1000)
    return {
        "retry_backoff_ms": 50,
        "reconnect_backoff_max_ms": 1000,
        "request_timeout_ms": milliseconds,
        "bootstrap_timeout_ms": milliseconds,
        "client_id": member.worker,
    }


def _python(
    member: Membership,
    role: str,
    ours: Mapping[str, object],
    guarantee: Mapping[str, object],
    known: Mapping[str, object],
) -> dict[str, Any]:
    """The user's settings go before ours, and after those that the guarantee rests on."""
    given = own_settings(member.client_settings, role, guarantee)
    for key in given:
        if key not in KafkaConsumer.DEFAULT_CONFIG and key not in KafkaProducer.DEFAULT_CONFIG:
            raise ConfigError(f"log.client_settings.{key}", "kafka-python knows no such setting")
    chosen = {key: value for key, value in given.items() if key in known}
    return {**python_connection(member.brokers, member.security), **ours, **chosen, **guarantee}


def librdkafka_consumer(member: Membership) -> dict[str, Any]:
    """Settings of confluent-kafka's consumer."""
    guarantee = {
        "group.id": member.group,
        "group.instance.id": member.worker,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "partition.assignment.strategy": "range",
        "group.protocol": "classic",
        "session.timeout.ms": int(member.session_timeout * 1000),
        "heartbeat.interval.ms": int(min(3.0, member.session_timeout / 4) * 1000),
        "max.poll.interval.ms": int(max(member.poll_interval, member.session_timeout) * 1000),
        "enable.partition.eof": True,
    }
    ours = {"fetch.wait.max.ms": 100, "fetch.error.backoff.ms": 50, "queued.max.messages.kbytes": 64 << 10}
    return _librdkafka(member, "consumer", ours, guarantee)


def librdkafka_producer(member: Membership) -> dict[str, Any]:
    """Settings of confluent-kafka's producer."""
    guarantee = {
        "transactional.id": transactional_id(member.group, member.worker),
        "transaction.timeout.ms": int(member.transaction_timeout * 1000),
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2_random",
    }
    ours = {
        "retry.backoff.ms": SETTLE,
        # It looks for its coordinator when it knows no broker yet. Unless it connects by itself to those it is
        # told of, it then often looks again half a second later only.
        "enable.sparse.connections": False,
        "linger.ms": 5,
        "queue.buffering.max.messages": QUEUE,
        "queue.buffering.max.kbytes": 1 << 20,
        "message.timeout.ms": int(member.transaction_timeout * 1000),
    }
    return _librdkafka(member, "producer", ours, guarantee)


def _librdkafka(
    member: Membership, role: str, ours: Mapping[str, object], guarantee: Mapping[str, object]
) -> dict[str, Any]:
    connection = librdkafka_connection(member.brokers, member.security) | {
        "client.id": member.worker,
        "socket.timeout.ms": int(member.request_timeout * 1000),
        "reconnect.backoff.max.ms": 1000,
        "allow.auto.create.topics": False,
        "log.connection.close": False,
    }
    return {**connection, **ours, **own_settings(member.client_settings, role, guarantee), **guarantee}
