"""What a predicting pipeline is asked: an event as it could come by the stream, predicted without being one.

    predict    the prediction, as it would be written
    explain    the same, with the learner's whole reason in `tree`, where it has more to say than `why`

The event may lack an `id`; a label in it is not looked at. Nothing is learned, observed, counted or kept.
"""

from typing import Any, Protocol, runtime_checkable

import msgspec
from msgspec import UNSET, Struct, UnsetType

from streamd import records as codec
from streamd.errors import BadRecord, NotFound
from streamd.learners import Learner
from streamd.ports import Record
from streamd.questions import Question
from streamd.stages.answers import Answers, Predicted
from streamd.stages.settings import Settings


@runtime_checkable
class Explains(Protocol):
    """A learner that can say more of a prediction than its `why`."""

    def explain(self, x: Any) -> Struct:
        """The whole reason. Raises BadRecord for what it cannot take in, or would take too long over."""


class AskedEvent(Struct, frozen=True):
    """An event, `records.Event`, but for what a question does not need."""

    id: str = ""
    ts: int | str | None = None
    features: dict[str, codec.Scalar] | None = None
    text: str | None = None
    groups: tuple[str, ...] = ()


class Explained(codec.Prediction, frozen=True, omit_defaults=True):
    """A prediction and its tree."""

    tree: Struct | UnsetType = UNSET


_decoder = msgspec.json.Decoder(AskedEvent)


def answer(question: Question, learner: Learner, answers: Answers, settings: Settings, now: int) -> bytes:
    """The answer as JSON. now: the event time of an event without `ts`. Raises NotFound for another kind of
    question, BadRecord for an event that does not fit."""
    if question.kind not in ("predict", "explain"):
        raise NotFound(f"a {settings.task} pipeline does not answer {question.kind}")
    if len(question.body) > settings.record_bytes:
        raise BadRecord(f"the event has {len(question.body)} bytes, more than {settings.record_bytes}")
    asked = codec.decode(_decoder, question.body)
    field = "text" if settings.task == "text" else "features"
    given = getattr(asked, field)
    if given is None:
        raise BadRecord(f"Object missing required field `{field}`")
    prediction = _predict(asked, given, learner, answers, question, now)
    if question.kind == "predict":
        return codec.encode(prediction)
    tree = learner.explain(given) if isinstance(learner, Explains) else UNSET
    return codec.encode(Explained(**msgspec.structs.asdict(prediction), tree=tree))


def _predict(
    asked: AskedEvent, given: Any, learner: Learner, answers: Answers, question: Question, now: int
) -> codec.Prediction:
    steps = learner.steps()
    steps.predict(steps.row(given, asked.groups))
    predictions = steps.execute()
    ts = now if asked.ts is None else codec.milliseconds(asked.ts)
    record = Record("", 0, 0, ts, None, question.body)
    return answers.describe([Predicted(asked.id, record, ts)], predictions, learner.classes)[0]
