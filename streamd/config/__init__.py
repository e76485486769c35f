"""The configuration: frozen structs, checked before anything starts; the only reader of the environment.

Unknown keys are errors. Durations are written as "200ms", "5s", "10m", "2h", "7d"; sizes as "64KB", "1MB".
Secrets are references to files or environment variables, never values. Every refusal is a `ConfigError` with the
path of the key. What the keys of `[pipeline.NAME.learner]` mean is said by the learner; `wiring` checks them.
"""

import hashlib
import os
import re
import socket
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from streamd.config.keys import NAME, AnyPipeline, Keys, Positive, Topic
from streamd.config.keys import Duration as Duration
from streamd.config.keys import Size as Size
from streamd.config.match import HindsightKeys as HindsightKeys
from streamd.config.match import MatchLimits as MatchLimits
from streamd.config.match import MatchPipeline as MatchPipeline
from streamd.config.match import ProbabilityKeys as ProbabilityKeys
from streamd.config.match import RuleKeys as RuleKeys
from streamd.config.query import Query as Query
from streamd.config.query import check as check_query
from streamd.errors import BadRecord, ConfigError
from streamd.records import milliseconds

T = TypeVar("T")

DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SIZE = re.compile(r"(\d+)(B|KB|MB|GB)")
BYTES = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


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
    key_password_file: str = ""
    check_hostname: bool = True
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username: str = ""
    password_file: Annotated[str, Meta(description="a file holding the password")] = ""
    password_env: Annotated[str, Meta(description="or the environment variable that holds it")] = ""


class KafkaLog(Keys, frozen=True, tag_field="kind", tag="kafka"):
    """`[log]` with `kind = "kafka"`: Apache Kafka 2.5 or later."""

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


class Pending(Keys, frozen=True):
    """`[pipeline.NAME.pending]`: events that wait for their label, and what is remembered of the others."""

    max_events: Annotated[int, Meta(gt=0, description="how many may wait; beyond, the oldest expires")] = 100_000
    max_bytes: Annotated[Size, Meta(description="the bytes of their records; beyond, the oldest expires")] = Size(
        256 << 20
    )
    max_age: Annotated[Duration, Meta(description="event time an event waits before it expires")] = Duration(86400)
    remember: Annotated[
        int, Meta(ge=0, description="how many labelled or expired events are kept for late and corrected labels")
    ] = 10_000
    early: Annotated[int, Meta(ge=0, description="how many labels may wait for their event")] = 10_000
    early_age: Annotated[Duration, Meta(description="event time a label waits for its event")] = Duration(600)


class Quality(Keys, frozen=True):
    """`[pipeline.NAME.quality]`: how the predictions are judged."""

    fading: Annotated[float, Meta(gt=0, lt=1, description="factor per label of the fading window")] = 0.999
    drift: Annotated[
        Literal["none", "adwin"], Meta(description="watch the loss of the labelled predictions for drift")
    ] = "none"
    drift_delta: Annotated[float, Meta(gt=0, lt=1, description="ADWIN's confidence")] = 0.002
    drift_reset: Annotated[
        bool, Meta(description="start the learner anew at a drift (slower: one event at a time)")
    ] = False


class Early(Keys, frozen=True):
    """`[pipeline.NAME.early]`: alerts about the subjects of the events, as soon as enough was seen of one. For the
    tasks `text` and `classify`; events name a `subject`, and are keyed by it."""

    watch: Annotated[
        tuple[str, ...], Meta(min_length=1, description="the categories that call for an alert, taken together")
    ]
    name: Annotated[str, Meta(description="of what is watched, in the alerts; default: the categories")] = ""
    policy: Annotated[
        Literal["above", "slope", "threshold", "history", "global"],
        Meta(
            description="of the sums for and against: `above` for > against; `slope` the same, or for grew by"
            " `delta` more in the last `window` posts; `threshold` the share for >= `theta`; `history` the same,"
            " after each of the last `window` posts; `global` for - against > median + `gamma` MAD of all subjects"
        ),
    ] = "slope"
    min_posts: Annotated[int, Meta(ge=1, description="no alert before so many posts")] = 1
    theta: Annotated[float, Meta(ge=0, le=1)] = 0.5
    window: Annotated[int, Meta(ge=1, le=1000)] = 5
    delta: Annotated[float, Meta(gt=-1e9, lt=1e9)] = 0.0
    gamma: Annotated[float, Meta(gt=-1e9, lt=1e9)] = 2.0
    max_subjects: Annotated[int, Meta(gt=0, description="beyond, the one silent for longest is forgotten")] = (
        100_000
    )
    max_age: Annotated[Duration, Meta(description="event time of silence after which a subject is forgotten")] = (
        Duration(90 * 86400)
    )


