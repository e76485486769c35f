"""What a stored river model may ask for, and what it may not."""

import builtins
import os
import pickle
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from river import (
    compose,
    datasets,
    drift,
    ensemble,
    forest,
    linear_model,
    naive_bayes,
    neighbors,
    optim,
    preprocessing,
    proba,
    rules,
    stream,
    tree,
)

from streamd.errors import StateError
from streamd.learners.pickled import Body, Sealed, dump, load


class Call:
    """Pickles as a call of `function` when it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, Any]:
        return self.call


def stored(data: bytes) -> bytes:
    """A plain pickle in the form that `load` takes."""
    return msgspec.msgpack.encode(Sealed(b"", msgspec.msgpack.encode(Body([], data))))


def attacks(trace: str) -> Iterator[tuple[str, bytes]]:
    calls: dict[str, Call] = {
        "os.system": Call(os.system, f"touch {trace}"),
        "eval": Call(builtins.eval, f"open({trace!r}, 'w')"),
        "exec": Call(builtins.exec, f"open({trace!r}, 'w')"),
        "open": Call(builtins.open, trace, "w"),
        "import": Call(builtins.__import__, "os"),
        "type": Call(type, "T", (), {}),
        "getattr of a class": Call(getattr, tree.HoeffdingTreeClassifier, "__subclasses__"),
        "getattr of an attribute": Call(getattr, tree.HoeffdingTreeClassifier(), "grace_period"),
        "getattr of a dunder": Call(getattr, tree.HoeffdingTreeClassifier(), "__reduce_ex__"),
        "subprocess": Call(subprocess.Popen, ["touch", trace]),
        "numpy.load": Call(np.load, trace, None, True),
        "numpy.save": Call(np.save, trace, 1),
        "numpy.memmap": Call(np.memmap, trace, "uint8", "w+", 0, (1,)),
        "numpy.fromfile": Call(np.fromfile, trace),
        "river's readers": Call(stream.Cache, trace),
        "river's datasets": Call(datasets.Phishing),
        "a function of river": Call(compose.learn_during_predict),
        "partial of eval": Call(partial, builtins.eval, "1"),
        "pickle.loads": Call(pickle.loads, b"N."),
    }
    for name, call in calls.items():
        yield name, pickle.dumps(call)
    system = b"system"
    yield "by another module's name", b"\x80\x04\x8c\x13river.checks.common\x94\x8c\x04copy\x94\x93."
    yield "an import of a river module", b"\x80\x04\x8c\x16river.compose.pipeline\x8c\x02io\x93."
    yield "a path through a river module", b"\x80\x04\x8c\x16river.compose.pipeline\x8c\x07io.open\x93."
    yield "old opcodes", b"cos\n" + system + b"\n."
    yield "a persistent id out of the table", b"\x80\x04K\x07Q."
    yield "nothing", b""
    yield "not a pickle", b"\xff\xfe"


def names() -> list[str]:
    return [name for name, _ in attacks("x")]


@pytest.mark.parametrize("name", names())
def test_what_is_not_admitted_is_refused_before_it_is_called(name: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    with pytest.raises(StateError):
        load(stored(dict(attacks(str(trace)))[name]))

    assert not trace.exists()


@pytest.mark.parametrize(
    "data", [b"", b"\xff", msgspec.msgpack.encode([b"", b"x"]), msgspec.msgpack.encode({"a": 1})]
)
def test_bytes_that_are_none_of_ours_are_refused(data: bytes) -> None:
    with pytest.raises(StateError):
        load(data)


MODELS: list[Callable[[], Any]] = [
    lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(optimizer=optim.Adam()),
    lambda: linear_model.PAClassifier(),
    lambda: linear_model.SoftmaxRegression(),
    lambda: naive_bayes.GaussianNB(),
    lambda: neighbors.KNNClassifier(engine=neighbors.LazySearch(window_size=20)),
    lambda: tree.HoeffdingAdaptiveTreeClassifier(seed=1, grace_period=20),
    lambda: tree.ExtremelyFastDecisionTreeClassifier(grace_period=20),
    lambda: tree.SGTClassifier(),
    lambda: forest.ARFClassifier(n_models=3, seed=1),
    lambda: forest.AMFClassifier(n_estimators=3, seed=1),
    lambda: ensemble.LeveragingBaggingClassifier(tree.HoeffdingTreeClassifier(), n_models=3, seed=1),
    lambda: ensemble.SRPClassifier(n_models=3, seed=1),
    lambda: ensemble.ADWINBoostingClassifier(linear_model.LogisticRegression(), n_models=3, seed=1),
    lambda: drift.DriftRetrainingClassifier(naive_bayes.GaussianNB()),
]
VALUE_MODELS: list[Callable[[], Any]] = [
    lambda: rules.AMRules(),
    lambda: linear_model.BayesianLinearRegression(),
    lambda: ensemble.EWARegressor([linear_model.LinearRegression(), linear_model.PARegressor()]),
    lambda: tree.HoeffdingTreeRegressor(grace_period=20),
    lambda: tree.SGTRegressor(),
    lambda: forest.ARFRegressor(n_models=3, seed=1),
]


@pytest.mark.parametrize("make", MODELS)
def test_classifiers_of_river_go_there_and_back(make: Callable[[], Any]) -> None:
    there_and_back(make, list(datasets.Phishing().take(160)), "predict_one")


@pytest.mark.parametrize("make", VALUE_MODELS)
def test_regressors_of_river_go_there_and_back(make: Callable[[], Any]) -> None:
    there_and_back(make, list(datasets.TrumpApproval().take(160)), "predict_one")


def there_and_back(make: Callable[[], Any], events: list[tuple[Any, Any]], ask: str) -> None:
    model = make()
    for x, y in events[:100]:
        model.learn_one(x, y)

    twin = load(dump(model))

    assert dump(twin) == dump(model)
    for x, y in events[100:]:
        assert getattr(twin, ask)(x) == getattr(model, ask)(x)
        twin.learn_one(x, y)
        model.learn_one(x, y)
    assert dump(twin) == dump(model)


def test_equal_strings_need_not_be_one_object() -> None:
    shared, apart = preprocessing.StandardScaler(), preprocessing.StandardScaler()
    for i in range(3):
        shared.learn_one({"feature": float(i)})
        apart.learn_one({"".join(list("feature")): float(i)})

    assert dump(shared) == dump(apart)


def test_a_set_held_in_two_places_is_one_set_again() -> None:
    words = {"b", "a"}
    holder = proba.Multinomial()
    holder.one, holder.other = words, words

    twin = load(dump(holder))

    assert twin.one == {"a", "b"}
    assert twin.one is twin.other
