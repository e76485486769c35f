"""How good the predictions were, each judged as it was made at the time (prequential evaluation).

Over all labels and over a fading window (Gama, Sebastiao, Rodrigues 2013: every sum is multiplied by `fading` at
each label). Log loss is over the labels whose class was known when the prediction was made.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from streamd.kernels.quality import judge_classes, judge_values
from streamd.learners import Label, Learner
from streamd.snapshot import State
from streamd.views import DelayView

if TYPE_CHECKING:
    from streamd.learners.groupwise.paths import Graph

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LARGEST = 1e150  # of a value whose squared error is a number

Decisions = Sequence[Sequence[int]]


class Judged(Protocol):
    """One kind of quality."""

    def add(
        self,
        values: Floats,
        known: Ints,
        labels: Sequence[Label],
        classes: Sequence[str],
        decisions: Decisions | None = None,
    ) -> Floats:
        """Judge n predictions in order: values (n, C), known (n,). Returns the losses of those that could be
        judged, for drift.

        decisions: the numbers of the classes decided on; None: the likeliest one.
        """

    def measures(self) -> tuple[int, dict[str, float], dict[str, float]]:
        """(labels, over all of them, over the fading window)."""

    def state(self) -> State: ...

    def restore(self, state: State) -> None: ...


class ClassQuality:
    """Accuracy, log loss (nats), kappa against the marginals, and the accuracy of the class most frequent so far.

    The loss for drift is 0 or 1.
    """

    def __init__(self, fading: float) -> None:
        self.fading = fading
        self.sums: Floats = np.zeros((2, 5))
        self.truth: Floats = np.zeros((2, 8))
        self.told: Floats = np.zeros((2, 8))

    def add(
        self,
        values: Floats,
        known: Ints,
        labels: Sequence[Label],
        classes: Sequence[str],
        decisions: Decisions | None = None,
    ) -> Floats:
        self._make_room(len(classes))
        index = {name: i for i, name in enumerate(classes)}
        y = np.array([index[str(label)] for label in labels], np.int64)
        if values.shape[1]:
            inside = y < known
            p = np.where(inside, values[np.arange(len(y)), np.where(inside, y, 0)], np.nan)
            guess = np.where(known > 0, values.argmax(axis=1), -1)
        else:
            p, guess = np.full(len(y), np.nan), np.full(len(y), -1)
        if decisions is not None:
            guess = np.array([decided[0] if decided else -1 for decided in decisions], np.int64)
        judge_classes(y, guess, p, self.fading, self.sums, self.truth, self.told)
        wrong: Floats = (guess != y).astype(np.float64)
        return wrong

    def _make_room(self, classes: int) -> None:
        while self.truth.shape[1] < classes:
            self.truth = np.concatenate((self.truth, np.zeros_like(self.truth)), axis=1)
            self.told = np.concatenate((self.told, np.zeros_like(self.told)), axis=1)

    def measures(self) -> tuple[int, dict[str, float], dict[str, float]]:
        return int(self.sums[0, 0]), self._row(0), self._row(1)

    def _row(self, row: int) -> dict[str, float]:
        n, correct, loss, known, majority = self.sums[row].tolist()
        if n == 0:
            return {}
        chance = float(self.truth[row] @ self.told[row]) / (n * n)
        kappa = (correct / n - chance) / (1 - chance) if chance < 1 else 0.0
        measures = {"accuracy": correct / n, "kappa": kappa, "majority": majority / n}
        return measures | {"log_loss": loss / known} if known else measures

    def state(self) -> State:
        return State({"sums": self.sums.copy(), "truth": self.truth.copy(), "told": self.told.copy()}, {})

    def restore(self, state: State) -> None:
        self.sums, self.truth, self.told = (state.arrays[name] for name in ("sums", "truth", "told"))


class LabelsQuality:
    """Of predictions that name any number of labels: how often exactly the true ones (accuracy); the mean of
    |true and told| / |true or told|, 1 where both are empty (jaccard); F1 over all labels told and true (f1); and,
    to compare, the jaccard of telling always the one label that was most frequent so far (majority).

    The loss for drift is 1 - jaccard.
    """

    def __init__(self, fading: float) -> None:
        self.fading = fading
        self.sums: Floats = np.zeros((2, 7))
        self.truth: dict[str, int] = {}

    def add(
        self,
        values: Floats,
        known: Ints,
        labels: Sequence[Label],
        classes: Sequence[str],
        decisions: Decisions | None = None,
    ) -> Floats:
        assert decisions is not None
        losses = np.zeros(len(labels))
        for i, (label, decided) in enumerate(zip(labels, decisions, strict=True)):
            assert isinstance(label, list)
            true, told = set(label), {classes[c] for c in decided}
            common = {max(self.truth, key=self.truth.__getitem__)} if self.truth else set()
            hit, near = len(true & told), _jaccard(true, told)
            judged = (1.0, true == told, near, hit, len(told), len(true), _jaccard(true, common))
            self.sums[1] *= self.fading
            self.sums += np.array(judged, np.float64)
            losses[i] = 1.0 - near
            for name in label:
                self.truth[name] = self.truth.get(name, 0) + 1
        return losses

    def measures(self) -> tuple[int, dict[str, float], dict[str, float]]:
        return int(self.sums[0, 0]), self._row(0), self._row(1)

    def _row(self, row: int) -> dict[str, float]:
        n, exact, jaccard, hit, told, true, majority = self.sums[row].tolist()
        if n == 0:
            return {}
        f1 = 2 * hit / (told + true) if told + true else 1.0
        return {"accuracy": exact / n, "jaccard": jaccard / n, "f1": f1, "majority": majority / n}

    def state(self) -> State:
        return State({"sums": self.sums.copy()}, {"truth": dict(self.truth)})

    def restore(self, state: State) -> None:
        self.sums, self.truth = state.arrays["sums"], dict(state.document["truth"])


def _jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b) if a or b else 1.0


class ValueQuality:
    """MAE, RMSE, and the MAE of the mean of the labels so far. The loss for drift is the absolute error.

    A prediction that is no finite number, or so large that its squared error is none, is left out and counted
    (`non_finite`): a model that diverged once would be told as infinitely bad for ever.
    """

    def __init__(self, fading: float) -> None:
        self.fading = fading
        self.sums: Floats = np.zeros((2, 4))
        self.mean: Floats = np.zeros(1)
        self.non_finite = 0

    def add(
        self,
        values: Floats,
        known: Ints,
        labels: Sequence[Label],
        classes: Sequence[str],
        decisions: Decisions | None = None,
    ) -> Floats:
        y = np.array(labels, np.float64)
        told = np.ascontiguousarray(values[:, 0])
        finite = np.abs(told) < LARGEST
        if not finite.all():
            self.non_finite += int((~finite).sum())
            y, told = y[finite], told[finite]
        judge_values(y, told, self.fading, self.sums, self.mean)
        return np.abs(told - y)

    def measures(self) -> tuple[int, dict[str, float], dict[str, float]]:
        return int(self.sums[0, 0]), self._row(0), self._row(1)

    def _row(self, row: int) -> dict[str, float]:
        n, absolute, squared, baseline = self.sums[row].tolist()
        if n == 0:
            return {}
        return {"mae": absolute / n, "rmse": (squared / n) ** 0.5, "mean": baseline / n}

    def state(self) -> State:
        return State({"sums": self.sums.copy(), "mean": self.mean.copy()}, {"non_finite": self.non_finite})

    def restore(self, state: State) -> None:
        self.sums, self.mean = state.arrays["sums"], state.arrays["mean"]
        self.non_finite = state.document.get("non_finite", 0)


class PathQuality:
    """Mean cost of the paths taken, and of the path that would have been the cheapest. The loss is the cost."""

    def __init__(self, fading: float, graph: "Graph") -> None:
        self.fading = fading
        self._graph = graph
        self.sums: Floats = np.zeros((2, 2 + len(graph.names)))  # labels, cost, the cost of each edge

    def add(
        self,
        values: Floats,
        known: Ints,
        labels: Sequence[Label],
        classes: Sequence[str],
        decisions: Decisions | None = None,
    ) -> Floats:
        costs = np.array([[label[edge] for edge in classes] for label in labels if isinstance(label, dict)])
        losses: Floats = (values * costs).sum(axis=1)
        for loss, row in zip(losses.tolist(), costs, strict=True):
            self.sums[1] *= self.fading
            self.sums += np.concatenate(([1.0, loss], row))
        return losses

    def measures(self) -> tuple[int, dict[str, float], dict[str, float]]:
        return int(self.sums[0, 0]), self._row(0), self._row(1)

    def _row(self, row: int) -> dict[str, float]:
        n, cost, edges = self.sums[row, 0], self.sums[row, 1], self.sums[row, 2:]
        if n == 0:
            return {}
        return {"cost": float(cost / n), "best": self._graph.cost(self._graph.cheapest(edges), edges) / float(n)}

    def state(self) -> State:
        return State({"sums": self.sums.copy()}, {})

    def restore(self, state: State) -> None:
        self.sums = state.arrays["sums"]


def quality_of(task: str, fading: float, learner: Learner, *, several: bool) -> Judged:
    """How a task's predictions are judged. several: an event may have several classes."""
    if task == "choose":
        from streamd.learners.groupwise import GroupwiseChooser  # here: no other task needs it

        assert isinstance(learner, GroupwiseChooser)
        return PathQuality(fading, learner.graph)
    if several:
        return LabelsQuality(fading)
    return ValueQuality(fading) if task == "regress" else ClassQuality(fading)


class LabelDelay:
    """Event time from an event to its label, as a histogram."""

    BOUNDS = (1.0, 10.0, 60.0, 600.0, 3600.0, 21600.0, 86400.0, 604800.0)  # seconds

    def __init__(self) -> None:
        self.counts = [0] * (len(self.BOUNDS) + 1)
        self.sum = 0  # milliseconds
        self._bounds = 1000 * np.array(self.BOUNDS)

    def add(self, milliseconds: Sequence[int]) -> None:
        if milliseconds:
            places = np.searchsorted(self._bounds, milliseconds)
            counts = np.bincount(places, minlength=len(self.counts))
            self.counts = [count + new for count, new in zip(self.counts, counts.tolist(), strict=True)]
            self.sum += sum(milliseconds)

    def view(self) -> DelayView:
        return DelayView(self.BOUNDS, tuple(self.counts), self.sum / 1000)

    def document(self) -> dict[str, object]:
        return {"counts": list(self.counts), "sum": self.sum}

    def restore(self, document: Mapping[str, object]) -> None:
        counts, total = document["counts"], document["sum"]
        assert isinstance(counts, list)
        assert isinstance(total, int)
        self.counts, self.sum = list(counts), total