class Pipeline(Keys, AnyPipeline, frozen=True):
    """`[pipeline.NAME]`: what is read, learned and written."""

    task: Annotated[
        Literal["classify", "regress", "choose", "text"],
        Meta(
            description="what is predicted: from an event's features a class, a number, or a path to be chosen;"
            " from its text a class"
        ),
    ]
    events: Topic
    learner: Annotated[dict[str, Any], Meta(description="`kind` and the learner's parameters")]
    labels: Annotated[Topic | None, Meta(description="where labels arrive later; default: only in the event")] = (
        None
    )
    shadow: Annotated[
        dict[Annotated[str, Meta(pattern=NAME)], dict[str, Any]],
        Meta(description="`[pipeline.NAME.shadow.OTHER]`: a learner that learns beside the live one, unseen"),
    ] = msgspec.field(default_factory=dict)
    predictions: Annotated[Topic | None, Meta(description="default: `<events>-predictions`")] = None
    dead_letters: Annotated[Topic | None, Meta(description="default: `<events>-dead-letters`")] = None
    alerts: Annotated[Topic | None, Meta(description="of `early`; default: `<events>-alerts`")] = None
    echo: Annotated[tuple[str, ...], Meta(description="fields of the event repeated in its prediction")] = ()
    top: Annotated[int, Meta(ge=1, le=1000, description="how many classes `p` names, the likeliest first")] = 10
    queries: Annotated[
        Topic | None, Meta(description="where labels are asked for; needs `[pipeline.NAME.query]`")
    ] = None
    outcomes: Annotated[Topic | None, Meta(description="where what became of each answer is told")] = None
    pool: Annotated[
        Annotated[str, Meta(min_length=1, max_length=512)] | None,
        Meta(description="the annotators' pool: key of queries and outcomes"),
    ] = None
    backfill: Annotated[
        str | dict[str, int] | None,
        Meta(
            description='a new pipeline learns from history first: "earliest", a time, or an offset per input; '
            "default: what the log holds is answered like all else"
        ),
    ] = None
    backfill_outputs: Annotated[
        Topic | None, Meta(description="where the answers to history go; default: nowhere")
    ] = None
    pending: Pending = Pending()
    quality: Quality = Quality()
    early: Early | None = None
    query: Query | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.events,) if self.labels is None else (self.events, self.labels)

    @property
    def predictions_topic(self) -> str:
        return self.predictions or f"{self.events}-predictions"

    @property
    def dead_letters_topic(self) -> str:
        return self.dead_letters or f"{self.events}-dead-letters"

    @property
    def alerts_topic(self) -> str:
        return self.alerts or f"{self.events}-alerts"

    @property
    def outputs(self) -> Mapping[str, str]:
        found = {"predictions": self.predictions_topic, "dead letters": self.dead_letters_topic}
        also = {"queries": self.queries, "outcomes": self.outcomes}
        also["alerts"] = None if self.early is None else self.alerts_topic
        return found | {name: topic for name, topic in also.items() if topic is not None}

    @property
    def kind(self) -> str:
        return str(self.learner["kind"])

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(str(keys["kind"]) for keys in (self.learner, *self.shadow.values()))

    def meaning(self, live: Collection[str] = (), shadow: str | None = None) -> dict[str, Any]:
        """The part that gives the state its meaning: a snapshot of another one is refused.

        live: the learner's parameters that can change without its state meaning something else.
        shadow: what it would be with this shadow's learner as the live one.
        """
        keys = self.learner if shadow is None else self.shadow[shadow]
        learner = {name: value for name, value in keys.items() if name not in live}
        drift = {"drift": self.quality.drift, "drift_reset": self.quality.drift_reset}
        kept: dict[str, Any] = msgspec.to_builtins({"task": self.task, "learner": learner, **drift})
        return kept


PIPELINES = (Pipeline, MatchPipeline)


class Config(Keys, frozen=True):
    """The whole file."""

    pipeline: dict[Annotated[str, Meta(pattern=NAME)], AnyPipeline]
    group: Annotated[
        str, Meta(pattern=NAME, description="the consumer group; state and positions belong to it")
    ] = "streamd"
    worker: Worker = Worker()
    log: SqliteLog | KafkaLog = SqliteLog()
    store: SqliteStore | RedisStore = SqliteStore()
    epoch: EpochKeys = EpochKeys()
    snapshot: SnapshotKeys = SnapshotKeys()
    http: Http = Http()
    limits: Limits = Limits()
    log_level: Literal["debug", "info", "warning", "error"] = "info"


def default_path() -> Path:
    """The configuration file when none is named: STREAMD_CONFIG, else `streamd.toml` in this directory."""
    return Path(os.environ.get("STREAMD_CONFIG") or "streamd.toml")


