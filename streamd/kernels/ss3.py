"""SS3, compiled: one call applies a run of predictions, documents learned and taken back, in stream order.

The arithmetic is that of `streamd.learners.ss3`; only counts are kept, and every value is worked out when asked
for. What is global, the largest gv of a category and length, is found by walking its list from the most frequent
term down: gv <= lv, and lv grows with the frequency, so the walk ends where the next lv cannot be larger. Values
are cached until the next document is learned.

Rows are streams of codes: k >= 0 is the run's word number k, BREAK ends an n-gram, SENTENCE and PARAGRAPH end what
they say. `local[k]` is the word's term, or -1 while the model does not know it.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamd.kernels.ss3_counts import (
    ALIVE,
    COARSE,
    GONE,
    LIVE,
    NOBODY,
    OVERFLOW,
    SINCE_PRUNING,
    UNIT,
    VERSION,
    add,
    ceiling,
    child,
    count_live,
    empty,
    evict,
    find_pair,
    inner,
    making,
    new_term,
    prune,
    refresh,
    reserve,
    restored,
    short,
    smallest,
    subtract,
    widen,
)  # fmt: skip

PREDICT, LEARN, UNLEARN, PRUNE, RECOGNISE, VALUES, LARGEST = range(7)
BREAK, SENTENCE, PARAGRAPH = -1, -2, -3
GV, NORM_GV, NORM_GV_XAI = 0, 1, 2
VANILLA, XAI = 0, 1
SUM, MAX = 0, 1
MOST_PROBABLE, UNKNOWN = -2, -1
TERMS, CATEGORIES, PARTS = (
    5,
    3,
    32,
)  # of a prediction's reasons: terms, categories of each, parts of the text
PRUNE_EVERY, PRUNE_UP_TO = 1_000_000, 10  # PySS3's
NOISE, LEAST_WIDTH = 1.0, 0.03  # PySS3's: a term seen once says nothing; the width of sg has a floor


class Settings(NamedTuple):
    sigma: float
    lam: float
    rho: float
    alpha: float
    keep: float  # of every count, when a document is learned; 1: for ever
    confidence: int
    significance: int
    over_terms: int  # how the vectors of terms, sentences, paragraphs are put together
    over_sentences: int
    over_paragraphs: int
    N: int
    bound: int  # on the number of terms
    pyss3: int


class Answers(NamedTuple):
    """Of P predictions with C columns. part_sums: in the order of the marks of the row, at most PARTS."""

    cv: NDArray[np.float64]  # (P, C), zeros before
    p: NDArray[np.float64]  # (P, C), zeros before
    decided: NDArray[np.int64]  # (P,)
    at: NDArray[np.int64]  # (P, TERMS), -1 before: where in the row the term starts
    words: NDArray[np.int64]  # (P, TERMS): how many codes it takes
    share: NDArray[np.float64]  # (P, TERMS): its part of the decided category's confidence
    category: NDArray[np.int64]  # (P, TERMS, CATEGORIES), -1 before
    confidence: NDArray[np.float64]  # (P, TERMS, CATEGORIES)
    parts: NDArray[np.float64]  # (P, PARTS)
    found: NDArray[np.int64]  # (codes, 3), -1 before: the terms of the rows recognised, where, how many codes
    values: NDArray[np.float64]  # (V, 6, C), zeros before: fr, lv, sg, sn, gv, cv of terms; or max_fr, max_gv


# --- values of terms


@inner
def sigmoid(v, w):  # type: ignore[no-untyped-def]
    return 0.5 * math.tanh((3.0 / w) * v - 3.0) + 0.5 if w != 0.0 else 0.0


@inner
def local_value(s, settings, p, L):  # type: ignore[no-untyped-def]
    fr = s.fr[p]
    return (fr / s.max_fr[L]) ** settings.sigma if fr > NOISE * s.x[UNIT] else 0.0


@inner
def _spread(lv, C, scratch):  # type: ignore[no-untyped-def]
    """PySS3's median and deviation of the C local values of a term, those not in `lv` being 0."""
    found = 0
    for v in lv:
        found += v > 0.0
    absent = C - found
    if C == 2:
        least = min(lv[0], lv[1]) if found == 2 else 0.0
        return least, least
    middle = C // 2 if C % 2 else C // 2 - 1
    M = 0.0
    if middle >= absent:
        M = smallest(lv, lv.size - found + middle - absent, scratch)
    D = absent * M
    for v in lv:
        D += abs(M - v) if v > 0.0 else 0.0
    return M, D / C


