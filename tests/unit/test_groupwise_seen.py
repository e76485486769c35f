"""What the operator sees of groups: metrics, status, log lines; and what a prediction says of its coverage."""

import json
import logging
from io import StringIO
from typing import Any

import pytest
from engine_views import GROUP, GROUPS
from msgspec.structs import replace
from rich.console import Console

from streamd.cli.status_groups import groups_table
from streamd.learners.groupwise import GroupwiseClassifier, GroupwiseRegressor
from streamd.metrics.groups import SHOWN, group_samples
from streamd.shard import Shard
from streamd.sight import Sight
from streamd.views import GroupsView
from tests.unit.test_groupwise_daemon import record, stage, stream


def many(n: int) -> GroupsView:
    """So many groups, the rarest of them with an alarm."""
    groups = [replace(GROUP, name=f"g{i}", seen=1000 - i, alarms=()) for i in range(n - 1)]
    return replace(GROUPS, groups=(*groups, replace(GROUP, name="rare", seen=1, alarms=("harm",))))


def test_series_are_bounded_and_alarms_are_among_them() -> None:
    samples = list(group_samples(("p", "0"), many(3 * SHOWN)))

    named = {labels[2] for name, labels, _ in samples if name == "streamd_group_loss"}
    assert len(named) == SHOWN
    assert {"rare", "g0"} <= named
    assert ("streamd_groups", ("p", "0"), 3 * SHOWN) in samples
    assert ("streamd_group_alarms", ("p", "0", "harm"), 1) in samples
    assert ("streamd_group_asleep", ("p", "0", "sex=*", "missing"), 4) in samples


def test_what_there_is_not_has_no_series() -> None:
    """A group before its first label; no everyone, no intervals."""
    bare = type(GROUP)("new", 3, 0, 0.0)
    names = {name for name, labels, _ in group_samples(("p", "0"), replace(GROUPS, groups=(bare,)))}
    assert "streamd_group_events" in names
    assert not {"streamd_group_loss", "streamd_group_coverage", "streamd_group_harm"} & names


def test_status_shows_groups_with_their_alarms_and_counts() -> None:
    out = StringIO()
    Console(file=out, width=250).print(groups_table(3, many(40)))
    lines = out.getvalue().splitlines()

    assert "groups of partition 3" in lines[0]
    assert lines[1].startswith("rare")
    assert lines[1].rstrip().endswith("harm")
    assert "20 groups more: --json; clipped 2; born 3; retired 5" in out.getvalue()
    assert "sex=* missing 4; sex=* of another type 1" in " ".join(out.getvalue().split())


def test_an_alarm_is_said_once_while_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    task = stage(lambda: GroupwiseRegressor((0.0, 6.0), ["#*"]))
    task.take(stream())
    learner = task.learner
    assert isinstance(learner, GroupwiseRegressor)
    learner._E[1, 0, 0] = 500.0, 50.0
    shard, sight = Shard(2, ("events", "labels"), task), Sight("p", "regress", "", "events", "told")
    sight.running(shard)

    with caplog.at_level(logging.WARNING, "streamd"):
        for _ in range(3):
            sight.look([shard], dict, True, last=True)

    (said,) = caplog.records
    assert said.message == "group alarm: regret"
    facts: dict[str, Any] = said.facts  # type: ignore[attr-defined]
    assert (facts["pipeline"], facts["partition"], facts["group"], facts["regret"]) == ("p", 2, "#even", 500.0)
    (shown,) = sight.view.shards
    assert shown.groups is not None
    assert [group.alarms for group in shown.groups.groups[:2]] == [(), ("regret",)]


def test_a_value_is_told_with_its_interval() -> None:
    task = stage(lambda: GroupwiseRegressor((0.0, 6.0), ["#*"]))
    told = [json.loads(out.value) for out in task.take(stream()).outputs if out.topic == "predictions"]
    low, high = told[-1]["interval"]
    assert 0.0 <= low <= told[-1]["value"] <= high <= 6.0
    without = stage(lambda: GroupwiseRegressor((0.0, 6.0), ["#*"], coverage=0.0))
    assert not [out for out in without.take(stream()).outputs if b"interval" in out.value]


def test_a_class_is_told_with_the_set_that_covers() -> None:
    task = stage(lambda: GroupwiseClassifier(["#*"]))
    events = [
        record("events", i, id=f"e{i}", features={"x": float(i % 3)}, groups=["a"], label="abc"[(i * i) % 3])
        for i in range(60)
    ]
    told = [json.loads(out.value) for out in task.take(events).outputs]
    assert "set" not in told[0]  # no class was known
    assert set(told[-1]["set"]) <= set(told[-1]["p"])
    hits = sum("abc"[(i * i) % 3] in told[i]["set"] for i in range(20, 60))
    assert hits >= 30
    assert "interval" not in told[-1]
