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
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from streamd.config.keys import NAME, AnyPipeline, Keys
from streamd.config.keys import Duration as Duration
from streamd.config.keys import Size as Size
from streamd.config.match import HindsightKeys as HindsightKeys
from streamd.config.match import MatchLimits as MatchLimits
from streamd.config.match import MatchPipeline as MatchPipeline
from streamd.config.match import ProbabilityKeys as ProbabilityKeys
from streamd.config.match import RuleKeys as RuleKeys
from streamd.config.pipeline import Early as Early
from streamd.config.pipeline import Pending as Pending
from streamd.config.pipeline import Pipeline as Pipeline
from streamd.config.pipeline import Quality as Quality
from streamd.config.process import EpochKeys as EpochKeys
from streamd.config.process import Http as Http
from streamd.config.process import KafkaLog as KafkaLog
from streamd.config.process import KafkaSecurity as KafkaSecurity
from streamd.config.process import Limits as Limits
from streamd.config.process import RedisStore as RedisStore
from streamd.config.process import SnapshotKeys as SnapshotKeys
from streamd.config.process import SqliteLog as SqliteLog
from streamd.config.process import SqliteStore as SqliteStore
from streamd.config.process import Worker as Worker
from streamd.config.query import Query as Query
from streamd.config.query import check as check_query
from streamd.errors import BadRecord, ConfigError
from streamd.records import milliseconds

T = TypeVar("T")

DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SIZE = re.compile(r"(\d+)(B|KB|MB|GB)")
BYTES = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


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
