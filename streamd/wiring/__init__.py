"""From a configuration to running objects. The only importer of `connectors`."""

import inspect
import logging
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from types import ModuleType
from typing import Any

import msgspec
from msgspec.structs import replace

from connectors.sqlite_client import SqliteLogClient
from connectors.sqlite_log import SqliteLog
from connectors.sqlite_store import SqliteStore
from connectors.sqlite_topics import Retention
from streamd import config as configuration
from streamd import kernels
from streamd.config import Config, MatchPipeline, Pipeline
from streamd.config.keys import AnyPipeline
from streamd.daemon import Daemon, Part
from streamd.engine import Engine
from streamd.errors import ConfigError, Refused
from streamd.learners import KINDS, Decides, Learner, constructor_of
from streamd.operating.at_rest import AtRest
from streamd.operating.choices import CAUTIOUS, Choices
from streamd.operating.history import Begin, Span, span, unanswered
from streamd.ports import Log, LogClient, Store
from streamd.recovery import Anew, Fresh, Named
from streamd.restore import Identity, foreign, shard_name
from streamd.setup import Pacing, Setup
from streamd.shard import Shard, Task
from streamd.sight import Sight
from streamd.snapshots import Policy
from streamd.stages import alerting
from streamd.stages.early import Policy as EarlyPolicy
from streamd.stages.pending import Bounds
from streamd.stages.predicting import Predicting
from streamd.stages.settings import Settings
from streamd.stages.shadows import Model
from streamd.wiring import query as wiring_query
from streamd.wiring.meanings import as_it_worked, live, meant_by
from streamd.wiring.meanings import meaning as meaning

logger = logging.getLogger("streamd")


def build(config: Config, choices: Choices = CAUTIOUS) -> Daemon:
    """All engines of a configuration, not yet started. Raises ConfigError."""
    check(config)
    warm_up(config)
    parts = []
    for name, pipeline in config.pipeline.items():
        sight = Sight(name, pipeline.task, model(pipeline), pipeline.events, pipeline.answers)
        parts.append(Part(name, partial(engine, config, name, choices=choices), sight))
    return Daemon(parts, config.worker.drain)


def check(config: Config) -> None:
    """Make every learner and rule once, so that bad parameters are refused before anything starts.

    Raises ConfigError."""
    for name, pipeline in config.pipeline.items():
        if isinstance(pipeline, MatchPipeline):
            _matching().settings(config, name, pipeline, model(pipeline))
        elif isinstance(pipeline, Pipeline):
            made = learner(name, pipeline, _signing_key(config))()
            shadows(name, pipeline, _signing_key(config))
            if pipeline.query is not None:
                wiring_query.build(name, pipeline, config.group, 0, 1)
                if isinstance(made, Decides) and made.multilabel:
                    wiring_query.check_several(name, pipeline.query)


def model(pipeline: AnyPipeline) -> str:
    """The kind of learner or rule, and a digest of what gives its state a meaning."""
    return f"{pipeline.kind}/{configuration.digest(meaning(pipeline))}"


def certificates(pipeline: MatchPipeline) -> list[str]:
    """What the rule of a matching pipeline is certified to reach, and under what."""
    found: list[str] = _matching().certificates(pipeline)
    return found


def engine(
    config: Config,
    name: str,
    sight: Sight,
    own_log: Log | None = None,
    own_store: Store | None = None,
    choices: Choices = CAUTIOUS,
) -> Engine:
    """One pipeline's engine; to be called in the thread that will run it.

    own_log, own_store: instead of the configured ones.
    """
    make = partial(setup, config, name)
    return Engine(sight, own_log or log(config, name), own_store or store(config), make, choices)


