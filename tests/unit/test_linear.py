"""What is particular to the linear learners; what holds for every learner is in test_learner_laws.py."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd.errors import BadRecord, ConfigError, StateError
from streamd.learners.linear import LinearClassifier, LinearRegressor
from streamd.snapshot import State, digest


def test_a_line_is_found() -> None:
    model = LinearRegressor(eta=0.3)
    rng = np.random.default_rng(1)
    for a, b in rng.normal(size=(3000, 2)):
        model.learn_one({"a": 100 + 50 * a, "b": b, "constant": 3.0}, 1000 + 20 * a - 7 * b)

    assert model.predict_one({"a": 150.0, "b": 1.0, "constant": 3.0}) == pytest.approx(1013, abs=0.5)


@pytest.mark.parametrize("loss", ["softmax", "logistic"])
def test_two_classes_are_told_apart(loss: str) -> None:
    model = LinearClassifier(loss=loss)
    for i in range(200):
        model.learn_one({"n": float(i % 10), "side": "left" if i % 10 < 5 else "right"}, "ab"[i % 10 >= 5])

    assert model.predict_one({"n": 1.0, "side": "left"}) == "a"
    assert model.predict_proba_one({"n": 9.0, "side": "right"})["b"] > 0.9


def test_the_reasons_add_up_to_the_prediction_against_the_mean() -> None:
    model = LinearClassifier(standardise=False)
    for i in range(50):
        model.learn_one({"n": 1.0, "m": float(i % 2), "flag": True, "missing": None}, "ab"[i % 2])

    p, why = model.peek({"n": 1.0, "m": 1.0, "flag": True, "missing": None})

    weights = model.state().arrays["weights"]
    parts = {"n": weights[1, 1] - weights[1].mean(), "m": weights[2, 1] - weights[2].mean()}
    parts["flag"] = weights[3, 1] - weights[3].mean()
    assert p.argmax() == 1
    assert dict(why) == pytest.approx(parts)
    assert [abs(share) for _, share in why] == sorted((abs(share) for _, share in why), reverse=True)


def test_a_category_is_named_with_its_value_and_beyond_the_index_too() -> None:
    model = LinearClassifier(max_features=1)
    for i in range(20):
        model.learn_one({"first": True, "colour": "red" if i % 2 else "blue", "town": "a"}, "ab"[i % 2])

    _, why = model.peek({"first": True, "colour": "red", "town": "a"})

    assert {name for name, _ in why} <= {"first", "colour=red", "town=a"}
    assert model.hashed == 40


def test_a_feature_first_seen_by_another_event_of_the_run_is_used_at_once() -> None:
    together, apart = LinearClassifier(), LinearClassifier()
    steps = together.steps()
    early, late = steps.row({"flag": True}), steps.row({"flag": True})
    steps.observe(early)
    steps.learn(early, "a")
    steps.learn(early, "b")
    steps.predict(late)
    p = steps.execute().values
    for y in "ab":
        apart.learn_one({"flag": True}, y)

    assert p[0].tolist() == apart.peek({"flag": True})[0].tolist()


def test_a_type_that_another_event_of_the_run_has_taken_counts_as_missing() -> None:
    model, other = LinearClassifier(), LinearClassifier()
    steps = model.steps()
    word, number = steps.row({"a": "x"}), steps.row({"a": 1.0, "b": True})
    for row in (word, number):
        steps.observe(row)
        steps.learn(row, "yes")
    steps.execute()
    other.learn_one({"a": "x"}, "yes")
    other.learn_one({"b": True}, "yes")

    assert digest(model.state()) == digest(other.state())


def test_a_label_of_weight_2_moves_twice_as_far() -> None:
    models = (
        LinearRegressor(optimizer="sgd", standardise=False),
        LinearRegressor(optimizer="sgd", standardise=False),
    )
    for model, weight in zip(models, (1.0, 2.0), strict=True):
        steps = model.steps()
        steps.observe(steps.row({"a": 2.0}))
        steps.learn(0, 1.0, b"", weight)
        steps.execute()

    once, twice = (model.state().arrays["weights"] for model in models)
    assert twice.tolist() == (2 * once).tolist()


@given(st.lists(st.tuples(st.floats(-1e99, 1e99), st.floats(-1e99, 1e99)), max_size=30), st.booleans())
def test_the_largest_numbers_do_not_make_a_prediction_infinite(
    pairs: list[tuple[float, float]], scale: bool
) -> None:
    regressor = LinearRegressor(standardise=scale, optimizer="sgd")
    classifier = LinearClassifier(standardise=scale)
    for a, y in pairs:
        regressor.learn_one({"a": a, "b": y}, y)
        classifier.learn_one({"a": a, "b": y}, "ab"[y > a])
        p = classifier.peek({"a": y, "b": a})[0]

        assert np.isfinite(regressor.predict_one({"a": y, "b": a}))
        assert np.isfinite(p).all()


@given(st.permutations(["a", "b", "flag", "colour", "town"]))
def test_the_order_of_the_features_changes_rounding_at_most(names: list[str]) -> None:
    model = LinearClassifier()
    x = {"a": 3.5, "b": -2.0, "flag": True, "colour": "red", "town": "x"}
    for i in range(30):
        event = {**x, "a": float(i), "b": float(i * i % 7)}
        model.learn_one({name: event[name] for name in (names if i % 2 else x)}, "abc"[i % 3])

    straight, mixed = model.peek(x)[0], model.peek({name: x[name] for name in names})[0]

    np.testing.assert_allclose(straight, mixed, rtol=1e-12)


def test_numpy_numbers_are_numbers() -> None:
    model = LinearRegressor()
    model.learn_one({"a": np.float64(1.0), "b": np.int64(3), "c": np.bool_(True)}, np.float32(2.0))

    assert model.predict_one({"a": 1.0, "b": 3, "c": True}) == 2.0


def test_a_third_class_is_refused_by_a_logistic_model() -> None:
    model = LinearClassifier(loss="logistic")
    for y in "ab":
        model.learn_one({"a": 1.0}, y)

    with pytest.raises(BadRecord, match="2 already"):
        model.learn_one({"a": 1.0}, "c")


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss": "hinge"},
        {"optimizer": "adam"},
        {"eta": 0.0},
        {"eta": float("nan")},
        {"l2": -1.0},
        {"clip": 0.0},
        {"features": "none"},
        {"bits": 40},
        {"max_features": 0},
        {"max_features_per_event": 0},
        {"max_classes": 1},
    ],
)
def test_a_parameter_out_of_range_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as refusal:
        LinearClassifier(**wrong)  # type: ignore[arg-type]

    assert refusal.value.key == next(iter(wrong))


def test_a_state_that_does_not_fit_is_refused_and_nothing_changes() -> None:
    model, other = LinearClassifier(), LinearClassifier(max_features=1)
    for y in "abc":
        model.learn_one({"a": 1.0, "b": True}, y)
    before, state = digest(other.state()), model.state()

    short = State({**state.arrays, "weights": state.arrays["weights"][:1]}, state.document)
    torn = State({**state.arrays, "names": state.arrays["names"][:-3]}, state.document)
    without = State({name: array for name, array in state.arrays.items() if name != "target"}, state.document)
    for bad in (state, short, torn, without, State({}, {})):
        with pytest.raises(StateError):
            other.restore(bad)

    assert digest(other.state()) == before
