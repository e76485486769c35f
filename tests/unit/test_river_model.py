"""What is particular to river models; what holds for every learner is in test_learner_laws.py."""

from typing import Any

import numpy as np
import pytest
from river import datasets, preprocessing

from streamd.errors import BadRecord, ConfigError, StateError
from streamd.learners.river_model import RiverClassifier, RiverRegressor
from streamd.snapshot import digest

SCALED_LOGISTIC = [
    "river.preprocessing.StandardScaler",
    {
        "path": "river.linear_model.LogisticRegression",
        "params": {"l2": 0.1, "optimizer": {"path": "river.optim.SGD", "params": {"lr": 0.05}}},
    },
]
TREE = "river.tree.HoeffdingTreeClassifier"


def teach(learner: Any, x: dict[str, Any], y: Any, weight: float = 1.0) -> None:
    steps = learner.steps()
    row = steps.row(x)
    steps.observe(row)
    steps.learn(row, y, b"", weight)
    steps.execute()


def observe(learner: Any, x: dict[str, Any]) -> None:
    steps = learner.steps()
    steps.observe(steps.row(x))
    steps.execute()


def test_a_pipeline_is_built_with_its_parameters() -> None:
    learner = RiverClassifier(SCALED_LOGISTIC)

    assert learner.model["LogisticRegression"].l2 == 0.1
    assert learner.model["LogisticRegression"].optimizer.learning_rate == 0.05


def test_models_inside_models_and_lists_of_them() -> None:
    voting = {
        "path": "river.ensemble.VotingClassifier",
        "params": {"models": [TREE, "river.naive_bayes.GaussianNB"]},
    }
    union = {
        "path": "river.compose.TransformerUnion",
        "args": ["river.preprocessing.StandardScaler", "river.preprocessing.MinMaxScaler"],
    }

    learner = RiverClassifier([union, voting])
    for i in range(20):
        teach(learner, {"a": float(i)}, "ab"[i > 9])

    assert learner.peek({"a": 19.0})[0].argmax() == 1


