"""Groupwise learning, compiled: one call applies a run of predictions, observations and labels in stream order.

The algorithms are told in `streamd.learners.groupwise`. All functions are plain loops over arrays, in a fixed
order and without `fastmath`, so that a run cut in two gives the same bits. The two expensive loops, P x and the
rank-1 update of P, run along rows, element by element: compilers vectorise them without reordering a sum.

Sizes: R rows with N entries in all, S slots for groups, D columns of a feature vector, H outputs of
an oracle, K numbers of a prediction (1, one per class known, or one per quantile), E experts of an event, J
weights per expert (pinball loss: one per quantile; else 1), X columns of experts per group (own 1, own+everyone
2, pairs S), M operations.

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
# columns of a group's row: prior mass (0: the slot is free), the bettor on coverage, and what the operator sees
TABLE = (
    *(
        "mass",
        "wealth",
        "bets",
        "misses",
        "n",
        "weight",
        "weight2",
        "loss",
        "everyone",
        "own",
        "expected",
        "harm2",
    ),
    *("fallback", "covered", "ambiguity", "discrepancy", "width"),
)
MASS, WEALTH, BETS, MISSES, N, WEIGHT, WEIGHT2, LOSS, SINGLE, ITS_OWN, MEAN, HARM2 = range(12)
FALLBACK, COVERED, AMBIGUITY, DISCREPANCY, WIDTH = range(12, 17)
TOTALS = (
    *("observed", "judged", "largest", "spent", "mass", "retired", "floored", "guarded", "nobody", "nobody_loss"),
)
REGRET, SIZE, EXTRA = 0, 1, 2  # of an expert: R, C = sum |r|, and log weight or (ML-Poly) sum r^2

# Arrays are only read and written below `run`, never made: without counting references to them a small event costs
# a third. `_nrt` is what numba's own linear algebra is compiled with.
LEAN = {"cache": True, "error_model": "numpy", "_nrt": False}
INNER = {**LEAN, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called from here only
HOT = {**INNER, "forceinline": True}  # a call that passes ten arrays costs as much as a small oracle
STEEPEST = 1e12  # a gradient's coordinate is held within this: nothing ever becomes NaN
FARTHEST = 1e6  # an unclipped prediction is held within this, in units of the range
LOST = 1e50  # an error of so many ranges is rounding, not data
TINY = 1e-8  # AdaGrad's guard against a division by 0
HEAD = 2  # numbers between what was played and z


@njit(cache=True, error_model="numpy")
def run(  # type: ignore[no-untyped-def]
    start, slot, value, awake, ops, labels, buffer, P, W, G, E, table, totals, moments, taus, modes, params
):
    """Apply `ops` in order.

    start: (R + 1,) int64, row r has the entries start[r]:start[r + 1] of `slot` and `value`.
    slot: (N,) int64; s >= 0 is a number, standardised if so asked; ~s stands for slot s with its value as it is.
    value: (N,) float64.
    awake: int64, slots of groups; -1: a group that was retired since.
    ops: (M, 9) int64, see OPS.  labels: (M, 3) float64: label, weight, the label to be taken back.
    buffer: float64, read and written.
    P: (S, D, D), W, G: (S, D, H), changed: inverse Gram matrices, weights, AdaGrad's sums of squared gradients.
    E: (S, X, J, 2 or 3), changed: of each expert, see REGRET.
    table: (S, len(TABLE)), totals: (len(TOTALS),), changed.
    moments: (3, slots of features): Welford's mean, sum of squared deviations and count.
    taus: (K,) the quantiles.  modes, params: see MODES and PARAMS.
    """
    d = max(modes[12], 1)
    x = np.zeros(d)
    at = np.empty(d, np.int64)
    most = 1
    for i in range(ops.shape[0]):
        most = max(most, ops[i, 3], ops[i, 5])
    work = np.empty(max(2 * d, d + max(W.shape[2], 2), 2 * most * E.shape[2]))
    _run(
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
        E,
        table,
        totals,
        moments,
        taus,
        modes,
        params,
        x,
        at,
        work,
    )


@njit(**INNER)
def _run(  # type: ignore[no-untyped-def]
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
    E,
    table,
    totals,
    moments,
    taus,
    modes,
    params,
    x,
    at,
    work,
):
    n, dense = 0, -1  # entries of x, and the row they are of
    for i in range(ops.shape[0]):
        kind, r, known = ops[i, 0], ops[i, 1], ops[i, 7]
        if kind == BORN:
            _born(r, labels[i, 0], P, W, G, E, table, totals, modes, params)
            continue
        if kind == OBSERVE:
            totals[0] += 1.0
            if modes[6] == 1:
                _observe(slot, value, start[r], start[r + 1], moments)
                dense = -1
            continue
        if kind != PREDICT and labels[i, 1] <= 0.0:
            continue
        if r != dense:
            for k in range(n):
                x[at[k]] = 0.0
            n = _dense(slot, value, start[r], start[r + 1], moments, modes, params[3], x, at)
            dense = r
        if kind == PREDICT:
            if known > 0:
                _ask_all(x, at, n, awake, ops[i, 2], ops[i, 3], known, ops[i, 6], buffer, P, W, table, modes, work)
                _predict(awake, ops[i, 2], ops[i, 3], known, ops[i, 6], buffer, E, table, totals, modes, params)
        else:
            if ops[i, 8] > 0:
                _judge(awake, ops[i], buffer, labels[i], E, table, totals, taus, modes, params, work)
            if modes[0] != EXTERNAL:
                _learn(x, at, n, awake, ops[i], labels[i], P, W, G, totals, taus, modes, params, work)


# --- features


@njit(**HOT)
def _observe(slot, value, first, last, moments):  # type: ignore[no-untyped-def]
    for j in range(first, last):
        s = slot[j]
        if s >= 0:
            moments[2, s] += 1.0
            delta = value[j] - moments[0, s]
            moments[0, s] += delta / moments[2, s]
            moments[1, s] += delta * (value[j] - moments[0, s])


@njit(**HOT)
def _dense(slot, value, first, last, moments, modes, limit, x, at):  # type: ignore[no-untyped-def]
    """Fill x, zeros before; returns how many of its columns are set, their numbers in `at`."""
    n, intercept = 0, modes[7]
    if intercept == 1:
        x[0], at[0], n = 1.0, 0, 1
    for j in range(first, last):
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


@njit(**HOT)
def _times(P, s, x, at, n, d, out):  # type: ignore[no-untyped-def]
    """out[:d] = P[s] x; returns x P x."""
    for k in range(d):
        out[k] = 0.0
    for i in range(n):
        j = at[i]
        v = x[j]
        for k in range(d):
            out[k] += v * P[s, j, k]
    total = 0.0
    for i in range(n):
        total += x[at[i]] * out[at[i]]
    return total


@njit(**HOT)
def _margin(W, s, c, x, at, n):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(n):
        total += W[s, at[i], c] * x[at[i]]
    return total


@njit(**INNER)
def _softmax(z, first, known):  # type: ignore[no-untyped-def]
    top = z[first]
    for c in range(first + 1, first + known):
        top = max(top, z[c])
    total = 0.0
    for c in range(first, first + known):
        z[c] = math.exp(z[c] - top)
        total += z[c]
    for c in range(first, first + known):
        z[c] /= total


@njit(**HOT)
def _sigmoid(z):  # type: ignore[no-untyped-def]
    if z >= 0.0:
        return 1.0 / (1.0 + math.exp(-z))
    e = math.exp(z)
    return e / (1.0 + e)


@njit(**HOT)
def _within(z, clip):  # type: ignore[no-untyped-def]
    if z != z:
        return 0.5
    return min(max(z, 0.0), 1.0) if clip == 1 else min(max(z, -FARTHEST), FARTHEST)


@njit(**INNER)
def _sort(z, first, n):  # type: ignore[no-untyped-def]
    for i in range(first + 1, first + n):
        v, j = z[i], i
        while j > first and z[j - 1] > v:
            z[j] = z[j - 1]
            j -= 1
        z[j] = v


@njit(**INNER)
def _vote(z, first, known):  # type: ignore[no-untyped-def]
    best = first
    for c in range(first + 1, first + known):
        if z[c] > z[best]:
            best = c
    for c in range(first, first + known):
        z[c] = 1.0 if c == best else 0.0


@njit(**INNER)
def _classes(s, x, at, n, known, W, oracle, z, first):  # type: ignore[no-untyped-def]
    """Into z[first:first + known]: probabilities."""
    if oracle == SOFTMAX:
        for c in range(known):
            z[first + c] = _margin(W, s, c, x, at, n)
        _softmax(z, first, known)
        return
    v = _margin(W, s, 0, x, at, n)
    z[first] = 1.0 if known == 1 else _sigmoid(-v)
    if known > 1:
        z[first + 1] = _sigmoid(v)


@njit(**HOT)
def _ask(s, x, at, n, known, z, first, P, W, modes, work):  # type: ignore[no-untyped-def]
    """Into z[first:first + known]: what the oracle of slot s predicts."""
    oracle = modes[0]
    if oracle <= VAW:
        answer = _margin(W, s, 0, x, at, n)
        if oracle == VAW:
            answer /= 1.0 + max(_times(P, s, x, at, n, modes[12], work), 0.0)
        z[first] = _within(answer, modes[8])
    elif oracle == QUANTILE:
        for k in range(known):
            z[first + k] = _within(_margin(W, s, k, x, at, n), modes[8])
        _sort(z, first, known)
    else:
        _classes(s, x, at, n, known, W, oracle, z, first)
        if modes[1] == ZERO_ONE:
            _vote(z, first, known)


@njit(**HOT)
def _ask_all(x, at, n, awake, here, living, known, offset, buffer, P, W, table, modes, work):  # type: ignore[no-untyped-def]
    """The z of all that are awake; with nobody awake play the mean over all groups, without any the middle."""
    if modes[0] == EXTERNAL:
        return
    awake_n, middle = living, modes[12]  # in `work`, after what an oracle needs of it
    for i in range(awake_n if awake_n > 0 else table.shape[0]):
        s = awake[here + i] if awake_n > 0 else i
        if awake_n == 0 and table[s, MASS] <= 0.0:
            continue
        z, first = (buffer, offset + known + HEAD + i * known) if awake_n > 0 else (work, middle)
        _ask(s, x, at, n, known, z, first, P, W, modes, work)
        if awake_n == 0:
            living += 1
            for k in range(known):
                buffer[offset + k] += work[middle + k]
    if awake_n > 0:
        return
    for k in range(known):
        if living > 0:
            buffer[offset + k] /= living
        else:
            buffer[offset + k] = 0.5 if modes[1] == SQUARED or modes[1] == PINBALL else 1.0 / known


@njit(**HOT)
def _learn(x, at, n, awake, op, label, P, W, G, totals, taus, modes, params, work):  # type: ignore[no-untyped-def]
    oracle, d, known = modes[0], modes[12], op[7]
    for i in range(op[2], op[2] + op[3]):
        s = awake[i]
        if oracle <= VAW:
            if op[0] == CORRECT:
                _times(P, s, x, at, n, d, work)
                for k in range(d):
                    W[s, k, 0] += work[k] * (label[0] - label[2])
            else:
                _regress(P, W, s, x, at, n, d, label[0], params[0], work, totals)
        elif oracle == QUANTILE:
            for k in range(taus.size):
                work[k] = (1.0 if _margin(W, s, k, x, at, n) > label[0] else 0.0) - taus[k]
            _descend(W, G, s, x, at, n, taus.size, work, params[1])
        else:
            _classes(s, x, at, n, known, W, oracle, work, 0)
            if oracle == SOFTMAX:
                work[int(label[0])] -= 1.0
                _descend(W, G, s, x, at, n, known, work, params[1])
            elif known > 1:
                work[0] = work[1] - label[0]
                _descend(W, G, s, x, at, n, 1, work, params[1])


@njit(**HOT)
def _regress(P, W, s, x, at, n, d, y, lam, work, totals):  # type: ignore[no-untyped-def]
    """Recursive least squares: W += P x e / (1 + x P x), P -= P x (P x)' / (1 + x P x).

    In a singular design rounding can eat what is left of P: when x P x < 0 shows it, P begins again from I / lam
    (the covariance resetting of Goodwin, Sin 1984), and W too if it led out of all bounds.
    """
    spread = _times(P, s, x, at, n, d, work)
    error = y - _margin(W, s, 0, x, at, n)
    if not spread >= 0.0 or not abs(error) < LOST:
        if not abs(error) < LOST:
            W[s] = 0.0
            error = y
        _identity(P, s, lam)
        spread = 0.0
        for k in range(d):
            work[k] = x[k] / lam
            spread += x[k] * work[k]
        totals[7] += 1.0
    step = error / (1.0 + spread)
    root = 1.0 / math.sqrt(1.0 + spread)
    for k in range(d):
        W[s, k, 0] += work[k] * step
        work[d + k] = work[k] * root
    for j in range(d):
        v = work[d + j]
        if v != 0.0:
            for k in range(d):
                P[s, j, k] -= v * work[d + k]


@njit(**INNER)
def _descend(W, G, s, x, at, n, columns, slope, eta):  # type: ignore[no-untyped-def]
    for i in range(n):
        for c in range(columns):
            g = min(max(slope[c] * x[at[i]], -STEEPEST), STEEPEST)
            if g != 0.0:
                G[s, at[i], c] += g * g
                W[s, at[i], c] -= eta * g / (math.sqrt(G[s, at[i], c]) + TINY)


# --- the experts of an event: expert e of n awake groups is that of group `_group`, with the model of `_model`


@njit(**LEAN)
def count(n, experts):  # type: ignore[no-untyped-def]
    """How many experts n awake groups have. Everyone, if awake, has position 0."""
    if experts == PAIRS:
        return n * n
    return n + max(n - 1, 0) if experts == EVERYONE else n


@njit(**HOT)
def _group(e, n, experts):  # type: ignore[no-untyped-def]
    if experts == PAIRS:
        return e // n
    return e if e < n else e - n + 1


@njit(**HOT)
def _model(e, n, experts):  # type: ignore[no-untyped-def]
    if experts == PAIRS:
        return e % n
    return e if e < n else 0


@njit(**HOT)
def _column(e, n, model, experts):  # type: ignore[no-untyped-def]
    if experts == PAIRS:
        return model
    return 0 if e < n else 1


@njit(**LEAN)
def exponent(r, c):  # type: ignore[no-untyped-def]
    """a in w(R, C) = exp(a) remainder / 2, AdaNormalHedge's weight (Phi(R+1, C+1) - Phi(R-1, C+1)) / 2."""
    return (r + 1.0) * (r + 1.0) / (3.0 * (c + 1.0)) if r > -1.0 else -math.inf


