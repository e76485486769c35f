"""`streamd check`: read the configuration; refuse it with the key's path, or say what `run` would do."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from msgspec import Struct
from msgspec.structs import replace

from streamd import config as configuration
from streamd import wiring
from streamd.cli.operating import Urls, Workers, addresses
from streamd.cli.options import ConfigFile, Json, load, note, print_json
from streamd.cli.promoted import pauses, promoted, sentence, together
from streamd.cli.reload import against_live, print_together
from streamd.cli.status_at_rest import newest_of, partitions_kept
from streamd.cli.status_shard import PipelineStatus, ShardStatus
from streamd.config import Config, MatchPipeline, Pipeline, SqliteStore
from streamd.config.keys import AnyPipeline
from streamd.errors import EXIT_FAILURE, Refused, Transient
from streamd.learners import constructor_of
from streamd.ports import Store
from streamd.recovery import ANEW


class PipelinePlan(Struct, frozen=True):
    """learner: its kind and all its parameters, the defaults among them; of a matching pipeline nothing: it has a
    rule, what that is certified to reach, and probabilities. model: kind and digest of what gives the state its
    meaning. predictions: the answers to the events, of a matching pipeline the matches."""

    pipeline: str
    task: str
    inputs: Sequence[str]
    predictions: str
    dead_letters: str
    learner: Mapping[str, Any]
    model: str
    rule: Mapping[str, Any] = {}
    probabilities: Mapping[str, Any] = {}
    certified: Sequence[str] = ()
    query: Mapping[str, Any] = {}


class Plan(Struct, frozen=True):
    """What `run` would do. states: what those that the store holds have to say to it."""

    config: str
    digest: str
    group: str
    worker: str
    log: Mapping[str, Any]
    store: Mapping[str, Any]
    http: str
    pipelines: Sequence[PipelinePlan]
    states: Sequence[str] = ()


def check(
    config: ConfigFile = None,
    live: Annotated[
        bool, typer.Option("--against-live", help="Say what a reload would change in the running workers.")
    ] = False,
    url: Urls = None,
    workers: Workers = 1,
    json: Json = False,
) -> None:
    """Check the configuration and say what `run` would do; exit 78 with the key's path if it is refused.

    Also what is in the way of continuing the states that the store holds, and what promotions left to be changed.
    """
    loaded = load(config)
    wiring.check(loaded)
    configuration.secret(loaded.http.token_file, key="http.token_file")
    if live:
        _against_live(loaded, addresses(loaded, url, workers), json)
        return
    found = plan(loaded, config or configuration.default_path(), states(loaded))
    if json:
        print_json(found)
    else:
        _print(found)


def _against_live(config: Config, where: Sequence[str], json: bool) -> None:
    """Exit 1 if a worker does not answer."""
    if not where:
        raise Refused("there is no address to ask at: [http] is off or its port is 0; name a worker with --url")
    answers = [against_live(config, one) for one in where]
    silent = [answer.worker for answer in answers if answer.worker.error]
    if json:
        print_json(answers)
    else:
        print_together(
            [a for a in answers if not a.worker.error], "a reload would change", "a restart is needed for"
        )
        for one in together(found for answer in answers for found in answer.promoted):
            print(sentence(one))
        for line in dict.fromkeys(pauses(config, found) for answer in answers for found in answer.otherwise):
            print(line)
        for worker in silent:
            note(f"{worker.url}: {worker.error}")
    if silent:
        raise typer.Exit(EXIT_FAILURE)


def states(config: Config) -> list[str]:
    """What the states that the store holds have to say to a configuration, a sentence each."""
    if isinstance(config.store, SqliteStore) and not Path(config.store.path).exists():
        return []
    told: list[str] = []
    try:
        with closing(wiring.store(config)) as store:
            for name in config.pipeline:
                told += _of_states(config, name, store)
    except Transient as failure:
        told.append(f"the states were not looked at, for the store is away: {failure}")
    return told


def _of_states(config: Config, name: str, store: Store) -> Iterator[str]:
    shards: list[ShardStatus] = []
    reasons: dict[str, list[str]] = {}
    for partition in partitions_kept(config, name, store):
        newest, manifest, shown, reason = newest_of(config, name, partition, store)
        if reason and newest is not None:
            reasons.setdefault(reason, []).append(str(partition))
        if shown is not None and manifest is not None:
            shard = ShardStatus(partition, "stopped", "", manifest.sequence, {}, None)
            shards.append(shard.with_task(shown, config.pipeline[name].task))
    for reason, partitions in reasons.items():
        anew = ANEW if isinstance(config.pipeline[name], Pipeline) else ""
        yield f"pipeline {name} would pause on partitions {', '.join(partitions)}: {reason}{anew}"
    yield from map(sentence, promoted(config, [PipelineStatus(name, False, (), shards)]))


def plan(config: Config, path: Path, told: Sequence[str] = ()) -> Plan:
    """What a configuration that was found good means. told: by the states in the store."""
    plain = configuration.plain(config)
    http = f"http://{config.http.host}:{config.http.port}" if config.http.enabled else ""
    pipelines = [_pipeline(name, pipeline) for name, pipeline in sorted(config.pipeline.items())]
    digest = configuration.digest(plain)
    return Plan(
        str(path.resolve()),
        digest,
        config.group,
        config.worker.name,
        plain["log"],
        plain["store"],
        http,
        pipelines,
        told,
    )


def _pipeline(name: str, pipeline: AnyPipeline) -> PipelinePlan:
    found = PipelinePlan(
        name,
        pipeline.task,
        pipeline.inputs,
        pipeline.answers,
        pipeline.outputs["dead letters"],
        _learner(pipeline) if isinstance(pipeline, Pipeline) else {},
        configuration.digest(wiring.meaning(pipeline)),
    )
    if isinstance(pipeline, Pipeline) and pipeline.query is not None:
        asked = {"topic": pipeline.queries, "pool": pipeline.pool, **configuration.plain(pipeline.query)}
        return replace(found, query={name: value for name, value in asked.items() if value not in (None, {}, [])})
    if not isinstance(pipeline, MatchPipeline):
        return found
    rule, p = configuration.plain(pipeline.rule), configuration.plain(pipeline.probabilities)
    return replace(found, rule=rule, probabilities=p, certified=wiring.certificates(pipeline))


def _learner(pipeline: Pipeline) -> dict[str, Any]:
    """Kind, the parameters given, and the defaults of the others."""
    kind = pipeline.learner["kind"]
    constructor = constructor_of(f"{kind}/{pipeline.task}")
    signature = inspect.signature(constructor).parameters if constructor else {}
    defaults = {n: p.default for n, p in signature.items() if p.default is not inspect.Parameter.empty}
    return {"kind": kind, **defaults, **pipeline.learner}


def _print(plan: Plan) -> None:
    print(f"{plan.config} is good (digest {plan.digest}).")
    print(f"group {plan.group}, worker {plan.worker}, HTTP {plan.http or 'off'}")
    print(f"log   {_pairs(plan.log)}")
    print(f"store {_pairs(plan.store)}")
    for found in plan.pipelines:
        print(f"\npipeline {found.pipeline} would {found.task} (model {found.model})")
        print(f"  read     {', '.join(found.inputs)}")
        print(f"  write    {found.predictions}; refused records to {found.dead_letters}")
        if found.learner:
            print(f"  learner  {_pairs(found.learner)}")
            if found.query:
                print(f"  queries  {_pairs(found.query)}")
        else:
            print(f"  rule     {_pairs(found.rule)}")
            print(f"  p        {_pairs(found.probabilities)}")
            for line in found.certified:
                print(f"  certified {line}")
    for line in plan.states:
        print(f"\n{line}")


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} = {msgspec.json.encode(v).decode()}" for k, v in values.items() if v is not None)
