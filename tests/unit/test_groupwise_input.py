"""Bad input: each case is defined, counted, and never ends the stream."""

from typing import Any

import numpy as np
import pytest

from streamd.errors import BadRecord, StateError
from streamd.kernels import groupwise as kernel
from streamd.learners.groupwise import GroupwiseClassifier, GroupwiseRegressor
from streamd.learners.groupwise.view import groups_view
from streamd.snapshot import State
from tests.unit.groupwise_data import live
from tests.unit.groupwise_reference import hedge


def test_a_feature_missing_or_of_another_type_is_counted_and_the_group_asleep() -> None:
    learner = GroupwiseRegressor((0.0, 1.0), ["age<30", "sex=*"])

    live(learner, [{"x": 1.0}, {"age": 20.0, "sex": "f"}, {"age": 50.0}, {"x": 2.0, "sex": "m"}], [0.5] * 4)
    live(GroupwiseRegressor((0.0, 1.0), ["age<30"]), [{"age": "old"}], [0.5])

    counted = {one.text: (one.missing, one.mistyped) for one in groups_view(learner).declarations}
    assert counted == {"age<30": (2, 0), "sex=*": (2, 0)}
    other = GroupwiseRegressor((0.0, 1.0), ["age<30"])
    live(other, [{"age": "old"}, {"age": "young"}], [0.5, 0.5])
    assert groups_view(other).declarations[0].mistyped == 2
    assert groups_view(other).groups[1].labels == 0


def test_labels_outside_the_range_are_counted_and_learned_as_its_end() -> None:
    outside, inside = (GroupwiseRegressor((10.0, 20.0), ["x>0"]) for _ in range(2))
    features = [{"x": float(i % 3)} for i in range(6)]

    live(outside, features, [25.0, 12.0, -1e50, 20.0, 10.0, 20.1])
    live(inside, features, [20.0, 12.0, 10.0, 20.0, 10.0, 20.0])

    assert groups_view(outside).clipped == 3
    assert groups_view(inside).clipped == 0
    assert np.array_equal(outside.state().arrays["W"], inside.state().arrays["W"])
    assert outside.range == (10.0, 20.0)


def test_a_million_levels_keep_the_frequent_groups_and_the_declared_size() -> None:
    learner = GroupwiseRegressor((0.0, 1.0), ["town=*"], max_groups=10, max_features=8)
    features = [{"town": "London" if i % 4 == 0 else f"village {i}"} for i in range(4000)]

    live(learner, features[:400], [0.5] * 400)
    full = {name: array.nbytes for name, array in learner.state().arrays.items() if name != "groups.names"}
    live(learner, features[400:], [0.5] * 3600)

    view = groups_view(learner)
    now = {name: array.nbytes for name, array in learner.state().arrays.items() if name != "groups.names"}
    assert now == full
    assert len(view.groups) == 10
    assert view.born - view.retired == 9
    assert view.hashed > 0
    london = next(group for group in view.groups if group.name == "town=London")
    assert london.labels == 999  # born with its first event, and never retired


def test_groups_for_which_there_is_no_slot_are_counted() -> None:
    learner = GroupwiseRegressor((0.0, 1.0), ["a=*", "b=*"], max_groups=2, max_awake=2)

    memos = live(learner, [{"a": "1", "b": "2"}, {"a": "1", "b": "2"}], [0.5, 0.5])

    view = groups_view(learner)
    assert (view.crowded, view.refused) == (2, 0)
    assert len(learner.read(memos[1]).groups) == 2
    tight = GroupwiseRegressor((0.0, 1.0), ["a=*", "b=*"], max_groups=2)
    live(tight, [{"a": "1", "b": "2"}], [0.5])
    assert groups_view(tight).refused == 1


@pytest.mark.parametrize("oracle", ["ridge", "vaw"])
def test_a_singular_design_stays_finite(oracle: str) -> None:
    learner = GroupwiseRegressor((0.0, 1.0), oracle=oracle, standardise=False, lam=1e-8, max_features=20)
    rng = np.random.default_rng(0)
    features = []
    for i in range(5000):
        v = 10.0 ** rng.integers(-20, 40) if i % 50 == 0 else float(rng.normal())
        features.append({"a": v, "b": v, "c": 2 * v, "d": 0.0, "e": 1.0})

    memos = live(learner, features, rng.random(5000).tolist())

    assert all(np.isfinite(learner.read(memo).numbers).all() for memo in memos)
    assert all(np.isfinite(array).all() for array in learner.state().arrays.values())


def test_weights_neither_overflow_nor_vanish_at_any_size() -> None:
    """The logarithmic form against 10 million events' worth of regret, and unscaled regrets besides."""
    for R, C in [(3e3, 1e7), (1e5, 1e9), (-3e3, 1e7), (-0.999999, 1e7), (1e8, 1e2), (1e-300, 1e16)]:
        a, rest = kernel.exponent(R, C), kernel.remainder(R, C)
        assert a == -np.inf or (np.isfinite(a) and rest > 0.0)
    for R, C in [(0.0, 0.0), (0.5, 1.0), (2.0, 3.0), (-0.5, 9.0), (5.0, 30.0)]:
        assert np.exp(kernel.exponent(R, C)) * kernel.remainder(R, C) / 2 == pytest.approx(hedge(R, C), rel=1e-12)