@njit(**LEAN)
def remainder(r, c):  # type: ignore[no-untyped-def]
    """1 - exp(-gap) without the cancellation of a difference of exponentials."""
    return -math.expm1(-(4.0 * r / (3.0 * (c + 1.0)) if r >= 1.0 else exponent(r, c)))


@njit(**HOT)
def _above(r, c, a, top, least):  # type: ignore[no-untyped-def]
    """exp(a - top) remainder(r, c), one exponential where that will do. a: exponent(r, c), least: exp(-top)."""
    if r <= -1.0:
        return 0.0
    return least * math.expm1(a) if r < 1.0 else math.exp(a - top) * remainder(r, c)


@njit(**HOT)
def _weights(awake, here, n, j, E, table, totals, modes, params, p, first, heads):  # type: ignore[no-untyped-def]
    """Into p[first + e heads]: what each expert weighs. Returns whether every weight was 0."""
    meta, experts = modes[2], modes[4]
    number = count(n, experts)
    top = -math.inf
    for e in range(number):
        s, m = awake[here + _group(e, n, experts)], awake[here + _model(e, n, experts)]
        c = _column(e, n, m, experts)
        if meta == ANH:
            a = exponent(E[s, c, j, REGRET], E[s, c, j, SIZE])
        elif meta == MLPOLY:
            a = 0.0 if E[s, c, j, REGRET] > 0.0 else -math.inf
        else:
            a = E[s, c, j, EXTRA]
        p[first + e * heads] = a
        top = max(top, a)
    least = math.exp(-top) if meta == ANH and top > -math.inf else 1.0
    floor = 2.0 * params[2] * least if meta == ANH else 0.0  # w is exp(a) remainder / 2
    total = 0.0
    for e in range(number):
        s, m = awake[here + _group(e, n, experts)], awake[here + _model(e, n, experts)]
        c = _column(e, n, m, experts)
        prior = table[s, MASS] * (table[m, MASS] if experts == PAIRS else 1.0)
        w, a = 1.0, p[first + e * heads]
        if top > -math.inf:
            if meta == ANH:
                w = _above(E[s, c, j, REGRET], E[s, c, j, SIZE], a, top, least)
            elif meta == MLPOLY and a > -math.inf:
                w = E[s, c, j, REGRET] / (E[s, c, j, EXTRA] + totals[2])
            else:
                w = math.exp(a - top)
            w += floor
        p[first + e * heads] = prior * w
        total += prior * w
    for e in range(number):
        p[first + e * heads] /= total
    return top == -math.inf


