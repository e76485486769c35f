"""What a learner is to the daemon, and the table of those there are.

A learner is a pure state machine: no clock, no I/O, no global randomness, no config object. The daemon gives it
work in *steps*: a run of predict, observe and learn in the order of the stream, executed in one call, so that a
compiled learner pays no price per event. Results do not depend on how the stream was cut into runs.

    steps = learner.steps()
    row = steps.row({"age": 39.0, "sex": "Male"})   # validates; BadRecord leaves the learner unchanged
    steps.predict(row)                              # prediction 0 of this run, from what was learned before it
    steps.observe(row)                              # what may be learned without a label (scales, vocabularies)
    steps.learn(row, "<=50K", seen=0)               # the label; `seen` says which prediction it judges
    predictions = steps.execute()

`predict_one`, `learn_one` and their `_many` forms are river's estimator interface over the same state.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

from streamd.snapshot import State
from streamd.views import GroupsView, VocabularyView

Features = Mapping[str, float | bool | str]
Label = str | float | list[str] | dict[str, float]
"""A class, a value, several classes, or (choose) the cost of every edge."""
Why = list[list[Any]]


class Predictions(Protocol):
    """The predictions of one run, numbered in the order of the calls of `Steps.predict`."""

    @property
    def values(self) -> NDArray[np.float64]:
        """classify: shape (n, C), probabilities over the learner's `classes`; regress: shape (n, 1), the value;
        choose: shape (n, C), 1 for the edges of the path, of the learner's `classes`."""

    @property
    def known(self) -> NDArray[np.int64]:
        """Shape (n,): how many columns prediction i has: the classes known when it was made (columns from there on
        are 0); 1 for a regressor."""

    def memos(self) -> list[bytes]:
        """Of each, what must be remembered of it until its label comes; journalled, given back as `seen`."""

    def whys(self) -> list[Why]:
        """The reasons of each, strongest first."""


@runtime_checkable
class Covering(Protocol):
    """Predictions that also say within which interval or set the truth lies as often as declared."""

    def interval(self, i: int) -> tuple[float, float] | None:
        """Of the value of prediction i; None for a classifier, or where none is kept."""

    def covering(self, i: int) -> list[str] | None:
        """The classes of prediction i, the likeliest first; None for a regressor, or where none is kept."""


@runtime_checkable
class Reasoned(Predictions, Protocol):
    """Predictions whose reasons are also there by columns, what `whys` puts together."""

    texts: Callable[[], Sequence[str | None]]
    """Of n predictions the names of k reasons each, flat, the strongest first; None: no more."""

    @property
    def shares(self) -> NDArray[np.float64]:
        """(n, k), how much each counts."""


class Steps(Protocol):
    """One run under construction."""

    def row(self, x: Any, tags: Sequence[str] = ()) -> int:
        """Take an event's features (or text) in. Raises BadRecord and changes nothing if they do not fit.

        tags: the groups the event itself names; learners without groups ignore them.
        """

    def predict(self, row: int) -> None: ...

    def observe(self, row: int) -> None: ...

    def learn(self, row: int, y: Label, seen: int | bytes, weight: float = 1.0) -> None:
        """Learn a label. seen: the number of the prediction in this run, or the memo of an earlier one.

        Raises BadRecord and changes nothing if the label does not fit.
        """

    def correct(self, row: int, old: Label, new: Label, seen: int | bytes) -> None:
        """A label learned before was wrong. What can un-learn does; the others learn the new one on top."""

    def execute(self) -> Predictions: ...


@runtime_checkable
class ReadsPlain(Protocol):
    """Steps that can take features in from their JSON, many events at once."""

    def plain(self, events: Sequence[Raw]) -> list[int]:
        """The rows of plain events, -1 for those that `row` must take in; called at most once, before all else.

        A plain event is one that `row` would take, and the same comes of it.
        """


class Taught(NamedTuple):
    """Labels of a run, in the order of the stream. Of each: how many of the run's events come before it, its
    event's row, its number (see `TakesColumns`) and its weight."""

    after: Sequence[int]
    rows: Sequence[int]
    numbers: Sequence[float]
    weights: Sequence[float]


@runtime_checkable
class TakesColumns(ReadsPlain, Protocol):
    """Steps that can be told all of a run at once, where its events are plain and its labels known."""

    def numbers(self, labels: Sequence[Label]) -> Sequence[float] | None:
        """Labels as the learner numbers them; None, and nothing is changed, if one is new or does not fit."""

    def columns(self, rows: Sequence[int], taught: Taught, predict: bool) -> Predictions:
        """Predict and observe each of these rows, taken in by `plain`, learn the labels where they come, and be
        executed. predict: else they are only observed, and there are no predictions."""