def setup(config: Config, name: str, seat: Log) -> Setup:
    """What of an engine a reload can change. seat: the log it runs on. Raises ConfigError."""
    keys, pipeline = config.snapshot, config.pipeline[name]
    history = _history(config, name, pipeline) if isinstance(pipeline, Pipeline) else None
    begins = isinstance(pipeline, Pipeline) and pipeline.backfill is not None
    return Setup(
        *shards(config, name, seat),
        live(config, name),
        Pacing(config.epoch.interval, config.epoch.max_records, config.worker.give_up),
        Policy(keys.keep, keys.work, keys.interval, keys.journal, keys.hourly, keys.daily, keys.budget),
        history if begins else None,
        None if history is None else Anew(history, partial(_former, config, name, seat)),
    )


def _history(config: Config, name: str, pipeline: Pipeline) -> Begin:
    """What says where the history of a pipeline's shards begins and ends."""
    since, offsets = configuration.backfill_start(name, pipeline)

    def history(partition: int) -> Span:
        with closing(client(config)) as found:
            return span(found, partition, pipeline.inputs, since, offsets)

    return history


def at_rest(config: Config, name: str) -> AtRest:
    """One pipeline, for a command while no daemon runs; it sits in the group beside the worker of this name."""
    seated = replace(config, worker=replace(config.worker, name=f"{config.worker.name}-operator"))
    patience = config.log.session_timeout + 15.0 if isinstance(config.log, configuration.KafkaLog) else 5.0
    seat = log(seated, name)
    return AtRest(seat, store(config), *shards(config, name, seat), patience)


def shards(
    config: Config, name: str, seat: Log | None = None
) -> tuple[Callable[[int], Identity], Callable[[int], Shard]]:
    """One pipeline's: (whose state a partition is, a fresh shard on it). seat: the log it will run on, if any."""
    pipeline = config.pipeline[name]
    meant = meaning(pipeline)
    unseen = pipeline.shadow if isinstance(pipeline, Pipeline) else ()
    others = {configuration.digest(told): told for told in (meaning(pipeline, one) for one in unseen)}
    fresh, works = _task(config, name, seat), live(config, name)
    aside = pipeline.backfill_outputs if isinstance(pipeline, Pipeline) else None
    writes = partial(unanswered, dead=pipeline.outputs["dead letters"], topic=aside)

    def identity(partition: int) -> Identity:
        shard = shard_name(config.group, name, partition)
        then = partial(meant_by, type(pipeline))
        return Identity(shard, name, configuration.digest(meant), meant, others, then)

    def shard(partition: int) -> Shard:
        fits = partial(foreign, identity=identity(partition))
        again = partial(_remade, config, name, seat, partition)
        return Shard(partition, pipeline.inputs, fresh(partition), fits, works, again, writes)

    return identity, shard


def _former(config: Config, name: str, seat: Log, works: bytes) -> tuple[Named, Fresh]:
    """A pipeline's shards as `live` said they worked, whatever their state means. Raises Refused."""
    try:
        then = as_it_worked(config, name, works)
        check(replace(then, pipeline={name: then.pipeline[name]}))
    except (ConfigError, msgspec.MsgspecError, KeyError) as error:
        raise Refused(f"pipeline {name} cannot work so: {error}") from None
    return shards(then, name, seat)


def _remade(config: Config, name: str, seat: Log | None, partition: int, works: bytes) -> Task:
    """A fresh task that works as `live` said. Raises Refused where its state would mean something else."""
    current = config.pipeline[name]
    try:
        then = as_it_worked(config, name, works)
        pipeline = then.pipeline[name]
        if (pipeline.inputs, meaning(pipeline)) != (current.inputs, meaning(current)):
            raise Refused(f"pipeline {name}: its state would mean something else; that needs another group")
        return _task(then, name, seat)(partition)
    except (ConfigError, msgspec.MsgspecError, KeyError) as error:
        raise Refused(f"pipeline {name} cannot work so: {error}") from None