@njit(**INNER)
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


@njit(**HOT)
def _predict(awake, here, n, known, offset, buffer, E, table, totals, modes, params):  # type: ignore[no-untyped-def]
    if n == 0:
        buffer[offset + known], buffer[offset + known + 1] = 1.0, 1.0
        return
    heads = E.shape[2]
    z = offset + known + HEAD
    p = z + n * known
    fallback, half = False, 0.0
    for j in range(heads):
        fallback = _weights(awake, here, n, j, E, table, totals, modes, params, buffer, p + j, heads) or fallback
    if modes[9] == 1:
        for i in range(here, here + n):
            half += _stake(table, awake[i])
    buffer[offset + known] = half
    buffer[offset + known + 1] = 1.0 if fallback else 0.0
    if modes[5] == SAMPLED:
        _draw(n, known, heads, _uniform(modes[11], totals[0]), modes[4], buffer, offset, z, p)
    elif modes[2] == AA:
        buffer[offset] = _substitute(n, modes[4], params[4], buffer, z, p)
    else:
        _average(n, known, heads, modes[4], buffer, offset, z, p)
    if modes[1] == PINBALL:
        _sort(buffer, offset, known)


@njit(**HOT)
def _average(n, known, heads, experts, buffer, offset, z, p):  # type: ignore[no-untyped-def]
    for e in range(count(n, experts)):
        first = z + _model(e, n, experts) * known
        for k in range(known):
            buffer[offset + k] += buffer[p + e * heads + (k if heads > 1 else 0)] * buffer[first + k]


