"""Prequential sums, one label after the other, over all labels and over a fading window. Compiled.

`sums` has two rows, total (factor 1) and fading (factor `fading` per label); the meaning of its columns is the
caller's. Ties for the most frequent class go to the one that was most frequent before.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FLOOR = 1e-15  # a probability of 0 for what happened costs -ln(1e-15), not infinity


@njit(cache=True)
def judge_classes(
    y: Ints, guess: Ints, p: Floats, fading: float, sums: Floats, truth: Floats, told: Floats
) -> None:
    """Add n judged predictions.

    y, guess: (n,) class indices, guess -1 for none; p: (n,) the probability given to y, NaN if y was not known.
    sums: (2, 5) labels, correct, log loss (nats), the labels it is of, correct by the most frequent class so far.
    truth, told: (2, C) how often each class was true, was predicted.
    """
    for i in range(y.shape[0]):
        common = np.argmax(truth[0])
        majority = 1.0 if truth[0, common] > 0 and common == y[i] else 0.0
        known = 0.0 if np.isnan(p[i]) else 1.0
        loss = -np.log(max(p[i], FLOOR)) if known else 0.0
        for row in range(2):
            factor = 1.0 if row == 0 else fading
            if row == 1:
                truth[1] *= factor
                told[1] *= factor
            sums[row, 0] = sums[row, 0] * factor + 1.0
            sums[row, 1] = sums[row, 1] * factor + (1.0 if guess[i] == y[i] else 0.0)
            sums[row, 2] = sums[row, 2] * factor + loss
            sums[row, 3] = sums[row, 3] * factor + known
            sums[row, 4] = sums[row, 4] * factor + majority
            truth[row, y[i]] += 1.0
            if guess[i] >= 0:
                told[row, guess[i]] += 1.0


@njit(cache=True)
def judge_values(y: Floats, value: Floats, fading: float, sums: Floats, mean: Floats) -> None:
    """Add n judged predictions of a number.

    sums: (2, 4) labels, absolute error, squared error, absolute error of the mean of the labels so far.
    mean: (1,) that mean; before the first label it is 0.
    """
    for i in range(y.shape[0]):
        error = abs(value[i] - y[i])
        baseline = abs(mean[0] - y[i])
        for row in range(2):
            factor = 1.0 if row == 0 else fading
            sums[row, 0] = sums[row, 0] * factor + 1.0
            sums[row, 1] = sums[row, 1] * factor + error
            sums[row, 2] = sums[row, 2] * factor + error * error
            sums[row, 3] = sums[row, 3] * factor + baseline
        mean[0] += (y[i] - mean[0]) / sums[0, 0]


def load() -> None:
    """Compile, or load, the kernels."""
    none, row = np.zeros(0, np.int64), np.zeros((2, 5))
    judge_classes(none, none, np.zeros(0), 0.5, row, np.zeros((2, 8)), np.zeros((2, 8)))
    judge_values(np.zeros(0), np.zeros(0), 0.5, np.zeros((2, 4)), np.zeros(1))