@pytest.mark.parametrize("meta", ["anh", "aa", "ewa", "mlpoly"])
def test_a_state_of_ten_million_events_goes_on(meta: str) -> None:
    learner = GroupwiseRegressor((0.0, 1.0), ["#a", "#b"], meta=meta, standardise=False)
    live(learner, [{"x": 1.0}] * 3, [0.1, 0.2, 0.3], [["a"], ["b"], ["a", "b"]])
    state = learner.state()
    E = state.arrays["E"].copy()
    E[:, 0, 0, kernel.REGRET] = [-1e5, 2e4, -9e6]
    E[:, 0, 0, kernel.SIZE] = 1e7
    if meta != "anh":
        E[:, 0, 0, kernel.EXTRA] = [-1e6, 0.0, -3e5] if meta != "mlpoly" else 1e7
    learner.restore(State({**state.arrays, "E": E}, state.document))

    memos = live(learner, [{"x": 1.0}] * 4, [0.1, 0.9, 0.1, 0.9], [["b"], ["a", "b"], [], ["a"]])

    for memo in memos:
        read = learner.read(memo)
        assert np.isfinite(read.p).all()
        assert read.p.sum() == pytest.approx(1.0)


def test_two_groups_always_awake_together_share_one_weight() -> None:
    learner = GroupwiseRegressor((0.0, 1.0), ["#a", "#b"], everyone=False, standardise=False)
    rng = np.random.default_rng(2)
    X = rng.normal(size=500)

    memos = live(learner, [{"x": v} for v in X.tolist()], rng.random(500).tolist(), [["a", "b"]] * 500)

    for memo in memos:
        read = learner.read(memo)
        assert read.p[0] == pytest.approx(read.p[1])
        assert read.numbers[0] == pytest.approx(read.z[0, 0])


def test_with_nobody_awake_the_mean_over_all_is_played_and_nothing_moves() -> None:
    learner = GroupwiseRegressor((0.0, 1.0), ["#a", "#b"], everyone=False, standardise=False)
    live(learner, [{"x": 1.0}] * 4, [0.2, 0.8, 0.3, 0.9], [["a"], ["b"], ["a"], ["b"]])
    a, b = (learner.peek({"x": 1.0}, [name])[0][0] for name in ("a", "b"))
    before = learner.state().arrays["E"].copy()

    memo = live(learner, [{"x": 1.0}], [0.0], [[]])[0]

    assert learner.probabilities(memo)[0] == pytest.approx((a + b) / 2)
    assert np.array_equal(learner.state().arrays["E"], before)
    assert groups_view(learner).nobody == 1
    assert GroupwiseRegressor((2.0, 4.0), ["#*"], everyone=False).peek({"x": 1.0})[0][0] == 3.0


BAD_TAGS: dict[str, Any] = {
    "a number": [1],
    "empty": [""],
    "long": ["t" * 300],
    "not Unicode": ["\ud800"],
    "too many": [str(i) for i in range(101)],
}


@pytest.mark.parametrize("tags", BAD_TAGS.values(), ids=BAD_TAGS.keys())
def test_tags_that_do_not_fit_are_refused_and_the_run_goes_on(tags: Any) -> None:
    learner = GroupwiseRegressor((0.0, 1.0), ["#*"])
    steps = learner.steps()
    with pytest.raises(BadRecord, match="groups"):
        steps.row({"x": 1.0}, tags)
    row = steps.row({"x": 2.0}, ["fine"])
    steps.observe(row)
    steps.predict(row)

    predictions = steps.execute()

    assert [name for name, _, _ in predictions.whys()[0]] == ["everyone", "#fine"]


def test_a_foreign_memo_is_refused() -> None:
    learner = GroupwiseRegressor((0.0, 1.0))
    for memo in (b"1234567", b"\0" * 24, b"\xff" * 64, b"\1\0\0\0\0\0\0\0" * 9):
        with pytest.raises(StateError, match="memo"):
            learner.probabilities(memo)


def test_the_state_of_other_declarations_is_refused() -> None:
    learner = GroupwiseRegressor((0.0, 1.0), ["#a"])
    for other in (
        GroupwiseRegressor((0.0, 1.0), ["#b"]),
        GroupwiseRegressor((0.0, 1.0), ["#a"], experts="pairs"),
        GroupwiseClassifier(["#a"]),
    ):
        with pytest.raises(StateError):
            other.restore(learner.state())
    with pytest.raises(StateError):
        learner.restore(State({}, {}))


def test_a_label_for_a_retired_group_moves_only_those_that_are_left() -> None:
    learner = GroupwiseRegressor((0.0, 1.0), ["town=*"], max_groups=2)
    steps = learner.steps()
    row = steps.row({"town": "old"})
    steps.observe(row)
    steps.predict(row)
    memo = steps.execute().memos()[0]
    steps = learner.steps()
    steps.observe(steps.row({"town": "new"}))
    steps.learn(steps.row({"town": "old"}), 0.9, memo)
    steps.execute()

    labels = {group.name: group.labels for group in groups_view(learner).groups}
    assert labels == {"everyone": 1, "town=new": 0}


def test_labels_asked_for_by_chance_weigh_in_the_displayed_losses_only() -> None:
    once, weighted = (GroupwiseRegressor((0.0, 1.0), standardise=False) for _ in range(2))
    for learner, weight in ((once, 1.0), (weighted, 5.0)):
        for y in (0.2, 0.8):
            steps = learner.steps()
            row = steps.row({"x": 1.0})
            steps.observe(row)
            steps.predict(row)
            steps.learn(row, y, 0, 1.0, weight if y == 0.8 else 1.0)
            steps.execute()

    assert np.array_equal(once.state().arrays["E"], weighted.state().arrays["E"])
    assert np.array_equal(once.state().arrays["W"], weighted.state().arrays["W"])
    group = groups_view(weighted).groups[0]
    assert group.effective == pytest.approx(36 / 26)
    assert group.labels == 2
    assert group.loss is not None
    assert group.loss > groups_view(once).groups[0].loss  # type: ignore[operator]