@njit(**INNER)
def _draw(n, known, heads, u, experts, buffer, offset, z, p):  # type: ignore[no-untyped-def]
    number = count(n, experts)
    for k in range(known):
        left, e, j = u, 0, k if heads > 1 else 0
        while e < number - 1 and left >= buffer[p + e * heads + j]:
            left -= buffer[p + e * heads + j]
            e += 1
        buffer[offset + k] = buffer[z + _model(e, n, experts) * known + k]


@njit(**INNER)
def _substitute(n, experts, rate, buffer, z, p):  # type: ignore[no-untyped-def]
    """The Aggregating Algorithm's: 1/2 + (g(0) - g(1)) / 2, g(y) = -ln(sum p exp(-rate (z - y)^2)) / rate."""
    if n == 1:
        return buffer[z]
    zero, one = 0.0, 0.0
    for e in range(count(n, experts)):
        v = buffer[z + _model(e, n, experts)]
        zero += buffer[p + e] * math.exp(-rate * v**2)
        one += buffer[p + e] * math.exp(-rate * (v - 1.0) ** 2)
    return min(max(0.5 + 0.5 * (math.log(one) - math.log(zero)) / rate, 0.0), 1.0)


@njit(**HOT)
def _stake(table, s):  # type: ignore[no-untyped-def]
    return table[s, WEALTH] * table[s, MISSES] / (table[s, BETS] + 1.0)


