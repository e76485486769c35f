"""The streams and base learners of the quality tables: real ones where present, and river's generators.

The real streams are read from the directory named by STREAMD_STREAMS: gzip CSV with a header line and the class in
the last column; a column `tokens` holds the indices of the non-zero words.
"""

import csv
import functools
import gzip
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from river import linear_model, optim, preprocessing, tree
from river.datasets import synth

Row = tuple[dict[str, Any], str]

REAL = {"elec2": "elec2", "noaa": "noaa_weather", "spam": "spam_assassin", "outdoor": "outdoor"}
EVENTS = 20_000  # of each generated stream


def folder() -> Path | None:
    """Where the real streams are, if anywhere."""
    named = os.environ.get("STREAMD_STREAMS")
    return Path(named) if named else None


@functools.lru_cache(maxsize=4)
def real(name: str) -> list[Row]:
    place = folder()
    assert place is not None
    with gzip.open(place / f"{REAL[name]}.csv.gz", "rt") as file:
        lines = csv.reader(file)
        header = next(lines)[:-1]
        return [(_features(header, line), line[-1]) for line in lines]


def _features(header: list[str], line: list[str]) -> dict[str, Any]:
    if header == ["tokens"]:
        return dict.fromkeys(line[0].split(), 1.0)
    return {name: float(value) for name, value in zip(header, line, strict=False)}


def _sea(seed: int) -> list[Row]:
    return [row for v in range(4) for row in _taken(synth.SEA(variant=v, noise=0.1, seed=10 * seed + v), 4)]


def _agrawal(seed: int) -> list[Row]:
    parts = [synth.Agrawal(classification_function=f, perturbation=0.05, seed=10 * seed + f) for f in (0, 3, 6, 8)]
    return [row for part in parts for row in _taken(part, 4)]


def _hyperplane(seed: int) -> list[Row]:
    return _taken(
        synth.Hyperplane(n_features=10, n_drift_features=5, mag_change=0.002, noise_percentage=0.05, seed=seed),
        1,
    )


def _rbf(seed: int) -> list[Row]:
    made = synth.RandomRBFDrift(
        seed_model=seed,
        seed_sample=seed,
        n_classes=4,
        n_features=10,
        n_centroids=30,
        n_drift_centroids=30,
        change_speed=0.0005,
    )
    return _taken(made, 1)


def _taken(made: Any, parts: int) -> list[Row]:
    rows = made.take(EVENTS // parts)
    return [({str(name): float(f"{value:.6g}") for name, value in x.items()}, str(y)) for x, y in rows]


GENERATED: Mapping[str, Callable[[int], list[Row]]] = {
    "sea": _sea,
    "hyperplane": _hyperplane,
    "agrawal": _agrawal,
    "rbf": _rbf,
}


@functools.lru_cache(maxsize=4)
def generated(name: str, seed: int) -> list[Row]:
    return GENERATED[name](seed)


class LogisticRegression:
    """StandardScaler, updated on every event, and SGD of rate 0.05; without the scaler 0.1. Two classes."""

    def __init__(self, scaled: bool, positive: str, negative: str) -> None:
        self.classes = [negative, positive]
        self._scaler = preprocessing.StandardScaler() if scaled else None
        self._model = linear_model.LogisticRegression(optim.SGD(0.05 if scaled else 0.1))
        self._last: tuple[int, Any] = (0, None)

    def predict(self, x: dict[str, Any]) -> list[float]:
        if self._scaler is not None:
            self._scaler.learn_one(x)
        p = self._model.predict_proba_one(self._scaled(x))
        return [p[False], p[True]]

    def learn(self, x: dict[str, Any], y: str, weight: float) -> None:
        self._model.learn_one(self._scaled(x), y == self.classes[1])

    def _scaled(self, x: dict[str, Any]) -> Any:
        return x if self._scaler is None else self._scaler.transform_one(x)


class HoeffdingTree:
    """river's, with its defaults; it knows the classes it has seen."""

    def __init__(self) -> None:
        self.classes: list[str] = []
        self._model = tree.HoeffdingTreeClassifier()

    def predict(self, x: dict[str, Any]) -> list[float]:
        p = self._model.predict_proba_one(x)
        total = sum(p.values())
        return [p.get(name, 0.0) / total for name in self.classes] if total > 0 else []

    def learn(self, x: dict[str, Any], y: str, weight: float) -> None:
        if y not in self.classes:
            self.classes.append(y)
        self._model.learn_one(x, y)


POSITIVE = {"elec2": "UP", "noaa": "TRUE", "spam": "1"}


def model(base: str, stream: str, rows: list[Row]) -> LogisticRegression | HoeffdingTree:
    """base: "LR" or "HT"."""
    if base == "HT":
        return HoeffdingTree()
    names = sorted({y for _, y in rows})
    positive = POSITIVE.get(stream, names[-1])
    negative = next(name for name in names if name != positive)
    return LogisticRegression(stream != "spam", positive, negative)
