"""The tables of a matching pipeline, `[pipeline.NAME]` with `task = "match"`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from streamd.config.keys import AnyPipeline, Duration, Keys, Positive, Topic

Probability = Annotated[float, Meta(ge=0, le=1)]
Weight = Annotated[float, Meta(ge=0, le=1e9)]


class RuleKeys(Keys, frozen=True):
    """`[pipeline.NAME.rule]` of a match pipeline: which available resource an arrival gets.

    All but `load`, `consume`, `seed` and the change from or to `msvv` may be changed on a running pool: a resource
    keeps its load.
    """

    kind: Annotated[
        Literal["stochastic_balance", "greedy", "ranking", "perturbed_greedy", "msvv", "random"],
        Meta(description="`msvv`: capacities are money, edges have bids"),
    ] = "stochastic_balance"
    f: Annotated[
        Literal["auto", "least", "gu", "sc", "hz", "hzu", "scu", "exp", "k_b"],
        Meta(description="the balance function; `auto`: `sc` at one unit of capacity, `k_b` above"),
    ] = "auto"
    load: Annotated[
        Literal["expected", "hazard", "realised"],
        Meta(description="what an attempt adds to its resource's load: p, -ln(1 - p), or what is known of it"),
    ] = "expected"
    consume: Annotated[
        Literal["success", "attempt"], Meta(description="what takes a unit; per attempt no ratio is certified")
    ] = "success"
    hold: Annotated[
        Literal["auto", "block", "expected", "optimistic"],
        Meta(
            description="what an open attempt holds: its unit, its probability, nothing; "
            "`auto`: `block` at one unit, `expected` above"
        ),
    ] = "auto"
    max_overdelivery: Annotated[
        float, Meta(ge=0, le=1e6, description="unless it blocks: successes and open attempts beyond the capacity")
    ] = 0.5
    min_p: Annotated[float, Meta(ge=0, le=1, description="an edge below is not taken")] = 0.0
    min_score: Annotated[float | None, Meta(description="an edge that scores below is not taken")] = None
    boost: Annotated[
        float, Meta(ge=0, le=1e6, description="how much a group behind its least share is favoured")
    ] = 4.0
    seed: Annotated[int, Meta(ge=0, lt=1 << 62, description="of ranks and draws, which are hashes of it")] = 0


class ProbabilityKeys(Keys, frozen=True):
    """`[pipeline.NAME.probabilities]` of a match pipeline: where the probability of success comes from."""

    kind: Annotated[
        Literal["event", "beta", "logistic"],
        Meta(description="given with each edge; learned per resource and `kind`; learned from `features`"),
    ] = "event"
    prior: Annotated[
        tuple[float, float], Meta(description="beta: successes and failures a new resource starts with")
    ] = (1.0, 1.0)
    shrinkage: Annotated[
        Weight, Meta(description="beta: outcomes that the resource's own mean weighs against those of a kind")
    ] = 4.0
    half_life: Annotated[
        Duration | None, Meta(description="beta: event time in which outcomes lose half their weight")
    ] = None
    floor: Probability = 0.0
    ceiling: Probability = 1.0
    explore: Annotated[
        Literal["none", "thompson", "ucb", "epsilon"],
        Meta(description="with scarce capacity `none` is best: balance explores by itself"),
    ] = "none"
    width: Annotated[float, Meta(ge=0, le=100, description="ucb: deviations added")] = 1.0
    epsilon: Annotated[Probability, Meta(description="epsilon: the share of arrivals that choose evenly")] = 0.05
    eta: Annotated[float, Meta(gt=0, le=1e3, description="logistic: learning rate")] = 0.1
    l2: Annotated[float, Meta(ge=0, le=1e3, description="logistic: shrinkage of the weights")] = 1e-4
    bits: Annotated[int, Meta(ge=4, le=26, description="logistic: 2^bits hashed weights")] = 16
    max_kinds: Annotated[int, Meta(ge=1, lt=1 << 16)] = 1000
    max_pairs: Annotated[
        int, Meta(ge=16, le=1 << 28, description="beta: pairs of resource and kind that are kept")
    ] = 1 << 20


RuleName = Literal[
    "auto",
    "greedy",
    "least",
    "gu",
    "sc",
    "hz",
    "hzu",
    "scu",
    "guh",
    "exp",
    "k_b",
    "ranking",
    "perturbed_greedy",
    "random",
]


class HindsightKeys(Keys, frozen=True):
    """`[pipeline.NAME.hindsight]` of a match pipeline: the last arrivals of each pool, judged in the background.

    Their matching LP, the ratio of what was matched to it, and what other rules would have got.
    """

    window: Annotated[int, Meta(ge=0, le=100_000, description="arrivals; 0: nothing is judged")] = 1000
    edges: Annotated[Positive, Meta(description="the most edges of these arrivals")] = 20_000
    every: Annotated[Positive, Meta(description="arrivals of a pool between two judgements")] = 250
    shadows: Annotated[
        tuple[RuleName, ...],
        Meta(description="rules scored beside the acting one: a function stands for stochastic balance with it"),
    ] = ("greedy", "random")


class MatchLimits(Keys, frozen=True):
    """`[pipeline.NAME.limits]` of a match pipeline: the most it keeps, per partition or per pool."""

    pools: Annotated[Positive, Meta(description="per partition")] = 100
    resources: Annotated[int, Meta(gt=0, le=10_000_000, description="per pool; about 200 bytes each")] = 1_000_000
    open: Annotated[Positive, Meta(description="attempts open, per pool")] = 1_000_000
    waiting: Annotated[int, Meta(ge=0, description="arrivals kept until somebody comes free, per pool")] = 10_000
    remember: Annotated[
        Positive, Meta(description="answers kept for repeated arrivals and late outcomes, per pool")
    ] = 100_000
    edges: Annotated[Positive, Meta(description="of one arrival; without edges: resources of its pool")] = 10_000
    segments: Annotated[Positive, Meta(description="per pool")] = 10_000
    segment_edges: Annotated[Positive, Meta(description="of all segments of a pool")] = 10_000_000


class MatchPipeline(Keys, AnyPipeline, frozen=True):
    """`[pipeline.NAME]` with `task = "match"`: arrivals are matched to resources that may fail to deliver."""

    task: Literal["match"]
    events: Annotated[Topic, Meta(description="the arrivals; all inputs have the pool's name as their key")]
    resources: Annotated[Topic, Meta(description="resources and segments that join, change, leave")]
    outcomes: Annotated[Topic, Meta(description="what became of the attempts")]
    matches: Annotated[Topic | None, Meta(description="default: `<events>-matches`")] = None
    dead_letters: Annotated[Topic | None, Meta(description="default: `<events>-dead-letters`")] = None
    timeout: Annotated[
        Duration, Meta(description="event time after which an open attempt has failed, its deadline if earlier")
    ] = Duration(86400)
    late: Annotated[
        Literal["ignore", "accept", "correct"],
        Meta(description="a success after that: without effect, takes its unit, or is learned as well"),
    ] = "accept"
    attempts: Annotated[
        int,
        Meta(ge=1, le=1000, description="after a time-out an arrival is offered again, without who failed it"),
    ] = 1
    wait: Annotated[
        Literal["queries", "all", "none"],
        Meta(
            description="which arrivals are kept, until their deadline, if nobody is free; queries name a `reply`"
        ),
    ] = "queries"
    shares: Annotated[
        dict[str, Annotated[float, Meta(gt=0, le=1)]],
        Meta(description="least share of the matches per group of resources"),
    ] = field(default_factory=dict)
    rule: RuleKeys = RuleKeys()
    probabilities: ProbabilityKeys = ProbabilityKeys()
    hindsight: HindsightKeys = HindsightKeys()
    limits: MatchLimits = MatchLimits()

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.events, self.resources, self.outcomes

    @property
    def outputs(self) -> Mapping[str, str]:
        return {
            "matches": self.matches or f"{self.events}-matches",
            "dead letters": self.dead_letters or f"{self.events}-dead-letters",
        }

    @property
    def kind(self) -> str:
        return self.rule.kind

    def meaning(self) -> dict[str, Any]:
        rule = {name: getattr(self.rule, name) for name in ("load", "consume", "seed")}
        source = {name: getattr(self.probabilities, name) for name in ("kind", "bits")}
        rule["money"] = self.rule.kind == "msvv"
        return {"task": self.task, "rule": rule, "probabilities": source, "shares": sorted(self.shares)}
