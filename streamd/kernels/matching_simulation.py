"""Runs of a rule over a recorded stream, compiled. Arguments as in `streamd.kernels.matching`."""

import numpy as np
from numba import njit

from streamd.kernels.matching import (
    CLOSED,
    DECLINES,
    DRAW,
    MIN_SCORE,
    ORDINAL,
    SCORE,
    before,
    charge,
    choose,
    refresh_all,
    release,
    renew,
)
from streamd.kernels.matching_ids import mix


@njit(cache=True, error_model="numpy")
def _scan(slots, p, first, last, hot, arena, start, length, ordinal, least):  # type: ignore[no-untyped-def]
    """The best of the edges first:last, as `choose` does where none is SLOW, nothing needed or drawn; or -1."""
    best, top = -1, -np.inf
    for i in range(first, last):
        u = slots[i]
        w = hot[u, 0]
        if w == CLOSED:
            continue
        s = hot[u, 1] if ordinal else w * p[i] * hot[u, 1]
        if s < least or s < top:
            continue
        if s > top or best < 0 or before(i, best, slots, p, arena, start, length):
            best, top = i, s
    return best


@njit(cache=True, error_model="numpy")
def _run(starts, slots, p, coins, delay, row, won, tried, s):  # type: ignore[no-untyped-def]
    """One run of `simulate`; row: (T,) of chosen, won: (n,) of successes."""
    (
        hot,
        table,
        _terms,
        curves,
        points,
        _set_start,
        _set_group,
        _groups,
        arena,
        start,
        length,
        ranks,
        modes,
        params,
    ) = s
    least, ordinal, drawn = params[MIN_SCORE], modes[SCORE] == ORDINAL, modes[SCORE] == DRAW
    if modes[DECLINES] != 0:
        least = max(least, 5e-324)
    best, score, nothing, barred = np.empty(1, np.int64), np.empty(1), np.empty(0), np.empty(0, np.int64)
    for t in range(row.size):
        past = t - 1 - delay
        if past >= 0 and row[past] >= 0:
            u = row[past]
            release(u, tried[past], 1.0, coins[past] < tried[past], True, table, modes)
            renew(u, hot, table, curves, points, arena, start, length, ranks, modes, params)
        a, b = starts[t], starts[t + 1]
        if drawn:
            choose(slots[a:b], p[a:b], nothing, barred, np.uint64(0), 0, mix(np.uint64(t)), s, best, score)
            i = a + best[0] if best[0] >= 0 else -1
        else:
            i = _scan(slots, p, a, b, hot, arena, start, length, ordinal, least)
        row[t] = -1
        if i >= 0:
            u = slots[i]
            row[t] = u
            tried[t] = p[i]
            won[u] += 1 if coins[t] < p[i] else 0
            charge(u, p[i], 1.0, table, modes)
            renew(u, hot, table, curves, points, arena, start, length, ranks, modes, params)


@njit(cache=True, error_model="numpy")
def follow(starts, slots, p, coins, chosen, won, state):  # type: ignore[no-untyped-def]
    """One run from where `state` is, outcomes known at once: as `simulate` with one row of coins."""
    _run(starts, slots, p, coins, 0, chosen, won, np.empty(starts.size - 1), state)


@njit(cache=True, error_model="numpy", nogil=True)
def simulate(starts, slots, p, coins, drawn, delay, fresh, state, chosen, successes, loads):  # type: ignore[no-untyped-def]
    """Runs over one recorded stream of T arrivals with given coins: decisions, successes and loads.

    starts: (T + 1,), slots, p: (edges,), the edges of arrival t at starts[t]:starts[t + 1]; coins: (R, T), the
    attempt of arrival t succeeds if its coin is below p; drawn: (R, n, units) ranks, or (0, 0, 0).
    delay: the outcome of arrival t is applied just before the decision on arrival t + 1 + delay.
    fresh: (n,) RESOURCE, the resources at the start; `state`'s own table is
    scratch. They have no terms, no groups and no money; the daemon's are chosen by `choose`, to the same effect.
    chosen: (R, T) int32, resource or -1; successes: (R, n) int64, zeros before; loads: (R, n): written.
    """
    hot, table, terms, curves, points, set_start, set_group, groups = state[:8]
    arena, start, length, ranks, modes, params = state[8:]
    tried = np.empty(starts.size - 1)
    for r in range(coins.shape[0]):
        table[:] = fresh
        given = drawn[r] if drawn.shape[0] > 0 else ranks
        sets = (set_start, set_group, groups)
        s = (hot, table, terms, curves, points, *sets, arena, start, length, given, modes, params)
        refresh_all(s)
        _run(starts, slots, p, coins[r], delay, chosen[r], successes[r], tried, s)
        for u in range(table.size):
            loads[r, u] = table[u].load