@inner
def term_values(s, settings, t, lv, sg, sn, gv):  # type: ignore[no-untyped-def]
    """lv, sg, sn, gv of a term, pair by pair, into arrays of at least as many places as it has pairs."""
    first, k, C = np.int64(s.first[t]), s.held[t], s.n[LIVE]
    high = 0
    for j in range(k):
        L = s.category[first + j] * settings.N + s.length[t] - 1
        lv[j] = local_value(s, settings, first + j, L)
        high += lv[j] > 0.09
    M, D = _spread(lv[:k], C, sn)
    lam, silent = settings.lam, False
    if settings.significance == XAI:
        if lam * D <= LEAST_WIDTH:
            D = LEAST_WIDTH / lam if lam > 0.0 else 0.0
        silent = M >= 0.3 or ((M > 0.2 or high == C) and D <= 0.1)
    S = 0.0
    for j in range(k):
        if silent:
            sg[j] = 0.0
        elif D == 0.0 and lv[j] > 0.0:
            sg[j] = 1.0
        else:
            sg[j] = sigmoid(lv[j] - M, lam * D)
        S += min(sg[j], 1.0)
    for j in range(k):
        sn[j] = sanction(C, S - min(sg[j], 1.0), settings.rho)
        gv[j] = lv[j] * (sg[j] * sn[j])


@inner
def sanction(C, others, rho):  # type: ignore[no-untyped-def]
    if C <= 1:
        return 1.0
    others = max(others, 0.0)
    base = max((C - (others + 1.0)) / ((C - 1) * (others + 1.0)), 0.0)
    return base if rho == 1.0 else base**rho


@inner
def _gv(s, settings, t, work):  # type: ignore[no-untyped-def]
    """The slot of the cache that holds the gv of a term."""
    slot = t % s.cache_term.size
    if s.cache_term[slot] != t or s.gv_of[slot] != s.n[VERSION]:
        s.cache_term[slot], s.gv_of[slot], s.cv_of[slot] = t, s.n[VERSION], 0
        term_values(s, settings, t, work[0], work[1], work[2], s.gv[slot])
    return slot


@inner
def max_gv(s, settings, L, work):  # type: ignore[no-untyped-def]
    """The largest gv in a category of a length; remembered until something changes."""
    if s.fresh[L] == s.n[VERSION]:
        return s.max_gv[L]
    best, bound = 0.0, 0.0
    for i in range(s.list_count[L]):
        p = np.int64(s.order[s.list_first[L] + i])
        fr = ceiling(s.fr[p], s.n[COARSE])
        if fr <= NOISE * s.x[UNIT]:
            break
        bound = (fr / s.max_fr[L]) ** settings.sigma
        if bound <= best:
            break
        t = s.term[p]
        best = max(best, s.gv[_gv(s, settings, t, work), p - s.first[t]])
    s.max_gv[L], s.fresh[L] = best, s.n[VERSION]
    return best


@inner
def word_at(s, t, i):  # type: ignore[no-untyped-def]
    """The term of the i-th word of a term."""
    for _ in range(s.length[t] - 1 - i):
        t = s.parent[t]
    return t if s.length[t] == 1 else np.int64(s.word[t])


@inner
def cv(s, settings, t, work):  # type: ignore[no-untyped-def]
    """The slot of the cache that holds the cv of a term (and its gv)."""
    slot, first, k = _gv(s, settings, t, work), np.int64(s.first[t]), s.held[t]
    if s.cv_of[slot] == s.n[VERSION]:
        return slot
    if settings.confidence == GV:
        for j in range(k):
            s.cv[slot, j] = s.gv[slot, j]
        s.cv_of[slot] = s.n[VERSION]
        return slot
    n, N = s.length[t], settings.N
    for j in range(k):  # walks may take the slot away, so all of them first
        if s.cache_term[slot] != t:
            slot = _gv(s, settings, t, work)
        if s.gv[slot, j] > 0.0:
            max_gv(s, settings, s.category[first + j] * N + n - 1, work)
    total = 0.0
    xai = settings.confidence == NORM_GV_XAI and n > 1
    if xai:
        for i in range(n):
            w = word_at(s, t, i)
            values = s.gv[_gv(s, settings, w, work)]
            for j in range(s.held[w]):
                total += values[j]
    slot = _gv(s, settings, t, work)
    for j in range(k):
        g = s.gv[slot, j]
        c = s.category[first + j]
        value = g / s.max_gv[c * N + n - 1] if g > 0.0 else 0.0
        if xai:
            if total < 0.05:
                value = 0.0
            elif max_gv(s, settings, c * N + n - 1, work) > 0.0 and _all_matter(s, settings, t, c, work):
                slot = _gv(s, settings, t, work)
                value += total
            slot = _gv(s, settings, t, work)
        s.cv[slot, j] = value
    s.cv_of[slot] = s.n[VERSION]
    return slot


