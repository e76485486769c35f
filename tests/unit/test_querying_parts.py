"""Utilities, committees, leverage, sketches, draws, alarms, annotators and estimates: what each promises."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from streamd.errors import ConfigError, StateError
from streamd.kernels import querying as kernel
from streamd.querying import Candidate, committee, strategy, utilities
from streamd.querying.alarm import Alarm
from streamd.querying.annotators import Annotators
from streamd.querying.budgets import TokenBucket
from streamd.querying.draws import Keyed
from streamd.querying.estimates import Estimates
from streamd.querying.gain import expected_gain
from streamd.querying.leverage import Leverage
from streamd.querying.sketch import Sketch
from streamd.snapshot import State, digest

rows = st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=0, max_size=6)
sound = st.lists(st.floats(0.001, 1.0), min_size=2, max_size=6).map(lambda p: [v / sum(p) for v in p])


# --- utilities


@given(rows)
def test_a_utility_is_within_0_and_1_whatever_the_row(p: list[float]) -> None:
    for name, utility in utilities.UTILITIES.items():
        u = float(utility([p])[0])
        assert 0.0 <= u <= 1.0, name
        assert len(p) >= 2 or u == 1.0
    assert 0.0 <= utilities.worth(p) <= 1.0


@given(sound)
def test_utilities_order_certain_below_uncertain(p: list[float]) -> None:
    n = len(p)
    for utility in utilities.UTILITIES.values():
        u = utility([p, [1.0] + [0.0] * (n - 1), [1 / n] * n])
        assert u[1] - 1e-12 <= u[0] <= u[2] + 1e-12
        assert u[1] == pytest.approx(0.0, abs=1e-12)


@given(sound)
def test_the_fast_utility_is_the_other(p: list[float]) -> None:
    assert utilities.worth(p) == pytest.approx(utilities.least_confident([p])[0])


def test_bad_rows_are_told() -> None:
    p = [[0.5, 0.5], [0.5, 0.4], [math.nan, 1.0], [-0.1, 1.1], [0.0, 0.0], [math.inf, 0.0]]
    repaired, bad = utilities.repaired(p)
    assert bad.tolist() == [False, True, True, True, True, True]
    assert np.allclose(repaired.sum(axis=1), 1.0)
    assert repaired[2].tolist() == [0.0, 1.0]
    assert repaired[4].tolist() == [0.5, 0.5]


def test_ss3_without_a_known_word_knows_nothing() -> None:
    u, p = utilities.ss3([[0.0, 0.0, 0.0], [3.0, 1.0, 0.0], [2.0, 2.0, 0.0]])
    assert u.tolist() == pytest.approx([1.0, 0.5, 1.0])
    assert p[0].tolist() == pytest.approx([1 / 3] * 3)
    assert p[1].tolist() == pytest.approx([0.75, 0.25, 0.0])


def test_expected_model_change_is_the_mean_length_of_the_gradient() -> None:
    p, x = np.array([0.2, 0.5, 0.3]), np.array([3.0, 4.0])
    lengths = [np.linalg.norm(np.outer(p - np.eye(3)[y], x)) for y in range(3)]
    assert utilities.expected_model_change([p], [5.0])[0] == pytest.approx(np.dot(p, lengths))
    assert utilities.expected_model_change([[0.5, 0.5]], [1.0])[0] == pytest.approx(math.sqrt(0.5))


def test_density_weighs() -> None:
    assert utilities.density_weighted([0.4, 0.4], [1.0, 0.25], beta=0.5).tolist() == pytest.approx([0.4, 0.2])


def test_committees_that_agree_are_worth_nothing() -> None:
    same = [[[0.7, 0.3]], [[0.7, 0.3]], [[0.7, 0.3]]]
    split = [[[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]]]
    assert committee.vote_entropy(same)[0] == 0.0
    assert committee.mean_kl(same)[0] == pytest.approx(0.0)
    thirds = -(math.log(1 / 3) / 3 + 2 * math.log(2 / 3) / 3)
    assert committee.vote_entropy(split)[0] == pytest.approx(thirds)
    assert committee.mean_kl(split)[0] == pytest.approx(thirds)
    assert committee.variance([[1.0, math.nan], [3.0, 1.0]]).tolist() == pytest.approx(
        [1.0, math.nan], nan_ok=True
    )


@given(st.lists(st.floats(0, 20), min_size=2, max_size=4), st.integers(1, 3))
def test_a_gain_is_never_negative_and_noise_is_none(k: list[float], m: int) -> None:
    gain = expected_gain([k], m_max=m)[0]
    assert gain == 0.0 or 1e-12 <= gain <= 1.0
    assert expected_gain([k], m_max=m + 1)[0] >= gain


def test_the_gain_is_the_enumeration_of_labels() -> None:
    a = np.array([0.301, 0.551, 0.101])
    p = a / a.sum()
    accuracy = sum(p[y] * (a + np.eye(3)[y]).max() for y in range(3)) / (a.sum() + 1)
    assert expected_gain([a - 0.001], m_max=1)[0] == pytest.approx(accuracy - p.max())


# --- regression


@pytest.mark.parametrize("criterion", ["A", "D"])
def test_leverage_is_what_the_matrices_say(criterion: str) -> None:
    rng = np.random.default_rng(0)
    asked, x = rng.normal(size=(30, 4)), rng.normal(size=4)
    leverage = Leverage(4, criterion, lam=0.5)
    for z in asked:
        leverage.asked(z)
    A = 0.5 * np.eye(4) + asked.T @ asked
    inverse = np.linalg.inv(A)
    lowered = np.trace(inverse) - np.trace(np.linalg.inv(A + np.outer(x, x)))
    expected = x @ inverse @ x if criterion == "D" else lowered
    assert leverage.worth(x) == pytest.approx(expected, rel=1e-9)


def test_leverage_refuses_what_is_not_finite_and_keeps_its_state() -> None:
    leverage, other = Leverage(2), Leverage(2)
    leverage.asked(np.array([1.0, 2.0]))
    leverage.asked(np.array([math.nan, 2.0]))
    assert math.isnan(leverage.worth(np.array([math.inf, 0.0])))
    other.restore(leverage.state())
    assert digest(other.state()) == digest(leverage.state())
    for make in (lambda: Leverage(2, "E"), lambda: Leverage(2, lam=0.0)):
        with pytest.raises(ConfigError):
            make()
    with pytest.raises(StateError):
        leverage.restore(State({"inverse": np.eye(3)}, {}))


def test_asking_for_leverage_beats_asking_at_random() -> None:
    """Given 60 labels of 3000 events, the coefficients are known better (median over streams)."""
    ratios = []
    for seed in range(9):
        rng = np.random.default_rng(seed)
        X = rng.standard_t(3, size=(3000, 6))
        y = X @ np.arange(1.0, 7.0) + rng.normal(size=3000)
        leverage = Leverage(6)
        asker = strategy("biqf", TokenBucket(0.02))
        chosen = []
        for i, x in enumerate(X):
            event = Candidate(f"{i}", leverage.worth(x), i)
            decision = asker.decide(event, Keyed(0, "").of(f"{i}"))
            asker.apply(event, decision)
            if decision.ask:
                leverage.asked(x)
                chosen.append(i)
        lots = rng.choice(3000, len(chosen), replace=False)
        errors = [np.square(_fitted(X[rows], y[rows]) - np.arange(1.0, 7.0)).sum() for rows in (chosen, lots)]
        ratios.append(errors[0] / errors[1])
    assert np.median(ratios) < 0.5


def _fitted(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.linalg.solve(X.T @ X + 0.01 * np.eye(X.shape[1]), X.T @ y)


def test_sherman_morrison_is_the_inverse() -> None:
    rng = np.random.default_rng(3)
    A = np.eye(5)
    inverse = np.eye(5)
    for x in rng.normal(size=(200, 5)):
        A += np.outer(x, x)
        kernel.sherman_morrison(inverse, x)
    assert np.allclose(inverse, np.linalg.inv(A), rtol=1e-8)


# --- draws


def test_draws_look_random_and_independent() -> None:
    keyed = Keyed(11, "shard")
    draws = [keyed.of(f"event-{i}") for i in range(5000)]
    u = np.array([d.uniform("a") for d in draws])
    v = np.array([d.uniform("b") for d in draws])
    z = np.array([d.normal("a") for d in draws])
    k = np.array([d.poisson("bag/0") for d in draws])
    assert stats.kstest(u, "uniform").pvalue > 0.01
    assert stats.kstest(z, "norm").pvalue > 0.01
    assert abs(np.corrcoef(u, v)[0, 1]) < 0.05
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.05
    assert (k.mean(), k.var()) == (pytest.approx(1.0, abs=0.06), pytest.approx(1.0, abs=0.1))


def test_draws_depend_on_seed_shard_event_and_purpose_and_on_nothing_else() -> None:
    one = Keyed(1, "s").of("e").uniform("p")
    assert one == Keyed(1, "s").of("e").uniform("p") == 0.8726620156896283
    others = [Keyed(2, "s").of("e"), Keyed(1, "t").of("e"), Keyed(1, "s").of("f")]
    assert len({one, Keyed(1, "s").of("e").uniform("q"), *(d.uniform("p") for d in others)}) == 5


# --- sketch


def test_a_sketch_is_standardised_and_keeps_like_with_like() -> None:
    sketch = Sketch(dimensions=16)
    rng = np.random.default_rng(0)
    for a, b in rng.normal(size=(500, 2)):
        sketch.observe({"a": 1000 + 50 * a, "b": b, "colour": "red", "none": None})
    x = sketch.vector({"a": 1050.0, "b": 0.0, "colour": "red"})
    near = sketch.vector({"a": 1051.0, "b": 0.01, "colour": "red"})
    far = sketch.vector({"a": 900.0, "b": -2.0, "colour": "blue"})
    assert np.abs(x).max() <= 2.0
    assert np.linalg.norm(x - near) < 0.1 < 2.0 < np.linalg.norm(x - far)
    assert sketch.near(x) == sketch.near(near) != sketch.near(far)


def test_a_sketch_takes_any_feature_and_keeps_its_state() -> None:
    sketch, other = Sketch(), Sketch()
    for value in (True, "word", 1e300, math.nan, math.inf, None, -3):
        sketch.observe({"a": value, "\ud800": 1.0})
        assert np.isfinite(sketch.vector({"a": value})).all()
    other.restore(sketch.state())
    assert digest(other.state()) == digest(sketch.state())


# --- alarm


def test_the_alarm_is_raised_by_a_rise_and_seldom_without() -> None:
    rng = np.random.default_rng(0)
    quiet = Alarm(0.001)
    assert sum(quiet.update(float(error)) for error in rng.random(5000) < 0.2) <= 1
    rising = Alarm(0.001)
    for error in rng.random(1000) < 0.2:
        rising.update(float(error))
    raised = [i for i, error in enumerate(rng.random(400) < 0.5) if rising.update(float(error))]
    assert raised[0] < 150
    falling = Alarm(0.001)
    assert not any(falling.update(float(error)) for p in (0.6, 0.1) for error in rng.random(800) < p)


def test_the_alarm_goes_on_after_a_restart_and_ignores_what_is_no_error() -> None:
    one, other = Alarm(), Alarm()
    for i in range(300):
        one.update(float(i % 5 == 0))
    assert not one.update(math.nan)
    other.restore(one.state())
    assert [one.update(1.0) for _ in range(60)] == [other.update(1.0) for _ in range(60)]
    with pytest.raises(ConfigError):
        Alarm(0.0)


# --- annotators


def crowd(
    n: int, accuracies: dict[str, float], seed: int = 0
) -> tuple[Annotators, list[str], list[dict[str, str]]]:
    rng = np.random.default_rng(seed)
    classes = ["a", "b", "c"]
    team = Annotators(accuracies)
    truths, answers = [], []
    for _ in range(n):
        truth = classes[rng.integers(3)]
        said = {}
        for name, accuracy in accuracies.items():
            wrong = [c for c in classes if c != truth]
            said[name] = truth if rng.random() < accuracy else wrong[rng.integers(2)]
        truths.append(truth)
        answers.append(said)
    return team, truths, answers


def test_skills_are_found_without_the_truth_and_beat_the_majority() -> None:
    accuracies = {"good": 0.95, "fair": 0.8, "poor": 0.4, "bad": 0.35, "worse": 0.35}
    team, truths, answers = crowd(1500, accuracies)
    right = majority = 0
    for i, (truth, said) in enumerate(zip(truths, answers, strict=True)):
        if i >= 500:
            right += team.consensus(said, "abc")[0] == truth
            values = list(said.values())
            majority += max(sorted(set(values)), key=values.count) == truth
        for name in said:
            team.answered(name, 1.0)
        team.learn(said, "abc")
    found = {who.name: who for who in team.standings()}
    assert right > majority + 100
    assert found["good"].accuracy > found["fair"].accuracy > found["poor"].accuracy
    assert found["good"].agreement > 0.85
    assert {name for name, who in found.items() if who.bad} == {"poor", "bad", "worse"}


def test_gold_questions_expose_a_bad_annotator() -> None:
    team = Annotators(["ann", "bob"])
    for _ in range(15):
        team.gold("ann", "x", "x")
        team.gold("bob", "y", "x")
    assert [who.bad for who in team.standings()] == [False, True]


def test_one_answer_tells_nothing_of_who_gave_it() -> None:
    team = Annotators(["ann"])
    before = team.accuracy("ann")
    for _ in range(100):
        team.learn({"ann": "a"}, ["a", "b"])
    assert team.accuracy("ann") == before


def test_the_least_loaded_is_asked_first_then_the_better_for_the_money() -> None:
    team = Annotators(["ann", "bob", "cid"], cost={"bob": 0.5})
    assert team.pick() == "bob"
    team.assign("bob")
    assert team.pick() == "ann"
    team.assign("ann")
    assert team.pick() == "cid"
    team.release("bob")
    assert team.pick(excluded=["cid"]) == "bob"
    assert team.pick(excluded=["ann", "bob", "cid"]) is None


def test_annotators_keep_their_state() -> None:
    team, _, answers = crowd(40, {"ann": 0.9, "bob": 0.6})
    for said in answers:
        team.answered("ann", 2.0)
        team.learn(said, "abc")
    other = Annotators(["ann", "bob", "new"])
    other.restore(team.state())
    assert other.accuracy("ann") == team.accuracy("ann")
    assert other.consensus(answers[0], "abc") == team.consensus(answers[0], "abc")
    assert other.pick(excluded=["ann", "bob"]) == "new"
    with pytest.raises(StateError):
        other.restore(State({}, {}))


def test_classes_past_the_bound_are_heard_but_not_kept() -> None:
    team = Annotators(["ann", "bob"], classes=3)
    for i in range(10):
        team.learn({"ann": f"c{i}", "bob": f"c{i}"})
    assert team.state().arrays["counts"].shape == (2, 3, 3)
    assert team.consensus({"ann": "c9", "bob": "c9"})[0] == "c9"


# --- estimates


def test_estimates_of_nothing_are_not_numbers() -> None:
    view = Estimates().view()
    assert math.isnan(view.raw)
    assert math.isnan(view.weighted)
    assert math.isnan(view.holdout)
    assert view.effective == 0


def test_equal_weights_have_the_effect_of_their_number() -> None:
    estimates = Estimates()
    for i in range(50):
        estimates.add(float(i % 2), 0.25, i % 5 == 0)
    estimates.add(math.nan, 0.25, True)
    estimates.add(1.0, 0.0, True)
    assert estimates.view()[:3] == (0.5, 0.5, 50.0)
    assert estimates.view().drawn == 10


def test_estimates_keep_their_state() -> None:
    one, other = Estimates(0.9), Estimates(0.9)
    for i in range(20):
        one.add(float(i % 3 == 0), 0.5, True)
    other.restore(one.state())
    assert other.view() == one.view()
