"""The report over a recorded stream: comparators, regrets, the verb that prints them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamd.cli.groupwise_curves import svg
from streamd.errors import ConfigError
from streamd.learners.groupwise import GroupwiseRegressor
from streamd.learners.groupwise.hindsight import Judged, Recorded, judge
from tests.unit.groupwise_data import SEEDS, medical


def noisy(n: int = 300) -> list[Recorded]:
    rng = np.random.default_rng(4)
    stream = []
    for _ in range(n):
        sex, age = str(rng.choice(["f", "m"])), float(rng.uniform(20, 60))
        y = 100.0 + (2.0 if sex == "f" else -1.0) * age + rng.normal()
        stream.append(Recorded({"sex": sex, "age": age, "vip": bool(rng.random() < 0.5)}, y))
    return stream


def test_the_comparator_is_least_squares_and_regrets_are_to_it() -> None:
    stream = noisy()
    learner = GroupwiseRegressor((0.0, 250.0), ["sex=*", "vip=true"])

    found = {one.name: one for one in judge(learner, stream)}

    for name, one in found.items():
        mine = [
            event
            for event in stream
            if name in ("everyone", f"sex={event.x['sex']}") or (name == "vip=true" and event.x["vip"])
        ]
        mine = mine[len(mine) - one.n :]  # a group per value is not awake in its first event
        design = [[1.0, e.x["age"], e.x["sex"] == "f", e.x["sex"] == "m", e.x["vip"]] for e in mine]
        X, y = np.array(design, float), np.array([e.y for e in mine])
        best = float(((X @ np.linalg.lstsq(X, y, rcond=None)[0] - y) ** 2).sum())
        assert one.hindsight == pytest.approx(best, rel=1e-6), name
        assert one.single_regret == pytest.approx(one.single - best, rel=1e-6, abs=1e-6)
        assert one.groupwise_regret == pytest.approx(one.groupwise - best, rel=1e-6, abs=1e-6)
        assert one.curve[-1] == (one.n, one.single_regret, one.groupwise_regret)
    assert found["sex=f"].groupwise < found["sex=f"].single


def test_the_medical_table_of_the_study() -> None:
    """Clipped, averaged, ten seeds: loss in hindsight, regret of the single and of the groupwise model."""
    data = medical()
    sums: dict[str, list[float]] = {}
    for seed in SEEDS:
        order = np.random.RandomState(seed).permutation(len(data.y)).tolist()
        learner = GroupwiseRegressor(
            (0.0, 1.0), [f"#{n}" for n in data.groups], standardise=False, intercept=False, floor=0.0
        )
        stream = [Recorded(data.features[i], data.y[i], data.tags[i]) for i in order]
        for one in judge(learner, stream):
            row = np.array([one.hindsight, one.single_regret, one.groupwise_regret]) / len(SEEDS)
            sums[one.name] = (np.array(sums.get(one.name, 0.0)) + row).tolist()

    expected = {
        "everyone": [12.11, 1.03, -4.08],
        "#young": [5.41, 0.46, -1.86],
        "#underweight": [0.03, 0.14, 0.06],
        "#smoker": [0.90, 5.06, 1.07],
        "#obese": [3.65, 3.42, 0.98],
        "#female": [5.89, 0.54, -1.89],
    }
    for name, row in expected.items():
        assert sums[name] == pytest.approx(row, abs=0.0051), name


def test_only_squared_loss_with_everyone_has_the_report() -> None:
    for options in ({"loss": "pinball"}, {"everyone": False, "groups": ["sex=*"]}):
        with pytest.raises(ConfigError, match="least squares"):
            judge(GroupwiseRegressor((0.0, 1.0), **options), noisy(3))


def test_a_picture_has_a_panel_for_each_group() -> None:
    found = judge(GroupwiseRegressor((0.0, 250.0), {"a<b": "age<30"}), noisy(50))

    picture = svg(found)

    assert picture.count("<polyline") == 2 * len(found)
    assert "a&lt;b" in picture
    empty = Judged("none", 1, 0, 0, 0, 0, 0, 0, 0, [(1, 0.0, 0.0)])
    assert "nan" not in svg([empty])


def test_the_verb_prints_what_the_function_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from streamd.cli.groupwise import report

    stream = noisy()
    file, picture = tmp_path / "recorded.csv", tmp_path / "curves.svg"
    lines = [f"{e.x['sex']},{e.x['age']!r},{str(e.x['vip']).lower()},{e.y!r}" for e in stream]
    file.write_text("sex,age,vip,y\n" + "\n".join(lines) + "\n")
    options: dict[str, Any] = {"range_": "0,250", "drop": [], "shuffle": None, "limit": None}
    fixed = {"meta": "anh", "experts": "own", "oracle": "ridge", "features": 100}

    report(file, "y", ["sex=*"], picture=picture, as_json=True, **options, **fixed)
    printed = json.loads(capsys.readouterr().out)
    report(file, "y", ["sex=*"], picture=None, as_json=False, **options, **fixed)

    found = judge(GroupwiseRegressor((0.0, 250.0), ["sex=*"]), stream)
    assert [one["name"] for one in printed] == [one.name for one in found]
    assert [one["groupwise"] for one in printed] == pytest.approx([one.groupwise for one in found])
    assert "sex=f" in capsys.readouterr().out
    assert picture.read_text().startswith("<svg")