@inner
def _all_matter(s, settings, t, c, work):  # type: ignore[no-untyped-def]
    for i in range(s.length[t]):
        w = word_at(s, t, i)
        p = find_pair(s, w, c)
        if p == NOBODY or s.gv[_gv(s, settings, w, work), p - s.first[w]] < 0.01:
            return False
    return True


# --- deciding


@inner
def _keep_cv(s, settings, t, work, row):  # type: ignore[no-untyped-def]
    slot = cv(s, settings, t, work)
    for j in range(s.held[t]):
        work[row, j] = s.cv[slot, j]


@inner
def recognise(s, settings, codes, i, local, work, path):  # type: ignore[no-untyped-def]
    """The term at place i of a row, a known word: (term, how many codes it takes).

    For each category, follow its n-grams along the words as far as they go. The largest cv met, m, on ties of the
    first category, then of the shortest term, wins if m > alpha and no category has more in the single words of
    its whole path.
    """
    single = np.int64(local[codes[i]])
    N = settings.N
    if N == 1 or (settings.pyss3 == 1 and settings.confidence == GV):  # PySS3 keeps no cv for the latter
        return single, 1
    path[0], depth, words = single, 1, path[N:]
    while depth < N and i + depth < codes.size:
        code = codes[i + depth]
        if code < 0 or local[code] == NOBODY:
            break
        t = child(s, path[depth - 1], local[code])
        if t == NOBODY:
            break
        path[depth], words[depth] = t, local[code]
        depth += 1
    if depth == 1:
        return single, 1
    for d in range(depth):
        _keep_cv(s, settings, path[d], work, 3 + d)
        if d > 0:
            _keep_cv(s, settings, words[d], work, 3 + N + d)
    best, best_depth, most = 0.0, 1, 0.0
    for j in range(s.held[single]):
        c = s.category[s.first[single] + j]
        value = work[3, j]
        total = value
        if value > best:
            best, best_depth = value, 1
        for d in range(1, depth):
            p = find_pair(s, path[d], c)
            if p == NOBODY:
                break
            value = work[3 + d, p - s.first[path[d]]]
            if value > best:
                best, best_depth = value, d + 1
            w = find_pair(s, words[d], c)
            if w != NOBODY:
                total += work[3 + N + d, w - s.first[words[d]]]
        most = max(most, total)
    if best > settings.alpha and best >= most:
        return path[best_depth - 1], best_depth
    return single, 1


@inner
def _fold(operator, total, part):  # type: ignore[no-untyped-def]
    return max(total, part) if operator == MAX else total + part


@inner
def _sum_up(s, settings, codes, local, work, path, sums, found, places):  # type: ignore[no-untyped-def]
    """The vector of a row into sums[2]; its terms into `found` and `places`. Returns (terms, parts).

    sums: (3 + PARTS, C): of the sentence, the paragraph, the document, and of each part in the order of the marks.
    """
    C = sums.shape[1]
    for level in range(3):
        for c in range(C):
            sums[level, c] = 0.0
    terms, parts, i = 0, 0, 0
    while i < codes.size:
        code = codes[i]
        if code in (SENTENCE, PARAGRAPH):
            level = 0 if code == SENTENCE else 1
            operator = settings.over_sentences if level == 0 else settings.over_paragraphs
            for c in range(C):
                if parts < PARTS:
                    sums[3 + parts, c] = sums[level, c]
                sums[level + 1, c] = _fold(operator, sums[level + 1, c], sums[level, c])
                sums[level, c] = 0.0
            parts += 1
            i += 1
            continue
        if code < 0 or local[code] == NOBODY:
            i += 1
            continue
        t, taken = recognise(s, settings, codes, i, local, work, path)
        slot, first = cv(s, settings, t, work), np.int64(s.first[t])
        for j in range(s.held[t]):
            value = s.cv[slot, j]
            if value > settings.alpha:
                c = s.category[first + j]
                sums[0, c] = _fold(settings.over_terms, sums[0, c], value)
        found[terms], places[terms, 0], places[terms, 1] = t, i, taken
        terms += 1
        i += taken
    return terms, min(parts, PARTS)


