"""Learned probabilities of success, compiled: Beta posteriors per resource and (resource, kind), logistic, draws.

Posteriors are (n, 3) float64 per resource: successes, failures, time (milliseconds) of the last change; and the
same
per pair in a table of open addresses: `pair` (size,) int64 holds slot * KINDS + kind + 1, or 0 if free.
"""

import math

import numpy as np
from numba import njit

from streamd.kernels.matching_ids import draw, key, mix

KINDS = 1 << 16
NONE, THOMPSON, UCB = 0, 1, 2
# settings: prior successes, prior failures, shrinkage, half-life (milliseconds, 0 none), floor, ceiling, width of
# ucb
A, B, SHRINK, HALF_LIFE, FLOOR, CEILING, WIDTH = 0, 1, 2, 3, 4, 5, 6


@njit(cache=True, error_model="numpy")
def place(pair, code):  # type: ignore[no-untyped-def]
    """Where a pair is, or would be."""
    mask = pair.size - 1
    i = np.int64(mix(np.uint64(code)) & np.uint64(mask))
    while pair[i] != 0 and pair[i] != code:
        i = (i + 1) & mask
    return i


@njit(cache=True, error_model="numpy")
def rehash(pair, counts, new_pair, new_counts):  # type: ignore[no-untyped-def]
    for i in range(pair.size):
        if pair[i] != 0:
            j = place(new_pair, pair[i])
            new_pair[j] = pair[i]
            new_counts[j] = counts[i]


@njit(cache=True, error_model="numpy")
def _fade(at, now, half_life):  # type: ignore[no-untyped-def]
    return math.exp2(-(now - at) / half_life) if half_life > 0.0 and now > at else 1.0


@njit(cache=True, error_model="numpy")
def learn(u, kind, success, weight, per_resource, pair, counts, now, settings):  # type: ignore[no-untyped-def]
    """Count an outcome. weight: -1 takes one back. kind -1: none. Returns how many pairs were added."""
    _count(per_resource[u], success, weight, now, settings[HALF_LIFE])
    if kind < 0:
        return 0
    code = u * KINDS + kind + 1
    i = place(pair, code)
    new = pair[i] == 0
    pair[i] = code
    _count(counts[i], success, weight, now, settings[HALF_LIFE])
    return 1 if new else 0


@njit(cache=True, error_model="numpy")
def _count(row, success, weight, now, half_life):  # type: ignore[no-untyped-def]
    fade = _fade(row[2], now, half_life)
    row[0] *= fade
    row[1] *= fade
    row[0 if success else 1] = max(0.0, row[0 if success else 1] + weight)
    row[2] = max(row[2], float(now))


@njit(cache=True, error_model="numpy")
def beta(slots, kind, per_resource, pair, counts, now, settings, explore, chance, arena, start, length, p, q):  # type: ignore[no-untyped-def]
    """The posterior mean of each edge into p, within floor and ceiling, and what it is scored with into q.

    kind: of the arrival; -1: none. A pair's posterior is shrunk towards its resource's mean. explore: NONE (q =
    p), THOMPSON (a draw by hash of the arrival's `chance` and the name) or UCB (mean plus WIDTH deviations).
    """
    half = settings[HALF_LIFE]
    for i in range(slots.size):
        u = slots[i]
        a, b = settings[A], settings[B]
        if u >= 0:
            fade = _fade(per_resource[u, 2], now, half)
            a += fade * per_resource[u, 0]
            b += fade * per_resource[u, 1]
            if kind >= 0 and settings[SHRINK] > 0.0:
                a, b = _shrunk(a, b, u * KINDS + kind + 1, pair, counts, now, settings)
        mean = a / (a + b)
        p[i] = min(max(mean, settings[FLOOR]), settings[CEILING])
        q[i] = p[i]
        if u < 0 or explore == NONE:
            continue
        if explore == UCB:
            value = mean + settings[WIDTH] * math.sqrt(mean * (1.0 - mean) / (a + b + 1.0))
        else:
            value = _beta_draw(a, b, key(arena, start[u], length[u], 0) ^ chance)
        q[i] = min(max(value, settings[FLOOR]), settings[CEILING])


