"""Groupwise learning, compiled: one call applies a run of predictions, observations and labels in stream order.

The algorithms are told in `streamd.learners.groupwise`. All functions are plain loops over arrays, in a fixed
order and without `fastmath`, so that a run cut in two gives the same bits. The two expensive loops, P x and the
rank-1 update of P, run along rows, element by element: compilers vectorise them without reordering a sum.

Sizes: R rows with N entries in all, M operations, S slots for groups, D columns of a feature vector, H outputs of
an oracle, K numbers of a prediction (1, one per class known, or one per quantile), E experts of an event, J
weights per expert (pinball loss: one per quantile; else 1), X columns of experts per group (own 1, own+everyone
2, pairs S).

A prediction lies in `buffer` from its offset on: K numbers played, the half-width, 1.0 if all weights were 0,
then z (awake, K), then p (E, J). Predictions, labels and intervals are in units of the declared range, 0 to 1.
"""

import math

import numpy as np
from numba import njit

PREDICT, OBSERVE, LEARN, CORRECT, BORN = 0, 1, 2, 3, 4
RIDGE, VAW, LOGISTIC, SOFTMAX, QUANTILE, EXTERNAL = 0, 1, 2, 3, 4, 5  # the first two share their statistics
SQUARED, PINBALL, LOG, BRIER, ZERO_ONE = 0, 1, 2, 3, 4
ANH, AA, EWA, BAYES, MLPOLY = 0, 1, 2, 3, 4
EXPECTED, MIXTURE, GRADIENT = 0, 1, 2
OWN, EVERYONE, PAIRS = 0, 1, 2
AVERAGE, SAMPLED = 0, 1

# columns of an operation: what, row (or slot), its awake groups, the judged prediction's, the prediction's offset,
# how many numbers a prediction has now and had then
OPS = ("kind", "row", "awake", "awake_n", "judged", "judged_n", "offset", "known", "known_then")
MODES = (
    *("oracle", "loss", "meta", "accounting", "experts", "play", "standardise", "intercept", "clip", "cover"),
    *("everyone", "seed", "columns"),
)
PARAMS = ("lam", "eta", "floor", "limit", "rate", "alpha", "least")
STATS = (
    *("n", "weight", "weight2", "loss", "everyone", "own", "expected", "harm2", "fallback", "covered"),
    *("ambiguity", "discrepancy", "width"),
)
TOTALS = (
    *("observed", "judged", "largest", "spent", "mass", "retired", "floored", "guarded", "nobody", "nobody_loss"),
)

STEEPEST = 1e12  # a gradient's coordinate is held within this: nothing ever becomes NaN
FARTHEST = 1e6  # an unclipped prediction is held within this, in units of the range
TINY = 1e-8  # AdaGrad's guard against a division by 0
HEAD = 2  # numbers between what was played and z