@inner
def decide(s, vector, known, default):  # type: ignore[no-untyped-def]
    """The category with the largest confidence, the first on ties; the default if all are 0; UNKNOWN may be it."""
    best = 0
    for c in range(1, known):
        if vector[c] > vector[best]:
            best = c
    if known > 0 and vector[best] > 0.0:
        return best
    if default != MOST_PROBABLE:
        return default
    return most_probable(s)


@inner
def most_probable(s):  # type: ignore[no-untyped-def]
    """The category with the most words learned, the last on ties."""
    best, most = UNKNOWN, 0.0
    for c in range(s.docs.size):
        if s.words[c] >= most and (s.docs[c] > 0.0 or s.words[c] > 0.0):
            best, most = c, s.words[c]
    return best


@making
def _predict(s, settings, known, default, work, sums, found, places, terms, parts, a, i):  # type: ignore[no-untyped-def]
    total = 0.0
    for c in range(known):
        a.cv[i, c] = sums[2, c]
        total += sums[2, c]
    for c in range(known):
        a.p[i, c] = sums[2, c] / total if total > 0.0 else 1.0 / known
    a.decided[i] = decide(s, a.cv[i], known, default)
    best = a.decided[i]
    if best < 0 or total <= 0.0:
        return
    for part in range(parts):
        a.parts[i, part] = sums[3 + part, best]
    _reasons(s, settings, found, places, terms, best, work, a, i)


@inner
def _sort(keys):  # type: ignore[no-untyped-def]
    """Shell's. numpy's would be a tenth of the compilation."""
    gap = 1
    while gap < keys.size // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, keys.size):
            key, j = keys[i], i
            while j >= gap and keys[j - gap] > key:
                keys[j] = keys[j - gap]
                j -= gap
            keys[j] = key
        gap //= 3


@making
def _reasons(s, settings, found, places, terms, best, work, a, i):  # type: ignore[no-untyped-def]
    """The terms that count most for the decided category, the same ones taken together."""
    order = np.empty(terms, np.int64)
    for j in range(terms):
        order[j] = found[j] << 32 | j
    _sort(order)
    for j in range(terms):
        order[j] &= 0xFFFFFFFF
    j = 0
    while j < terms:
        t, share, k = found[order[j]], 0.0, j
        p = find_pair(s, t, best)
        if p != NOBODY:
            share = s.cv[cv(s, settings, t, work), p - s.first[t]]
        while k < terms and found[order[k]] == t:
            k += 1
        if share > settings.alpha:
            place = places[order[j]]
            total = share if settings.over_terms == MAX else share * (k - j)
            _insert(place[0], place[1], total, a.at[i], a.words[i], a.share[i])
        j = k
    for r in range(TERMS):
        if a.at[i, r] >= 0:
            for j in range(terms):
                if places[j, 0] == a.at[i, r]:
                    _explain(s, settings, found[j], work, a.category[i, r], a.confidence[i, r])


@inner
def _insert(at, words, share, ats, all_words, shares):  # type: ignore[no-untyped-def]
    r = ats.size
    while r > 0 and (ats[r - 1] < 0 or shares[r - 1] < share or (shares[r - 1] == share and ats[r - 1] > at)):
        r -= 1
    for q in range(ats.size - 1, r, -1):
        ats[q], all_words[q], shares[q] = ats[q - 1], all_words[q - 1], shares[q - 1]
    if r < ats.size:
        ats[r], all_words[r], shares[r] = at, words, share


@inner
def _explain(s, settings, t, work, category, confidence):  # type: ignore[no-untyped-def]
    """The categories in which a term has the largest cv."""
    slot = cv(s, settings, t, work)
    for j in range(s.held[t]):
        value = s.cv[slot, j]
        if value <= settings.alpha:
            continue
        r = category.size
        while r > 0 and (category[r - 1] < 0 or confidence[r - 1] < value):
            r -= 1
        for q in range(category.size - 1, r, -1):
            category[q], confidence[q] = category[q - 1], confidence[q - 1]
        if r < category.size:
            category[r], confidence[r] = s.category[s.first[t] + j], value


# --- learning


@inner
def _forget(s, settings):  # type: ignore[no-untyped-def]
    """One document's worth of forgetting: the unit grows; before it overflows all is divided by a power of 2."""
    if settings.keep == 1.0:
        return
    s.x[UNIT] /= settings.keep
    if s.x[UNIT] < OVERFLOW:
        return
    for array in (s.x, s.docs, s.words, s.floor, s.fr, s.missed):
        for i in range(array.size):
            array[i] /= OVERFLOW
    for c in range(s.docs.size):
        refresh(s, c, settings.N)


