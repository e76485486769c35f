"""As the daemon drives it: tags in events, labels late, river oracles, snapshots, what a prediction says."""

import json
from typing import Any

import numpy as np
import pytest

from streamd.learners import registry
from streamd.learners.groupwise import GroupwiseClassifier, GroupwiseRegressor
from streamd.learners.groupwise.view import groups_view
from streamd.ports import Record
from streamd.snapshot import digest
from streamd.stages.pending import Bounds
from streamd.stages.predicting import Predicting
from streamd.stages.settings import Settings
from tests.unit.groupwise_data import live

BOUNDS = Bounds(max_events=50, max_bytes=1 << 20, max_age=1000, remember=50, early=3, early_age=500)


def stage(learner: Any) -> Predicting:
    settings = Settings(
        task="regress" if isinstance(learner(), GroupwiseRegressor) else "classify",
        events="events",
        labels="labels",
        predictions="predictions",
        dead_letters="dead",
        model="groupwise/test",
        echo=(),
        top=10,
        bounds=BOUNDS,
        fading=0.9,
        drift_delta=None,
        drift_reset=False,
        record_bytes=4096,
        ahead=10_000,
    )
    return Predicting(settings, learner, 0)


def record(topic: str, offset: int, **value: Any) -> Record:
    return Record(topic, 0, offset, offset, value["id"].encode(), json.dumps(value).encode())


def stream() -> list[Record]:
    """Thirty events in two tagged groups, each label five events late."""
    records = []
    for i in range(35):
        if i < 30:
            tags = ["even"] if i % 2 == 0 else ["odd", "every third"] if i % 3 == 0 else ["odd"]
            records.append(record("events", len(records), id=f"e{i}", features={"x": i / 10}, groups=tags))
        if i >= 5:
            records.append(record("labels", len(records), id=f"e{i - 5}", label=float((i - 5) % 7)))
    return records


def test_tags_reach_the_learner_and_late_labels_move_their_groups() -> None:
    task = stage(lambda: GroupwiseRegressor((0.0, 10.0), ["#*"]))

    taken = task.take(stream())

    assert not taken.refused
    learner = task.learner
    assert isinstance(learner, GroupwiseRegressor)
    labels = {group.name: group.labels for group in groups_view(learner).groups}
    assert labels == {"everyone": 30, "#even": 14, "#odd": 14, '#"every third"': 4}
    told = [json.loads(output.value) for output in taken.outputs if output.topic == "predictions"]
    names, weights, values = zip(*told[29]["why"], strict=True)
    assert set(names) == {"everyone", "#odd"}
    assert sum(weights) == pytest.approx(1.0)
    assert told[29]["value"] == pytest.approx(np.dot(weights, values))


@pytest.mark.parametrize(
    "make",
    [
        lambda: GroupwiseRegressor((0.0, 6.0), ["#*", "x<2"], experts="pairs"),
        lambda: GroupwiseRegressor((0.0, 6.0), ["#*"], oracle={"river": "river.linear_model.LinearRegression"}),
        lambda: GroupwiseRegressor((0.0, 6.0), ["#*"], loss="pinball", meta="mlpoly"),
    ],
    ids=["pairs", "river", "quantiles"],
)
def test_a_replay_and_a_snapshot_reach_the_same_state(make: Any) -> None:
    records = stream()
    task, replayed, restored = stage(make), stage(make), stage(make)

    taken = task.take(records)
    replayed.replay(records, taken.refused, taken.memos)
    half = stage(make)
    half.take(records[:31])
    restored.restore(half.freeze()())
    restored.take(records[31:])

    assert digest(replayed.learner.state()) == digest(task.learner.state())
    assert digest(restored.learner.state()) == digest(task.learner.state())


def test_every_kind_is_in_the_registry() -> None:
    assert registry()["groupwise/regress"] is GroupwiseRegressor
    assert registry()["groupwise/classify"] is GroupwiseClassifier


def test_a_river_oracle_learns_per_group() -> None:
    described = [
        "river.preprocessing.StandardScaler",
        {"path": "river.linear_model.LinearRegression", "params": {"intercept_lr": 0.1}},
    ]
    rng = np.random.default_rng(0)
    features = [{"x": float(rng.normal()), "member": bool(rng.random() < 0.5)} for _ in range(400)]
    labels = [3 * x["x"] if x["member"] else -3 * x["x"] for x in features]
    learner = GroupwiseRegressor((-10.0, 10.0), ["member=*"], oracle={"river": described})

    live(learner, features, labels)

    for group in groups_view(learner).groups[1:]:
        assert group.loss is not None
        assert group.everyone is not None
        assert group.loss < 0.5 * group.everyone


def test_a_group_that_does_worse_than_the_single_model_raises_an_alarm() -> None:
    """Losses are put into the state: a stream on which the meta does harm is hard to find."""
    learner = GroupwiseRegressor((0.0, 1.0), ["#a"], meta="aa", standardise=False, coverage=0.0, lam=1e-3)
    live(learner, [{"x": 1.0}] * 200, [0.5] * 200, [["a"]] * 200)
    state = learner.state()
    table = state.arrays["table"].copy()
    table[1, 7] += 20.0  # what was played lost more on it than everyone's model would have
    table[1, 11] += 3.0
    learner.restore(state._replace(arrays={**state.arrays, "table": table}))

    assert [group.alarms for group in groups_view(learner).groups] == [(), ("harm",)]


def test_a_regret_above_its_bound_raises_an_alarm() -> None:
    learner = GroupwiseRegressor((0.0, 1.0), ["#a"], standardise=False)
    live(learner, [{"x": 1.0}] * 20, [0.5] * 20, [["a"]] * 20)
    state = learner.state()
    E = state.arrays["E"].copy()
    E[1, 0, 0] = 50.0, 50.0
    learner.restore(state._replace(arrays={**state.arrays, "E": E}))

    assert [group.alarms for group in groups_view(learner).groups] == [(), ("regret",)]


def test_memory_is_as_declared() -> None:
    """8 (d^2 + d + 3) bytes per group and a constant; 16 per pair of groups."""
    d, constant = 32, 8 * 32
    X = [{f"x{j}": float(j == i) for j in range(d)} for i in range(40)]
    for experts in ("own", "pairs"):
        learner = GroupwiseRegressor((0.0, 1.0), ["#*"], experts=experts, standardise=False, intercept=False)
        live(learner, X, [0.5] * 40, [[str(i)] for i in range(40)])
        arrays = learner.state().arrays
        kept = sum(arrays[name].nbytes for name in ("P", "W", "G", "E", "table"))
        pairs = 16 * 41**2 if experts == "pairs" else 0
        assert kept <= 41 * (8 * (d * d + d + 3) + constant) + pairs
