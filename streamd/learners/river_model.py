"""Any river classifier, regressor or pipeline as a learner of the daemon.

Per event: `predict` asks the model; `observe` moves what needs no label: the unsupervised steps of the outermost
pipeline, as `river.compose.learn_during_predict` does; `learn` moves the rest. So a scaler sees every event once,
labelled or not, and a model that is not a pipeline learns by labels only. What is inside a wrapper (a pipeline in
an ensemble, say) moves when the wrapper learns, as river does it.

River's binary classifiers (`_multiclass` false) are given False for the first class learned and True for the
second; a third is a BadRecord. Probabilities are shared out over the classes known at the time; a model that only
names a class gives it 1, one that says nothing gives all the same. A probability that is negative or not finite
(a model that diverged) counts as 0, and the prediction is counted as repaired. A label's weight reaches the
models whose `learn_one` takes `w`; the others learn it once, whatever its weight, and not at all when that is 0.
There are no reasons (`why` is empty). An exception raised by a model is a bug of the pair, and is not caught.

Many river models make room for a feature when they are first asked about it. So that a question changes nothing,
an event with a name the model has not learned with is predicted on a copy, which is slow and soon over. Models
that draw at random or fill a cache in each prediction (`river.active`, for one) keep no such promise.
"""

import contextlib
import inspect
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import river
from numpy.typing import NDArray
from river import base, compose

from streamd.errors import BadRecord, ConfigError, StateError
from streamd.learners import Label, Why
from streamd.learners.features import HEAVIEST, LONGEST, FeatureTypes, check_number
from streamd.learners.pickled import dump, load
from streamd.learners.river_build import build
from streamd.snapshot import State


class RiverPredictions(NamedTuple):
    """The predictions of one run; see `streamd.learners.Predictions`."""

    values: NDArray[np.float64]
    known: NDArray[np.int64]

    def memos(self) -> list[bytes]:
        return [row[:known].tobytes() for row, known in zip(self.values, self.known, strict=True)]

    def whys(self) -> list[Why]:
        return [[] for _ in self.known]


class RiverSteps:
    """One run; see `streamd.learners.Steps`. A row is checked against what was observed before it was taken."""

    def __init__(self, learner: "_River") -> None:
        self._learner = learner
        self._rows: list[dict[str, Any]] = []
        self._ops: list[tuple[str, dict[str, Any], Any, float]] = []

    def row(self, x: Any, tags: Sequence[str] = ()) -> int:
        self._rows.append(self._learner._types.check(x))
        return len(self._rows) - 1

    def predict(self, row: int) -> None:
        self._ops.append(("predict", self._rows[row], self._learner._known(), 0.0))

    def observe(self, row: int) -> None:
        self._learner._types.observe(self._rows[row])
        self._ops.append(("observe", self._rows[row], None, 0.0))

    def learn(self, row: int, y: Label, seen: int | bytes = b"", weight: float = 1.0) -> None:
        if not 0.0 <= weight <= HEAVIEST:
            raise BadRecord(f"the label's weight is not within 0 and {HEAVIEST:g}")
        self._ops.append(("learn", self._rows[row], self._learner._target(y), weight))

    def correct(self, row: int, old: Label, new: Label, seen: int | bytes = b"") -> None:
        """River models do not un-learn: the new label is learned on top."""
        self.learn(row, new)

    def execute(self) -> RiverPredictions:
        values, known = [], []
        for what, x, y, weight in self._ops:
            if what == "predict":
                values.append(self._learner._predict(x, y))
                known.append(y)
            elif what == "observe":
                self._learner._observe(x)
            elif weight > 0.0:
                self._learner._learn(x, y, weight)
        table = np.zeros((len(values), self._learner._known()))
        for i, p in enumerate(values):
            table[i, : len(p)] = p
        return RiverPredictions(table, np.array(known, np.int64))


class _River:
    """What classifier and regressor share: the model, its steps, its bytes.

    model: see `streamd.learners.river_build`.  seed: for every part of it that takes one and has none.
    max_features: names whose type is remembered; max_features_per_event: more is a BadRecord.
    key: signs the state, and refuses what is not signed with it.
    """

    kind: type
    classes: list[str]

    def __init__(
        self,
        model: Any,
        seed: int = 0,
        max_features: int = 1 << 18,
        max_features_per_event: int = 1000,
        key: bytes | None = None,
    ) -> None:
        self._described, self._seed, self._key = model, seed, key
        self.classes = []
        self._types = FeatureTypes(max_features, max_features_per_event)
        self._max_features = max_features
        self.reset()
        if not self._fits(self.model):
            raise ConfigError("model", f"{type(self.model).__name__} is not a {self.kind.__name__.lower()}")
        self._weighted = _takes_weight(self.model)

    def reset(self) -> None:
        """Make the model anew from its description; classes and the features' types are kept."""
        self.model = build(self._described, self._seed)
        _ask_without_making_room()
        self._met: set[str] = set()  # names this model has learned with

    def steps(self) -> RiverSteps:
        return RiverSteps(self)

    def probabilities(self, memo: bytes) -> NDArray[np.float64]:
        if len(memo) % 8:
            raise StateError("a memo of this length is none of this learner's")
        return np.frombuffer(memo, np.float64)

    def peek(self, x: Any) -> tuple[NDArray[np.float64], Why]:
        return np.array(self._predict(self._types.check(x), self._known())), []

    def state(self) -> State:
        array = np.frombuffer(dump(self.model, self._key), np.uint8)
        document = {"classes": list(self.classes), "types": self._types.document(), "river": river.__version__}
        return State({"model": array}, {**document, "met": sorted(self._met)})

    def restore(self, state: State) -> None:
        try:
            array, version = state.arrays["model"], state.document["river"]
            classes, types = list(state.document["classes"]), [(n, k) for n, k in state.document["types"]]
            met = set(state.document["met"])
        except (KeyError, TypeError, ValueError):
            raise StateError("this is not the state of a river model") from None
        try:
            model = load(array.tobytes(), self._key)
        except StateError as error:
            raise StateError(f"{error} (written with river {version}, this is {river.__version__})") from None
        if type(model) is not type(self.model) or not self._fits(model):
            raise StateError(
                f"the state is that of a {type(model).__name__}, not of a {type(self.model).__name__}"
            )
        self.model, self.classes, self._met = model, classes, met
        self._types.restore(types)

    def _known(self) -> int:
        """How many columns a prediction has now."""
        raise NotImplementedError

    def _target(self, y: Any) -> Any:
        """The label as the model takes it; BadRecord if it does not fit."""
        raise NotImplementedError

    def _predict(self, x: dict[str, Any], known: int) -> list[float]:
        """The prediction's columns."""
        met = bool(self._met) and self._met.issuperset(x)
        return self._answer(self.model if met else load(dump(self.model)), x, known)

    def _answer(self, model: Any, x: dict[str, Any], known: int) -> list[float]:
        raise NotImplementedError

    def _fits(self, model: Any) -> bool:
        return isinstance(model, self.kind)

    def _observe(self, x: dict[str, Any]) -> None:
        if isinstance(self.model, compose.Pipeline):
            with _observing(self.model):
                self.model.transform_one(x)

    def _learn(self, x: dict[str, Any], y: Any, weight: float) -> None:
        if len(self._met) < self._max_features:
            self._met.update(x)
        extra = {"w": weight} if self._weighted and weight != 1.0 else {}
        if isinstance(self.model, compose.Pipeline):
            with _observing(self.model):
                self.model.learn_one(x, y, **extra)
        else:
            self.model.learn_one(x, y, **extra)


