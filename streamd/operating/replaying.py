"""A recorded stream through a pipeline's shards in memory: no log, no journal, no snapshot, nothing written.

The records are as a shard takes them. Each event is scored once: by the first prediction made of it and the first
label the recording holds of it. classify, text: 1 if the decision was the label, else 0; regress: the absolute
error; choose: the cost of the path; match: the promised probability of the arrival's match, 0 unmatched. The
outcomes in a recording are those of the matches made then; a replay learns from those it happens to make again.

Where the pipeline asks for labels, it gets those it asked for and no others: an answer in the recording for an
event it did not ask about is withheld.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Struct, UnsetType
from numpy.typing import NDArray

from streamd import records as codec
from streamd.errors import BadRecord
from streamd.ports import Output, Record
from streamd.shard import Task
from streamd.views import TaskView

AT_ONCE = 4096  # records a task takes at once
MEASURE = {"classify": "accuracy", "text": "accuracy", "regress": "mae", "choose": "cost", "match": "success"}
FALLING = frozenset({"mae", "cost"})  # measures of which less is better


class Roles(Struct, frozen=True):
    """The topics of one pipeline. queries: where it asks, if it does; dead: its dead letters."""

    task: str
    inputs: tuple[str, ...]
    events: str
    labels: str | None
    answers: str
    dead: str
    queries: str | None = None


class Truth(Struct):
    """Of each event, in the order of the stream: its label, if the recording holds one."""

    place: dict[str, int]
    labels: list[Any]


class Replayed(Struct):
    """What came of it. scores: (events,), NaN where there is none; seconds: spent in the shards."""

    scores: NDArray[np.float64]
    records: int = 0
    seconds: float = 0.0
    queries: int = 0
    matches: int = 0
    withheld: int = 0
    dead: int = 0
    views: list[TaskView] = []


class _Given(Struct):
    """What is read of an event; the rest is skipped, which is quicker."""

    id: codec.Id
    label: codec.RawLabel | UnsetType = UNSET


class _Told(Struct):
    """What is read of an answer to an event, whatever the task."""

    id: str = ""
    arrival: str = ""
    label: Any = None
    value: float | None = None
    path: list[str] | None = None


class _Match(_Told):
    """And of a match."""

    resource: str | None = None
    p: Any = None


class _Asked(Struct):
    event: str


_given = msgspec.json.Decoder(_Given)
_told = msgspec.json.Decoder(_Told)
_match = msgspec.json.Decoder(_Match)
_asked = msgspec.json.Decoder(_Asked)
READ: Mapping[str, Callable[[object], Any]] = {"regress": codec.value_label, "choose": codec.cost_label}


def truth(task: str, events: str, labels: str | None, records: Sequence[Record]) -> Truth:
    """The first label of each event. What cannot be read is left to the pipeline to refuse."""
    found = Truth({}, [])
    late: dict[str, Any] = {}
    for record in records:
        try:
            if record.topic == events:
                event = codec.decode(_given, record.value)
                if event.id not in found.place:
                    given = event.label is not UNSET and event.label is not None
                    label = _read(task, event.label) if given else None
                    found.place[event.id] = len(found.labels)
                    found.labels.append(label)
            elif record.topic == labels:
                label = codec.decode_label(record.value)
                if not label.skip:
                    late.setdefault(label.id, _read(task, label.label))
        except BadRecord:
            continue
    for event_id, label in late.items():
        at = found.place.get(event_id)
        if at is not None and found.labels[at] is None:
            found.labels[at] = label
    return found


def _read(task: str, label: object) -> Any:
    if task in READ:
        return READ[task](label)
    return codec.class_labels(label) if isinstance(label, list) else codec.class_label(label)


class Replay:
    """One pipeline's. task: a fresh one for each partition."""

    def __init__(self, roles: Roles, task: Callable[[int], Task], known: Truth) -> None:
        self._roles = roles
        self._fresh = task
        self._known = known
        self._asked: set[str] = set()
        self._scores = [math.nan] * len(known.labels)
        self.found = Replayed(np.empty(0))

    def run(self, partitions: Mapping[int, Sequence[Record]], progress: Callable[[int], None]) -> Replayed:
        """progress: told the records done, now and then."""
        for partition, records in sorted(partitions.items()):
            task = self._fresh(partition)
            for batch in self._batches(records):
                began = time.perf_counter()
                taken = task.take(batch)
                self.found.seconds += time.perf_counter() - began
                self.found.records += len(batch)
                self._score(taken.outputs)
                progress(self.found.records + self.found.withheld)
            self.found.views.append(task.show())
        self.found.scores = np.array(self._scores)
        return self.found

    def _batches(self, records: Sequence[Record]) -> Iterator[Sequence[Record]]:
        if self._roles.queries is None:
            for start in range(0, len(records), AT_ONCE):
                yield records[start : start + AT_ONCE]
            return
        batch: list[Record] = []
        for record in records:
            if record.topic == self._roles.labels:
                if batch and batch[-1].topic == self._roles.events:
                    yield batch  # whether its event was asked about shows only now
                    batch = []
                if not self._wanted(record):
                    self.found.withheld += 1
                    continue
            batch.append(record)
            if len(batch) == AT_ONCE:
                yield batch
                batch = []
        if batch:
            yield batch

    def _wanted(self, record: Record) -> bool:
        try:
            return codec.decode_label(record.value).id in self._asked
        except BadRecord:
            return True

    def _score(self, outputs: Sequence[Output]) -> None:
        roles = self._roles
        for output in outputs:
            if output.topic == roles.answers and roles.task == "match":
                self._matched(_match.decode(output.value))
            elif output.topic == roles.answers:
                told = _told.decode(output.value)
                self._scored(told.id, partial(_score, roles.task, told))
            elif output.topic == roles.dead:
                self.found.dead += 1
            elif output.topic == roles.queries:
                self.found.queries += 1
                self._asked.add(_asked.decode(output.value).event)

    def _matched(self, told: _Match) -> None:
        self.found.matches += told.resource is not None
        self._scored(told.arrival, lambda label: _promised(told))

    def _scored(self, event: str, score: Callable[[Any], float | None]) -> None:
        """By the first answer to it."""
        at = self._known.place.get(event)
        if at is not None and math.isnan(self._scores[at]):
            value = score(self._known.labels[at])
            if value is not None:
                self._scores[at] = value


