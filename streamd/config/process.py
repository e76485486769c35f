"""The tables of the process: `[worker]`, `[log]`, `[store]`, `[epoch]`, `[snapshot]`, `[http]`, `[limits]`."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from streamd.config.keys import Duration, Keys, Positive, Size


class Worker(Keys, frozen=True):
    """`[worker]`: this process."""

    name: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9._-]{1,100}$", description="unique in the group; default: host name, index 0"),
    ] = ""
    drain: Annotated[
        Duration, Meta(description="how long a stop may take before the process gives up (exit 75)")
    ] = Duration(25)
    stall: Annotated[
        Duration,
        Meta(description="nothing moved for so long while records wait: /livez fails, the process exits 70"),
    ] = Duration(120)
    give_up: Annotated[
        Duration, Meta(description="the log away for so long: exit 75, for the supervisor to start anew")
    ] = Duration(300)


class SqliteLog(Keys, frozen=True, tag_field="kind", tag="sqlite"):
    """`[log]` with `kind = "sqlite"`: the embedded log, one file on a local disk."""

    path: Annotated[str, Meta(description="the file; relative to the configuration file")] = "streamd.db"
    partitions: Annotated[int, Meta(gt=0, le=1024, description="of topics that do not exist yet")] = 1
    retention: Annotated[
        Duration | None, Meta(description="records older than this may be deleted; default: kept")
    ] = None
    retention_records: Annotated[
        Positive | None, Meta(description="per partition, records beyond this may be deleted; default: kept")
    ] = None
    synchronous: Annotated[
        Literal["full", "normal"], Meta(description="`full` survives a power cut, `normal` a crash of the process")
    ] = "full"


class KafkaSecurity(Keys, frozen=True):
    """`[log.security]`: TLS and SASL."""

    tls: bool = False
    ca_file: Annotated[str, Meta(description="PEM; default: the system's certificates")] = ""
    certificate_file: Annotated[str, Meta(description="PEM, for mutual TLS")] = ""
    key_file: Annotated[str, Meta(description="PEM, for mutual TLS")] = ""
    key_password_file: Annotated[str, Meta(description="a file holding what unlocks it")] = ""
    check_hostname: bool = True
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username: str = ""
    password_file: Annotated[str, Meta(description="a file holding the password")] = ""
    password_env: Annotated[str, Meta(description="or the environment variable that holds it")] = ""


class KafkaLog(Keys, frozen=True, tag_field="kind", tag="kafka"):
    """`[log]` with `kind = "kafka"`: Apache Kafka 3.0 or later."""

    brokers: Annotated[tuple[str, ...], Meta(min_length=1, description='as "host:port"')]
    client: Annotated[
        Literal["kafka-python", "confluent"],
        Meta(description="`confluent` is several times faster and needs the extra `streamd[confluent]`"),
    ] = "kafka-python"
    partitions: Annotated[int, Meta(gt=0, description="of topics that `streamd send` makes")] = 1
    session_timeout: Annotated[Duration, Meta(description="a worker unheard for so long loses its partitions")] = (
        Duration(15)
    )
    transaction_timeout: Annotated[Duration, Meta(description="the broker aborts an epoch's commit after it")] = (
        Duration(15)
    )
    poll_interval: Annotated[Duration, Meta(description="the longest time between two polls: work, restores")] = (
        Duration(600)
    )
    request_timeout: Annotated[Duration, Meta(description="of one request to a broker")] = Duration(10)
    security: KafkaSecurity = KafkaSecurity()
    client_settings: Annotated[
        dict[str, str | int | float | bool],
        Meta(description="passed to the client library; `consumer.x` or `producer.x` for one of the two"),
    ] = msgspec.field(default_factory=dict)


class SqliteStore(Keys, frozen=True, tag_field="kind", tag="sqlite"):
    """`[store]` with `kind = "sqlite"`: snapshots in a file on a local disk."""

    path: Annotated[str, Meta(description="the file; default: the log's, or `streamd.db`")] = ""


class RedisStore(Keys, frozen=True, tag_field="kind", tag="redis"):
    """`[store]` with `kind = "redis"`: snapshots in Redis or Valkey."""

    url: Annotated[
        str,
        Meta(description="redis://, rediss://, unix://, redis+sentinel://…?service=NAME or redis+cluster://"),
    ]
    prefix: Annotated[str, Meta(description="of all keys")] = "streamd"
    username: Annotated[str, Meta(description="of an ACL user")] = ""
    password_file: Annotated[str, Meta(description="a file holding the password")] = ""
    password_env: Annotated[str, Meta(description="or the environment variable that holds it")] = ""
    timeout: Annotated[Duration, Meta(description="for an answer")] = Duration(5)
    connect_timeout: Annotated[Duration, Meta(description="for a connection")] = Duration(2)


class EpochKeys(Keys, frozen=True):
    """`[epoch]`: how often work is committed."""

    interval: Annotated[Duration, Meta(description="the longest time between two commits")] = Duration(0.2)
    max_records: Annotated[int, Meta(gt=0, le=1_000_000, description="the most records in one epoch")] = 20_000


class SnapshotKeys(Keys, frozen=True):
    """`[snapshot]`: how often, and how many, snapshots are kept."""

    keep: Annotated[int, Meta(ge=1, le=1000, description="how many are kept per shard")] = 3
    hourly: Annotated[
        int, Meta(ge=0, le=10_000, description="besides, the newest of each of so many hours, to go back to")
    ] = 0
    daily: Annotated[int, Meta(ge=0, le=10_000, description="besides, the newest of each of so many days")] = 0
    work: Annotated[
        float, Meta(ge=1, description="a snapshot is due when the work since the last exceeds this times its cost")
    ] = 10.0
    interval: Annotated[Duration, Meta(description="but never more often than this")] = Duration(5)
    journal: Annotated[
        Duration,
        Meta(description="the journal below the oldest kept snapshot stays this long, for replay and audit"),
    ] = Duration(7 * 86400)
    budget: Annotated[
        Size,
        Meta(description="what one shard's snapshots may take in the store, the one being written too; 0B: any"),
    ] = Size(0)
    key_file: Annotated[
        str, Meta(description="a file with the key that signs the pickled parts (river models); default: unsigned")
    ] = ""


class Http(Keys, frozen=True):
    """`[http]`: health, metrics and the API."""

    host: Annotated[str, Meta(description="beyond the loopback addresses a token is needed")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="0: any free port")] = 8080
    token_file: Annotated[str, Meta(description="a file holding the bearer token; default: none")] = ""
    enabled: bool = True


class Limits(Keys, frozen=True):
    """`[limits]`: what is refused at the door."""

    record: Annotated[Size, Meta(description="the largest record")] = Size(1 << 20)
    ahead: Annotated[
        Duration, Meta(description="a record's `ts` may lie this far ahead of the log's timestamp")
    ] = Duration(86400)