class ShowingSteps(Steps, Protocol):
    """Steps of a learner that shows losses, which labels asked for by chance would bias.

    shown: the weight of the label's losses there, 1/P where it was asked for with probability P.
    """

    def learn(self, row: int, y: Label, seen: int | bytes, weight: float = 1.0, shown: float = 1.0) -> None: ...

    def correct(self, row: int, old: Label, new: Label, seen: int | bytes, shown: float = 1.0) -> None: ...


@runtime_checkable
class KeepsGroups(Protocol):
    """A learner that has something to show of each of its groups; its steps are `ShowingSteps`."""

    def groups_view(self) -> GroupsView: ...


@runtime_checkable
class KeepsVocabulary(Protocol):
    """A learner of texts that has something to show of the terms it keeps."""

    def vocabulary_view(self) -> VocabularyView: ...


@runtime_checkable
class Repairs(Protocol):
    """A learner around a foreign model, which may say what no prediction can be."""

    repaired: int
    """Such predictions since the process began; each was made a distribution."""


class Learner(Protocol):
    @property
    def classes(self) -> Sequence[str]:
        """The classes known, in the order they were first learned; empty for a regressor."""

    def steps(self) -> Steps: ...

    def probabilities(self, memo: bytes) -> NDArray[np.float64]:
        """What a memo says was predicted: (C,) probabilities, or (1,) the value."""

    def peek(self, x: Any) -> tuple[NDArray[np.float64], Why]:
        """Predict without changing anything: ((C,) or (1,), the reasons)."""

    def reset(self) -> None:
        """Forget what was learned; classes and features keep their places."""

    def state(self) -> State:
        """The live state; the caller copies."""

    def restore(self, state: State) -> None: ...


@runtime_checkable
class Decides(Protocol):
    """A classifier whose decision need not be its likeliest class: it may have a default, or name several."""

    multilabel: bool

    def confidences(self, memo: bytes) -> NDArray[np.float64]:
        """What a memo says for each class known, (C,), 0 or more and without bound: no probabilities."""

    def decision(self, memo: bytes) -> list[int]:
        """The numbers of the classes decided on: one, or none if unknown; with several labels, any number."""


@runtime_checkable
class Tunable(Protocol):
    """A learner some of whose parameters can change while it learns, its state meaning what it meant."""

    LIVE: ClassVar[frozenset[str]]

    def retune(self, parameters: Mapping[str, Any]) -> None:
        """Change parameters of `LIVE`. Raises ConfigError, and changes nothing, for any other or a bad value."""


@runtime_checkable
class Committee(Protocol):
    """A learner made of several, that can tell what each of them predicted."""

    def members(self, memo: bytes) -> NDArray[np.float64]:
        """(K, C) probabilities, or (K, 1) values, of the members a prediction was made of; K may be 0."""


@runtime_checkable
class Polled(Protocol):
    """Predictions that know what the members of a committee predicted."""

    def members(self, i: int) -> NDArray[np.float64]:
        """(K, C) probabilities, or (K, 1) values, of prediction i."""


def members_of(
    learner: Learner, predictions: Predictions, seen: int | bytes, memo: bytes
) -> NDArray[np.float64] | None:
    """What each member of a committee says of a prediction, by its number in the run if that is known, and by its
    memo; None where there is no committee."""
    if isinstance(predictions, Polled) and isinstance(seen, int):
        return predictions.members(seen)
    return learner.members(memo) if isinstance(learner, Committee) else None


KINDS = {
    "groupwise/choose": "streamd.learners.groupwise:GroupwiseChooser",
    "groupwise/classify": "streamd.learners.groupwise:GroupwiseClassifier",
    "groupwise/regress": "streamd.learners.groupwise:GroupwiseRegressor",
    "linear/classify": "streamd.learners.linear:LinearClassifier",
    "linear/regress": "streamd.learners.linear:LinearRegressor",
    "river/classify": "streamd.learners.river_model:RiverClassifier",
    "river/regress": "streamd.learners.river_model:RiverRegressor",
    "ss3/classify": "streamd.learners.ss3.model:SS3Classifier",
    "ss3/text": "streamd.learners.ss3.model:SS3Classifier",
}
"""kind/task -> where its constructor is. A new learner is one file and one line here."""


def constructor_of(name: str) -> Callable[..., Learner] | None:
    """Of a `kind/task`, None if there is none. Only then is it imported: nobody waits for a learner he has not."""
    if name not in KINDS:
        return None
    module, _, constructor = KINDS[name].partition(":")
    found: Callable[..., Learner] = getattr(import_module(module), constructor)
    return found


def registry() -> dict[str, Callable[..., Learner]]:
    """kind/task -> constructor, of all of them."""
    return {name: found for name in KINDS if (found := constructor_of(name)) is not None}