def _promised(told: _Match) -> float:
    return float(told.p) if told.resource is not None and isinstance(told.p, int | float) else 0.0


def _score(task: str, told: _Told, label: Any) -> float | None:
    if label is None:
        return None
    if task == "regress":
        return None if told.value is None else abs(told.value - label)
    if task == "choose":
        return None if told.path is None else sum(label.get(edge, 0.0) for edge in told.path)
    if isinstance(label, list):
        return float(sorted(told.label or ()) == sorted(label))
    return float(told.label == label)


def by_partition(records: Sequence[Record]) -> dict[int, list[Record]]:
    """Cut a stream by partition, in order."""
    cut: dict[int, list[Record]] = {}
    for record in records:
        cut.setdefault(record.partition, []).append(record)
    return cut


def counts(views: Sequence[TaskView]) -> dict[str, int]:
    """The counts of several shards, added."""
    found: dict[str, int] = {}
    for view in views:
        for name, count in view.counts.items():
            found[name] = found.get(name, 0) + count
    return found


def quality(views: Sequence[TaskView]) -> dict[str, float]:
    """The measures of several shards: their means, weighted by labels."""
    total = sum(view.quality.labels for view in views)
    found: dict[str, float] = {}
    for view in views:
        for name, value in view.quality.total.items():
            found[name] = found.get(name, 0.0) + value * view.quality.labels / total
    return found


def curve(scores: NDArray[np.float64], points: int = 100) -> list[tuple[int, float]]:
    """(events scored, mean score of the last twentieth of all): how good it was as time went on."""
    known = scores[~np.isnan(scores)]
    n = len(known)
    if n == 0:
        return []
    window = max(1, n // 20)
    sums = np.concatenate(([0.0], np.cumsum(known)))
    ends = np.unique(np.linspace(min(window, n), n, points).astype(int))
    return [(int(end), float((sums[end] - sums[max(0, end - window)]) / min(window, end))) for end in ends]