# --- labels


@njit(**HOT)
def _loss(z, first, known, j, y, taus, loss, least):  # type: ignore[no-untyped-def]
    """Of weight j, within [0, 1] for predictions and labels within the range."""
    if loss == SQUARED:
        return (z[first] - y) * (z[first] - y)
    if loss == PINBALL:
        v = z[first + j]
        return (y - v) * taus[j] if y >= v else (v - y) * (1.0 - taus[j])
    c = int(y)
    right = z[first + c] if c < known else 0.0
    if loss == LOG:
        return math.log(max(right, least)) / math.log(least)
    if loss == ZERO_ONE:
        return 1.0 - right
    total = (1.0 - right) ** 2 - right**2
    for k in range(first, first + known):
        total += z[k] ** 2
    return 0.5 * total


@njit(**INNER)
def _total(z, first, known, heads, y, taus, loss, least):  # type: ignore[no-untyped-def]
    """The loss over all weights: with quantiles their mean."""
    total = 0.0
    for j in range(heads):
        total += _loss(z, first, known, j, y, taus, loss, least)
    return total / heads


@njit(**INNER)
def _slope(buffer, first, offset, known, j, y, taus, loss):  # type: ignore[no-untyped-def]
    """The loss's derivative at what was played, times the distance to z; within [-1, 1]."""
    if loss == SQUARED:
        return (buffer[offset] - y) * (buffer[offset] - buffer[first])
    if loss == PINBALL:
        v = buffer[offset + j]
        return ((1.0 if v > y else 0.0) - taus[j]) * (v - buffer[first + j])
    total = 0.0
    for k in range(known):
        v = buffer[offset + k]
        total += (v - (1.0 if k == int(y) else 0.0)) * (v - buffer[first + k])
    return 0.5 * total