def _task(config: Config, name: str, seat: Log | None) -> Callable[[int], Task]:
    """A maker of a partition's stages, by the pipeline's task."""
    pipeline = config.pipeline[name]
    if isinstance(pipeline, MatchPipeline):
        made: Callable[[int], Task] = _matching().task(config, name, pipeline, model(pipeline), seat)
        return made
    assert isinstance(pipeline, Pipeline)
    key = _signing_key(config)
    described, fresh = settings(config, pipeline), learner(name, pipeline, key)
    unseen, own = shadows(name, pipeline, key), configuration.digest(pipeline.learner)

    def stages(partition: int) -> Predicting:
        asking = None
        if pipeline.query is not None:
            partitions = 1 if seat is None else seat.topics()[pipeline.events].partitions
            asking = wiring_query.build(name, pipeline, config.group, partition, partitions)
        return Predicting(described, fresh, partition, key, unseen, own, asking)

    return stages


def _matching() -> ModuleType:
    """Imported only where there is a matching pipeline, for scipy's sake: everything else starts without it."""
    from streamd.wiring import match as wiring_match

    return wiring_match


def log(config: Config, name: str) -> Log:
    """The engine's side of the configured log for one pipeline. Raises ConfigError."""
    pipeline, keys = config.pipeline[name], config.log
    inputs = pipeline.inputs
    group = f"{config.group}.{name}"
    entries = journal(config, name)
    if isinstance(keys, configuration.SqliteLog):
        return SqliteLog(
            keys.path,
            group=group,
            inputs=inputs,
            journal=entries,
            create=True,
            partitions=keys.partitions,
            retention=Retention(records=keys.retention_records, seconds=keys.retention),
            synchronous=keys.synchronous,
        )
    seat: Log = _kafka().log(keys, group, config.worker.name, inputs, entries, tuple(pipeline.outputs.values()))
    return seat


def _kafka() -> ModuleType:
    """Imported only where the log is Kafka's: the clients take a third of a second."""
    from streamd.wiring import kafka as wiring_kafka

    return wiring_kafka


def journal(config: Config, name: str) -> str:
    """The topic of a pipeline's journal."""
    return f"{config.group}.{name}.journal"


def client(config: Config) -> LogClient:
    """The operator's side of the configured log."""
    keys = config.log
    if isinstance(keys, configuration.SqliteLog):
        return SqliteLogClient(keys.path)
    found: LogClient = _kafka().client(keys)
    return found


def store(config: Config) -> Store:
    """The configured store."""
    keys = config.store
    if isinstance(keys, configuration.SqliteStore):
        return SqliteStore(keys.path)
    redis: Store = _redis().RedisStore(
        keys.url,
        prefix=keys.prefix,
        username=keys.username or None,
        password=configuration.secret(keys.password_file, keys.password_env, key="store.password_file"),
        timeout=keys.timeout,
        connect_timeout=keys.connect_timeout,
    )
    return redis


def _redis() -> ModuleType:
    """Imported only where the store is Redis's: the client takes a quarter of a second."""
    from connectors import redis_store

    return redis_store


def settings(config: Config, pipeline: Pipeline) -> Settings:
    """What the predicting stage needs of the configuration."""
    pending, quality = pipeline.pending, pipeline.quality
    return Settings(
        task=pipeline.task,
        events=pipeline.events,
        labels=pipeline.labels,
        predictions=pipeline.predictions_topic,
        dead_letters=pipeline.dead_letters_topic,
        model=model(pipeline),
        echo=pipeline.echo,
        top=pipeline.top,
        bounds=Bounds(
            max_events=pending.max_events,
            max_bytes=pending.max_bytes,
            max_age=pending.max_age.milliseconds,
            remember=pending.remember,
            early=pending.early,
            early_age=pending.early_age.milliseconds,
        ),
        fading=quality.fading,
        drift_delta=quality.drift_delta if quality.drift == "adwin" else None,
        drift_reset=quality.drift_reset,
        record_bytes=config.limits.record,
        ahead=config.limits.ahead.milliseconds,
        early=_early(pipeline),
    )


def _early(pipeline: Pipeline) -> alerting.Settings | None:
    keys = pipeline.early
    if keys is None:
        return None
    return alerting.Settings(
        pipeline.alerts_topic,
        frozenset(keys.watch),
        keys.name or "+".join(keys.watch),
        EarlyPolicy(keys.policy, keys.min_posts, keys.theta, keys.window, keys.delta, keys.gamma),
        keys.max_subjects,
        keys.max_age.milliseconds,
    )


