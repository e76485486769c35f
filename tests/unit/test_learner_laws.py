"""The laws of `streamd.learners`, over every learner there is. A new learner is one line in `LEARNERS`."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamd import snapshot
from streamd.errors import BadRecord
from streamd.learners import Learner
from streamd.learners.bagged import Bagged
from streamd.learners.groupwise import GroupwiseClassifier, GroupwiseRegressor
from streamd.learners.linear import LinearClassifier, LinearRegressor
from streamd.learners.river_model import RiverClassifier, RiverRegressor
from streamd.learners.ss3.model import SS3Classifier
from streamd.snapshot import State, digest

laws = settings(max_examples=20, deadline=None, derandomize=True, database=None)

NUMBERS = st.floats(-1000, 1000) | st.integers(-9, 9)
FEATURES = st.fixed_dictionaries(
    {},
    optional={
        "age": NUMBERS,
        "hours": NUMBERS | st.none(),
        "constant": st.just(7.0),
        "member": st.booleans(),
        "colour": st.sampled_from(["red", "green", "blue"]),
        "town": st.text(max_size=3),
    },
)
ONLY_NUMBERS = st.fixed_dictionaries({"age": NUMBERS}, optional={"hours": NUMBERS, "length": NUMBERS | st.none()})
MANY_CLASSES = st.sampled_from(["low", "middle", "high"])
TWO_CLASSES = st.sampled_from(["no", "yes"])
VALUES = st.floats(-100, 100) | st.integers(-9, 9)
WORDS = st.sampled_from(["card", "lost", "my", "a", "the", "refund", ".", ",", "\n", "3.5", "é", "名前"])
TEXTS = st.lists(WORDS, max_size=12).map(" ".join) | st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
SCALED = "river.preprocessing.StandardScaler"


AN_EVENT: Any = {"age": 30.0}


class Case(NamedTuple):
    make: Callable[[], Learner]
    events: st.SearchStrategy[Any]
    labels: st.SearchStrategy[Any]
    most_classes: int | None = None  # above it a label is refused
    example: Any = AN_EVENT


LEARNERS = {
    "linear softmax": Case(lambda: LinearClassifier(max_classes=4), FEATURES, MANY_CLASSES, 4),
    "linear logistic sgd": Case(
        lambda: LinearClassifier(loss="logistic", optimizer="sgd", eta=0.05, l2=0.01), FEATURES, TWO_CLASSES, 2
    ),
    "linear full index": Case(lambda: LinearClassifier(max_features=3), FEATURES, MANY_CLASSES),
    "linear hashed": Case(lambda: LinearClassifier(features="hashed", bits=3), FEATURES, MANY_CLASSES),
    "linear raw": Case(lambda: LinearClassifier(standardise=False, optimizer="sgd"), FEATURES, MANY_CLASSES),
    "linear squared": Case(lambda: LinearRegressor(), FEATURES, VALUES),
    "linear huber raw": Case(lambda: LinearRegressor(loss="huber", standardise=False), FEATURES, VALUES),
    "linear bagged": Case(lambda: Bagged(lambda: LinearClassifier(max_classes=4), 3), FEATURES, MANY_CLASSES, 4),
    "groupwise ridge": Case(
        lambda: GroupwiseRegressor((-100.0, 100.0), ["colour=*", "age<0", "member=true"]), FEATURES, VALUES
    ),
    "groupwise softmax": Case(
        lambda: GroupwiseClassifier(["town=*", "age<0"], max_classes=4, max_groups=4), FEATURES, MANY_CLASSES, 4
    ),
    "groupwise logistic": Case(
        lambda: GroupwiseClassifier(["member=*"], oracle="logistic", meta="bayes"), FEATURES, TWO_CLASSES, 2
    ),
    "groupwise pairs": Case(
        lambda: GroupwiseRegressor((-50.0, 50.0), ["colour=*"], experts="pairs", max_features=3, max_groups=3),
        FEATURES,
        VALUES,
    ),
    "groupwise quantiles": Case(
        lambda: GroupwiseRegressor((-50.0, 50.0), ["town=*"], loss="pinball", meta="mlpoly", everyone=False),
        FEATURES,
        VALUES,
    ),
    "groupwise sampled": Case(
        lambda: GroupwiseRegressor((-50.0, 50.0), ["age<0"], oracle="vaw", play="sampled", seed=7),
        FEATURES,
        VALUES,
    ),
    "groupwise river": Case(
        lambda: GroupwiseClassifier(
            ["age<0", "hours=*"],
            oracle={"river": [SCALED, "river.linear_model.LogisticRegression"]},
            loss="zero_one",
            max_groups=4,
        ),
        ONLY_NUMBERS,
        TWO_CLASSES,
        2,
    ),
    "ss3": Case(lambda: SS3Classifier(max_classes=4), TEXTS, MANY_CLASSES, 4, "my card"),
    "ss3 few terms": Case(lambda: SS3Classifier(n_grams=3, max_terms=48), TEXTS, MANY_CLASSES, None, "my card"),
    "ss3 forgetting": Case(lambda: SS3Classifier(half_life=5.0, n_grams=2), TEXTS, MANY_CLASSES, None, "my card"),
    "ss3 as pyss3": Case(
        lambda: SS3Classifier(compatibility="pyss3", n_grams=2), TEXTS, MANY_CLASSES, None, "my card"
    ),
    "ss3 unicode": Case(
        lambda: SS3Classifier(preprocessing="unicode", confidence="gv", significance="vanilla", over_terms="max"),
        TEXTS,
        MANY_CLASSES,
        None,
        "my card",
    ),
    "river logistic": Case(
        lambda: RiverClassifier([SCALED, "river.linear_model.LogisticRegression"]), ONLY_NUMBERS, TWO_CLASSES, 2
    ),
    "river tree": Case(
        lambda: RiverClassifier(
            {"path": "river.tree.HoeffdingAdaptiveTreeClassifier", "params": {"grace_period": 5, "max_depth": 3}},
            max_classes=4,
        ),
        FEATURES,
        MANY_CLASSES,
        4,
    ),
    "river bagged": Case(
        lambda: Bagged(
            lambda: RiverRegressor({"path": "river.tree.HoeffdingTreeRegressor", "params": {"grace_period": 5}}),
            3,
        ),
        ONLY_NUMBERS,
        VALUES,
    ),
    "river names only": Case(lambda: RiverClassifier("river.linear_model.Perceptron"), ONLY_NUMBERS, TWO_CLASSES),
    "river regression": Case(
        lambda: RiverRegressor([SCALED, "river.linear_model.LinearRegression"]), ONLY_NUMBERS, VALUES
    ),
    "river forest": Case(
        lambda: RiverRegressor(
            {"path": "river.forest.ARFRegressor", "params": {"n_models": 2, "grace_period": 5}}
        ),
        ONLY_NUMBERS,
        VALUES,
    ),
}

every_learner = pytest.mark.parametrize("case", LEARNERS.values(), ids=LEARNERS.keys())


class Event(NamedTuple):
    x: Any
    y: Any
    delay: int | None  # the label comes after so many further events; None: never
    weight: float


class Told(NamedTuple):
    """What was answered about an event."""

    memo: bytes
    why: Any


def streams(case: Case) -> st.SearchStrategy[list[Event]]:
    delays = st.sampled_from([0, 0, 0, 1, 4, None])
    weights = st.sampled_from([1.0, 1.0, 1.0, 0.5, 2.0, 0.0])
    return st.lists(st.builds(Event, case.events, case.labels, delays, weights), max_size=30)


def due(events: Sequence[Event], i: int) -> list[int]:
    """The events whose label comes right after event i."""
    return [j for j in range(i + 1) if events[j].delay is not None and j + events[j].delay == i]


def live(learner: Learner, events: Sequence[Event], cuts: Iterable[int] = (), start: int = 0) -> list[Told]:
    """Predict, observe and learn as the daemon does; `cuts` are the events before which a run ends."""
    told: list[Told] = []
    return resume(learner, events, told, start, frozenset(cuts))


def resume(
    learner: Learner, events: Sequence[Event], told: list[Told], start: int, cuts: frozenset[int]
) -> list[Told]:
    steps, first = learner.steps(), start
    for i in range(start, len(events)):
        if i in cuts:
            told = finish(steps, told, i - first)
            steps, first = learner.steps(), i
        row = steps.row(events[i].x)
        steps.predict(row)
        steps.observe(row)
        for j in due(events, i):
            seen = j - first if j >= first else told[j].memo
            steps.learn(steps.row(events[j].x), events[j].y, seen, events[j].weight)
    return finish(steps, told, len(events) - first)


def finish(steps: Any, told: list[Told], n: int) -> list[Told]:
    predictions = steps.execute()
    return told + [Told(memo, why) for memo, why in zip(predictions.memos(), predictions.whys(), strict=True)]


def through_bytes(state: State) -> State:
    """As a snapshot that was stored and loaded."""
    entries, document, chunks = snapshot.encode(state)
    manifest = snapshot.Manifest(
        snapshot.FORMAT, "s", "p", "m", {}, {}, 1, {}, 1, 0, entries, document, digest(state)
    )
    return snapshot.decode(manifest, chunks)


@every_learner
@laws
@given(data=st.data())
def test_to_predict_and_to_peek_change_nothing(case: Case, data: st.DataObject) -> None:
    learner = case.make()
    live(learner, data.draw(streams(case)))
    before, x = digest(learner.state()), data.draw(case.events)

    p, why = learner.peek(x)
    steps = learner.steps()
    steps.predict(steps.row(x))
    predictions = steps.execute()

    assert digest(learner.state()) == before
    assert p.tobytes() == learner.probabilities(predictions.memos()[0]).tobytes()
    assert why == predictions.whys()[0]


@every_learner
@laws
@given(data=st.data())
def test_where_the_stream_is_cut_into_runs_does_not_matter(case: Case, data: st.DataObject) -> None:
    events = data.draw(streams(case))
    whole, cut, single = case.make(), case.make(), case.make()

    told = live(whole, events)
    told_cut = live(cut, events, data.draw(st.sets(st.integers(0, 30))))
    told_single = live(single, events, range(31))

    assert told == told_cut == told_single
    assert digest(whole.state()) == digest(cut.state()) == digest(single.state())


@every_learner
@laws
@given(data=st.data())
def test_a_snapshot_in_the_middle_continues_identically(case: Case, data: st.DataObject) -> None:
    events = data.draw(streams(case))
    middle = data.draw(st.integers(0, len(events)))
    whole, first, second = case.make(), case.make(), case.make()
    told = live(whole, events, [middle])

    half = live(first, events[:middle])
    second.restore(through_bytes(first.state()))
    restored = digest(second.state())
    continued = resume(second, events, half, middle, frozenset())

    assert restored == digest(first.state())
    assert continued == told
    assert digest(second.state()) == digest(whole.state())


@every_learner
@laws
@given(data=st.data())
def test_a_replay_without_predictions_gives_the_same_state(case: Case, data: st.DataObject) -> None:
    events = data.draw(streams(case))
    learner, replayed = case.make(), case.make()
    told = live(learner, events)

    steps = replayed.steps()
    for i, event in enumerate(events):
        steps.observe(steps.row(event.x))
        for j in due(events, i):
            steps.learn(steps.row(events[j].x), events[j].y, told[j].memo, events[j].weight)
    steps.execute()

    assert digest(replayed.state()) == digest(learner.state())


@every_learner
@laws
@given(data=st.data())
def test_predictions_are_probabilities_or_finite_values(case: Case, data: st.DataObject) -> None:
    learner = case.make()

    told = live(learner, data.draw(streams(case)))

    for prediction in told:
        p = learner.probabilities(prediction.memo)
        assert np.isfinite(p).all()
        if learner.classes:
            assert len(p) <= len(learner.classes)
            assert not len(p) or (abs(p.sum() - 1) < 1e-9 and p.min() >= 0)


BAD_FEATURES = {
    "nan": {"age": float("nan")},
    "infinity": {"age": float("inf")},
    "too large": {"age": 1e200},
    "too large an integer": {"age": 10**400},
    "a number that was a string": {"age": "old"},
    "a number that was a boolean": {"age": True},
    "a list": {"other": [1.0]},
    "an object": {"other": {"deep": 1.0}},
    "a long name": {"n" * 300: 1.0},
    "a long category": {"other": "c" * 300},
    "not Unicode": {"other": "\ud800"},
    "too many": {f"f{i}": 1.0 for i in range(1001)},
    "not an object": [1.0],
    "none at all": None,
    "good ones before a bad one": {"fresh": 1.0, "age": float("nan")},
}
remembers_types = {
    name: case for name, case in LEARNERS.items() if name != "linear hashed" and case.example is AN_EVENT
}


@pytest.mark.parametrize("case", remembers_types.values(), ids=remembers_types.keys())
@pytest.mark.parametrize("bad", BAD_FEATURES.values(), ids=BAD_FEATURES.keys())
def test_features_that_do_not_fit_are_refused_and_change_nothing(case: Case, bad: Any) -> None:
    learner = case.make()
    steps = learner.steps()
    row = steps.row(case.example)
    steps.observe(row)
    steps.execute()
    before = digest(learner.state())

    steps = learner.steps()
    with pytest.raises(BadRecord):
        steps.row(bad)
    with pytest.raises(BadRecord):
        learner.peek(bad)
    steps.predict(steps.row(case.example))
    steps.execute()

    assert digest(learner.state()) == before


@every_learner
def test_labels_that_do_not_fit_are_refused_and_change_nothing(case: Case) -> None:
    learner = case.make()
    steps = learner.steps()
    row = steps.row(case.example)
    steps.predict(row)
    steps.observe(row)
    good, bad = ("a", 1.0) if is_classifier(learner) else (1.0, "a")
    steps.learn(row, good, 0)
    memo = steps.execute().memos()[0]
    before = digest(learner.state())

    steps = learner.steps()
    row = steps.row(case.example)
    for y in (bad, True, None, [], float("nan"), float("inf"), 10**400, "n" * 300):
        with pytest.raises(BadRecord):
            steps.learn(row, y, memo)
        with pytest.raises(BadRecord):
            steps.correct(row, good, y, memo)
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(BadRecord):
            steps.learn(row, good, memo, weight)
    steps.execute()

    assert digest(learner.state()) == before


def is_classifier(learner: Learner) -> bool:
    learner = learner.own if isinstance(learner, Bagged) else learner
    return isinstance(learner, LinearClassifier | RiverClassifier | GroupwiseClassifier | SS3Classifier)


with_bound = {name: case for name, case in LEARNERS.items() if case.most_classes is not None}


@pytest.mark.parametrize("case", with_bound.values(), ids=with_bound.keys())
def test_one_class_too_many_is_refused_and_changes_nothing(case: Case) -> None:
    learner = case.make()
    steps = learner.steps()
    row = steps.row(case.example)
    assert case.most_classes is not None
    for i in range(case.most_classes):
        steps.learn(row, f"class {i}", b"")
    steps.execute()
    before = digest(learner.state())

    steps = learner.steps()
    with pytest.raises(BadRecord):
        steps.learn(steps.row(case.example), "one more", b"")
    steps.execute()

    assert digest(learner.state()) == before
    assert list(learner.classes) == [f"class {i}" for i in range(case.most_classes)]


classifiers = {name: case for name, case in LEARNERS.items() if is_classifier(case.make())}


@pytest.mark.parametrize("case", classifiers.values(), ids=classifiers.keys())
def test_a_prediction_knows_the_classes_learned_before_it(case: Case) -> None:
    steps = case.make().steps()
    row = steps.row(case.example)
    steps.predict(row)
    steps.observe(row)
    steps.learn(row, "yes", 0)
    steps.predict(row)
    steps.learn(row, "no", 1)
    steps.predict(row)

    predictions = steps.execute()

    assert predictions.known.tolist() == [0, 1, 2]
    assert predictions.values.shape == (3, 2)
    assert predictions.values[0].tolist() == [0.0, 0.0]
    assert predictions.values[1].tolist() == [1.0, 0.0]
    assert predictions.memos()[0] == b""


@every_learner
@laws
@given(data=st.data())
def test_after_a_reset_nothing_is_left_but_the_places(case: Case, data: st.DataObject) -> None:
    learner, again = case.make(), case.make()
    events = data.draw(streams(case))
    live(learner, events)
    classes = list(learner.classes)

    learner.reset()
    once = live(learner, events)
    learner.reset()
    twice = live(learner, events)

    assert list(learner.classes) == classes
    assert once == twice
    again.restore(through_bytes(learner.state()))
    assert digest(again.state()) == digest(learner.state())


@every_learner
@laws
@given(data=st.data())
def test_a_label_of_weight_0_teaches_nothing(case: Case, data: st.DataObject) -> None:
    learner = case.make()
    events = data.draw(streams(case))
    live(learner, events)
    x, y = data.draw(case.events), data.draw(case.labels)
    if is_classifier(learner) and y not in learner.classes:
        return  # a new class gets its column, whatever the weight
    steps = learner.steps()
    steps.observe(steps.row(x))
    steps.execute()
    before = digest(learner.state())

    steps = learner.steps()
    steps.learn(steps.row(x), y, b"", 0.0)
    steps.execute()

    assert digest(learner.state()) == before


@every_learner
def test_an_empty_run_is_a_run(case: Case) -> None:
    learner = case.make()
    before = digest(learner.state())

    predictions = learner.steps().execute()

    assert len(predictions.values) == len(predictions.known) == 0
    assert digest(learner.state()) == before


BOUNDED = {
    "linear": lambda: LinearClassifier(max_features=8),
    "linear hashed": lambda: LinearClassifier(features="hashed", bits=3),
    "river": lambda: RiverClassifier("river.dummy.PriorClassifier", max_features=8),
}


@pytest.mark.parametrize("make", BOUNDED.values(), ids=BOUNDED.keys())
def test_features_that_appear_for_ever_do_not_make_the_state_grow_for_ever(make: Callable[[], Learner]) -> None:
    learner = make()

    sizes = []
    for i in range(100, 200):
        live(learner, [Event({f"feature {i}": 1.0, "town": f"town {i}"}, "a", 0, 1.0)])
        arrays, document = learner.state()
        sizes.append((sum(a.nbytes for a in arrays.values()), len(document.get("types", [])), len(arrays)))

    assert sizes[20] == sizes[99]
