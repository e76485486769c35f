"""Linear models, compiled: one call applies a run of predictions, observations and updates in stream order.

All functions are plain loops over arrays, in a fixed order and without `fastmath`, so that a run cut in two gives
the same bits. `run` has one signature, hence one compilation, kept in numba's cache on disk.

Sizes: R rows with N entries in all, M operations, P of them predictions, D slots (slot 0 is the intercept), C
columns of weights (softmax: one per class; else one), K reasons per prediction.
"""

import math

import numpy as np
from numba import njit

PREDICT, OBSERVE, LEARN = 0, 1, 2
SOFTMAX, LOGISTIC, SQUARED, ABSOLUTE, HUBER = 0, 1, 2, 3, 4
STEEPEST = 1e12  # a gradient's coordinate is held within this, as in river: nothing ever becomes NaN
TINY = 1e-8  # AdaGrad's guard against a division by 0


@njit(cache=True, error_model="numpy")
def run(start, slot, value, ops, W, G, mean, m2, n, target, params, modes, p, why, share):  # type: ignore[no-untyped-def]
    """Apply `ops` in order.

    start: (R + 1,) int64, row r has the entries start[r]:start[r + 1] of `slot` and `value`.
    slot: (N,) int64; s >= 0 is a number, standardised if so asked; ~s stands for slot s with its value as it is.
    value: (N,) float64.
    ops: (M, 5) float64: what to do, row, class or target, weight, how many classes are known by now.
    W, G: (D, C) float64, changed: weights and AdaGrad's sums of squared gradients.
    mean, m2, n: (D,) float64, changed: Welford's mean, sum of squared deviations and count of each slot.
    target: (3,) float64, changed: count, mean and sum of squared deviations of a regression's targets.
    params: eta, l2, clip.  modes: int64: loss, AdaGrad (1) or SGD (0), standardise (1) or not (0).
    p: (P, classes) float64, written, zeros before: probabilities, or the value.
    why: (P, K) int64, -1 before, and share: (P, K) float64: entries of the row that count most, strongest first.
    """
    longest = 0
    for r in range(start.size - 1):
        longest = max(longest, start[r + 1] - start[r])
    x = np.empty(longest)
    z = np.empty(max(W.shape[1], 2))
    done = 0
    for i in range(ops.shape[0]):
        kind, r, known = int(ops[i, 0]), int(ops[i, 1]), int(ops[i, 4])
        where, raw = slot[start[r] : start[r + 1]], value[start[r] : start[r + 1]]
        if kind == OBSERVE:
            _observe(where, raw, mean, m2, n)
            continue
        _scale(where, raw, mean, m2, n, params[2], modes[2], x)
        if kind == PREDICT:
            _predict(where, x, W, target, modes, known, z, p[done])
            _reasons(where, x, W, target, modes, known, p[done], why[done], share[done])
            done += 1
        elif ops[i, 3] > 0.0:
            _residual(where, x, W, target, modes, known, ops[i, 2], ops[i, 3], z)
            _step(where, x, W, G, z, known if modes[0] == SOFTMAX else 1, ops[i, 3], params, modes)


@njit(cache=True, error_model="numpy")
def _observe(slot, value, mean, m2, n):  # type: ignore[no-untyped-def]
    for j in range(slot.size):
        s = slot[j]
        if s >= 0:
            n[s] += 1.0
            delta = value[j] - mean[s]
            mean[s] += delta / n[s]
            m2[s] += delta * (value[j] - mean[s])


@njit(cache=True, error_model="numpy")
def _scale(slot, value, mean, m2, n, clip, standardise, x):  # type: ignore[no-untyped-def]
    for j in range(slot.size):
        s = slot[j]
        if s < 0 or standardise == 0:
            x[j] = value[j]
            continue
        variance = m2[s] / n[s] if n[s] > 1.0 else 0.0
        x[j] = min(max((value[j] - mean[s]) / math.sqrt(variance), -clip), clip) if variance > 0.0 else 0.0


@njit(cache=True, error_model="numpy")
def _margins(slot, x, W, columns, z):  # type: ignore[no-untyped-def]
    for c in range(columns):
        z[c] = W[0, c]
    for j in range(slot.size):
        s = slot[j] if slot[j] >= 0 else ~slot[j]
        for c in range(columns):
            z[c] += W[s, c] * x[j]


@njit(cache=True, error_model="numpy")
def _softmax(z, known, p):  # type: ignore[no-untyped-def]
    top = z[0]
    for c in range(1, known):
        top = max(top, z[c])
    total = 0.0
    for c in range(known):
        p[c] = math.exp(z[c] - top)
        total += p[c]
    for c in range(known):
        p[c] /= total