def learner(name: str, pipeline: Pipeline, key: bytes | None = None) -> Callable[[], Learner]:
    """A maker of fresh learners; key: for those that sign. Raises ConfigError with the path of what is wrong."""
    make = _maker(f"pipeline.{name}.learner", pipeline.task, dict(pipeline.learner), key)
    return wiring_query.committee(name, pipeline.query, pipeline.learner["kind"], make)


def shadows(name: str, pipeline: Pipeline, key: bytes | None = None) -> dict[str, Model]:
    """The shadows of a pipeline by name. Raises ConfigError with the path of what is wrong."""
    found = {}
    several = pipeline.shadow and _names_several(learner(name, pipeline, key))
    for shadow, keys in pipeline.shadow.items():
        where = f"pipeline.{name}.shadow.{shadow}"
        make = _maker(where, pipeline.task, dict(keys), key)
        if _names_several(make) != several:
            raise ConfigError(f"{where}.multilabel", "the same as of the pipeline's own learner")
        named = f"{keys['kind']}/{configuration.digest(meaning(pipeline, shadow))}"
        beside = wiring_query.committee(name, pipeline.query, keys["kind"], make)
        found[shadow] = Model(named, beside, configuration.digest(keys))
    return found


def _names_several(make: Callable[[], Learner]) -> bool:
    found = make()
    return isinstance(found, Decides) and found.multilabel


def _maker(where: str, task: str, given: dict[str, Any], key: bytes | None) -> Callable[[], Learner]:
    kind = given.pop("kind")
    constructor = constructor_of(f"{kind}/{task}")
    if constructor is None:
        fit = sorted(key.split("/")[0] for key in KINDS if key.endswith(f"/{task}"))
        raise ConfigError(f"{where}.kind", f"expected one of {', '.join(fit)} for task {task}")
    parameters = dict(inspect.signature(constructor, eval_str=True).parameters)
    signs = parameters.pop("key", None) is not None
    for name in given:
        if name not in parameters:
            raise ConfigError(f"{where}.{name}", f"no such key; {kind} has {', '.join(parameters)}")
    for name, parameter in parameters.items():
        if name in given:
            given[name] = configuration.convert(given[name], parameter.annotation, f"{where}.{name}")
        elif parameter.default is inspect.Parameter.empty:
            raise ConfigError(f"{where}.{name}", "this key is needed")
    make = partial(constructor, **given, **({"key": key} if signs else {}))
    try:
        make()
    except ConfigError as error:
        raise ConfigError(f"{where}.{error.key}".rstrip("."), error.expected) from None
    return make


def _signing_key(config: Config) -> bytes | None:
    secret = configuration.secret(config.snapshot.key_file, key="snapshot.key_file")
    return None if secret is None else secret.encode()


def warm(config: Config) -> None:
    """Import, compile and load all that a worker of this configuration would: who is forked now has it.

    It opens nothing, starts no thread and makes no client, none of which outlives a fork. Raises ConfigError.
    """
    check(config)
    warm_up(config)
    if isinstance(config.log, configuration.KafkaLog):
        _kafka().warm(config.log)
    if isinstance(config.store, configuration.RedisStore):
        _redis()


def warm_up(config: Config) -> None:
    """Compile, or load, the kernels before anything starts: nobody waits for it, least of all the watchdog."""
    began = time.monotonic()
    predicting = [one for one in config.pipeline.values() if isinstance(one, Pipeline)]
    asking = {"querying" for one in predicting if one.query is not None}
    kernels.load(asking.union(*(one.kinds for one in predicting)))
    for pipeline in config.pipeline.values():
        if isinstance(pipeline, MatchPipeline):
            _matching().warm_up(pipeline)
    logger.info("kernels ready", extra={"facts": {"seconds": round(time.monotonic() - began, 2)}})