@making
def _learn(s, settings, codes, c, weight, local, tips):  # type: ignore[no-untyped-def]
    """Count the words and n-grams of a document in category c. Returns the store."""
    N, bound = settings.N, settings.bound
    _forget(s, settings)
    amount = weight * s.x[UNIT]
    width, words = 0, 0
    for code in codes:
        if code < 0:
            width = 0
            if settings.pyss3 == 1 and s.n[SINCE_PRUNING] >= PRUNE_EVERY:
                s = prune(s, PRUNE_UP_TO, local, N)
                s.n[SINCE_PRUNING] = 0
            continue
        words += 1
        s.n[SINCE_PRUNING] += settings.pyss3
        if width < N:
            tips[width] = NOBODY
        held = min(width + 1, N)
        if short(s, c, N):
            s = reserve(s, c, N)
        t = np.int64(local[code])
        if t == NOBODY:
            if s.n[ALIVE] >= bound:
                s = evict(s, tips, held, np.int64(NOBODY), bound, local, N)
                if short(s, c, N):
                    s = reserve(s, c, N)
            t = new_term(s, NOBODY, code, 1)
            local[code] = t
        add(s, t, c, amount, N)
        for d in range(min(width, N - 1), 0, -1):
            if short(s, c, N):
                s = reserve(s, c, N)
            g = child(s, tips[d - 1], t)
            if g == NOBODY:
                if s.n[ALIVE] >= bound:
                    s = evict(s, tips, held, t, bound, local, N)
                    if short(s, c, N):
                        s = reserve(s, c, N)
                g = new_term(s, tips[d - 1], t, d + 1)
            add(s, g, c, amount, N)
            tips[d] = g
        tips[0] = t
        width = min(width + 1, N)
    s.docs[c] += amount
    s.words[c] += amount * words
    refresh(s, c, N)
    count_live(s, N)
    return s


@making
def _unlearn(s, settings, codes, c, weight, local, tips):  # type: ignore[no-untyped-def]
    """Take back what `_learn` counted. From the last word to the first, so that nothing goes while in use."""
    N, amount, words = settings.N, weight * s.x[UNIT], 0
    for i in range(codes.size - 1, -1, -1):
        if codes[i] < 0 or local[codes[i]] == NOBODY:
            words += codes[i] >= 0
            continue
        words += 1
        if short(s, c, N):
            s = reserve(s, c, N)
        tips[0], width = local[codes[i]], 1
        while width < N and i + width < codes.size and codes[i + width] >= 0:
            word = local[codes[i + width]]
            g = child(s, tips[width - 1], word) if word != NOBODY else NOBODY
            if g == NOBODY:
                break
            tips[width] = g
            width += 1
        for d in range(width - 1, -1, -1):
            if s.length[tips[d]] == d + 1:
                subtract(s, tips[d], c, amount, local, N)
    s.docs[c] = _left(s.docs[c] - amount, s)
    s.words[c] = _left(s.words[c] - amount * words, s) if s.docs[c] > 0.0 else 0.0
    refresh(s, c, N)
    count_live(s, N)
    return s


@inner
def _left(count, s):  # type: ignore[no-untyped-def]
    return count if count > GONE * s.x[UNIT] else 0.0