@njit(cache=True, error_model="numpy")
def run(  # type: ignore[no-untyped-def]
    start,
    slot,
    value,
    awake,
    ops,
    labels,
    buffer,
    P,
    W,
    G,
    R,
    C,
    L,
    q,
    stats,
    cover,
    totals,
    moments,
    taus,
    modes,
    params,
):
    """Apply `ops` in order.

    start: (R + 1,) int64, row r has the entries start[r]:start[r + 1] of `slot` and `value`.
    slot: (N,) int64; s >= 0 is a number, standardised if so asked; ~s stands for slot s with its value as it is.
    value: (N,) float64.
    awake: int64, slots of groups; -1: a group that was retired since.
    ops: (M, 9) int64, see OPS.  labels: (M, 3) float64: label, weight, the label to be taken back.
    buffer: float64, read and written.
    P: (S, D, D), W, G: (S, D, H), changed: inverse Gram matrices, weights, AdaGrad's sums of squared gradients.
    R, C, L: (S, X, J), changed: regret, its sum of absolute values, log weight (ML-Poly: sum of squares).
    q: (S,) prior mass, 0 for a free slot.  stats: (S, len(STATS)), cover: (S, 3), totals: (len(TOTALS),), changed.
    moments: (3, slots of features): Welford's mean, sum of squared deviations and count.
    taus: (K,) the quantiles.  modes, params: see MODES and PARAMS.
    """
    x = np.zeros(modes[12])
    at = np.empty(max(modes[12], 1), np.int64)
    work = np.empty((3, max(modes[12], 1)))
    margin = np.empty(max(W.shape[2], 2))
    for i in range(ops.shape[0]):
        kind, r, known = ops[i, 0], ops[i, 1], ops[i, 7]
        here = awake[ops[i, 2] : ops[i, 2] + ops[i, 3]]
        judged = awake[ops[i, 4] : ops[i, 4] + ops[i, 5]]
        offset, known_then = ops[i, 6], ops[i, 8]
        if kind == BORN:
            _born(r, labels[i, 0], P, W, G, R, C, L, q, stats, cover, totals, modes, params)
            continue
        if kind != PREDICT and kind != OBSERVE and labels[i, 1] <= 0.0:
            continue
        where, raw = slot[start[r] : start[r + 1]], value[start[r] : start[r + 1]]
        if kind == OBSERVE:
            totals[0] += 1.0
            _observe(where, raw, moments)
            continue
        n = _dense(where, raw, moments, modes, params[3], x, at)
        if kind == PREDICT:
            _predict(
                x,
                at,
                n,
                here,
                known,
                offset,
                buffer,
                P,
                W,
                R,
                C,
                L,
                q,
                cover,
                totals,
                taus,
                modes,
                params,
                work,
                margin,
            )
        else:
            if known_then > 0:
                _judge(
                    judged,
                    known_then,
                    offset,
                    buffer,
                    labels[i],
                    kind,
                    R,
                    C,
                    L,
                    q,
                    stats,
                    cover,
                    totals,
                    taus,
                    modes,
                    params,
                )
            _learn(x, at, n, here, known, labels[i], kind, P, W, G, totals, taus, modes, params, work, margin)
        for k in range(n):
            x[at[k]] = 0.0


# --- features


@njit(cache=True, error_model="numpy")
def _observe(slot, value, moments):  # type: ignore[no-untyped-def]
    for j in range(slot.size):
        s = slot[j]
        if s >= 0:
            moments[2, s] += 1.0
            delta = value[j] - moments[0, s]
            moments[0, s] += delta / moments[2, s]
            moments[1, s] += delta * (value[j] - moments[0, s])


@njit(cache=True, error_model="numpy")
def _dense(slot, value, moments, modes, limit, x, at):  # type: ignore[no-untyped-def]
    """Fill x, zeros before; returns how many of its columns are set, their numbers in `at`."""
    n, intercept = 0, modes[7]
    if intercept == 1:
        x[0], at[0], n = 1.0, 0, 1
    for j in range(slot.size):
        s = slot[j] if slot[j] >= 0 else ~slot[j]
        v = value[j]
        if s == 0:
            continue
        if slot[j] >= 0 and modes[6] == 1:
            variance = moments[1, s] / moments[2, s] if moments[2, s] > 1.0 else 0.0
            if not variance > 0.0:
                continue
            v = min(max((v - moments[0, s]) / math.sqrt(variance), -limit), limit)
        if v == 0.0:
            continue
        column = s - 1 + intercept
        if x[column] == 0.0:
            at[n] = column
            n += 1
        x[column] += v
        if x[column] == 0.0:  # two that share a slot cancelled; the column must not be listed twice
            x[column] = 5e-324
    return n


# --- oracles


@njit(cache=True, error_model="numpy")
def _times(P, x, at, n, d, out):  # type: ignore[no-untyped-def]
    """out = P x; returns x P x, never below 0."""
    for k in range(d):
        out[k] = 0.0
    for i in range(n):
        row, v = P[at[i]], x[at[i]]
        for k in range(d):
            out[k] += v * row[k]
    total = 0.0
    for i in range(n):
        total += x[at[i]] * out[at[i]]
    return total