@njit(**HOT)
def _judge(awake, op, buffer, label, E, table, totals, taus, modes, params, work):  # type: ignore[no-untyped-def]
    """Move R, C and the weights by the prediction as it was made; a correction takes the old label's part back."""
    kind, n, offset, known = op[0], op[5], op[6], op[8]
    if n == 0:
        if kind == LEARN:
            totals[8] += 1.0
            totals[9] += _total(buffer, offset, known, E.shape[2], label[0], taus, modes[1], params[6])
        return
    for turn in range(0 if kind == CORRECT else 1, 2):
        sign, y = (1.0, label[0]) if turn == 1 else (-1.0, label[2])
        _turn(awake, op, buffer, y, label[1], sign, E, table, totals, taus, modes, params, work)
    if kind == LEARN:
        totals[1] += 1.0


@njit(**HOT)
def _turn(awake, op, buffer, y, weight, sign, E, table, totals, taus, modes, params, work):  # type: ignore[no-untyped-def]
    """Count a label in (sign 1) or out (-1)."""
    here, n, offset, known, heads = op[4], op[5], op[6], op[8], E.shape[2]
    z = offset + known + HEAD
    for j in range(heads):
        for i in range(n):
            work[j * n + i] = _loss(buffer, z + i * known, known, j, y, taus, modes[1], params[6])
        _settle(awake, op, j, y, sign, buffer, E, table, totals, taus, modes, params, work)
    _score(awake, op, y, weight, sign, buffer, heads, table, taus, modes, params, work)
    if modes[9] == 1:
        _cover(awake, here, n, offset, known, y, sign, op[0], buffer, table, modes[1], params[5])


