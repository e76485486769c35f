"""`streamd check`: read the configuration; refuse it with the key's path, or say what `run` would do."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from msgspec import Struct
from msgspec.structs import replace

from streamd import config as configuration
from streamd import wiring
from streamd.cli.operating import addresses
from streamd.cli.options import ConfigFile, Json, load, print_json
from streamd.cli.promoted import sentence
from streamd.cli.reload import against_live, sentences
from streamd.config import Config, MatchPipeline, Pipeline
from streamd.config.keys import AnyPipeline
from streamd.errors import Refused
from streamd.learners import constructor_of


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
    """What `run` would do."""

    config: str
    digest: str
    group: str
    worker: str
    log: Mapping[str, Any]
    store: Mapping[str, Any]
    http: str
    pipelines: Sequence[PipelinePlan]


def check(
    config: ConfigFile = None,
    live: Annotated[
        bool, typer.Option("--against-live", help="Say what a reload would change in the running worker.")
    ] = False,
    url: Annotated[
        str, typer.Option(help="With --against-live: of the worker. [default: http.host and http.port]")
    ] = "",
    json: Json = False,
) -> None:
    """Check the configuration and say what `run` would do; exit 78 with the key's path if it is refused."""
    loaded = load(config)
    wiring.check(loaded)
    configuration.secret(loaded.http.token_file, key="http.token_file")
    if live:
        _against_live(loaded, url, json)
        return
    found = plan(loaded, config or configuration.default_path())
    if json:
        print_json(found)
    else:
        _print(found)


def _against_live(config: Config, url: str, json: bool) -> None:
    where = addresses(config, [url] if url else None, 1)
    if not where:
        raise Refused("there is no address to ask at: [http] is off or its port is 0; name a worker with --url")
    answer = against_live(config, where[0])
    if json:
        print_json(answer)
        return
    for line in sentences(answer.reloaded, "a reload would change", "a restart is needed for"):
        print(f"{answer.worker.worker}: {line}")
    for one in answer.promoted:
        print(f"{answer.worker.worker}: {sentence(one)}")


def plan(config: Config, path: Path) -> Plan:
    """What a configuration that was found good means."""
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


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} = {msgspec.json.encode(v).decode()}" for k, v in values.items() if v is not None)
