"""Linear models that learn one event at a time: softmax or logistic regression, and least squares.

Per event with features x (numbers standardised, a boolean and a category's indicator as 0 or 1) and weights W:

    softmax    p = softmax(W x), one row of W per class            gradient (p - onehot(y)) x
    logistic   p(second class) = sigmoid(w x)                      gradient (p - y) x
    squared    value = mean(y) + sd(y) w x, y standardised too     gradient (w x - y) x
    absolute, huber: the same with sign(w x - y), or w x - y held within one standard deviation

SGD takes w -= eta g, AdaGrad (Duchi, Hazan, Singer 2011, http://jmlr.org/papers/v12/duchi11a.html) divides each
coordinate's step by the root of its squared gradients so far. `l2` shrinks the weights of the features present in
the event, the intercept never. Means and variances are Welford's (1962), over every observed event, labelled or
not; a feature without variance counts as 0, and a standardised value is held within `clip`.

>>> model = LinearClassifier(eta=0.5)
>>> for age, smokes, risk in [(30.0, "no", "low"), (60.0, "yes", "high"), (35.0, "no", "low")] * 20:
...     model.learn_one({"age": age, "smokes": smokes}, risk)
>>> {name: round(p, 3) for name, p in model.predict_proba_one({"age": 58.0, "smokes": "yes"}).items()}
{'low': 0.009, 'high': 0.991}
>>> p, why = model.peek({"age": 58.0, "smokes": "yes"})
>>> [name for name, _ in why]
['age', 'smokes=yes']
"""

import math
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from river import base

from streamd.errors import BadRecord, ConfigError, StateError
from streamd.kernels import linear as kernel
from streamd.learners import Why
from streamd.learners.feature_table import FeatureTable
from streamd.learners.features import LONGEST, FeatureIndex, check_number
from streamd.learners.linear_steps import REASONS, LinearPredictions, LinearSteps
from streamd.snapshot import State

LOSSES = {
    "softmax": kernel.SOFTMAX,
    "logistic": kernel.LOGISTIC,
    "squared": kernel.SQUARED,
    "absolute": kernel.ABSOLUTE,
    "huber": kernel.HUBER,
}