class RiverClassifier(_River):
    """A river classifier; the parameters are those of `_River`, and

    max_classes: a label that would be one more is a BadRecord.
    """

    kind = base.Classifier

    def __init__(
        self,
        model: Any,
        max_classes: int = 1000,
        seed: int = 0,
        max_features: int = 1 << 18,
        max_features_per_event: int = 1000,
        key: bytes | None = None,
    ) -> None:
        super().__init__(model, seed, max_features, max_features_per_event, key)
        self.max_classes = max_classes if self.model._multiclass else 2
        self._names_only = False  # the model has no predict_proba_one
        self.repaired = 0

    def _fits(self, model: Any) -> bool:
        return isinstance(model, base.Classifier) and not isinstance(model, base.MultiLabelClassifier)

    def _known(self) -> int:
        return len(self.classes)

    def _target(self, y: Any) -> Any:
        if not isinstance(y, str):
            raise BadRecord(f"label: {type(y).__name__} is not the name of a class")
        if y not in self.classes:
            if len(self.classes) >= self.max_classes:
                raise BadRecord(f"label: a new class, but there are {self.max_classes} already")
            if len(y) > LONGEST:
                raise BadRecord(f"label: a class name of {len(y)} characters, at most {LONGEST}")
            self.classes.append(y)
        return y if self.model._multiclass else self.classes.index(y) == 1

    def _answer(self, model: Any, x: dict[str, Any], known: int) -> list[float]:
        if known == 0:
            return []
        said = self._probabilities(model, x)
        names: list[Any] = self.classes[:known] if model._multiclass else [False, True][:known]
        p = [float(said.get(name, 0.0)) for name in names]
        total = sum(p)
        if not (total < math.inf and min(p) >= 0.0):
            self.repaired += 1
            p = [part if 0.0 <= part < math.inf else 0.0 for part in p]
            total = sum(p)
        return [part / total for part in p] if total > 0.0 else [1.0 / known] * known

    def _probabilities(self, model: Any, x: dict[str, Any]) -> Mapping[Any, float]:
        if not self._names_only:
            try:
                said: Mapping[Any, float] = model.predict_proba_one(x)
                return said
            except NotImplementedError:
                self._names_only = True
        return {model.predict_one(x): 1.0}


class RiverRegressor(_River):
    """A river regressor; the parameters are those of `_River`."""

    kind = base.Regressor

    def _fits(self, model: Any) -> bool:
        return isinstance(model, base.Regressor) and not isinstance(model, base.MultiTargetRegressor)

    def _known(self) -> int:
        return 1

    def _target(self, y: Any) -> float:
        return check_number("label", y)

    def _answer(self, model: Any, x: dict[str, Any], known: int) -> list[float]:
        return [float(model.predict_one(x))]


@contextlib.contextmanager
def _observing(pipeline: compose.Pipeline) -> Iterator[None]:
    """River's `learn_during_predict`, for this pipeline only: the class's own switch would reach other threads."""
    pipeline._LEARN_UNSUPERVISED_DURING_PREDICT = True
    try:
        yield
    finally:
        del pipeline._LEARN_UNSUPERVISED_DURING_PREDICT


def _takes_weight(model: Any) -> bool:
    last = list(model.steps.values())[-1] if isinstance(model, compose.Pipeline) else model
    return "w" in inspect.signature(last.learn_one).parameters


def _ask_without_making_room() -> None:
    """river's nominal splitter gives a class an empty place when it is asked about it, so that a prediction
    changes the order of its sums. Asked this way it answers the same and stays as it is."""
    module = sys.modules.get("river.tree.splitter.nominal_splitter_classif")
    if module is not None:
        module.NominalSplitterClassif.cond_proba = _share


def _share(splitter: Any, value: Any, label: Any) -> float:
    seen = splitter._att_dist_per_class.get(label, {})
    total = sum(seen.values())
    return seen[value] / total if total and value in seen else 0.0
