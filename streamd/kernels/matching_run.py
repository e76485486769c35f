"""A run of arrivals from the bytes of their edges to what each got, compiled: one call for all of them.

Only plain edges are read here: `[["name", 0.5], ...]`, names of printable ASCII without escapes, p within 0 and 1.
At anything else the run ends before that arrival, and who called does it the long way, which also says what is
wrong.
"""

import numpy as np
from numba import njit

from streamd.kernels.decimals import number
from streamd.kernels.json_text import skip
from streamd.kernels.matching import LOW, TOP, book, choose, explain, look
from streamd.kernels.matching_ids import mix, place

QUOTE, BACKSLASH, COMMA, OPEN, CLOSE = 34, 92, 44, 91, 93
ODD = -1


@njit(cache=True)
def _mark(raw, at, end, mark):  # type: ignore[no-untyped-def]
    """Past this character and the white space around it; ODD where there is another one."""
    at = skip(raw, at, end)
    return skip(raw, at + 1, end) if at < end and raw[at] == mark else ODD


@njit(cache=True)
def read(raw, at, end, names, texts, seed, slots, p, where):  # type: ignore[no-untyped-def]
    """The edges of one arrival, raw[at:end]. Returns how many, ODD for what is not plain, or more than fit.

    names: (size,) uint64, the table of `matching_ids`, with texts (arena, start, length). slots, p: (d,), where:
    (d, 2), the name's bytes: written.
    """
    arena, start, length = texts
    mask = np.uint64(names.size - 1)
    n = 0
    at = _mark(raw, at, end, OPEN)
    while at != ODD and n < slots.size:
        at = _mark(raw, at, end, OPEN)
        if at == ODD or at >= end or raw[at] != QUOTE:
            return ODD
        first = at + 1
        at = first
        h = np.uint64(0xCBF29CE484222325) ^ np.uint64(seed)
        while at < end and raw[at] != QUOTE:
            if raw[at] < 32 or raw[at] > 126 or raw[at] == BACKSLASH:
                return ODD
            h = (h ^ np.uint64(raw[at])) * np.uint64(0x100000001B3)
            at += 1
        where[n, 0], where[n, 1] = first, at
        slots[n] = place(mix(h), names, mask, arena, start, length, raw, first, at - first)
        at = _mark(raw, at + 1, end, COMMA)
        if at == ODD:
            return ODD
        value, at = number(raw, at, end)
        if at == ODD or not value <= 1.0:
            return ODD
        p[n] = value
        n += 1
        at = _mark(raw, at, end, CLOSE)
        if at == ODD or at >= end:
            return ODD
        if raw[at] == CLOSE:
            return n
        at = _mark(raw, at, end, COMMA)
    return ODD


@njit(cache=True, error_model="numpy")
def run(  # type: ignore[no-untyped-def]
    raw, ends, moments, waits, most, names, seed, slots, p, where, sizes, found, score, told, why,
    hot, table, terms, curves, points, set_start, set_group, groups, arena, start, length, ranks, modes, params,
):  # fmt: skip
    """Decide and book arrivals in order. Returns how many: it ends before one that is not plain, or that waits.

    raw: (bytes,) uint8, the edges one after the other, each until its place in ends: (m,); moments: (m,) event
    time; waits: (m,) bool, not to be left unmatched here; most: edges of an arrival. Written: slots, p, where as
    `read` has them, of all arrivals one after the other, `sizes` (m,) each; where in raw the names of the best TOP
    edges are, found: (m, TOP, 2), -1 for none, and score: (m, TOP); told: (m, 3) p, k and load of the choice; why:
    (m, 3): the slot, or -1, why nobody, how many edges lead to nobody known.
    """
    state = (
        hot, table, terms, curves, points, set_start, set_group, groups, arena, start, length, ranks, modes, params
    )  # fmt: skip
    best, nobody, none = np.empty(TOP, np.int64), np.empty(0, np.int64), np.empty(0)
    counts, begin, first, zero = np.empty(LOW + 1, np.int64), 0, 0, np.uint64(0)
    for j in range(ends.size):
        last, texts = first + most, (arena, start, length)
        n = read(raw, begin, ends[j], names, texts, seed, slots[first:last], p[first:last], where[first:last])
        if n == ODD:
            return j
        own, chances, now = slots[first : first + n], p[first : first + n], moments[j]
        choose(own, chances, none, nobody, zero, now, zero, state, best, score[j])
        unknown = 0
        for u in own:
            unknown += 1 if u < 0 else 0
        if best[0] < 0:
            if waits[j]:
                return j
            counts[:] = 0
            explain(own, chances, none, nobody, zero, now, state, counts)
            why[j, 0], why[j, 1] = -1, 0
            for reason in range(LOW + 1):
                if counts[reason] > 0:
                    why[j, 1] = reason
        else:
            u = own[best[0]]
            k, load = look(u, now, state)
            told[j, 0], told[j, 1], told[j, 2] = chances[best[0]], k, load
            why[j, 0], why[j, 1] = u, 0
            book(u, chances[best[0]], 1.0, now, state)
        why[j, 2] = unknown
        for m in range(TOP):
            found[j, m, 0] = found[j, m, 1] = -1
            if best[m] >= 0:
                found[j, m, 0], found[j, m, 1] = where[first + best[m], 0], where[first + best[m], 1]
        sizes[j] = n
        begin = ends[j]
        first += n
    return ends.size
