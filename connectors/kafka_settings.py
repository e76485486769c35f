"""How to reach a Kafka cluster, in words that belong to neither client library, and in each library's own."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from streamd.errors import ConfigError


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
