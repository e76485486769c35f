"""The keys of a pipeline's query stage, and which of them fit together."""

from typing import Annotated, Any, Literal, Protocol

from msgspec import Meta, field

from streamd.config.keys import Duration, Keys
from streamd.errors import ConfigError


class Query(Keys, frozen=True):
    """`[pipeline.NAME.query]`: for which events the label is asked, and what that may cost."""

    strategy: Annotated[str, Meta(description="`auto`, or one of the literature: see Label loop")] = "auto"
    parameters: Annotated[dict[str, Any], Meta(description="of the strategy, by their published names")] = field(
        default_factory=dict
    )
    utility: Annotated[
        str | None,
        Meta(
            description="what a label is worth; default: `least_confident`, for text `ss3`, to regress `d_optimal`"
        ),
    ] = None
    committee: Annotated[
        int,
        Meta(
            ge=2,
            le=1000,
            description="members of the online-bagged ensemble whose disagreement is the utility (`vote_entropy`, "
            "`mean_kl`, `variance`); a `groupwise` learner asks its own models",
        ),
    ] = 10
    density: Annotated[
        float, Meta(ge=0, le=100, description="exponent of the share of recent events nearby; 0: not looked at")
    ] = 0.0
    budget: Annotated[
        Annotated[float, Meta(ge=0, le=1)] | None,
        Meta(description="labels per event; default: 0.05, or none with `per_hour`"),
    ] = None
    per_hour: Annotated[
        float, Meta(ge=0, le=1e9, description="labels per hour of event time, divided over the partitions")
    ] = 0.0
    accounting: Annotated[
        Literal["bucket", "window", "count"],
        Meta(description="`bucket` is exact and bounds bursts; the others are those of the literature"),
    ] = "bucket"
    capacity: Annotated[float, Meta(ge=1, le=1e6, description="labels that can be saved up, per partition")] = 10.0
    window: Annotated[int, Meta(ge=1, le=10**9, description='events of `accounting = "window"`')] = 100
    groups: Annotated[
        Literal["proportional", "equal", "worst", "rates"] | None,
        Meta(description="how groups of events share the labels asked for; default: they are not told apart"),
    ] = None
    group_weights: Annotated[dict[str, float], Meta(description="how much a group counts; default: 1")] = field(
        default_factory=dict
    )
    floor: Annotated[float, Meta(ge=0, le=1, description="share of the income that groups get equally")] = 0.1
    rho: Annotated[
        float, Meta(ge=0, le=1, description="share of the budget drawn blindly, for honest quality")
    ] = 0.1
    deadline: Annotated[Duration, Meta(description="event time until a query expires")] = Duration(7200)
    discount: Annotated[
        float,
        Meta(
            ge=0,
            le=100,
            description="how far a query pending nearby lowers the next one's worth; `auto` heeds their number",
        ),
    ] = 0.0
    drift_delta: Annotated[float, Meta(gt=0, lt=1, description="confidence of the alarm on what was asked")] = (
        0.001
    )
    kind: Annotated[
        Literal["label", "confirm"], Meta(description="ask for the label, or for yes or no to the predicted one")
    ] = "label"
    answers: Annotated[int, Meta(ge=1, le=100, description="how many annotators are asked about one event")] = 1
    annotators: Annotated[
        tuple[str, ...], Meta(description="who is asked, least loaded first; default: whoever reads, or the pool")
    ] = ()
    costs: Annotated[
        dict[str, float],
        Meta(description="what a label of an annotator costs (1 if not named): the budget is money"),
    ] = field(default_factory=dict)
    gold: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="share of the events that bring their label asked about too: it judges annotators",
        ),
    ] = 0.0
    needs: Annotated[
        tuple[str, ...], Meta(description="skills an annotator must have, for a pool that routes")
    ] = ()
    max_pending: Annotated[int, Meta(gt=0, description="queries pending at once; beyond, the oldest expires")] = (
        100_000
    )
    remember: Annotated[
        int, Meta(ge=0, description="closed queries kept for late, repeated and corrected answers")
    ] = 10_000
    seed: Annotated[int, Meta(description="of its draws")] = 0


class Ages(Protocol):
    """`[pipeline.NAME.pending]`, as far as it matters here."""

    @property
    def max_age(self) -> Duration: ...


class Asks(Protocol):
    """A pipeline that may have a query stage."""

    @property
    def labels(self) -> str | None: ...
    @property
    def queries(self) -> str | None: ...
    @property
    def outcomes(self) -> str | None: ...
    @property
    def pool(self) -> str | None: ...
    @property
    def pending(self) -> Ages: ...
    @property
    def query(self) -> Query | None: ...


def check(where: str, pipeline: "Asks") -> None:
    """Queries need a way back; some keys exclude each other. Raises ConfigError; where: the pipeline's table."""
    query = pipeline.query
    if query is None:
        for key in ("queries", "outcomes", "pool"):
            if getattr(pipeline, key) is not None:
                raise ConfigError(f"{where}.query", f"this table is needed, because {where}.{key} is set")
        return
    if pipeline.queries is None:
        raise ConfigError(f"{where}.queries", "this key is needed with a query stage")
    if pipeline.labels is None:
        raise ConfigError(f"{where}.labels", "this key is needed with a query stage: where the answers arrive")
    if query.deadline > pipeline.pending.max_age:
        raise ConfigError(f"{where}.query.deadline", f"expected at most {where}.pending.max_age")
    if query.budget is not None and query.per_hour:
        raise ConfigError(f"{where}.query.per_hour", "expected either this or budget")
    for key, used in (("per_hour", query.per_hour), ("groups", query.groups), ("costs", query.costs)):
        if used and query.accounting != "bucket":
            raise ConfigError(f"{where}.query.{key}", 'needs accounting = "bucket"')
    if query.groups and (query.per_hour or query.costs):
        raise ConfigError(f"{where}.query.groups", "expected neither per_hour nor costs beside it")
    if query.annotators and pipeline.pool is not None:
        raise ConfigError(f"{where}.query.annotators", f"expected either this or {where}.pool, which finds them")
    if query.gold and not (query.annotators or query.costs or query.answers > 1):
        raise ConfigError(f"{where}.query.gold", "needs annotators, costs or answers: who is to be judged?")
    if query.answers > 1 and query.kind == "confirm":
        raise ConfigError(f"{where}.query.answers", 'expected 1 with kind = "confirm"')
    if any(not cost > 0 for cost in query.costs.values()):
        raise ConfigError(f"{where}.query.costs", "expected costs above 0")
