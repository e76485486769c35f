"""Predictions as the records that go out: the likeliest classes or the value, the reasons, what is echoed.

A run is described column by column: what is the same for each of thousands is found out once.
"""

from collections.abc import Iterable, Mapping, Sequence
from heapq import nlargest
from itertools import repeat
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, Struct, UnsetType
from numpy.typing import NDArray

from streamd import records as codec
from streamd.learners import Covering, Decides, Predictions, Reasoned
from streamd.ports import Output, Record
from streamd.stages.settings import Settings


class Predicted(Struct, frozen=True, gc=False):
    """An event that was predicted, until its run has been executed. ts: its event time."""

    id: str
    record: Record
    ts: int


NOT_ASKED: Mapping[int, codec.Asked] = {}


class Told(NamedTuple):
    """The columns of `records.Prediction` that depend on the task."""

    label: Iterable[str | list[str] | UnsetType | None] = repeat(UNSET)
    p: Iterable[dict[str, float] | UnsetType] = repeat(UNSET)
    value: Iterable[float | UnsetType] = repeat(UNSET)
    interval: Iterable[tuple[float, float] | UnsetType] = repeat(UNSET)
    set: Iterable[list[str] | UnsetType] = repeat(UNSET)
    path: Iterable[list[str] | UnsetType] = repeat(UNSET)


class Answers:
    """Writes the predictions of one shard. partition: given to every output, None lets the log choose by key.

    decides: the learner, if its decision is more than the likeliest class.
    """

    def __init__(self, settings: Settings, partition: int | None, decides: Decides | None = None) -> None:
        self._settings = settings
        self._decides = decides
        self._partition = partition
        self._told = {"regress": _values, "choose": _paths}.get(settings.task, self._classes)

    def write(
        self,
        predicted: Sequence[Predicted],
        predictions: Predictions,
        classes: Sequence[str],
        asked: Mapping[int, codec.Asked] = NOT_ASKED,
    ) -> list[Output]:
        """One output per prediction, in order, under the event's key. classes: the learner's; asked: of which
        predictions a query stage has asked for the label."""
        records = [one.record for one in predicted]
        keys = [one.id.encode() if one.record.key is None else one.record.key for one in predicted]
        values: Iterable[bytes] | None = None
        if not asked and not self._settings.echo and self._decides is None:
            values = self._by_template(predicted, predictions, classes)
        if values is None:
            values = map(codec.encode, self.describe(predicted, predictions, classes, asked))
        times = [record.timestamp for record in records]
        return list(map(Output, repeat(self._settings.predictions), keys, values, times, repeat(self._partition)))

    def describe(
        self,
        predicted: Sequence[Predicted],
        predictions: Predictions,
        classes: Sequence[str],
        asked: Mapping[int, codec.Asked] = NOT_ASKED,
    ) -> list[codec.Prediction]:
        """One prediction each, in order."""
        told = self._told(predictions, classes)
        ids, times = [one.id for one in predicted], [one.ts for one in predicted]
        model, whys = repeat(self._settings.model), predictions.whys()
        queries = [asked.get(i, UNSET) for i in range(len(predicted))] if asked else repeat(UNSET)
        echoes = map(self._echo, predicted) if self._settings.echo else repeat(UNSET)
        return list(map(codec.Prediction, ids, *told, whys, model, times, echoes, queries))

    def _by_template(
        self, predicted: Sequence[Predicted], predictions: Predictions, classes: Sequence[str]
    ) -> Iterable[bytes] | None:
        """What `describe` says, encoded at once, where all say the same in the same places: the probability of
        each class, and reasons. None where they do not."""
        n = len(classes)
        if self._told != self._classes or not 0 < n <= self._settings.top or (predictions.known != n).any():
            return None
        if isinstance(predictions, Covering) or not isinstance(predictions, Reasoned):
            return None
        names = [codec.encode(name) for name in classes]
        p = _numbers(predictions.values)
        labels = map(names.__getitem__, predictions.values.argmax(axis=1).tolist())
        head = b'{"id":%b,"label":%b,"p":{' + b",".join(name.replace(b"%", b"%%") + b":%b" for name in names)
        model = codec.encode(self._settings.model).replace(b"%", b"%%")
        template = head + b'},"why":%b,"model":' + model + b',"ts":%d}'
        ids, times = (codec.encode(one.id) for one in predicted), (one.ts for one in predicted)
        columns = (p[c::n] for c in range(n))
        return map(template.__mod__, zip(ids, labels, *columns, _reasons(predictions), times, strict=True))

    def _classes(self, predictions: Predictions, classes: Sequence[str]) -> Told:
        known = predictions.known.tolist()
        rows = predictions.values.tolist()
        top = self._settings.top
        p = [dict(zip(classes, row[:n], strict=False)) for row, n in zip(rows, known, strict=True)]
        labels: Iterable[str | list[str] | None]
        if self._decides is not None:
            labels = [self._decision(memo, classes) for memo in predictions.memos()]
        elif predictions.values.shape[1]:
            likeliest = predictions.values.argmax(axis=1).tolist()
            labels = [classes[c] if n else None for c, n in zip(likeliest, known, strict=True)]
        else:
            labels = repeat(None)
        if len(classes) > top:
            p = [named if len(named) <= top else _largest(named, top) for named in p]
        return Told(labels, p, set=_covering(predictions))

    def _decision(self, memo: bytes, classes: Sequence[str]) -> str | list[str] | None:
        assert self._decides is not None
        names = [classes[c] for c in self._decides.decision(memo)]
        return names if self._decides.multilabel else names[0] if names else None

    def _echo(self, one: Predicted) -> dict[str, msgspec.Raw]:
        assert one.record.value is not None
        return codec.echo(one.record.value, self._settings.echo)


def _numbers(values: NDArray[np.float64]) -> list[bytes]:
    """As JSON, flat."""
    return codec.encode(values.ravel().tolist())[1:-1].split(b",") if values.size else []


def _reasons(predictions: Reasoned) -> Iterable[bytes]:
    """What `whys` says, as JSON."""
    texts, k = predictions.texts(), predictions.shares.shape[1]
    if not k or None in texts:
        return map(codec.encode, predictions.whys())
    named, shares = list(map(codec.encode, texts)), _numbers(predictions.shares)
    pairs = (column[i::k] for i in range(k) for column in (named, shares))
    return map((b"[" + b",".join([b"[%b,%b]"] * k) + b"]").__mod__, zip(*pairs, strict=True))


def _largest(named: Mapping[str, float], top: int) -> dict[str, float]:
    return {name: named[name] for name in nlargest(top, named, named.__getitem__)}


def _values(predictions: Predictions, classes: Sequence[str]) -> Told:
    values = predictions.values[:, 0].tolist()
    if not isinstance(predictions, Covering):
        return Told(value=values)
    found = (predictions.interval(i) for i in range(len(values)))
    return Told(value=values, interval=(UNSET if interval is None else interval for interval in found))


def _paths(predictions: Predictions, classes: Sequence[str]) -> Told:
    rows = predictions.values.tolist()
    return Told(path=[[name for name, on in zip(classes, row, strict=True) if on] for row in rows])


def _covering(predictions: Predictions) -> Iterable[list[str] | UnsetType]:
    if not isinstance(predictions, Covering):
        return repeat(UNSET)
    found = (predictions.covering(i) for i in range(len(predictions.known)))
    return (UNSET if covering is None else covering for covering in found)