@njit(cache=True, error_model="numpy")
def _shrunk(a, b, code, pair, counts, now, settings):  # type: ignore[no-untyped-def]
    mean = a / (a + b)
    a, b = settings[SHRINK] * mean, settings[SHRINK] * (1.0 - mean)
    i = place(pair, code)
    if pair[i] == code:
        fade = _fade(counts[i, 2], now, settings[HALF_LIFE])
        a += fade * counts[i, 0]
        b += fade * counts[i, 1]
    return a, b


@njit(cache=True, error_model="numpy")
def _beta_draw(a, b, h):  # type: ignore[no-untyped-def]
    x, y = _gamma_draw(a, mix(h + np.uint64(1))), _gamma_draw(b, mix(h + np.uint64(2)))
    return x / (x + y) if x + y > 0.0 else a / (a + b)


@njit(cache=True, error_model="numpy")
def _gamma_draw(a, h):  # type: ignore[no-untyped-def]
    """Marsaglia, Tsang 2000; below 1 by the boost of its section 6."""
    boost = 1.0
    if a < 1.0:
        boost = math.pow(1.0 - draw(h, 0), 1.0 / a)
        a += 1.0
    d = a - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    for i in range(1, 1000):
        x = normal(h, 3 * i)
        v = 1.0 + c * x
        if v > 0.0:
            v = v * v * v
            if math.log(1.0 - draw(h, 3 * i + 2)) < 0.5 * x * x + d - d * v + d * math.log(v):
                return boost * d * v
    return boost * d


@njit(cache=True, error_model="numpy")
def normal(h, salt):  # type: ignore[no-untyped-def]
    """A standard normal number of a hash (Box, Muller)."""
    return math.sqrt(-2.0 * math.log(1.0 - draw(h, salt))) * math.cos(2.0 * math.pi * draw(h, salt + 1))


@njit(cache=True, error_model="numpy")
def _slot(h, name, size):  # type: ignore[no-untyped-def]
    return np.int64(mix(h ^ name) & np.uint64(size - 1))


@njit(cache=True, error_model="numpy")
def logistic(slots, codes, values, W, G, settings, explore, chance, arena, start, length, p, q):  # type: ignore[no-untyped-def]
    """As `beta`, with p = sigmoid of the weights of the arrival's features, alone and crossed with the resource.

    codes: (f,) uint64, hashes of the features (an intercept among them), values: (f,) float64.
    W, G: (2^bits,) float64, weights and AdaGrad's sums of squared gradients.
    """
    for i in range(slots.size):
        u = slots[i]
        name = key(arena, start[u], length[u], 0) if u >= 0 else np.uint64(0)
        z, variance = 0.0, 0.0
        for j in range(codes.size):
            own, crossed = _slot(codes[j], np.uint64(0), W.size), _slot(codes[j], name, W.size)
            z += values[j] * (W[own] + (W[crossed] if u >= 0 else 0.0))
            variance += values[j] * values[j] * (1.0 / (1.0 + G[own]) + 1.0 / (1.0 + G[crossed]))
        p[i] = min(max(_sigmoid(z), settings[FLOOR]), settings[CEILING])
        q[i] = p[i]
        if explore == UCB:
            z += settings[WIDTH] * math.sqrt(variance)
        elif explore == THOMPSON:
            z += math.sqrt(variance) * normal(name ^ chance, 0)
        if explore != NONE:
            q[i] = min(max(_sigmoid(z), settings[FLOOR]), settings[CEILING])


@njit(cache=True, error_model="numpy")
def logistic_learn(u, codes, values, success, W, G, eta, l2, arena, start, length):  # type: ignore[no-untyped-def]
    """One AdaGrad step on the logistic loss."""
    name = key(arena, start[u], length[u], 0)
    z = 0.0
    for j in range(codes.size):
        z += values[j] * (W[_slot(codes[j], np.uint64(0), W.size)] + W[_slot(codes[j], name, W.size)])
    residual = _sigmoid(z) - (1.0 if success else 0.0)
    for j in range(codes.size):
        for who in range(2):
            s = _slot(codes[j], name if who else np.uint64(0), W.size)
            g = residual * values[j] + l2 * W[s]
            G[s] += g * g
            W[s] -= eta * g / (math.sqrt(G[s]) + 1e-8)


@njit(cache=True, error_model="numpy")
def _sigmoid(z):  # type: ignore[no-untyped-def]
    if z >= 0.0:
        return 1.0 / (1.0 + math.exp(-z))
    e = math.exp(z)
    return e / (1.0 + e)