@njit(cache=True, error_model="numpy")
def _margins(W, x, at, n, columns, z):  # type: ignore[no-untyped-def]
    for c in range(columns):
        z[c] = 0.0
    for i in range(n):
        for c in range(columns):
            z[c] += W[at[i], c] * x[at[i]]


@njit(cache=True, error_model="numpy")
def _softmax(z, known):  # type: ignore[no-untyped-def]
    top = z[0]
    for c in range(1, known):
        top = max(top, z[c])
    total = 0.0
    for c in range(known):
        z[c] = math.exp(z[c] - top)
        total += z[c]
    for c in range(known):
        z[c] /= total


@njit(cache=True, error_model="numpy")
def _sigmoid(z):  # type: ignore[no-untyped-def]
    if z >= 0.0:
        return 1.0 / (1.0 + math.exp(-z))
    e = math.exp(z)
    return e / (1.0 + e)


@njit(cache=True, error_model="numpy")
def _within(z, clip):  # type: ignore[no-untyped-def]
    return min(max(z, 0.0), 1.0) if clip == 1 else min(max(z, -FARTHEST), FARTHEST)


@njit(cache=True, error_model="numpy")
def _sort(z, n):  # type: ignore[no-untyped-def]
    for i in range(1, n):
        v, j = z[i], i
        while j > 0 and z[j - 1] > v:
            z[j] = z[j - 1]
            j -= 1
        z[j] = v


@njit(cache=True, error_model="numpy")
def _vote(z, known):  # type: ignore[no-untyped-def]
    best = 0
    for c in range(1, known):
        if z[c] > z[best]:
            best = c
    for c in range(known):
        z[c] = 1.0 if c == best else 0.0


@njit(cache=True, error_model="numpy")
def _ask(s, x, at, n, known, P, W, modes, work, margin, z):  # type: ignore[no-untyped-def]
    """Into z (known,): what the oracle of slot s predicts."""
    oracle, d = modes[0], modes[12]
    if oracle <= VAW:
        _margins(W[s], x, at, n, 1, margin)
        answer = margin[0]
        if oracle == VAW:
            answer /= 1.0 + max(_times(P[s], x, at, n, d, work[0]), 0.0)
        z[0] = _within(answer, modes[8])
    elif oracle == QUANTILE:
        _margins(W[s], x, at, n, known, margin)
        for k in range(known):
            z[k] = _within(margin[k], modes[8])
        _sort(z, known)
    else:
        _classes(s, x, at, n, known, W, oracle, margin)
        for k in range(known):
            z[k] = margin[k]
        if modes[1] == ZERO_ONE:
            _vote(z, known)


@njit(cache=True, error_model="numpy")
def _classes(s, x, at, n, known, W, oracle, margin):  # type: ignore[no-untyped-def]
    """Into margin (known,): probabilities."""
    if oracle == SOFTMAX:
        _margins(W[s], x, at, n, known, margin)
        _softmax(margin, known)
        return
    _margins(W[s], x, at, n, 1, margin)
    v = margin[0]
    margin[0] = 1.0 if known == 1 else _sigmoid(-v)
    if known > 1:
        margin[1] = _sigmoid(v)


@njit(cache=True, error_model="numpy")
def _learn(x, at, n, here, known, label, kind, P, W, G, totals, taus, modes, params, work, margin):  # type: ignore[no-untyped-def]
    oracle, d = modes[0], modes[12]
    if oracle == EXTERNAL:
        return
    for i in range(here.size):
        s = here[i]
        if oracle <= VAW:
            if kind == CORRECT:
                _times(P[s], x, at, n, d, work[0])
                for k in range(d):
                    W[s, k, 0] += work[0, k] * (label[0] - label[2])
            else:
                _regress(P[s], W[s], x, at, n, d, label[0], work, totals)
            continue
        if oracle == QUANTILE:
            _margins(W[s], x, at, n, taus.size, margin)
            for k in range(taus.size):
                margin[k] = (1.0 if margin[k] > label[0] else 0.0) - taus[k]
            _descend(W[s], G[s], x, at, n, taus.size, margin, params[1])
            continue
        _classes(s, x, at, n, known, W, oracle, margin)
        if oracle == SOFTMAX:
            margin[int(label[0])] -= 1.0
            _descend(W[s], G[s], x, at, n, known, margin, params[1])
        elif known > 1:
            margin[0] = margin[1] - label[0]
            _descend(W[s], G[s], x, at, n, 1, margin, params[1])


