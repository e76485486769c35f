"""The tables of a predicting pipeline, `[pipeline.NAME]` with another task than `match`."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from streamd.config.keys import NAME, AnyPipeline, Duration, Keys, Size, Topic
from streamd.config.query import Query


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
        also["answers to history"] = None if self.backfill_outputs in found.values() else self.backfill_outputs
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