@njit(**HOT)
def _settle(awake, op, j, y, sign, buffer, E, table, totals, taus, modes, params, losses):  # type: ignore[no-untyped-def]
    meta, accounting, experts, rate = modes[2], modes[3], modes[4], params[4]
    kind, here, n, offset, known, heads = op[0], op[4], op[5], op[6], op[8], E.shape[2]
    z = offset + known + HEAD
    p = z + n * known + j
    number = count(n, experts)
    played, mix = 0.0, 0.0
    if accounting == MIXTURE:
        played = _loss(buffer, offset, known, j, y, taus, modes[1], params[6])
    elif accounting == EXPECTED:
        for e in range(number):
            played += buffer[p + e * heads] * losses[j * n + _model(e, n, experts)]
    if meta != ANH and meta != MLPOLY:
        best = losses[j * n]
        for i in range(1, n):
            best = min(best, losses[j * n + i])
        for e in range(number):
            mix += buffer[p + e * heads] * math.exp(-rate * (losses[j * n + _model(e, n, experts)] - best))
        mix = (math.log(mix) if mix > 0.0 else 0.0) - rate * best
    largest = totals[2]
    for e in range(number):
        i = _model(e, n, experts)
        s, m = awake[here + _group(e, n, experts)], awake[here + i]
        if s < 0 or m < 0:
            continue
        c = _column(e, n, m, experts)
        if accounting == GRADIENT:
            r = _slope(buffer, z + i * known, offset, known, j, y, taus, modes[1])
        else:
            r = played - losses[j * n + i]
        E[s, c, j, REGRET] += sign * r
        E[s, c, j, SIZE] = max(E[s, c, j, SIZE] + sign * abs(r), 0.0)
        prior = table[s, MASS] * (table[m, MASS] if experts == PAIRS else 1.0)
        if meta == ANH:
            totals[6] += params[2] * prior if kind == LEARN else 0.0
        elif meta == MLPOLY:
            totals[2] = max(totals[2], r * r)
            if kind == LEARN and r != 0.0:
                scale = E[s, c, j, EXTRA] + largest
                totals[3] += prior * r * r / (scale if scale > 0.0 else r * r + totals[2])
            E[s, c, j, EXTRA] = max(E[s, c, j, EXTRA] + sign * r * r, 0.0)
        else:
            E[s, c, j, EXTRA] += sign * (-rate * losses[j * n + i] - mix)


@njit(**HOT)
def _score(awake, op, y, weight, sign, buffer, heads, table, taus, modes, params, work):  # type: ignore[no-untyped-def]
    """What the operator sees: losses weighted, disagreement, on each group of the event."""
    kind, here, n, offset, known, experts = op[0], op[4], op[5], op[6], op[8], modes[4]
    z = offset + known + HEAD
    p = z + n * known
    loss = _total(buffer, offset, known, heads, y, taus, modes[1], params[6])
    share = n * heads  # in `work`, after the losses: of each model, whatever group it was asked for
    for i in range(n * heads):
        work[share + i] = 0.0
    for e in range(count(n, experts)):
        i = _model(e, n, experts)
        for j in range(heads):
            work[share + j * n + i] += buffer[p + e * heads + j]
    expected, ambiguity, discrepancy = 0.0, 0.0, 0.0
    for i in range(n * heads):
        expected += work[share + i] * work[i] / heads
    for k in range(known):
        low, high = math.inf, -math.inf
        for i in range(n):
            v = buffer[z + i * known + k]
            ambiguity += work[share + (k * n if heads > 1 else 0) + i] * (v - buffer[offset + k]) ** 2
            low, high = min(low, v), max(high, v)
        discrepancy = max(discrepancy, high - low)
    single = 0.0
    for j in range(heads):
        single += work[j * n] / heads if modes[10] == 1 else 0.0
    for i in range(n):
        s = awake[here + i]
        if s < 0:
            continue
        own = 0.0
        for j in range(heads):
            own += work[j * n + i] / heads
        if kind == LEARN:
            table[s, N] += 1.0
            table[s, WEIGHT] += weight
            table[s, WEIGHT2] += weight * weight
            table[s, FALLBACK] += buffer[offset + known + 1]
            table[s, AMBIGUITY] += weight * ambiguity
            table[s, DISCREPANCY] += weight * discrepancy
        table[s, LOSS] += sign * weight * loss
        table[s, SINGLE] += sign * weight * single
        table[s, ITS_OWN] += sign * weight * own
        table[s, MEAN] += sign * weight * expected
        table[s, HARM2] += sign * (weight * (loss - single)) ** 2