def load(path: str | Path) -> Config:
    """Read and check a configuration file. Raises ConfigError with the path of the key and what was expected."""
    path = Path(path)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("", f"{path} cannot be read: {error}") from None
    return resolve(parse(text), path.parent)


def parse(text: str) -> Config:
    """Check a configuration given as TOML text. Paths stay as written."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("", f"not TOML: {error}") from None
    pipelines = tree.get("pipeline")
    if not isinstance(pipelines, dict) or not pipelines:
        raise ConfigError("pipeline", "expected at least one table [pipeline.NAME]")
    tree["pipeline"] = {name: _pipeline(keys, f"pipeline.{name}") for name, keys in pipelines.items()}
    for port in ("log", "store"):
        if isinstance(keys := tree.get(port), dict):
            keys.setdefault("kind", "sqlite")
    config = convert(tree, Config, "")
    _check(config)
    return config


def _pipeline(keys: Any, path: str) -> AnyPipeline:
    """A pipeline of its task."""
    task = keys.get("task") if isinstance(keys, dict) else None
    if task == "match":
        return convert(keys, MatchPipeline, path)
    return convert(keys, Pipeline, path)


def resolve(config: Config, folder: Path) -> Config:
    """Make paths absolute and names definite."""
    changes: dict[str, Any] = {}
    log, store, replace = config.log, config.store, msgspec.structs.replace
    if isinstance(log, SqliteLog):
        changes["log"] = log = replace(log, path=_absolute(log.path, folder))
    else:
        files = ("ca_file", "certificate_file", "key_file", "key_password_file", "password_file")
        found = {name: _absolute(getattr(log.security, name), folder) for name in files}
        changes["log"] = log = replace(log, security=replace(log.security, **found))
    if isinstance(store, RedisStore):
        changes["store"] = replace(store, password_file=_absolute(store.password_file, folder))
    elif store.path or not isinstance(log, SqliteLog):
        changes["store"] = replace(store, path=_absolute(store.path or "streamd.db", folder))
    else:
        changes["store"] = replace(store, path=log.path)
    if not config.worker.name:
        changes["worker"] = replace(config.worker, name=f"{socket.gethostname()}-0")
    changes["http"] = replace(config.http, token_file=_absolute(config.http.token_file, folder))
    changes["snapshot"] = replace(config.snapshot, key_file=_absolute(config.snapshot.key_file, folder))
    return replace(config, **changes)


def _absolute(path: str, folder: Path) -> str:
    return str((folder / path).resolve()) if path else ""


def convert(value: Any, kind: type[T], key: str) -> T:
    """`msgspec.convert` with our durations and sizes, and the path of the key in the error."""
    try:
        return msgspec.convert(value, kind, dec_hook=_read_unit)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), key) from None


def secret(file: str, variable: str = "", *, key: str = "") -> str | None:
    """What a secret's file holds, or the environment variable named; None if neither is configured.

    key: the path of the key that names them. Raises ConfigError if it cannot be read or is empty.
    """
    if not file and not variable:
        return None
    try:
        found = Path(file).read_text().strip() if file else os.environ.get(variable, "").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(key, f"the secret's file {file} cannot be read: {error}") from None
    if not found:
        raise ConfigError(key, f"the {'file' if file else 'environment variable'} {file or variable} is empty")
    return found


def plain(config: Struct) -> dict[str, Any]:
    """A configuration as plain data: durations in seconds, sizes in bytes."""
    kept: dict[str, Any] = msgspec.to_builtins(config, enc_hook=_write_unit)
    return kept


def written(config: Struct) -> dict[str, Any]:
    """A part of a configuration as plain data that `convert` reads back: durations and sizes with their units."""
    kept: dict[str, Any] = msgspec.to_builtins(config, enc_hook=_write_with_unit)
    return kept


def reread(tree: Mapping[str, Any]) -> Config:
    """A whole configuration from what `written` made of it. Raises ConfigError."""
    pipelines = {name: _pipeline(keys, f"pipeline.{name}") for name, keys in tree["pipeline"].items()}
    return convert({**tree, "pipeline": pipelines}, Config, "")


def without_secrets(tree: Mapping[str, Any]) -> dict[str, Any]:
    """What `written` made, without what may be a secret: passwords in addresses and in client settings."""
    return {name: _unsecret(name, value) for name, value in tree.items()}


def _unsecret(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_secrets(value)
    if not isinstance(value, str) or name.endswith(("_file", "_env")):
        return value
    return "***" if "password" in name else re.sub(r"(?<=//)[^/@]*@", "***@", value)


def digest(meaning: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that name a model's configuration."""
    return hashlib.blake2b(msgspec.json.encode(meaning, order="sorted"), digest_size=4).hexdigest()


