"""Task choose: paths through a graph, per group."""

import doctest
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamd.errors import BadRecord, ConfigError, StateError
from streamd.learners import groupwise
from streamd.learners.groupwise import choose, predicates
from streamd.learners.groupwise.choose import GroupwiseChooser
from streamd.learners.groupwise.choose_steps import Drawn
from streamd.learners.groupwise.paths import Graph
from streamd.snapshot import digest

laws = settings(max_examples=25, deadline=None, derandomize=True, database=None)
EDGES = {
    "a": ["s", "m"],
    "b": ["s", "n"],
    "across": ["m", "n"],
    "c": ["m", "t"],
    "d": ["n", "t"],
    "straight": ["s", "t"],
}
PATHS = ({"a", "c"}, {"b", "d"}, {"a", "across", "d"}, {"straight"})
COSTS = st.fixed_dictionaries({name: st.floats(0, 2) for name in EDGES})
EVENTS = st.lists(st.tuples(COSTS, st.lists(st.sampled_from(["u", "v", "w"]), unique=True)), max_size=25)


def chooser(**given: Any) -> GroupwiseChooser:
    return GroupwiseChooser(EDGES, "s", "t", **{"highest": 2.0, "groups": ["#*"], **given})


def lived(model: GroupwiseChooser, events: Any) -> list[bytes]:
    memos = []
    for costs, tags in events:
        steps = model.steps()
        row = steps.row({"x": 1.0}, tags)
        steps.predict(row)
        steps.observe(row)
        steps.learn(row, costs, 0)
        memos.append(steps.execute().memos()[0])
    return memos


@pytest.mark.parametrize("module", [groupwise, choose, predicates])
def test_the_examples_in_the_docstrings(module: Any) -> None:
    assert doctest.testmod(module).failed == 0


@laws
@given(costs=COSTS)
def test_the_cheapest_path_is_the_cheapest_of_all(costs: dict[str, float]) -> None:
    graph = Graph(EDGES, "s", "t")
    array = np.array([costs[name] for name in EDGES])

    path = graph.cheapest(array)

    assert {name for name, on in zip(EDGES, path, strict=True) if on} in PATHS
    assert Graph.cost(path, array) == pytest.approx(min(sum(costs[name] for name in path) for path in PATHS))
    assert graph.longest == 3


@laws
@given(events=EVENTS)
def test_what_is_played_is_a_path_of_an_awake_group(events: Any) -> None:
    model = chooser()
    for memo in lived(model, events):
        read: Drawn = model.read(memo)
        assert set(model.path(read.path.astype(float))) in PATHS
        assert any(np.array_equal(read.path, path) for path in read.paths)
        assert read.p.sum() == pytest.approx(1.0)


@laws
@given(events=EVENTS)
def test_with_one_group_it_is_the_bare_follow_the_perturbed_leader(events: Any) -> None:
    model = chooser(groups=[])
    spent = np.zeros(len(EDGES))
    for t, (memo, (costs, _)) in enumerate(zip(lived(model, events), events, strict=True)):
        reach = np.sqrt(6.0 * 12.0 * (t + 1) / 6.0)
        u = choose.draws(0, t, model.groups.ids[0], len(EDGES))
        assert np.array_equal(model.read(memo).path, model.graph.cheapest(spent + reach * u))
        spent += np.array([costs[name] for name in EDGES])


@laws
@given(events=EVENTS, cut=st.integers(0, 25))
def test_a_snapshot_continues_identically_and_predicting_is_pure(events: Any, cut: int) -> None:
    whole, first, second = chooser(max_groups=3), chooser(max_groups=3), chooser(max_groups=3)
    memos = lived(whole, events)

    half = lived(first, events[:cut])
    second.restore(first.state())
    before = digest(second.state())
    second.peek({"x": 1.0}, ["u", "fresh"])

    assert digest(second.state()) == before
    assert half + lived(second, events[cut:]) == memos
    assert digest(second.state()) == digest(whole.state())


@laws
@given(events=EVENTS.filter(len), costs=COSTS)
def test_a_correction_gives_what_the_right_label_would_have_given(events: Any, costs: dict[str, float]) -> None:
    corrected, right = chooser(), chooser()
    memo = lived(corrected, [(costs, events[0][1])])[0]
    lived(right, events[:1])

    steps = corrected.steps()
    steps.correct(steps.row({"x": 1.0}, events[0][1]), costs, events[0][0], memo)

    for name, array in right.state().arrays.items():
        assert corrected.state().arrays[name] == pytest.approx(array, abs=1e-9) or name.startswith("groups")


@pytest.mark.parametrize("seed", range(3))
def test_regret_to_every_groups_best_path_is_within_its_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    liked = {"u": {"a", "c"}, "v": {"straight"}, "w": {"b", "d"}}
    events = []
    for _ in range(600):
        tag = str(rng.choice(["u", "v", "w"], p=[0.5, 0.4, 0.1]))
        costs = {name: float(rng.uniform(0, 0.3 if name in liked[tag] else 2.0)) for name in EDGES}
        events.append((costs, [tag]))
    model, single = chooser(seed=seed), chooser(groups=[], seed=seed)

    lived(model, events)
    lived(single, events)

    for group in model.groups_view().groups:
        assert group.R - group.bound <= 1e-9
        assert group.regret_best <= group.best_bound  # type: ignore[operator]
    view = {group.name: group for group in model.groups_view().groups}
    assert view["everyone"].loss < single.groups_view().groups[0].loss  # type: ignore[operator]


def test_labels_that_do_not_fit_are_refused_and_change_nothing() -> None:
    model = chooser()
    good = dict.fromkeys(EDGES, 1.0)
    lived(model, [(good, ["u"])])
    before = digest(model.state())
    steps = model.steps()
    row = steps.row({"x": 1.0})
    for bad in (1.0, "a", None, {}, {**good, "a": float("nan")}, {**good, "a": "x"}, {**good, "other": 1.0}):
        with pytest.raises(BadRecord):
            steps.learn(row, bad)
    swapped = {("z" if name == "a" else name): 1.0 for name in EDGES}
    with pytest.raises(BadRecord):
        steps.learn(row, swapped)
    with pytest.raises(StateError):
        model.probabilities(b"12345")
    assert digest(model.state()) == before


def test_costs_outside_are_counted_and_held() -> None:
    model, held = chooser(), chooser()
    lived(model, [({**dict.fromkeys(EDGES, 1.0), "a": 99.0, "b": -1.0}, [])])
    lived(held, [({**dict.fromkeys(EDGES, 1.0), "a": 2.0, "b": 0.0}, [])])

    assert (model.clipped, held.clipped) == (1, 0)
    assert np.array_equal(model.state().arrays["spent"], held.state().arrays["spent"])


@pytest.mark.parametrize(
    ("edges", "key"),
    [
        ({"a": ["s", "m"], "b": ["m", "s"]}, "edges"),
        ({"a": ["s", "m"]}, "edges"),
        ({"a": ["s", "t"], "b": ["s", "m"]}, "edges.b"),
        ({"a": ["s", "s"]}, "edges.a"),
        ({"a": ["s"]}, "edges.a"),
    ],
)
def test_graphs_that_do_not_fit_are_refused(edges: Any, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        GroupwiseChooser(edges, "s", "t")
    assert caught.value.key == key