@njit(**HOT)
def _cover(awake, here, n, offset, known, y, sign, kind, buffer, table, loss, alpha):  # type: ignore[no-untyped-def]
    """Krichevsky-Trofimov betting on the miss, a bettor per group: see `streamd.learners.groupwise.intervals`."""
    if loss == SQUARED:
        distance = abs(y - buffer[offset])
    elif loss == PINBALL:
        distance = max(buffer[offset] - y, y - buffer[offset + known - 1])
    else:
        distance = 1.0 - (buffer[offset + int(y)] if int(y) < known else 0.0)
    half = buffer[offset + known]
    covered = 1.0 if distance <= half else 0.0
    miss = 1.0 - covered - alpha
    for i in range(here, here + n):
        s = awake[i]
        if s < 0:
            continue
        table[s, COVERED] += sign * covered
        if kind == LEARN:
            table[s, WIDTH] += min(max(half, 0.0), 1.0)
            table[s, WEALTH] += miss * _stake(table, s)
            table[s, MISSES] += miss
            table[s, BETS] += 1.0


# --- groups


@njit(**INNER)
def _born(s, mass, P, W, G, E, table, totals, modes, params):  # type: ignore[no-untyped-def]
    """Slot s begins afresh. What its last holder added to the bound's budget stays spent."""
    if modes[2] == ANH and table[s, MASS] > 0.0:
        totals[5] += _budget(s, E, table, modes)
    E[s] = 0.0
    if modes[4] == PAIRS:
        E[:, s] = 0.0
    table[s] = 0.0
    table[s, MASS], table[s, WEALTH] = mass, 1.0
    totals[4] += mass
    _identity(P, s, params[0])
    W[s] = 0.0
    G[s] = 0.0


@njit(**INNER)
def _identity(P, s, lam):  # type: ignore[no-untyped-def]
    P[s] = 0.0
    for k in range(P.shape[1]):
        P[s, k, k] = 1.0 / lam


@njit(**INNER)
def _budget(s, E, table, modes):  # type: ignore[no-untyped-def]
    """3/2 q (1 + ln(1 + C)) over the experts that slot s takes part in, where C > 0."""
    total = 0.0
    for a in range(E.shape[1]):
        for j in range(E.shape[2]):
            other = table[a, MASS] if modes[4] == PAIRS else 1.0
            if E[s, a, j, SIZE] > 0.0:
                total += table[s, MASS] * other * (1.0 + math.log1p(E[s, a, j, SIZE]))
            if modes[4] == PAIRS and a != s and E[a, s, j, SIZE] > 0.0:
                total += table[s, MASS] * other * (1.0 + math.log1p(E[a, s, j, SIZE]))
    return 1.5 * total


def load() -> None:
    """Compile `run` or load it from the cache, by an empty run."""
    one, none, cube = np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros((1, 1, 1))
    inputs = (one, none, np.zeros(0), none, np.zeros((0, len(OPS)), np.int64), np.zeros((0, 3)), np.zeros(0))
    state = (
        cube,
        cube.copy(),
        cube.copy(),
        np.zeros((1, 1, 1, 2)),
        np.zeros((1, len(TABLE))),
        np.zeros(len(TOTALS)),
    )
    modes, params = np.zeros(len(MODES), np.int64), np.zeros(len(PARAMS))
    run(*inputs, *state, np.zeros((3, 1)), np.zeros(0), modes, params)
