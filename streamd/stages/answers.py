"""Predictions as the records that go out: the likeliest classes or the value, the reasons, what is echoed."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from streamd import records as codec
from streamd.learners import Covering, Decides, Predictions, Why
from streamd.ports import Output, Record
from streamd.stages.settings import Settings


class Predicted(Struct, frozen=True, gc=False):
    """An event that was predicted, until its run has been executed. ts: its event time."""

    event: codec.Event
    record: Record
    ts: int


NOT_ASKED: Mapping[int, codec.Asked] = {}


class Answers:
    """Writes the predictions of one shard. partition: given to every output, None lets the log choose by key.

    decides: the learner, if its decision is more than the likeliest class.
    """

    def __init__(self, settings: Settings, partition: int | None, decides: Decides | None = None) -> None:
        self._settings = settings
        self._decides = decides
        self._partition = partition
        kinds = {"regress": self._value, "choose": self._path}
        self._describe = kinds.get(settings.task, self._classes)

    def write(
        self,
        predicted: Sequence[Predicted],
        predictions: Predictions,
        classes: Sequence[str],
        asked: Mapping[int, codec.Asked] = NOT_ASKED,
    ) -> list[Output]:
        """One output per prediction, in order, under the event's key. classes: the learner's; asked: of which
        predictions a query stage has asked for the label."""
        topic, partition, encode = self._settings.predictions, self._partition, codec.encode
        outputs = []
        described = self.describe(predicted, predictions, classes)
        for i, why in asked.items():
            described[i] = replace(described[i], asked=why)
        for one, told in zip(predicted, described, strict=True):
            record = one.record
            key = record.key if record.key is not None else one.event.id.encode()
            outputs.append(Output(topic, key, encode(told), record.timestamp, partition))
        return outputs

    def describe(
        self, predicted: Sequence[Predicted], predictions: Predictions, classes: Sequence[str]
    ) -> list[codec.Prediction]:
        """One prediction each, in order."""
        describe, why = self._describe, predictions.why
        covering = predictions if isinstance(predictions, Covering) else None
        rows, known = predictions.values.tolist(), predictions.known.tolist()
        told = [
            describe(one, rows[i][: known[i]], classes, why(i), _Covered(covering, i))
            for i, one in enumerate(predicted)
        ]
        if self._decides is None:
            return told
        memos = [predictions.memo(i) for i in range(len(told))]
        return [replace(one, label=self._label(memo, classes)) for one, memo in zip(told, memos, strict=True)]

    def _label(self, memo: bytes, classes: Sequence[str]) -> str | list[str] | None:
        assert self._decides is not None
        names = [classes[c] for c in self._decides.decision(memo)]
        return names if self._decides.multilabel else names[0] if names else None

    def _classes(
        self, one: Predicted, p: list[float], classes: Sequence[str], why: Why, covered: "_Covered"
    ) -> codec.Prediction:
        named: dict[str, float] = dict(zip(classes, p, strict=False))
        label = max(named, key=named.__getitem__) if named else None
        if len(named) > self._settings.top:
            likeliest = sorted(named, key=named.__getitem__, reverse=True)[: self._settings.top]
            named = {name: named[name] for name in likeliest}
        return self._told(one, why, label=label, p=named, set=covered.classes())

    def _value(
        self, one: Predicted, p: list[float], classes: Sequence[str], why: Why, covered: "_Covered"
    ) -> codec.Prediction:
        return self._told(one, why, value=p[0], interval=covered.interval())

    def _path(
        self, one: Predicted, p: list[float], classes: Sequence[str], why: Why, covered: "_Covered"
    ) -> codec.Prediction:
        return self._told(one, why, path=[name for name, on in zip(classes, p, strict=True) if on])

    def _told(self, one: Predicted, why: Why, **told: Any) -> codec.Prediction:
        echo = self._echo(one.record) if self._settings.echo else UNSET
        return codec.Prediction(one.event.id, why=why, model=self._settings.model, ts=one.ts, echo=echo, **told)

    def _echo(self, record: Record) -> dict[str, msgspec.Raw]:
        assert record.value is not None
        return codec.echo(record.value, self._settings.echo)


class _Covered(NamedTuple):
    """What a prediction says of its coverage, if anything."""

    predictions: Covering | None
    i: int

    def interval(self) -> tuple[float, float] | UnsetType:
        found = None if self.predictions is None else self.predictions.interval(self.i)
        return UNSET if found is None else found

    def classes(self) -> list[str] | UnsetType:
        found = None if self.predictions is None else self.predictions.covering(self.i)
        return UNSET if found is None else found