def _check(config: Config) -> None:
    """What one key alone cannot say."""
    for name, pipeline in config.pipeline.items():
        if isinstance(pipeline, Pipeline) and "kind" not in pipeline.learner:
            raise ConfigError(f"pipeline.{name}.learner.kind", "expected the kind of the learner")
        if isinstance(pipeline, Pipeline):
            _check_shadows(name, pipeline)
            backfill_start(name, pipeline)
            if pipeline.early is not None and pipeline.task not in ("text", "classify"):
                raise ConfigError(f"pipeline.{name}.early", "is for the tasks text and classify")
        topics = [*pipeline.inputs, *pipeline.outputs.values()]
        if len(set(topics)) < len(topics):
            raise ConfigError(f"pipeline.{name}", "its topics must differ from each other")
        if isinstance(pipeline, Pipeline):
            check_query(f"pipeline.{name}", pipeline)
        if isinstance(pipeline, MatchPipeline) and sum(pipeline.shares.values()) > 1.0 + 1e-9:
            raise ConfigError(f"pipeline.{name}.shares", "all together at most 1")
    log = config.log
    if isinstance(log, KafkaLog) and log.request_timeout > log.transaction_timeout:
        raise ConfigError("log.transaction_timeout", "expected at least log.request_timeout")
    if config.http.host not in ("127.0.0.1", "::1", "localhost") and not config.http.token_file:
        raise ConfigError(
            "http.token_file", f"needed, because http.host {config.http.host} is not a loopback address"
        )


def backfill_start(name: str, pipeline: Pipeline) -> tuple[int, Mapping[str, int]]:
    """Where history begins: (milliseconds since 1970, offsets of the inputs named). Raises ConfigError."""
    given, path = pipeline.backfill, f"pipeline.{name}.backfill"
    if isinstance(given, dict):
        for topic, offset in given.items():
            if topic not in pipeline.inputs or offset < 0:
                raise ConfigError(f"{path}.{topic}", f"an offset of one of {', '.join(pipeline.inputs)}")
        return 0, given
    if given is None or given == "earliest":
        return 0, {}
    try:
        return milliseconds(given), {}
    except BadRecord:
        raise ConfigError(path, 'expected "earliest", a time such as 2026-11-22T21:00:00Z, or offsets') from None


def _check_shadows(name: str, pipeline: Pipeline) -> None:
    """A model is known by its configuration, so no two may have the same."""
    known = [(f"pipeline.{name}.learner", pipeline.learner)]
    for shadow, keys in pipeline.shadow.items():
        path = f"pipeline.{name}.shadow.{shadow}"
        if "kind" not in keys:
            raise ConfigError(f"{path}.kind", "expected the kind of the learner")
        for other, its in known:
            if keys == its:
                raise ConfigError(path, f"is the same learner as {other}")
        known.append((path, keys))


def _read_unit(kind: type, value: Any) -> Any:
    if kind is AnyPipeline:
        return value  # `_pipeline` made it
    if kind is Duration:
        match = DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError('expected a duration such as "200ms", "5s", "10m", "2h" or "7d"')
        return Duration(float(match[1]) * SECONDS[match[2]])
    if kind is Size:
        match = SIZE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError('expected a size such as "64KB", "1MB" or "2GB"')
        return Size(int(match[1]) * BYTES[match[2]])
    raise NotImplementedError(kind)


def _write_unit(value: Any) -> float | int:
    if isinstance(value, Duration):
        return float(value)
    if isinstance(value, Size):
        return int(value)
    raise NotImplementedError(type(value))


def _write_with_unit(value: Any) -> str:
    if isinstance(value, Duration):
        return f"{float(value):.6f}".rstrip("0").rstrip(".") + "s"
    if isinstance(value, Size):
        return f"{int(value)}B"
    raise NotImplementedError(type(value))


def _refusal(message: str, prefix: str) -> ConfigError:
    """msgspec's "Expected ... - at `$.a.b`", as the key's path and what was expected of it."""
    expected, _, place = message.partition(" - at `")
    path = place.removeprefix("key` in `").rstrip("`").removeprefix("$").lstrip(".")
    if match := re.fullmatch(r"Object contains unknown field `(.*)`", expected):
        path, expected = ".".join(filter(None, (path, match[1]))), "no such key"
    if match := re.fullmatch(r"Object missing required field `(.*)`", expected):
        path, expected = ".".join(filter(None, (path, match[1]))), "this key is needed"
    return ConfigError(".".join(filter(None, (prefix, path))), expected[:1].lower() + expected[1:])
