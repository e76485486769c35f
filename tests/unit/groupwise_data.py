"""The recorded vectors and data sets of the reference study, where they are: beside the repository."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from streamd.learners.groupwise.model import Groupwise

SHARED = Path(__file__).parents[3] / "shared"
SEEDS = (473, 503, 623, 550, 692, 989, 617, 458, 301, 205)


def shared(path: str) -> Path:
    """A file of the reference study; the test is skipped where it is not."""
    found = SHARED / path
    if not found.exists():
        pytest.skip(f"../shared/{path} is not there")
    return found


def golden() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(shared("golden/groupwise_anh.json").read_text())
    return loaded


def table(name: str) -> list[dict[str, str]]:
    with gzip.open(shared(f"data/groupwise/{name}"), "rt", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


class Medical(NamedTuple):
    """features: x0..x17 as in the paper; tags: the groups of each row; y: charges, scaled."""

    features: list[dict[str, float]]
    tags: list[list[str]]
    y: list[float]
    groups: list[str]


def medical() -> Medical:
    rows = table("insurance.csv.gz")
    columns = [scaled([float(row[name]) for row in rows]) for name in ("age", "bmi", "children")]
    for name in ("sex", "smoker", "region"):
        levels = sorted({row[name] for row in rows})
        columns += [np.array([float(row[name] == level) for row in rows]) for level in levels]
    age, bmi = (np.array([float(row[name]) for row in rows]) for name in ("age", "bmi"))
    masks = {
        "young": age <= 35,
        "middle": (age > 35) & (age <= 50),
        "old": age > 50,
        "underweight": bmi < 18.5,
        "healthyweight": (bmi >= 18.5) & (bmi < 25),
        "overweight": (bmi >= 25) & (bmi < 30),
        "obese": bmi >= 30,
    }
    columns += [mask.astype(float) for mask in masks.values()]
    for name, feature, value in (("smoker", "smoker", "yes"), ("non-smoker", "smoker", "no")):
        masks[name] = np.array([row[feature] == value for row in rows])
    for name in ("male", "female"):
        masks[name] = np.array([row["sex"] == name for row in rows])
    X = np.stack(columns, axis=1)
    features = [{f"x{j}": v for j, v in enumerate(row)} for row in X.tolist()]
    tags = [[name for name, mask in masks.items() if mask[i]] for i in range(len(rows))]
    return Medical(features, tags, scaled([float(row["charges"]) for row in rows]).tolist(), list(masks))


def adult_hours(n: int | None = None) -> tuple[list[dict[str, float | str]], list[float]]:
    """(features, hours per week scaled), in the order of seed 473; the first n."""
    rows = table("adult.csv.gz")
    numbers = ("age", "education-num", "capital-gain", "capital-loss")
    names = ("workclass", "marital-status", "occupation", "relationship", "race", "sex", "native-country")
    columns = {name: scaled([float(row[name]) for row in rows]) for name in numbers}
    y = scaled([float(row["hours-per-week"]) for row in rows])
    features: list[dict[str, float | str]] = []
    order = np.random.RandomState(473).permutation(len(rows)).tolist()[:n]
    for i in order:
        row = rows[i]
        age, education = float(row["age"]), float(row["education-num"])
        x: dict[str, float | str] = {name: float(columns[name][i]) for name in numbers}
        x |= {name: row[name] for name in names}
        x["life"] = "young" if age <= 35 else "middle" if age <= 50 else "old"
        x["school"] = "HighSchool&less" if education <= 9 else "College&more"
        features.append(x)
    return features, [float(y[i]) for i in order]


def scaled(values: list[float]) -> NDArray[np.float64]:
    array = np.array(values)
    return np.asarray((array - array.min()) / (array.max() - array.min()))


def live(learner: Groupwise, features: list[Any], y: list[Any], tags: list[Any] | None = None) -> list[bytes]:
    """Predict, observe and learn every event; the memos."""
    steps = learner.steps()
    for i, (x, label) in enumerate(zip(features, y, strict=True)):
        row = steps.row(x, tags[i] if tags is not None else ())
        steps.predict(row)
        steps.observe(row)
        steps.learn(row, label, i)
    predictions = steps.execute()
    return predictions.memos()
