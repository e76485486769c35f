"""From the configuration of a matching pipeline to its stage."""

from collections.abc import Callable

from msgspec.structs import replace

from streamd.config import Config, MatchPipeline
from streamd.errors import ConfigError
from streamd.matching import replay
from streamd.matching.arrivals import Limits
from streamd.matching.pool import Pool
from streamd.matching.probabilities import Source
from streamd.matching.rules import Promise, Rule, promise
from streamd.matching.warm_up import warm_up as exercise
from streamd.ports import Log
from streamd.stages.match_settings import Settings
from streamd.stages.matching import Matching

RANGES = ((1.0, "one unit of capacity"), (2.0, "two units or more"), (20.0, "twenty units or more"))


def settings(config: Config, name: str, pipeline: MatchPipeline, model: str, partitions: int = 0) -> Settings:
    """What the matching stage needs of the configuration. Raises ConfigError with the path of what is wrong."""
    limits, where = pipeline.limits, f"pipeline.{name}"
    made = Settings(
        arrivals=pipeline.events,
        resources=pipeline.resources,
        outcomes=pipeline.outcomes,
        matches=pipeline.outputs["matches"],
        dead_letters=pipeline.outputs["dead letters"],
        model=model,
        rule=_rule(pipeline, f"{where}.rule"),
        source=_source(pipeline, f"{where}.probabilities"),
        timeout=pipeline.timeout.milliseconds,
        late=pipeline.late,
        shares=dict(sorted(pipeline.shares.items())),
        limits=Limits(
            limits.resources, limits.open, limits.remember, limits.edges, limits.segments, limits.segment_edges
        ),
        pools=limits.pools,
        attempts=pipeline.attempts,
        wait=pipeline.wait,
        waiting=limits.waiting,
        window=pipeline.hindsight.window,
        window_edges=pipeline.hindsight.edges,
        every=pipeline.hindsight.every,
        shadows=_shadows(pipeline),
        partitions=partitions,
        record_bytes=config.limits.record,
        ahead=config.limits.ahead.milliseconds,
    )
    try:
        Pool(made.rule, made.source, timeout=made.timeout, late=made.late, shares=made.shares)
    except ConfigError as error:
        raise ConfigError(f"{where}.{error.key}", error.expected) from None
    return made


def task(
    config: Config, name: str, pipeline: MatchPipeline, model: str, seat: Log | None
) -> Callable[[int], Matching]:
    """A maker of a partition's stage; it asks the log, if there is one, how many partitions the pools have."""

    def fresh(partition: int) -> Matching:
        partitions = 0 if seat is None else seat.topics()[pipeline.events].partitions
        return Matching(settings(config, name, pipeline, model, partitions), partition)

    return fresh


def certificates(pipeline: MatchPipeline) -> list[str]:
    """What the rule is certified to reach, one sentence for each range of capacities."""
    rule = _rule(pipeline, "")
    told = {where: promise(rule, capacity) for capacity, where in RANGES}
    if all(found.ratio is None for found in told.values()):
        return ["nothing"]
    return [f"{where}: {_certificate(found)}" for where, found in told.items()]


def _certificate(told: Promise) -> str:
    if told.ratio is None:
        return "nothing"
    against = (
        "the optimum that does not foresee outcomes" if told.bound == "non-clairvoyant" else f"the {told.bound}"
    )
    assumes = "outcomes known at once" if told.assumes == "none" else f"{told.assumes}, outcomes known at once"
    return f"{told.ratio:.4g} of {against}, for {assumes} ({told.source})"


def warm_up(pipeline: MatchPipeline) -> None:
    """Compile, or load, the kernels that this pipeline needs."""
    exercise(_rule(pipeline, ""), _source(pipeline, ""), pipeline.hindsight.window > 0)


def _shadows(pipeline: MatchPipeline) -> dict[str, Rule]:
    """The shadow rules: their own kind, function and load; all else as the acting rule has it."""
    acting = _rule(pipeline, "")
    shadows: dict[str, Rule] = {}
    for name in pipeline.hindsight.shadows:
        other = replay.ALL[name]
        shadows[name] = replace(acting, kind=other.kind, f=other.f, load=other.load)
    return shadows


def _rule(pipeline: MatchPipeline, where: str) -> Rule:
    keys = pipeline.rule
    try:
        return Rule(
            keys.kind,
            keys.f,
            keys.load,
            keys.consume,
            keys.hold,
            keys.max_overdelivery,
            keys.min_p,
            keys.min_score,
            keys.boost,
            keys.seed,
        )
    except ConfigError as error:
        raise ConfigError(f"{where}.{error.key}", error.expected) from None


def _source(pipeline: MatchPipeline, where: str) -> Source:
    keys = pipeline.probabilities
    try:
        return Source(
            kind=keys.kind,
            prior=keys.prior,
            shrinkage=keys.shrinkage,
            half_life=0 if keys.half_life is None else keys.half_life.milliseconds,
            floor=keys.floor,
            ceiling=keys.ceiling,
            explore=keys.explore,
            width=keys.width,
            epsilon=keys.epsilon,
            eta=keys.eta,
            l2=keys.l2,
            bits=keys.bits,
            max_kinds=keys.max_kinds,
            max_pairs=keys.max_pairs,
        )
    except ConfigError as error:
        raise ConfigError(f"{where}.{error.key}", error.expected) from None
