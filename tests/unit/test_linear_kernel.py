"""The compiled kernel against the same mathematics in plain numpy."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamd.kernels import linear as kernel

Array = NDArray[np.float64]


class Reference:
    """One linear model over dense vectors of D slots; slot 0 is the intercept, the first `numbers` are scaled."""

    def __init__(self, D: int, C: int, numbers: int, loss: int, adagrad: bool, standardise: bool) -> None:
        self.W, self.G = np.zeros((D, C)), np.zeros((D, C))
        self.rows: Array = np.zeros((0, numbers))
        self.targets: list[float] = []
        self.numbers, self.loss, self.adagrad, self.standardise = numbers, loss, adagrad, standardise
        self.eta, self.l2, self.clip = 0.01, 0.01, 3.0

    def scaled(self, x: Array) -> Array:
        x = x.copy()
        if self.standardise:
            part = slice(1, 1 + self.numbers)
            spread = self.rows.std(axis=0) if len(self.rows) else np.zeros(self.numbers)
            mean = self.rows.mean(axis=0) if len(self.rows) else np.zeros(self.numbers)
            z = np.divide(x[part] - mean, spread, out=np.zeros(self.numbers), where=spread > 1e-12)
            x[part] = np.clip(z, -self.clip, self.clip)
        return x

    def observe(self, x: Array) -> None:
        self.rows = np.vstack([self.rows, x[1 : 1 + self.numbers]])

    def predict(self, x: Array, known: int) -> Array:
        z = self.scaled(x) @ self.W
        if self.loss == kernel.SOFTMAX:
            e = np.exp(z[:known] - z[:known].max())
            return e / e.sum()
        if self.loss == kernel.LOGISTIC:
            p = 1 / (1 + np.exp(-z[0]))
            return np.array([1 - p, p]) if known == 2 else np.ones(1)
        if self.standardise:
            z = z * np.std(self.targets) + np.mean(self.targets) if self.targets else z * 0.0
        return np.asarray(z[:1])

    def learn(self, x: Array, y: float, weight: float, known: int) -> None:
        if self.standardise and self.loss not in (kernel.SOFTMAX, kernel.LOGISTIC):
            self.targets.append(y)
            y = (y - np.mean(self.targets)) / np.std(self.targets) if np.std(self.targets) > 1e-12 else 0.0
        z = self.scaled(x) @ self.W
        if self.loss == kernel.SOFTMAX:
            e = np.exp(z[:known] - z[:known].max())
            r = e / e.sum() - (np.arange(known) == y)
        elif self.loss == kernel.LOGISTIC:
            r = np.array([1 / (1 + np.exp(-z[0])) - y if known == 2 else 0.0])
        else:
            gap = z[:1] - y
            r = {kernel.SQUARED: gap, kernel.ABSOLUTE: np.sign(gap), kernel.HUBER: np.clip(gap, -1, 1)}[self.loss]
        present = (x != 0.0)[:, None]
        shrunk = self.l2 * self.W[:, : len(r)] * present
        shrunk[0] = 0.0
        g = weight * (np.outer(self.scaled(x), r) + shrunk)
        G, W = self.G[:, : len(r)], self.W[:, : len(r)]
        if self.adagrad:
            G += g * g
            W -= self.eta * g / (np.sqrt(G) + kernel.TINY)
        else:
            W -= self.eta * g


def sparse(x: Array, numbers: int) -> tuple[list[int], list[float]]:
    """A dense vector as the kernel takes it: the intercept left out, indicators as ~slot."""
    slots = [s for s in range(1, len(x)) if x[s] != 0.0]
    return [s if s <= numbers else ~s for s in slots], [x[s] for s in slots]


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("adagrad", [True, False])
@pytest.mark.parametrize("loss", [kernel.SOFTMAX, kernel.LOGISTIC, kernel.SQUARED, kernel.ABSOLUTE, kernel.HUBER])
def test_the_kernel_does_what_the_formulas_say(loss: int, adagrad: bool, standardise: bool) -> None:
    rng = np.random.default_rng(7)
    events, numbers, D = 120, 3, 7
    classes = {kernel.SOFTMAX: 3, kernel.LOGISTIC: 2}.get(loss, 1)
    X = np.column_stack(
        [np.ones(events), rng.normal(2, 3, (events, numbers)), rng.random((events, D - 1 - numbers)) < 0.5]
    )
    Y = rng.integers(0, classes, events).astype(float) if classes > 1 else rng.normal(50, 9, events)
    Y[: max(classes, 2)] = np.arange(max(classes, 2))  # every class is met at the beginning
    C = classes if loss == kernel.SOFTMAX else 1
    reference = Reference(D, C, numbers, loss, adagrad, standardise)

    starts, slots, values, ops, expected = [0], [], [], [], []
    for i in range(events):
        known = min(i, classes) if classes > 1 else 1
        codes, entries = sparse(X[i], numbers)
        slots += codes
        values += entries
        starts.append(len(slots))
        if known:
            ops.append((kernel.PREDICT, i, 0.0, 0.0, known))
            expected.append(reference.predict(X[i], known))
        ops.append((kernel.OBSERVE, i, 0.0, 0.0, 0))
        reference.observe(X[i])
        known, weight = min(i + 1, classes), 1.0 if classes == 1 else (1.0, 0.5)[i % 2]
        ops.append((kernel.LEARN, i, Y[i], weight, known))
        reference.learn(X[i], Y[i], weight, known)
    W, G, p = np.zeros((D, C)), np.zeros((D, C)), np.zeros((len(expected), classes))
    apply(starts, slots, values, ops, W, G, [loss, adagrad, standardise], p)

    for row, wanted in zip(p, expected, strict=True):
        np.testing.assert_allclose(row[: len(wanted)], wanted, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(W, reference.W, rtol=1e-9, atol=1e-9)


def apply(
    starts: list[int], slots: list[int], values: list[float], ops: Any, W: Array, G: Array, modes: Any, p: Array
) -> None:
    D = len(W)
    kernel.run(
        np.array(starts, np.int64),
        np.array(slots, np.int64),
        np.array(values),
        np.array(ops, np.float64),
        W,
        G,
        np.zeros(D),
        np.zeros(D),
        np.zeros(D),
        np.zeros(3),
        np.array([0.01, 0.01, 3.0]),
        np.array(modes, np.int64),
        p,
        np.full((len(p), 3), -1, np.int64),
        np.zeros((len(p), 3)),
    )


def test_the_kernel_has_one_compiled_form() -> None:
    kernel.load()

    assert len(kernel.run.signatures) == 1
