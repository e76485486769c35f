"""Task choose as the daemon drives it: paths in predictions, costs as labels, replay, labels that do not fit."""

import json
from typing import Any

import pytest
from test_predicting import SETTINGS, counted, digest, event, label, reason, tick, written

from streamd import config
from streamd.errors import ConfigError
from streamd.learners.groupwise import GroupwiseChooser
from streamd.ports import Record
from streamd.stages.predicting import Predicting
from streamd.wiring import learner

EDGES = {"bus": ["home", "work"], "walk": ["home", "park"], "path": ["park", "work"]}


def stage() -> Predicting:
    def make() -> GroupwiseChooser:
        return GroupwiseChooser(EDGES, "home", "work", highest=10.0, groups=["rain=*"])

    changed = {name: getattr(SETTINGS, name) for name in SETTINGS.__struct_fields__} | {"task": "choose"}
    return Predicting(type(SETTINGS)(**changed), make, 0)


def costs(rain: bool) -> dict[str, float]:
    return {"bus": 4.0, "walk": 8.0 if rain else 1.0, "path": 1.0}


def stream(days: int, late: int = 0) -> list[Record]:
    """A day an event, every other with rain; its costs so many days later."""
    records = []
    for day in range(days + late):
        if day < days:
            records.append(event(f"d{day}", len(records), day, features={"rain": bool(day % 2)}))
        if day >= late:
            records.append(label(f"d{day - late}", costs(bool((day - late) % 2)), len(records), day))
    return records


def test_a_path_is_predicted_for_every_group_and_learned_from_its_costs() -> None:
    task = stage()
    taken = task.take(stream(300))

    assert not taken.refused
    told = [json.loads(output.value) for output in written(taken, "predictions")]
    assert all(one["path"] in (["bus"], ["walk", "path"]) for one in told)
    assert all(group[2] in (["bus"], ["walk", "path"]) for one in told for group in one["why"])
    assert all(sum(group[1] for group in one["why"]) == pytest.approx(1.0) for one in told)
    assert told[-2]["why"][0][0] == "rain=false"
    assert sum(one["path"] == ["walk", "path"] for one in told[-40::2]) >= 15
    assert sum(one["path"] == ["bus"] for one in told[-39::2]) >= 15
    # the best single path costs 4 a day (the bus); on dry days walking costs 2
    shown = task.show()
    assert shown.quality.total["best"] == pytest.approx(4.0)
    assert shown.quality.fading["cost"] < 3.5
    assert shown.groups is not None
    assert [group.labels for group in shown.groups.groups] == [300, 149, 149]
    assert shown.groups.groups[1].best == pytest.approx(2.0)
    assert not [group for group in shown.groups.groups if group.alarms]


def test_replay_and_snapshot_with_late_labels_reach_the_same_state() -> None:
    records = stream(40, late=4)
    whole, replayed, first, second = stage(), stage(), stage(), stage()

    taken = whole.take(records)
    replayed.replay(records, taken.refused, taken.memos)
    first.take(records[:33])
    second.restore(first.freeze()())
    second.take(records[33:])

    assert counted(whole)["learned"] == 40
    assert digest(replayed) == digest(whole) == digest(second)
    assert whole.learner.state().arrays["table"][:, 1].tolist() == [40, 19, 19]


@pytest.mark.parametrize(
    ("given", "said", "whole"),
    [
        ({"bus": 1, "walk": 1, "tram": 1}, "label: no cost of the edge path", False),
        ({"bus": 1, "walk": 1}, "label: not the costs of all edges", False),
        ({**costs(True), "tram": 1}, "label: not the costs of all edges", False),
        ({}, "label: not the costs of all edges", False),
        ("bus", "label: expected an object, the cost of every edge", True),
        (4.0, "label: expected an object, the cost of every edge", True),
        ({"bus": "4", "walk": 1, "path": 1}, "label", True),
        ({"bus": None, "walk": 1, "path": 1}, "label", True),
    ],
)
def test_a_label_that_does_not_fit_is_a_dead_letter_and_the_event_goes_on_waiting(
    given: Any, said: str, whole: bool
) -> None:
    task = stage()
    task.take([event("a")])
    taken = task.take([label("a", given, 1, 1)])

    (dead,) = written(taken, "dead")
    assert said in reason(dead)
    assert task.counts["dead_letters" if whole else "refused_labels"] == 1
    assert task.show().pending == 1
    # the right one is then learned as if nothing had been
    other = stage()
    other.take([event("a"), label("a", costs(False), 2, 2)])
    task.take([label("a", costs(False), 2, 2)])
    for name in ("spent", "judged", "E"):
        assert task.learner.state().arrays[name].tolist() == other.learner.state().arrays[name].tolist()


def test_costs_beyond_the_range_are_held_and_counted_and_repeats_have_no_effect() -> None:
    task = stage()
    task.take([event("a"), label("a", {"bus": 99.0, "walk": -3.0, "path": 1.0})])
    task.take([label("a", {"bus": 99.0, "walk": -3.0, "path": 1.0}, 1, 1), tick(50)])
    assert counted(task) == {"events": 1, "learned": 1, "repeated_labels": 1, "ticks": 1}
    shown = task.show().groups
    assert shown is not None
    assert shown.clipped == 1


def test_a_corrected_label_is_as_if_it_had_been_right() -> None:
    wrong, right = stage(), stage()
    wrong.take([event("a"), label("a", costs(True)), label("a", costs(False), 1, 1)])
    right.take([event("a"), label("a", costs(False), 1, 1)])
    for name in ("spent", "judged", "E"):
        assert wrong.learner.state().arrays[name] == pytest.approx(right.learner.state().arrays[name])


CONFIG = """
[pipeline.p]
task = "choose"
events = "events"
[pipeline.p.learner]
kind = "groupwise"
source = "s"
sink = "t"
{keys}
"""


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ("edges = {a = ['s', 't'], b = ['t', 's']}", "pipeline.p.learner.edges"),
        ("edges = {a = ['s', 'm']}", "pipeline.p.learner.edges"),
        ("edges = {a = ['s']}", "pipeline.p.learner.edges.a"),
        ("edges = {a = 's'}", "pipeline.p.learner.edges.[...]"),
        ("edges = {a = ['s', 't']}\nhighest = 0", "pipeline.p.learner.highest"),
        ("edges = {a = ['s', 't']}\ngroups = ['sex=']", "pipeline.p.learner.groups"),
        ("edges = {a = ['s', 't']}\noracle = 'ridge'", "pipeline.p.learner.oracle"),
        ("", "pipeline.p.learner.edges"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_with_its_key(keys: str, key: str) -> None:
    pipeline = config.parse(CONFIG.format(keys=keys)).pipeline["p"]
    with pytest.raises(ConfigError) as refused:
        learner("p", pipeline)
    assert refused.value.key == key