@njit(cache=True, error_model="numpy")
def _regress(P, W, x, at, n, d, y, work, totals):  # type: ignore[no-untyped-def]
    """Recursive least squares: W += P x e / (1 + x P x), P -= P x (P x)' / (1 + x P x)."""
    Px, u = work[0], work[1]
    spread = _times(P, x, at, n, d, Px)
    if not spread >= 0.0:  # rounding ate what a singular design left of P
        spread = 0.0
        totals[7] += 1.0
    error = y
    for i in range(n):
        error -= x[at[i]] * W[at[i], 0]
    step = error / (1.0 + spread)
    root = 1.0 / math.sqrt(1.0 + spread)
    for k in range(d):
        W[k, 0] += Px[k] * step
        u[k] = Px[k] * root
    for j in range(d):
        v = u[j]
        if v != 0.0:
            row = P[j]
            for k in range(d):
                row[k] -= v * u[k]


@njit(cache=True, error_model="numpy")
def _descend(W, G, x, at, n, columns, slope, eta):  # type: ignore[no-untyped-def]
    for i in range(n):
        for c in range(columns):
            g = min(max(slope[c] * x[at[i]], -STEEPEST), STEEPEST)
            if g != 0.0:
                G[at[i], c] += g * g
                W[at[i], c] -= eta * g / (math.sqrt(G[at[i], c]) + TINY)


# --- the experts of an event, and what they weigh


@njit(cache=True, error_model="numpy")
def _count(n, experts):  # type: ignore[no-untyped-def]
    if experts == PAIRS:
        return n * n
    return n + max(n - 1, 0) if experts == EVERYONE else n


@njit(cache=True, error_model="numpy")
def _expert(e, n, experts):  # type: ignore[no-untyped-def]
    """(position of the group, position of the model it predicts with). Everyone, if awake, has position 0."""
    if experts == PAIRS:
        return e // n, e % n
    return (e, e) if e < n else (e - n + 1, 0)


@njit(cache=True, error_model="numpy")
def _column(e, n, model, experts):  # type: ignore[no-untyped-def]
    if experts == PAIRS:
        return model
    return 0 if e < n else 1


@njit(cache=True, error_model="numpy")
def log_weight(r, c):  # type: ignore[no-untyped-def]
    """log of AdaNormalHedge's w(R, C) = (Phi(R + 1, C + 1) - Phi(R - 1, C + 1)) / 2; -inf for R <= -1."""
    if r <= -1.0:
        return -math.inf
    a = (r + 1.0) * (r + 1.0) / (3.0 * (c + 1.0))
    gap = 4.0 * r / (3.0 * (c + 1.0)) if r >= 1.0 else a
    return -math.log(2.0) + a + math.log(-math.expm1(-gap))


@njit(cache=True, error_model="numpy")
def _weight(s, column, j, R, C, L, totals, modes):  # type: ignore[no-untyped-def]
    meta = modes[2]
    if meta == ANH:
        return log_weight(R[s, column, j], C[s, column, j])
    if meta == MLPOLY:
        scale = L[s, column, j] + totals[2]
        return math.log(R[s, column, j] / scale) if R[s, column, j] > 0.0 and scale > 0.0 else -math.inf
    return L[s, column, j]