@njit(cache=True, error_model="numpy")
def _sigmoid(z):  # type: ignore[no-untyped-def]
    if z >= 0.0:
        return 1.0 / (1.0 + math.exp(-z))
    e = math.exp(z)
    return e / (1.0 + e)


@njit(cache=True, error_model="numpy")
def _spread(target):  # type: ignore[no-untyped-def]
    return math.sqrt(target[2] / target[0]) if target[0] > 0.0 else 0.0


@njit(cache=True, error_model="numpy")
def _predict(slot, x, W, target, modes, known, z, p):  # type: ignore[no-untyped-def]
    if modes[0] == SOFTMAX:
        _margins(slot, x, W, known, z)
        if known > 0:
            _softmax(z, known, p)
        return
    _margins(slot, x, W, 1, z)
    if modes[0] == LOGISTIC:
        if known > 0:
            p[0] = 1.0 if known == 1 else _sigmoid(-z[0])
        if known > 1:
            p[1] = _sigmoid(z[0])
    elif modes[2] == 1:
        p[0] = target[1] + _spread(target) * z[0]
    else:
        p[0] = z[0]


@njit(cache=True, error_model="numpy")
def _residual(slot, x, W, target, modes, known, y, weight, z):  # type: ignore[no-untyped-def]
    """Into z, per column: the derivative of the loss in the margin."""
    loss = modes[0]
    if loss == SOFTMAX:
        _margins(slot, x, W, known, z)
        _softmax(z, known, z)
        z[int(y)] -= 1.0
        return
    _margins(slot, x, W, 1, z)
    if loss == LOGISTIC:
        z[0] = _sigmoid(z[0]) - y if known > 1 else 0.0
        return
    if modes[2] == 1:
        target[0] += weight
        delta = y - target[1]
        target[1] += delta * (weight / target[0])
        target[2] += weight * delta * (y - target[1])
        spread = _spread(target)
        y = (y - target[1]) / spread if spread > 0.0 else 0.0
    z[0] -= y
    if loss == ABSOLUTE:
        z[0] = 1.0 if z[0] > 0.0 else -1.0 if z[0] < 0.0 else 0.0
    elif loss == HUBER:
        z[0] = min(max(z[0], -1.0), 1.0)


@njit(cache=True, error_model="numpy")
def _step(slot, x, W, G, z, columns, weight, params, modes):  # type: ignore[no-untyped-def]
    eta, l2 = params[0], params[1]
    for j in range(-1, slot.size):
        s = 0
        if j >= 0:
            s = slot[j] if slot[j] >= 0 else ~slot[j]
        for c in range(columns):
            g = z[c] if j < 0 else z[c] * x[j] + l2 * W[s, c]
            g = weight * min(max(g, -STEEPEST), STEEPEST)
            if modes[1] == 1:
                G[s, c] += g * g
                W[s, c] -= eta * g / (math.sqrt(G[s, c]) + TINY)
            else:
                W[s, c] -= eta * g


@njit(cache=True, error_model="numpy")
def _reasons(slot, x, W, target, modes, known, p, why, share):  # type: ignore[no-untyped-def]
    """The K largest contributions to the predicted class, against the mean over classes; or to the value."""
    best = 0
    for c in range(1, known):
        if p[c] > p[best]:
            best = c
    for j in range(slot.size):
        s = slot[j] if slot[j] >= 0 else ~slot[j]
        if modes[0] == SOFTMAX:
            average = 0.0
            for c in range(known):
                average += W[s, c]
            w = W[s, best] - average / known if known > 0 else 0.0
        elif modes[0] == LOGISTIC:
            w = (best - 0.5) * W[s, 0] if known > 1 else 0.0
        else:
            w = W[s, 0] * (_spread(target) if modes[2] == 1 else 1.0)
        _insert(j, w * x[j], why, share)


@njit(cache=True, error_model="numpy")
def _insert(j, contribution, why, share):  # type: ignore[no-untyped-def]
    if contribution == 0.0:
        return
    k = why.size
    while k > 0 and (why[k - 1] < 0 or abs(share[k - 1]) < abs(contribution)):
        k -= 1
    for i in range(why.size - 1, k, -1):
        why[i], share[i] = why[i - 1], share[i - 1]
    if k < why.size:
        why[k], share[k] = j, contribution


def load() -> None:
    """Compile `run` or load it from the cache, by an empty run."""
    none, empty, square = np.zeros(0, np.int64), np.zeros(0), np.zeros((1, 1))
    state = (square, square.copy(), np.zeros(1), np.zeros(1), np.zeros(1), np.zeros(3))
    outputs = (np.zeros((0, 1)), np.zeros((0, 1), np.int64), np.zeros((0, 1)))
    run(np.zeros(1, np.int64), none, empty, np.zeros((0, 5)), *state, np.zeros(3), np.zeros(3, np.int64), *outputs)