@njit(cache=True, error_model="numpy")
def run(s, settings, start, codes, ops, weights, local, a):  # type: ignore[no-untyped-def]
    """Apply `ops` in order. Returns the store, whose pools may have grown.

    start: (R, 4) int64: where in `codes` the row begins and ends for deciding, and for learning.
    codes: int32, see above.  ops: (M, 4) int64: what, row, category or default decision, categories known by then.
    weights: (M,) float64.  local: int32, term of each of the run's words, changed.  a: answers, written.
    """
    for k in range(local.size):
        if local[k] != NOBODY:
            s.word[local[k]] = k
    longest = 1
    for r in range(start.shape[0]):
        longest = max(longest, start[r, 1] - start[r, 0])
    work = np.empty((3 + 2 * settings.N, max(1, s.docs.size)))
    sums = np.empty((3 + PARTS, a.cv.shape[1]))
    found, places = np.empty(longest, np.int64), np.empty((longest, 2), np.int64)
    tips, path = np.empty(settings.N, np.int64), np.empty(2 * settings.N, np.int64)
    predicted, listed, valued = 0, 0, 0
    for i in range(ops.shape[0]):
        kind, r, what = ops[i, 0], ops[i, 1], ops[i, 2]
        if kind == LEARN:
            s = _learn(s, settings, codes[start[r, 2] : start[r, 3]], what, weights[i], local, tips)
        elif kind == UNLEARN:
            s = _unlearn(s, settings, codes[start[r, 2] : start[r, 3]], what, weights[i], local, tips)
        elif kind == PRUNE:
            s = prune(s, what, local, settings.N)
        elif kind == VALUES:
            t = what if what >= 0 else _term_of(s, codes[start[r, 0] : start[r, 1]], local)
            _all_values(s, settings, t, work, a.values[valued])
            valued += 1
        elif kind == LARGEST:
            _largest(s, settings, what, work, a.values[valued])
            valued += 1
        else:
            row = codes[start[r, 0] : start[r, 1]]
            terms, parts = _sum_up(s, settings, row, local, work, path, sums, found, places)
            if kind == PREDICT:
                _predict(s, settings, ops[i, 3], what, work, sums, found, places, terms, parts, a, predicted)
                predicted += 1
            else:
                for j in range(terms):
                    a.found[listed + j, 0], a.found[listed + j, 1] = found[j], places[j, 0]
                    a.found[listed + j, 2] = places[j, 1]
                listed += row.size
    return s


@inner
def _term_of(s, codes, local):  # type: ignore[no-untyped-def]
    """The term that these words are, or NOBODY."""
    t = np.int64(NOBODY)
    for i in range(codes.size):
        word = np.int64(local[codes[i]]) if codes[i] >= 0 else np.int64(NOBODY)
        if word == NOBODY:
            return word
        t = word if i == 0 else np.int64(child(s, t, word))
        if t == NOBODY:
            return t
    return t


@inner
def _all_values(s, settings, t, work, out):  # type: ignore[no-untyped-def]
    """fr, lv, sg, sn, gv, cv of a term in every category, those not learned from included."""
    if t == NOBODY:
        return
    first, k, C = np.int64(s.first[t]), s.held[t], out.shape[1]
    slot = cv(s, settings, t, work)
    term_values(s, settings, t, work[0], work[1], work[2], s.gv[slot])
    S = 0.0
    for j in range(k):
        S += min(work[1, j], 1.0)
    for c in range(C):
        out[3, c] = sanction(s.n[LIVE], S, settings.rho)
    for j in range(k):
        c = s.category[first + j]
        out[0, c] = s.fr[first + j] / s.x[UNIT]
        out[1, c], out[2, c], out[3, c] = work[0, j], work[1, j], work[2, j]
        out[4, c], out[5, c] = s.gv[slot, j], s.cv[slot, j]


@inner
def _largest(s, settings, n, work, out):  # type: ignore[no-untyped-def]
    """max_fr and max_gv of all categories, over the terms of n words."""
    for c in range(out.shape[1]):
        L = c * settings.N + n - 1
        out[0, c], out[1, c] = s.max_fr[L] / s.x[UNIT], max_gv(s, settings, L, work)
        out[2, c] = s.list_count[L]


def answers(P: int, C: int, codes: int = 0, V: int = 0) -> Answers:
    """Room for the answers to P predictions among C categories, and what else is asked."""
    return Answers(
        np.zeros((P, C)), np.zeros((P, C)), np.full(P, UNKNOWN, np.int64),
        np.full((P, TERMS), -1, np.int64), np.zeros((P, TERMS), np.int64), np.zeros((P, TERMS)),
        np.full((P, TERMS, CATEGORIES), -1, np.int64), np.zeros((P, TERMS, CATEGORIES)), np.zeros((P, PARTS)),
        np.full((codes, 3), -1, np.int64), np.zeros((V, 6, C)),
    )  # fmt: skip


def load() -> None:
    """Compile `run` and `restored`, or load them from the cache, by an empty run."""
    s = widen(empty(False), 1, 1, 64)
    settings = Settings(0.45, 0.5, 1.0, 0.0, 1.0, NORM_GV_XAI, XAI, SUM, SUM, SUM, 1, 16, 0)
    none = np.zeros(0, np.int32)
    run(
        s, settings, np.zeros((1, 4), np.int64), none, np.zeros((0, 4), np.int64), np.zeros(0), none, answers(0, 1)
    )
    restored(s, np.zeros(0, np.int64), np.zeros(0), 1)