@njit(cache=True, error_model="numpy")
def _weights(here, j, R, C, L, q, totals, modes, params, p):  # type: ignore[no-untyped-def]
    """Into p[:, j]; returns whether every weight was 0."""
    n, experts = here.size, modes[4]
    floor = params[2] if modes[2] == ANH else 0.0
    top, fallback = -math.inf, True
    for e in range(p.shape[0]):
        g, m = _expert(e, n, experts)
        w = _weight(here[g], _column(e, n, here[m], experts), j, R, C, L, totals, modes)
        if w > -math.inf:
            fallback = False
        if floor > 0.0:
            w = _add(w, math.log(floor))
        p[e, j] = w
    for e in range(p.shape[0]):
        g, m = _expert(e, n, experts)
        prior = math.log(q[here[g]]) + (math.log(q[here[m]]) if experts == PAIRS else 0.0)
        p[e, j] = prior if fallback else p[e, j] + prior
        top = max(top, p[e, j])
    total = 0.0
    for e in range(p.shape[0]):
        p[e, j] = math.exp(p[e, j] - top)
        total += p[e, j]
    for e in range(p.shape[0]):
        p[e, j] /= total
    return fallback


@njit(cache=True, error_model="numpy")
def _add(a, b):  # type: ignore[no-untyped-def]
    """log(exp(a) + exp(b)) for a finite b."""
    if a == -math.inf:
        return b
    return max(a, b) + math.log1p(math.exp(-abs(a - b)))


@njit(cache=True, error_model="numpy")
def _uniform(seed, number):  # type: ignore[no-untyped-def]
    """A number in [0, 1) of the seed and the event's number: splitmix64 (Steele, Lea, Flood 2014), twice."""
    h = np.uint64(seed)
    for part in (np.uint64(number), np.uint64(0x5D1CE)):
        h = h + np.uint64(0x9E3779B97F4A7C15) + part
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        h = h ^ (h >> np.uint64(31))
    return float(h >> np.uint64(11)) * 2.0**-53


# --- predictions


@njit(cache=True, error_model="numpy")
def _predict(  # type: ignore[no-untyped-def]
    x, at, n, here, known, offset, buffer, P, W, R, C, L, q, cover, totals, taus, modes, params, work, margin
):
    if known == 0:
        return
    played = buffer[offset : offset + known]
    if here.size == 0:
        buffer[offset + known], buffer[offset + known + 1] = 1.0, 1.0
        if modes[0] != EXTERNAL:
            _everybody(x, at, n, known, P, W, q, modes, work, margin, played)
        return
    first = offset + known + HEAD
    z = buffer[first : first + here.size * known].reshape(here.size, known)
    if modes[0] != EXTERNAL:
        for i in range(here.size):
            _ask(here[i], x, at, n, known, P, W, modes, work, margin, z[i])
    heads = R.shape[2]
    experts = _count(here.size, modes[4])
    first += here.size * known
    p = buffer[first : first + experts * heads].reshape(experts, heads)
    fallback = False
    for j in range(heads):
        fallback = _weights(here, j, R, C, L, q, totals, modes, params, p) or fallback
    buffer[offset + known] = _half_width(here, cover, modes)
    buffer[offset + known + 1] = 1.0 if fallback else 0.0
    _play(z, p, here.size, known, totals, modes, params, played)


@njit(cache=True, error_model="numpy")
def _everybody(x, at, n, known, P, W, q, modes, work, margin, played):  # type: ignore[no-untyped-def]
    """Nobody is awake: the mean over all groups; without any, the middle."""
    living = 0
    z = np.empty(known)
    for s in range(q.size):
        if q[s] > 0.0:
            _ask(s, x, at, n, known, P, W, modes, work, margin, z)
            living += 1
            for k in range(known):
                played[k] += z[k]
    for k in range(known):
        if living > 0:
            played[k] /= living
        else:
            played[k] = 0.5 if modes[1] == SQUARED or modes[1] == PINBALL else 1.0 / known


