"""Shadows: learners that predict and learn on the live stream without being seen.

A shadow gets the events and the labels the live learner gets, in the same order, and is judged on what it
predicted at the time. It decides nothing, writes nothing, and the journal holds nothing of it: a replay lets it
predict again. What is remembered of an event for its label holds the memo of each learner that predicted it, under
that learner's model, so a promotion is an exchange of roles and nothing else. What a shadow refuses costs it that
event, no more.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

from streamd import records as codec
from streamd.errors import BadRecord
from streamd.learners import Decides, Label, Learner, Predictions, ReadsPlain
from streamd.snapshot import State, merge, split
from streamd.stages.pending import PendingLabels, Remembered, Seen
from streamd.stages.quality import Judged
from streamd.views import ShadowsView, ShadowView

AT_ONCE = 4096  # predictions of one run at a promotion


class Model(NamedTuple):
    """A learner a pipeline may use.

    name: its kind and the digest of what gives its state a meaning. key: tells it from the pipeline's others,
    which may differ in nothing but parameters that can change while they learn.
    """

    name: str
    fresh: Callable[[], Learner]
    key: str


class Shadow:
    """One shadow, or the live learner once it has been replaced. refused: events and labels it could not take."""

    def __init__(self, model: Model, learner: Learner, quality: Judged, refused: int = 0) -> None:
        self.model = model
        self.learner = learner
        self.quality = quality
        self.refused = refused

    def run(self) -> "ShadowRun":
        return ShadowRun(self)

    @property
    def judged(self) -> int:
        """Labels that judged a prediction of it."""
        return self.quality.measures()[0]

    def view(self, name: str, model: str) -> ShadowView:
        labels, total, fading = self.quality.measures()
        return ShadowView(name, model, labels, self.refused, total, fading)

    def state(self) -> State:
        learner = self.learner.state()
        copied = State({name: array.copy() for name, array in learner.arrays.items()}, learner.document)
        about = State({}, {"model": [self.model.key, self.model.name], "refused": self.refused})
        return merge({"learner": copied, "quality": self.quality.state(), "about": about})

    def restore(self, state: State) -> None:
        parts = split(state)
        self.learner.restore(parts["learner"])
        self.quality.restore(parts["quality"])
        self.refused = parts["about"].document["refused"]


class ShadowRun:
    """A run of one shadow's steps, beside the live learner's. Rows are named by the live run's numbers."""

    def __init__(self, shadow: Shadow) -> None:
        self._shadow = shadow
        self._name = shadow.model.key
        self._steps = shadow.learner.steps()
        self._rows: dict[int, int] = {}
        self._predicted: list[Seen] = []  # in order; their memo is still the number of the prediction
        self._judged: list[tuple[int | bytes, Label]] = []

    @property
    def reads_plain(self) -> bool:
        return isinstance(self._steps, ReadsPlain)

    def plain(self, events: Sequence[Raw]) -> list[int]:
        """See `ReadsPlain`; the rows are this run's own."""
        assert isinstance(self._steps, ReadsPlain)
        return self._steps.plain(events)

    def place(self, live: int, row: int) -> None:
        """Row `live` of the live run is this one here."""
        self._rows[live] = row

    def row(self, live: int, x: Any, tags: Sequence[str]) -> None:
        """Take in what the live run took in as row `live`."""
        try:
            self._rows[live] = self._steps.row(x, tags)
        except BadRecord:
            self._shadow.refused += 1

    def event(self, live: int, entry: Remembered) -> None:
        """Predict and observe a new event."""
        row = self._rows.get(live)
        if row is None:
            return
        seen = self._predict(row)
        self._steps.observe(row)
        if entry.beside is None:
            entry.beside = {}
        entry.beside[self._name] = seen

    def learn(
        self, live: int, beside: dict[str, Seen] | None, label: Label, weight: float = 1.0
    ) -> dict[str, Seen] | None:
        """Learn a label, or correct one; returns what is to be remembered then. beside: of the label's event.

        An event from before the shadow's time is predicted now, learned, and not judged.
        """
        known = {} if beside is None else beside
        row, seen = self._rows.get(live), known.get(self._name)
        if row is None:
            return None if beside is None else dict(beside)
        judged = seen is not None
        if seen is None:
            seen = self._predict(row)
        try:
            if seen.label is None:
                self._steps.learn(row, label, seen.memo, weight)
            elif seen.label != label:
                self._steps.correct(row, seen.label, label, seen.memo)
        except BadRecord:
            self._shadow.refused += 1
            return None if beside is None else dict(beside)
        if judged and seen.label is None:
            self._judged.append((seen.memo, label))
        if isinstance(seen.memo, int):  # nobody but this run has seen it
            seen.label = label
            if judged and beside is not None:
                return beside  # it is in there
        else:
            seen = Seen(seen.memo, label)
        return {**known, self._name: seen}

    def execute(self) -> None:
        """Predict and learn all that was collected, and judge it."""
        predictions = self._steps.execute()
        memos = predictions.memos()
        for seen, memo in zip(self._predicted, memos, strict=True):
            seen.memo = memo
        if self._judged:
            judge(self._shadow.learner, self._shadow.quality, self._judged, predictions, memos)

    def _predict(self, row: int) -> Seen:
        self._steps.predict(row)
        seen = Seen(len(self._predicted))
        self._predicted.append(seen)
        return seen


