"""The linear learners as river estimators: river's own checks, pipelines, evaluation, mini-batches."""

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest
from river import checks, datasets, evaluate, metrics, preprocessing

from streamd.learners.linear import LinearClassifier, LinearRegressor

MODELS = {
    "softmax": lambda: LinearClassifier(),
    "logistic": lambda: LinearClassifier(loss="logistic"),
    "hashed": lambda: LinearClassifier(features="hashed", bits=8),
    "squared": lambda: LinearRegressor(),
    "sgd": lambda: LinearRegressor(optimizer="sgd", eta=0.001, loss="huber"),
}
NOT_OURS = {
    # False and True are not known before they were learned: the daemon's classes are whatever the labels say.
    "check_predict_proba_one_binary",
}


def every_check() -> Iterator[Any]:
    for name, make in MODELS.items():
        for i, check in enumerate(checks.yield_checks(make())):
            if check.__name__ not in NOT_OURS:
                yield pytest.param(make, check, id=f"{name} {check.__name__} {i}")


@pytest.mark.parametrize(("make", "check"), list(every_check()))
def test_river_s_own_check_holds(make: Callable[[], Any], check: Callable[[Any], None]) -> None:
    check(make().clone())


def test_under_river_s_evaluation_behind_a_scaler() -> None:
    model = preprocessing.StandardScaler() | LinearClassifier()

    accuracy = evaluate.progressive_val_score(datasets.Phishing(), model, metrics.Accuracy())

    assert accuracy.get() > 0.87


def test_a_batch_is_its_rows_one_after_the_other() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0, None, 4.0], "colour": ["red", "blue", "red", None]}, index=[7, 8, 9, 10])
    labels = pd.Series(["x", "y", "x", "y"], index=frame.index)
    rows = [{k: None if pd.isna(v) else v for k, v in row.items()} for row in frame.to_dict("records")]
    many, one = LinearClassifier(), LinearClassifier()

    many.learn_many(frame, labels)
    for x, y in zip(rows, labels, strict=True):
        one.learn_one(x, y)

    p = many.predict_proba_many(frame)
    assert p.index.tolist() == frame.index.tolist()
    assert p.to_dict("records") == [one.predict_proba_one(x) for x in rows]
    assert many.predict_many(frame).tolist() == [one.predict_one(x) for x in rows]


def test_a_batch_of_values() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0]}, index=[4, 5, 6])
    model = LinearRegressor()

    model.learn_many(frame, pd.Series([2.0, 4.0, 6.0]))
    values = model.predict_many(frame)

    assert values.index.tolist() == [4, 5, 6]
    assert values.tolist() == [model.predict_one({"a": a}) for a in (1.0, 2.0, 3.0)]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_goes_on_as_the_original(copied: Callable[[Any], Any]) -> None:
    model = LinearClassifier()
    for x, y in datasets.Phishing().take(50):
        model.learn_one(x, y)

    twin = copied(model)

    for x, y in datasets.Phishing().take(80):
        assert twin.predict_proba_one(x) == model.predict_proba_one(x)
        twin.learn_one(x, y)
        model.learn_one(x, y)
