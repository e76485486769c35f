"""Group declarations: what they mean, and where they cannot be read."""

from typing import Any

import pytest

from streamd.errors import ConfigError
from streamd.learners.groupwise import GroupwiseRegressor
from streamd.learners.groupwise.predicates import parse

EVENT: dict[str, Any] = {
    "sex": "Female",
    "town": "New York",
    "age": 25,
    "hours": 40.5,
    "vip": True,
    "floor": 3.0,
    "note": None,
}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("sex=Female", ["sex=Female"]),
        ("sex=Male", []),
        ("sex!=Male", ["sex!=Male"]),
        ("sex != Female", []),
        ('town = "New York"', ['town = "New York"']),
        ("vip=true", ["vip=true"]),
        ("vip=false", []),
        ("floor=3", ["floor=3"]),
        ("floor!=3", []),
        ("age<30", ["age<30"]),
        ("age<=25", ["age<=25"]),
        ("age>25", []),
        ("hours >= 40.5", ["hours >= 40.5"]),
        ("18<=age<30", ["18<=age<30"]),
        ("25<age<30", []),
        ("age in [18, 25]", ["age in [18, 25]"]),
        ("age in [18, 25)", []),
        ("age in (25, 30)", []),
        ("sex in {Male, Female}", ["sex in {Male, Female}"]),
        ("floor in {1, 2}", []),
        ("age?", ["age?"]),
        ("note?", []),
        ("other?", []),
        ("sex=*", ["sex=Female"]),
        ("town=*", ['town="New York"']),
        ("vip=*", ["vip=true"]),
        ("floor=*", ["floor=3"]),
        ("sex=* & age<30", ["sex=Female & age<30"]),
        ("sex=* & town=*", ['sex=Female & town="New York"']),
        ("sex=* & age>30", []),
        ("#new", ["#new"]),
        ("#old", []),
        ("#*", ["#new", "#late-1"]),
        ("#* & sex=*", ["#new & sex=Female", "#late-1 & sex=Female"]),
    ],
)
def test_what_a_declaration_finds(text: str, names: list[str]) -> None:
    found, missing, mistyped = parse(text).groups(EVENT, ("new", "late-1"))

    assert found == names
    assert not (missing or mistyped) or "other" in text or "note" in text


@pytest.mark.parametrize(
    ("text", "missing", "mistyped"),
    [
        ("income<3", True, False),
        ("note=a", True, False),
        ("income=*", True, False),
        ("sex<3", False, True),
        ("age=Female", False, True),
        ("vip=1", False, True),
        ("hours=*", False, True),
        ("vip in {1, a}", False, True),
        ("age=Female & income<3", False, True),
    ],
)
def test_a_feature_missing_or_of_another_type_leaves_the_group_asleep(
    text: str, missing: bool, mistyped: bool
) -> None:
    assert parse(text).groups(EVENT, ()) == ([], missing, mistyped)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("", 1),
        ("age<", 5),
        ("age<x", 5),
        ("& a=1", 1),
        ("a=1 &", 6),
        ("a==1", 3),
        ("a in {", 7),
        ("a in {x y}", 9),
        ("a in [3,1]", 7),
        ("age ~ 3", 5),
        ("a=1 b=2", 5),
        ("#", 2),
        ("3<a", 4),
        ('a="x', 3),
        ("a", 2),
        ("a=1 & \u2264", 7),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_column(text: str, column: int) -> None:
    with pytest.raises(ConfigError, match=rf"at column {column}$") as caught:
        GroupwiseRegressor((0.0, 1.0), [text])
    assert caught.value.key == "groups"


def test_named_groups_are_refused_under_their_name() -> None:
    with pytest.raises(ConfigError, match="column 5") as caught:
        GroupwiseRegressor((0.0, 1.0), {"young": "age<"})
    assert caught.value.key == "groups.young"


def test_named_groups_have_that_name() -> None:
    learner = GroupwiseRegressor((0.0, 1.0), {"young": "age<30", "by sex": "sex=*"}, prior={"young": 2.0})

    steps = learner.steps()
    steps.observe(steps.row({"age": 3.0, "sex": "f"}))
    steps.execute()

    assert learner.groups.names == ["everyone", "young", "sex=f"]


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"groups": ["a=1", "a=1"]}, "groups"),
        ({"groups": {"everyone": "a=1"}}, "groups"),
        ({"everyone": False}, "groups"),
        ({"groups": ["a=1", "a=2"], "max_groups": 2}, "max_groups"),
        ({"groups": ["a=1"], "prior": {"a=2": 1.0}}, "prior.a=2"),
        ({"groups": ["a=1"], "prior": {"a=1": 0.0}}, "prior.a=1"),
        ({"range": (1.0, 1.0)}, "range"),
        ({"range": (float("nan"), 1.0)}, "range"),
        ({"meta": "best"}, "meta"),
        ({"meta": "bayes"}, "meta"),
        ({"meta": "aa", "loss": "pinball"}, "meta"),
        ({"meta": "aa", "accounting": "expected"}, "accounting"),
        ({"accounting": "exact"}, "accounting"),
        ({"play": "sampled", "accounting": "mixture"}, "play"),
        ({"experts": "own+everyone", "everyone": False, "groups": ["a=1"]}, "experts"),
        ({"oracle": "softmax"}, "oracle"),
        ({"oracle": {"river": "river.linear_model.Perceptron"}}, "oracle.model"),
        ({"quantiles": [0.5, 0.5], "loss": "pinball"}, "quantiles"),
        ({"floor": -1.0}, "floor"),
        ({"lam": 0.0}, "lam"),
        ({"coverage": 1.0}, "coverage"),
        ({"max_features": 0}, "max_features"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_key(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        GroupwiseRegressor(**{"range": (0.0, 1.0), **options})
    assert caught.value.key == key