@njit(cache=True, error_model="numpy")
def _play(z, p, n, known, totals, modes, params, played):  # type: ignore[no-untyped-def]
    experts, heads = modes[4], p.shape[1]
    if modes[5] == SAMPLED:
        for k in range(known):
            left = _uniform(modes[11], totals[0])
            e = 0
            while e < p.shape[0] - 1 and left >= p[e, k % heads]:
                left -= p[e, k % heads]
                e += 1
            _group, m = _expert(e, n, experts)
            played[k] = z[m, k]
    elif modes[2] == AA:
        played[0] = _substitute(z, p, n, modes, params[4])
    else:
        for k in range(known):
            total = 0.0
            for e in range(p.shape[0]):
                _group, m = _expert(e, n, experts)
                total += p[e, k % heads] * z[m, k]
            played[k] = total
    if modes[1] == PINBALL:
        _sort(played, known)


@njit(cache=True, error_model="numpy")
def _substitute(z, p, n, modes, rate):  # type: ignore[no-untyped-def]
    """The Aggregating Algorithm's: 1/2 + (g(0) - g(1)) / 2, g(y) = -ln(sum p exp(-rate (z - y)^2)) / rate."""
    if p.shape[0] == 1:
        return z[0, 0]
    zero, one = 0.0, 0.0
    for e in range(p.shape[0]):
        _group, m = _expert(e, n, modes[4])
        zero += p[e, 0] * math.exp(-rate * z[m, 0] ** 2)
        one += p[e, 0] * math.exp(-rate * (z[m, 0] - 1.0) ** 2)
    return min(max(0.5 + 0.5 * (math.log(one) - math.log(zero)) / rate, 0.0), 1.0)


@njit(cache=True, error_model="numpy")
def _half_width(here, cover, modes):  # type: ignore[no-untyped-def]
    if modes[9] == 0:
        return 0.0
    total = 0.0
    for i in range(here.size):
        total += _stake(cover, here[i])
    return total


@njit(cache=True, error_model="numpy")
def _stake(cover, s):  # type: ignore[no-untyped-def]
    return cover[s, 0] * cover[s, 1] / (cover[s, 2] + 1.0)


# --- labels


@njit(cache=True, error_model="numpy")
def _loss(z, known, j, y, taus, modes, least):  # type: ignore[no-untyped-def]
    """Of weight j, within [0, 1] for predictions and labels within the range."""
    loss = modes[1]
    if loss == SQUARED:
        return (z[0] - y) ** 2
    if loss == PINBALL:
        return (y - z[j]) * taus[j] if y >= z[j] else (z[j] - y) * (1.0 - taus[j])
    c = int(y)
    right = z[c] if c < known else 0.0
    if loss == LOG:
        return math.log(max(right, least)) / math.log(least)
    if loss == ZERO_ONE:
        return 1.0 - right
    total = (1.0 - right) ** 2 - right**2
    for k in range(known):
        total += z[k] ** 2
    return 0.5 * total


@njit(cache=True, error_model="numpy")
def _slope(z, played, known, j, y, taus, modes):  # type: ignore[no-untyped-def]
    """The loss's derivative at what was played, times the distance to z; within [-1, 1]."""
    loss = modes[1]
    if loss == SQUARED:
        return (played[0] - y) * (played[0] - z[0])
    if loss == PINBALL:
        return ((1.0 if played[j] > y else 0.0) - taus[j]) * (played[j] - z[j])
    total = 0.0
    for k in range(known):
        total += (played[k] - (1.0 if k == int(y) else 0.0)) * (played[k] - z[k])
    return 0.5 * total


@njit(cache=True, error_model="numpy")
def _judge(judged, known, offset, buffer, label, kind, R, C, L, q, stats, cover, totals, taus, modes, params):  # type: ignore[no-untyped-def]
    """Move R, C and the weights by the prediction as it was made; a correction takes the old label's part back."""
    heads, n = R.shape[2], judged.size
    played = buffer[offset : offset + known]
    if n == 0:
        if kind == LEARN:
            totals[8] += 1.0
            totals[9] += _total(played, known, heads, label[0], taus, modes, params[6])
        return
    first = offset + known + HEAD
    z = buffer[first : first + n * known].reshape(n, known)
    first += n * known
    experts = _count(n, modes[4])
    p = buffer[first : first + experts * heads].reshape(experts, heads)
    losses = np.empty(n)
    for turn in range(2 if kind == CORRECT else 1):
        y, sign = (label[2], -1.0) if kind == CORRECT and turn == 0 else (label[0], 1.0)
        for j in range(heads):
            for i in range(n):
                losses[i] = _loss(z[i], known, j, y, taus, modes, params[6])
            _settle(judged, known, j, y, sign, kind, losses, played, z, p, R, C, L, q, totals, taus, modes, params)
        fell = buffer[offset + known + 1]
        _score(judged, known, y, label[1], sign, kind, fell, played, z, p, heads, stats, taus, modes, params)
        if modes[9] == 1:
            _cover(judged, known, buffer[offset + known], y, sign, kind, played, stats, cover, taus, modes, params)
    if kind == LEARN:
        totals[1] += 1.0