class Linear:
    """What classifier and regressor share: the arrays, the index, the run."""

    LIVE: ClassVar[frozenset[str]] = frozenset({"eta", "l2", "clip"})

    loss: str
    optimizer: str
    eta: float
    l2: float
    standardise: bool
    clip: float
    features: str
    bits: int
    max_features: int
    max_features_per_event: int
    classes: list[Any]

    def _start(self) -> None:
        _check(self)
        self._params = np.array([self.eta, self.l2, self.clip])
        self._modes = np.array([LOSSES[self.loss], self.optimizer == "adagrad", self.standardise], np.int64)
        self.classes = []
        self._places: dict[Any, int] = {}  # class -> its column
        self._index = self._new_index()
        self._table = FeatureTable(self._index)
        self.reset()

    def reset(self) -> None:
        """Forget weights, scales and targets; classes and features keep their places."""
        self._W = np.zeros((self._index.size, 1))
        self._G = np.zeros((self._index.size, 1))
        self._moments = np.zeros((3, self._index.size))  # mean, sum of squared deviations, count
        self._target = np.zeros(3)

    def steps(self) -> LinearSteps:
        return LinearSteps(self)

    def probabilities(self, memo: bytes) -> NDArray[np.float64]:
        if len(memo) % 8:
            raise StateError("a memo of this length is none of this learner's")
        return np.frombuffer(memo, np.float64)

    def peek(self, x: Any) -> tuple[NDArray[np.float64], Why]:
        steps = self.steps()
        steps.predict(steps.row(x))
        predictions = steps.execute()
        return predictions.values[0, : predictions.known[0]], predictions.whys()[0]

    @property
    def hashed(self) -> int:
        """How often a feature was observed for which there was no slot of its own left."""
        return self._index.hashed

    def state(self) -> State:
        size, columns = self._index.size, self._columns()
        arrays: dict[str, NDArray[Any]] = {
            "weights": self._W[:size, :columns],
            "moments": self._moments[:, :size],
            "target": self._target,
            "names": self._index.state(),
        }
        if self.optimizer == "adagrad":
            arrays["squares"] = self._G[:size, :columns]
        return State(arrays, {"classes": list(self.classes), "hashed": self._index.hashed})

    def restore(self, state: State) -> None:
        arrays, document = state
        try:
            classes, hashed = list(document["classes"]), int(document["hashed"])
            W, moments, target = arrays["weights"], arrays["moments"], arrays["target"]
            G = arrays["squares"] if self.optimizer == "adagrad" else np.zeros_like(W)
            names = arrays["names"]
        except KeyError as error:
            raise StateError(f"the state of a linear learner has no {error}") from None
        index = self._new_index()
        index.restore(names, hashed)
        columns = len(classes) if self.loss == "softmax" else 1
        fits = W.shape == G.shape == (index.size, columns) and moments.shape == (3, index.size)
        if not fits or target.shape != (3,):
            raise StateError(f"weights of shape {W.shape} for {index.size} slots and {columns} columns")
        self.classes, self._index = classes, index
        self._places = {y: c for c, y in enumerate(classes)}
        self._W, self._G = _owned(W), _owned(G)
        self._moments, self._target = _owned(moments), _owned(target)

    def _new_index(self) -> FeatureIndex:
        bits = self.bits if self.features == "hashed" else None
        return FeatureIndex(self.max_features, self.max_features_per_event, bits)

    def table(self) -> FeatureTable:
        """The index as the kernels read it."""
        if self._table.index is not self._index:
            self._table = FeatureTable(self._index)
        return self._table

    def _known(self) -> int:
        """How many columns a prediction has now."""
        raise NotImplementedError

    def _label(self, y: Any) -> Any:
        """A label from the log, if it fits; else BadRecord."""
        raise NotImplementedError

    def _number(self, y: Any) -> float:
        """A label as the kernel takes it; a new class gets its column. BadRecord if there is none left."""
        raise NotImplementedError

    def _numbers(self, labels: Sequence[Any]) -> Sequence[float] | None:
        """Of labels, None if one is new or does not fit."""
        raise NotImplementedError

    def _columns(self) -> int:
        """How many columns of weights are in use."""
        return len(self.classes) if self.loss == "softmax" else 1

    def _run(
        self,
        starts: NDArray[np.int64],
        codes: NDArray[np.int64],
        values: NDArray[np.float64],
        ops: NDArray[np.float64],
        predictions: int,
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
        self._grow()
        p = np.zeros((predictions, self._known()))
        why = np.full((predictions, REASONS), -1, np.int64)
        share = np.zeros((predictions, REASONS))
        mean, m2, n = self._moments
        state = (self._W, self._G, mean, m2, n, self._target)
        kernel.run(starts, codes, values, ops, *state, self._params, self._modes, p, why, share)
        return p, why, share

    def _grow(self) -> None:
        """Room for all slots and classes, doubled when short."""
        slots, columns = self._W.shape
        if slots < self._index.size:
            slots = 1 << (self._index.size - 1).bit_length()
            self._moments = _enlarged(self._moments, (3, slots))
        if columns < self._columns():
            columns = 1 << (self._columns() - 1).bit_length()
        if (slots, columns) != self._W.shape:
            self._W, self._G = _enlarged(self._W, (slots, columns)), _enlarged(self._G, (slots, columns))

    def _learn_rows(self, rows: Sequence[Mapping[str, Any]], labels: Sequence[Any]) -> None:
        steps = self.steps()
        for x, y in zip(rows, labels, strict=True):
            row = steps.row(x)
            steps.observe(row)
            steps.teach(row, y, 1.0)
        steps.execute()

    def _predict_rows(self, rows: Sequence[Mapping[str, Any]]) -> LinearPredictions:
        steps = self.steps()
        for x in rows:
            steps.predict(steps.row(x))
        return steps.execute()


class LinearClassifier(Linear, base.MiniBatchClassifier):  # type: ignore[misc]
    """Softmax or logistic regression, for numbers, booleans and categories, without preparation.

    loss: "softmax" (any number of classes) or "logistic" (two; a third is a BadRecord).
    optimizer: "adagrad" or "sgd"; eta: its rate; l2: strength of the shrinkage.
    standardise: numbers to mean 0 and deviation 1, as far as known at the time; clip: their limit then.
    features: "learned", at most `max_features` (further ones share slots by hash), or "hashed" into 2^bits slots.
    max_features_per_event, max_classes: what exceeds them is a BadRecord.
    All parameters out of range raise ConfigError.
    """

    def __init__(
        self,
        loss: str = "softmax",
        optimizer: str = "adagrad",
        eta: float = 0.1,
        l2: float = 0.0,
        standardise: bool = True,
        clip: float = 10.0,
        features: str = "learned",
        bits: int = 18,
        max_features: int = 1 << 18,
        max_features_per_event: int = 1000,
        max_classes: int = 1000,
    ) -> None:
        self.loss = loss
        self.optimizer = optimizer
        self.eta = eta
        self.l2 = l2
        self.standardise = standardise
        self.clip = clip
        self.features = features
        self.bits = bits
        self.max_features = max_features
        self.max_features_per_event = max_features_per_event
        self.max_classes = max_classes
        _require(loss in ("softmax", "logistic"), "loss", 'must be "softmax" or "logistic"')
        _require(max_classes >= 2, "max_classes", "must be 2 or more")
        self._start()

    @property
    def _multiclass(self) -> bool:
        return self.loss == "softmax"

    def learn_one(self, x: Mapping[str, Any], y: Any) -> None:
        """Observe and learn; for river, `y` may be any hashable the snapshot can hold (bool, int, str)."""
        self._learn_rows([x], [y])

    def predict_proba_one(self, x: Mapping[str, Any], **_: Any) -> dict[Any, float]:
        p, _why = self.peek(x)
        return dict(zip(self.classes, p.tolist(), strict=True))

    def learn_many(self, X: Any, y: Any) -> None:
        """The rows of a data frame one after the other; NaN counts as missing."""
        self._learn_rows(_rows(X), list(y))

    def predict_proba_many(self, X: Any) -> Any:
        p = self._predict_rows(_rows(X)).values
        dataframe = _dataframe()
        like = dataframe.into_frame(X)
        return dataframe.to_native_frame({y: p[:, c] for c, y in enumerate(self.classes)}, like=like)

    def predict_many(self, X: Any) -> Any:
        p = self._predict_rows(_rows(X)).values
        dataframe = _dataframe()
        best = [self.classes[c] for c in p.argmax(axis=1)] if self.classes else [None] * len(p)
        return dataframe.to_native_series(best, name=None, like=dataframe.into_frame(X))

    def _known(self) -> int:
        return len(self.classes)

    def _label(self, y: Any) -> str:
        if not isinstance(y, str):
            raise BadRecord(f"label: {type(y).__name__} is not the name of a class")
        return y

    def _number(self, y: Any) -> float:
        place = self._places.get(y)  # a numpy scalar is found as the value it equals
        if place is None:
            y = y.item() if isinstance(y, np.generic) else y
            place = self._places[y] = self._new_class(y)
        return place

    def _numbers(self, labels: Sequence[Any]) -> Sequence[float] | None:
        places = self._places
        try:
            return [places[y] for y in labels]
        except (KeyError, TypeError):
            return None

    def _new_class(self, y: Any) -> int:
        most = 2 if self.loss == "logistic" else self.max_classes
        if len(self.classes) >= most:
            raise BadRecord(f"label: a new class, but there are {most} already")
        if not isinstance(y, str | bool | int):
            raise BadRecord(f"label: {type(y).__name__} is not a class")
        if isinstance(y, str) and len(y) > LONGEST:
            raise BadRecord(f"label: a class name of {len(y)} characters, at most {LONGEST}")
        self.classes.append(y)
        return len(self.classes) - 1


class LinearRegressor(Linear, base.MiniBatchRegressor):  # type: ignore[misc]
    """Linear regression; the value is learned in units of the targets' own deviation when `standardise` is set.

    loss: "squared", "absolute" or "huber". The other parameters are `LinearClassifier`'s.
    """

    def __init__(
        self,
        loss: str = "squared",
        optimizer: str = "adagrad",
        eta: float = 0.1,
        l2: float = 0.0,
        standardise: bool = True,
        clip: float = 10.0,
        features: str = "learned",
        bits: int = 18,
        max_features: int = 1 << 18,
        max_features_per_event: int = 1000,
    ) -> None:
        self.loss = loss
        self.optimizer = optimizer
        self.eta = eta
        self.l2 = l2
        self.standardise = standardise
        self.clip = clip
        self.features = features
        self.bits = bits
        self.max_features = max_features
        self.max_features_per_event = max_features_per_event
        losses = ("squared", "absolute", "huber")
        _require(loss in losses, "loss", f"must be one of {', '.join(losses)}")
        self._start()

    def learn_one(self, x: Mapping[str, Any], y: Any) -> None:
        """Observe and learn."""
        self._learn_rows([x], [self._label(y)])

    def predict_one(self, x: Mapping[str, Any], **_: Any) -> float:
        return float(self.peek(x)[0][0])

    def learn_many(self, X: Any, y: Any) -> None:
        """The rows of a data frame one after the other; NaN counts as missing."""
        self._learn_rows(_rows(X), [self._label(target) for target in y])

    def predict_many(self, X: Any) -> Any:
        values = self._predict_rows(_rows(X)).values[:, 0]
        dataframe = _dataframe()
        return dataframe.to_native_series(values, name=None, like=dataframe.into_frame(X))

    def _known(self) -> int:
        return 1

    def _label(self, y: Any) -> float:
        return check_number("label", y)

    def _number(self, y: Any) -> float:
        return float(y)

    def _numbers(self, labels: Sequence[Any]) -> Sequence[float] | None:
        try:
            return [self._label(y) for y in labels]
        except BadRecord:
            return None


def _check(model: Linear) -> None:
    _require(model.optimizer in ("adagrad", "sgd"), "optimizer", 'must be "adagrad" or "sgd"')
    _require(0.0 < model.eta < math.inf, "eta", "must be above 0")
    _require(0.0 <= model.l2 < math.inf, "l2", "must be 0 or more")
    _require(0.0 < model.clip < math.inf, "clip", "must be above 0")
    _require(model.features in ("learned", "hashed"), "features", 'must be "learned" or "hashed"')
    _require(1 <= model.bits <= 26, "bits", "must be within 1 and 26")
    _require(1 <= model.max_features <= 1 << 26, "max_features", "must be within 1 and 2^26")
    _require(model.max_features_per_event >= 1, "max_features_per_event", "must be 1 or more")


def _require(holds: bool, key: str, expected: str) -> None:
    if not holds:
        raise ConfigError(key, expected)


def _enlarged(old: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    new = np.zeros(shape)
    new[: old.shape[0], : old.shape[1]] = old
    return new


def _owned(array: NDArray[Any]) -> NDArray[np.float64]:
    return np.array(array, np.float64, order="C")


def _dataframe() -> ModuleType:
    """Imported only where there is a data frame: the daemon meets none."""
    from river.utils import dataframe

    found: ModuleType = dataframe
    return found


def _rows(X: Any) -> list[dict[str, Any]]:
    """The rows of any data frame river takes, missing values as None."""
    rows = _dataframe().into_frame(X).rows(named=True)
    return [{name: None if value != value else value for name, value in row.items()} for row in rows]
