"""How well SS3 does on labelled texts: k-fold, and a search over its four hyper-parameters.

Only counts are learned, once a fold; each point of the grid is then tried on the same counts.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamd.learners.ss3.model import SS3Classifier

Grid = tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]  # of sigma, lam, rho, alpha


class Tried(msgspec.Struct, frozen=True):
    """One point: mean over the folds of the accuracy and of the mean F1 of the categories, within 0 and 1."""

    sigma: float
    lam: float
    rho: float
    alpha: float
    accuracy: float
    f1: float


def folds(labels: Sequence[str], k: int, seed: int = 0) -> NDArray[np.int64]:
    """(n,) the fold of each document: every category is dealt out evenly, in an order drawn from `seed`."""
    places, dealt = np.empty(len(labels), np.int64), dict.fromkeys(labels, 0)
    for i in np.random.Generator(np.random.Philox(seed)).permutation(len(labels)).tolist():
        places[i] = dealt[labels[i]] % k
        dealt[labels[i]] += 1
    return places


def grid_search(
    texts: Sequence[str],
    labels: Sequence[str],
    grid: Grid,
    k: int = 5,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **settings: Any,
) -> list[Tried]:
    """All points, the best accuracy first. `progress` is told how many trials of how many are done; settings: of
    `SS3Classifier`. Raises ConfigError for a point out of range."""
    points = list(product(*grid))
    fold = folds(labels, k, seed)
    measured: NDArray[np.float64] = np.zeros((len(points), k, 2))
    for f in range(k):
        model, test = _trained(texts, labels, fold != f, settings), np.flatnonzero(fold == f).tolist()
        truth = [labels[i] for i in test]
        for p, (sigma, lam, rho, alpha) in enumerate(points):
            model.retune({"sigma": sigma, "lam": lam, "rho": rho, "alpha": alpha})
            measured[p, f] = _measures(truth, model.predict_many([texts[i] for i in test]))
            progress(f * len(points) + p + 1, k * len(points))
    means = measured.mean(axis=1).tolist()
    tried = [Tried(*point, accuracy, f1) for point, (accuracy, f1) in zip(points, means, strict=True)]
    return sorted(tried, key=lambda t: (-t.accuracy, -t.f1, t.sigma, t.lam, t.rho, t.alpha))


def _trained(
    texts: Sequence[str], labels: Sequence[str], among: NDArray[np.bool_], settings: dict[str, Any]
) -> SS3Classifier:
    model, rows = SS3Classifier(**settings), np.flatnonzero(among).tolist()
    model.fit([texts[i] for i in rows], [labels[i] for i in rows])
    return model


def _measures(truth: Sequence[str], predicted: Sequence[str | list[str]]) -> tuple[float, float]:
    names = sorted(set(truth))
    hits = dict.fromkeys(names, 0)
    asked, answered = dict(hits), dict(hits)
    for y, p in zip(truth, predicted, strict=True):
        asked[y] += 1
        if isinstance(p, str) and p in answered:
            answered[p] += 1
        hits[y] += p == y
    f1 = [2 * hits[name] / (asked[name] + answered[name]) for name in names]
    return sum(hits.values()) / max(len(truth), 1), sum(f1) / max(len(f1), 1)


PLASMA = ("#0d0887", "#6a00a8", "#b12a90", "#e16462", "#fca636", "#f0f921")


def surface(tried: Sequence[Tried], across: str = "sigma", up: str = "lam") -> str:
    """An SVG picture: the best accuracy found for each pair of two hyper-parameters, the others free."""
    xs, ys = (sorted({getattr(point, name) for point in tried}) for name in (across, up))
    best: dict[tuple[float, float], float] = {}
    for point in tried:
        place = (getattr(point, across), getattr(point, up))
        best[place] = max(best.get(place, 0.0), point.accuracy)
    low, high = min(best.values(), default=0.0), max(best.values(), default=1.0)
    cells = "".join(_cells(xs, ys, best, low, high))
    width, height = 60 * len(xs) + 80, 36 * len(ys) + 60
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12"><text x="{width / 2}" y="{height - 8}" text-anchor="middle">{across}</text>'
        f'<text x="14" y="{height / 2}" text-anchor="middle">{up}</text>{cells}</svg>'
    )


def _cells(
    xs: list[float], ys: list[float], best: dict[tuple[float, float], float], low: float, high: float
) -> Iterator[str]:
    bottom = 36 * len(ys) + 10
    for i, x in enumerate(xs):
        yield f'<text x="{60 * i + 90}" y="{bottom + 18}" text-anchor="middle">{x:g}</text>'
        for j, y in enumerate(ys):
            accuracy = best[x, y]
            share = (accuracy - low) / (high - low) if high > low else 1.0
            colour = PLASMA[min(int(share * len(PLASMA)), len(PLASMA) - 1)]
            top, ink = bottom - 36 * (j + 1), "#000" if share > 0.6 else "#fff"
            yield f'<rect x="{60 * i + 60}" y="{top}" width="60" height="36" fill="{colour}"/>'
            yield f'<text x="{60 * i + 90}" y="{top + 22}" text-anchor="middle" fill="{ink}">'
            yield f"{100 * accuracy:.1f}</text>"
    for j, y in enumerate(ys):
        yield f'<text x="52" y="{bottom - 36 * j - 14}" text-anchor="end">{y:g}</text>'