@njit(cache=True, error_model="numpy")
def _settle(judged, known, j, y, sign, kind, losses, played, z, p, R, C, L, q, totals, taus, modes, params):  # type: ignore[no-untyped-def]
    meta, accounting, experts, n, rate = modes[2], modes[3], modes[4], judged.size, params[4]
    expected, mix, best = 0.0, 0.0, math.inf
    for e in range(p.shape[0]):
        _group, m = _expert(e, n, experts)
        expected += p[e, j] * losses[m]
        best = min(best, losses[m])
    if meta != ANH and meta != MLPOLY:
        for e in range(p.shape[0]):
            _group, m = _expert(e, n, experts)
            mix += p[e, j] * math.exp(-rate * (losses[m] - best))
        mix = math.log(mix) - rate * best if mix > 0.0 else -rate * best
    if accounting == MIXTURE:
        expected = _loss(played, known, j, y, taus, modes, params[6])
    largest = totals[2]
    for e in range(p.shape[0]):
        g, m = _expert(e, n, experts)
        if judged[g] < 0 or judged[m] < 0:
            continue
        column = _column(e, n, judged[m], experts)
        prior = q[judged[g]] * (q[judged[m]] if experts == PAIRS else 1.0)
        r = expected - losses[m]
        if accounting == GRADIENT:
            r = _slope(z[m], played, known, j, y, taus, modes)
        R[judged[g], column, j] += sign * r
        C[judged[g], column, j] = max(C[judged[g], column, j] + sign * abs(r), 0.0)
        if meta == ANH and kind == LEARN:
            totals[6] += params[2] * prior
        elif meta == MLPOLY:
            totals[2] = max(totals[2], r * r)
            if kind == LEARN and r != 0.0:
                scale = L[judged[g], column, j] + largest
                totals[3] += prior * r * r / (scale if scale > 0.0 else r * r + totals[2])
            L[judged[g], column, j] = max(L[judged[g], column, j] + sign * r * r, 0.0)
        elif meta != ANH:
            L[judged[g], column, j] += sign * (-rate * losses[m] - mix)


@njit(cache=True, error_model="numpy")
def _total(z, known, heads, y, taus, modes, least):  # type: ignore[no-untyped-def]
    """The loss over all weights: with quantiles their mean."""
    total = 0.0
    for j in range(heads):
        total += _loss(z, known, j, y, taus, modes, least)
    return total / heads