class Shadows:
    """The shadows of one shard, by name, and the model that is live."""

    def __init__(self, live: Model, shadows: Mapping[str, Model], quality: Callable[[Learner], Judged]) -> None:
        self._file = (live, *shadows.values())
        self._configured = dict(shadows)
        self._quality = quality
        self.live = live
        self.of = {name: self._fresh(model) for name, model in shadows.items()}

    def _fresh(self, model: Model) -> Shadow:
        learner = model.fresh()
        return Shadow(model, learner, self._quality(learner))

    def runs(self) -> list[ShadowRun]:
        return [shadow.run() for shadow in self.of.values()]

    def exchange(self, name: str, learner: Learner, quality: Judged, refused: int = 0) -> Shadow:
        """Make the shadow's model the live one and the live one, whose learner is given, the shadow.

        Returns what is live now.
        """
        promoted = self.of[name]
        self.of[name] = Shadow(self.live, learner, quality, refused)
        self.live = promoted.model
        return promoted

    def view(self) -> ShadowsView | None:
        if not self.of:
            return None
        shadows = (shadow.view(name, self._shown(shadow.model)) for name, shadow in self.of.items())
        return ShadowsView(self._shown(self.live), tuple(shadows))

    def _shown(self, model: Model) -> str:
        """Its name, or where another has the same, one that tells them apart."""
        alone = sum(one.name == model.name for one in self._file) < 2
        return model.name if alone else f"{model.name}+{model.key}"

    def state(self) -> State:
        return merge({name: shadow.state() for name, shadow in self.of.items()})

    def restore(self, live: Sequence[str] | None, state: State | None) -> Mapping[str, str]:
        """Give the roles back that the state says: a promotion outlives a restart, whatever the file calls live.

        live: key and name of the model that was; None: the file's. Shadows the state does not know start afresh;
        those that are no longer configured are dropped. Returns the keys: then -> now.
        """
        kept = {} if state is None else split(state)
        told = {name: split(part)["about"].document["model"] for name, part in kept.items()}
        former = [(self._file[0].key, self._file[0].name) if live is None else live, *told.values()]
        now = _recognised(former, self._file)
        self.live = now.get(former[0][0], self._file[0])
        left = [model for model in self._file if model != self.live]
        slots: dict[str, Model] = {}
        for wanted in ({name: now.get(key) for name, (key, _) in told.items()}, self._configured):
            for name in self._configured:
                if name not in slots and (model := wanted.get(name)) in left:
                    slots[name] = model
                    left.remove(model)
        for name in self._configured:  # what the file calls live, where its shadow is
            if name not in slots:
                slots[name] = left.pop()
        parts = {now[key].key: kept[name] for name, (key, _) in told.items() if key in now}
        self.of = {name: self._fresh(slots[name]) for name in self._configured}
        for shadow in self.of.values():
            if (part := parts.get(shadow.model.key)) is not None:
                shadow.restore(part)
        return {key: model.key for key, model in now.items()}


def _recognised(former: Sequence[Sequence[str]], models: Sequence[Model]) -> dict[str, Model]:
    """Former models, (key, name), among those of the file: by key, else by what their state means."""
    by_key = {model.key: model for model in models}
    found = {key: by_key[key] for key, _ in former if key in by_key}
    left = [model for model in models if model not in found.values()]
    for key, name in former:
        model = next((model for model in left if model.name == name), None)
        if key not in found and model is not None:
            found[key] = model
            left.remove(model)
    return found


def catch_up(shadow: Shadow, pending: PendingLabels, reads_text: bool) -> int:
    """Let a shadow predict the remembered events it has not predicted, before it becomes the live one.

    Those it refuses are forgotten. Returns how many of them waited.
    """
    key, forgotten = shadow.model.key, 0
    missing = [
        (event, entry)
        for event, entry in chain(pending.waiting.items(), pending.closed.items())
        if key not in (entry.beside or {})
    ]
    for start in range(0, len(missing), AT_ONCE):
        steps, asked = shadow.learner.steps(), []
        for event, entry in missing[start : start + AT_ONCE]:
            then = codec.decode_event(entry.value)
            try:
                row = steps.row(then.text if reads_text else then.features, then.groups)
            except BadRecord:
                shadow.refused += 1
                forgotten += pending.forget(event)
                continue
            steps.predict(row)
            asked.append(event)
        predictions = steps.execute()
        for event, memo in zip(asked, predictions.memos(), strict=True):
            pending.beside(event, key, Seen(memo))
    return forgotten


def judge(
    learner: Learner,
    quality: Judged,
    judged: Sequence[tuple[int | bytes, Label]],
    predictions: Predictions,
    memos: Sequence[bytes],
) -> NDArray[np.float64]:
    """Judge predictions by their labels, in the order of the labels; returns their losses, (n,).

    judged: each prediction by its number in this run, whose memos are given too, or by its memo.
    """
    values, known = _recall(learner, [seen for seen, _ in judged], predictions)
    decisions = None
    if isinstance(learner, Decides):
        decisions = [learner.decision(memos[seen] if isinstance(seen, int) else seen) for seen, _ in judged]
    return quality.add(values, known, [label for _, label in judged], learner.classes, decisions)


def _recall(
    learner: Learner, seen: Sequence[int | bytes], predictions: Predictions
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """What was predicted, by number in this run or by memo: (n, C) values, missing ones 0, (n,) known."""
    now = [(place, number) for place, number in enumerate(seen) if isinstance(number, int)]
    places, numbers = np.array(now, np.int64).reshape(-1, 2).T
    if len(now) == len(seen):
        return predictions.values[numbers], predictions.known[numbers]
    then = [(i, learner.probabilities(memo)) for i, memo in enumerate(seen) if isinstance(memo, bytes)]
    known = np.zeros(len(seen), np.int64)
    known[places] = predictions.known[numbers]
    for place, row in then:
        known[place] = len(row)
    values = np.zeros((len(seen), int(known.max())))
    width = min(values.shape[1], predictions.values.shape[1])
    values[places, :width] = predictions.values[numbers, :width]
    for place, row in then:
        values[place, : len(row)] = row
    return values, known