def test_what_has_no_seed_gets_the_learner_s() -> None:
    forest = {"path": "river.forest.ARFClassifier", "params": {"n_models": 2}}

    assert RiverClassifier(forest, seed=5).model.seed == 5
    assert RiverClassifier({**forest, "params": {"seed": 9}}, seed=5).model.seed == 9


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ("os.system", "model"),
        ({"path": "os.system"}, "model.path"),
        ({"path": "riverbank.Model"}, "model.path"),
        ({"path": "river.nothing.Model"}, "model.path"),
        ({"path": "river.tree.Nothing"}, "model.path"),
        ({"path": "river.datasets.Phishing"}, "model.path"),
        ({"path": "river.base.Classifier"}, "model.path"),
        ({"path": "river.compose.learn_during_predict"}, "model.path"),
        ({"path": "river.ensemble.voting.typing.Any"}, "model.path"),
        ({"path": 7}, "model.path"),
        ({"path": TREE, "parameters": {}}, "model.parameters"),
        ({"path": TREE, "params": {"nothing": 1}}, "model"),
        (["river.preprocessing.StandardScaler", {"path": TREE, "params": [1]}], "model[1]"),
        ([{"path": TREE, "params": {"splitter": {"path": "os.system"}}}], "model[0].params.splitter.path"),
        ([], "model"),
        ({}, "model"),
        (3, "model"),
        ("river.linear_model.LinearRegression", "model"),
        (["river.preprocessing.StandardScaler", "river.linear_model.LinearRegression"], "model"),
        ("river.preprocessing.StandardScaler", "model"),
    ],
)
def test_a_wrong_description_is_refused_with_its_key(model: Any, key: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        RiverClassifier(model)

    assert refusal.value.key == key


def test_a_classifier_is_no_regressor() -> None:
    with pytest.raises(ConfigError):
        RiverRegressor(TREE)


def test_an_event_without_a_label_moves_the_scaler_and_a_label_does_not_move_it_again() -> None:
    learner, scaler = RiverClassifier(SCALED_LOGISTIC), preprocessing.StandardScaler()

    for i in range(10):
        x = {"a": float(i * i)}
        scaler.learn_one(x)
        (teach(learner, x, "ab"[i % 2]) if i % 3 else observe(learner, x))

    held = learner.model["StandardScaler"]
    assert held.counts["a"] == 10
    assert (held.means["a"], held.vars["a"]) == (scaler.means["a"], scaler.vars["a"])


def test_a_binary_model_is_given_false_and_true_and_answers_with_the_labels() -> None:
    learner = RiverClassifier(SCALED_LOGISTIC)
    for x, y in datasets.Phishing().take(300):
        teach(learner, x, "phishing" if y else "fine")

    right = [
        learner.classes[learner.peek(x)[0].argmax()] == ("phishing" if y else "fine")
        for x, y in datasets.Phishing().take(300)
    ]
    assert np.mean(right) > 0.8
    with pytest.raises(BadRecord):
        teach(learner, {"a": 1.0}, "third")


def test_a_model_that_only_names_a_class_gives_it_all() -> None:
    learner = RiverClassifier("river.dummy.NoChangeClassifier")
    teach(learner, {"a": 1.0}, "x")
    teach(learner, {"a": 1.0}, "y")

    assert learner.peek({"a": 1.0})[0].tolist() == [0.0, 1.0]


def test_a_weight_reaches_a_model_that_takes_one() -> None:
    once, twice = RiverClassifier(TREE), RiverClassifier(TREE)

    teach(once, {"a": 1.0}, "x")
    teach(twice, {"a": 1.0}, "x", 2.0)

    assert (once.model._root.stats, twice.model._root.stats) == ({"x": 1.0}, {"x": 2.0})


def test_one_pipeline_s_observing_does_not_reach_another() -> None:
    learner, other = RiverClassifier(SCALED_LOGISTIC), RiverClassifier(SCALED_LOGISTIC)
    before = digest(other.state())

    teach(learner, {"a": 1.0}, "x")
    other.peek({"a": 1.0})

    assert digest(other.state()) == before
    assert "_LEARN_UNSUPERVISED_DURING_PREDICT" not in vars(learner.model)


def test_a_state_is_only_taken_back_with_its_key() -> None:
    signed = RiverClassifier(TREE, key=b"secret")
    teach(signed, {"a": 1.0}, "x")
    unsigned = RiverClassifier(TREE)

    RiverClassifier(TREE, key=b"secret").restore(signed.state())
    for state, key in ((unsigned.state(), b"secret"), (signed.state(), b"other")):
        fresh = RiverClassifier(TREE, key=key)
        before = digest(fresh.state())
        with pytest.raises(StateError, match="not signed with the configured key"):
            fresh.restore(state)
        assert digest(fresh.state()) == before


def test_a_state_of_another_model_is_refused() -> None:
    with pytest.raises(StateError, match="GaussianNB"):
        RiverClassifier(TREE).restore(RiverClassifier("river.naive_bayes.GaussianNB").state())


def test_an_exception_in_a_model_is_not_swallowed() -> None:
    learner = RiverClassifier(["river.preprocessing.StandardScaler", TREE])

    with pytest.raises(TypeError):
        teach(learner, {"a": "a word"}, "x")


def test_a_tree_asked_about_a_class_it_has_not_seen_with_a_feature_makes_no_room_for_it() -> None:
    tree = {"path": "river.tree.HoeffdingAdaptiveTreeClassifier", "params": {"grace_period": 5, "max_depth": 3}}
    learner = RiverClassifier(tree)
    seen: dict[str, Any] = {"constant": 7.0, "town": "", "age": 0.0, "member": False}
    steps = learner.steps()
    for x, label in (
        ({}, "low"),
        ({}, "low"),
        (seen, "low"),
        ({"member": True}, "middle"),
        ({"age": 0.0, "town": "", "colour": "red"}, "middle"),
    ):
        row = steps.row(x)
        steps.predict(row)
        steps.observe(row)
        steps.learn(row, label)
    steps.execute()
    before = digest(learner.state())
    learner.peek({"colour": "red"})
    assert digest(learner.state()) == before