@njit(cache=True, error_model="numpy")
def _score(judged, known, y, weight, sign, kind, fell, played, z, p, heads, stats, taus, modes, params):  # type: ignore[no-untyped-def]
    """What the operator sees: losses weighted, disagreement, on each group of the event."""
    n, experts, w = judged.size, modes[4], sign * weight
    loss = _total(played, known, heads, y, taus, modes, params[6])
    single = 0.0
    if modes[10] == 1:
        single = _total(z[0], known, heads, y, taus, modes, params[6])
    share = np.zeros((n, heads))  # of each model, whatever group it was asked for
    for e in range(p.shape[0]):
        _group, m = _expert(e, n, experts)
        for j in range(heads):
            share[m, j] += p[e, j] / heads
    expected, ambiguity, discrepancy = 0.0, 0.0, 0.0
    for k in range(known):
        low, high = math.inf, -math.inf
        for m in range(n):
            ambiguity += share[m, k % heads] * (z[m, k] - played[k]) ** 2
            low, high = min(low, z[m, k]), max(high, z[m, k])
        discrepancy = max(discrepancy, high - low)
    for m in range(n):
        for j in range(heads):
            expected += share[m, j] * _loss(z[m], known, j, y, taus, modes, params[6])
    for i in range(n):
        s = judged[i]
        if s < 0:
            continue
        if kind == LEARN:
            stats[s, 0] += 1.0
            stats[s, 1] += weight
            stats[s, 2] += weight * weight
            stats[s, 8] += fell
            stats[s, 10] += weight * ambiguity
            stats[s, 11] += weight * discrepancy
        stats[s, 3] += w * loss
        stats[s, 4] += w * single
        stats[s, 5] += w * _total(z[i], known, heads, y, taus, modes, params[6])
        stats[s, 6] += w * expected
        stats[s, 7] += sign * (weight * (loss - single)) ** 2


@njit(cache=True, error_model="numpy")
def _cover(judged, known, half, y, sign, kind, played, stats, cover, taus, modes, params):  # type: ignore[no-untyped-def]
    """Krichevsky-Trofimov betting, one bettor per group, on the miss (see the learner's `coverage`)."""
    if modes[1] == SQUARED:
        distance = abs(y - played[0])
    elif modes[1] == PINBALL:
        distance = max(played[0] - y, y - played[known - 1])
    else:
        distance = 1.0 - (played[int(y)] if int(y) < known else 0.0)
    covered = 1.0 if distance <= half else 0.0
    c = 1.0 - covered - params[5]
    for i in range(judged.size):
        s = judged[i]
        if s < 0:
            continue
        stats[s, 9] += sign * covered
        if kind == LEARN:
            stats[s, 12] += min(max(half, 0.0), 1.0)
            cover[s, 0] += c * _stake(cover, s)
            cover[s, 1] += c
            cover[s, 2] += 1.0


# --- groups


@njit(cache=True, error_model="numpy")
def _born(s, mass, P, W, G, R, C, L, q, stats, cover, totals, modes, params):  # type: ignore[no-untyped-def]
    """Slot s begins afresh. What its last holder added to the bound's budget stays spent."""
    if modes[2] == ANH and q[s] > 0.0:
        totals[5] += _budget(s, R, C, q, modes)
    for a in range(R.shape[1]):
        for j in range(R.shape[2]):
            R[s, a, j], C[s, a, j] = 0.0, 0.0
            if L.shape[0] > 0:
                L[s, a, j] = 0.0
    if modes[4] == PAIRS:
        for g in range(R.shape[0]):
            for j in range(R.shape[2]):
                R[g, s, j], C[g, s, j] = 0.0, 0.0
                if L.shape[0] > 0:
                    L[g, s, j] = 0.0
    q[s] = mass
    totals[4] += mass
    P[s, :, :] = 0.0
    for k in range(P.shape[1]):
        P[s, k, k] = 1.0 / params[0]
    W[s, :, :] = 0.0
    G[s, :, :] = 0.0
    stats[s, :] = 0.0
    cover[s, 0], cover[s, 1], cover[s, 2] = 1.0, 0.0, 0.0


@njit(cache=True, error_model="numpy")
def _budget(s, R, C, q, modes):  # type: ignore[no-untyped-def]
    """3/2 q (1 + ln(1 + C)) over the experts that slot s takes part in, where C > 0."""
    total = 0.0
    for a in range(R.shape[1]):
        for j in range(R.shape[2]):
            if modes[4] == PAIRS:
                if C[s, a, j] > 0.0:
                    total += q[s] * q[a] * (1.0 + math.log1p(C[s, a, j]))
                if a != s and C[a, s, j] > 0.0:
                    total += q[s] * q[a] * (1.0 + math.log1p(C[a, s, j]))
            elif C[s, a, j] > 0.0:
                total += q[s] * (1.0 + math.log1p(C[s, a, j]))
    return 1.5 * total
