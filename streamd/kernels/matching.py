"""Online matching, compiled: choose a resource for an arrival, book the attempt, settle its outcome.

All functions are plain loops over arrays in a fixed order, without `fastmath`. Arguments that recur:

    hot      (n, 2) float64: a cache of `table`: the weight, or CLOSED, or SLOW (look at the table); and k.
    table    (n,) RESOURCE.
    terms    (t, 6) float64: refill, period, reset, pace, burst, interval (milliseconds).  Row 0: none of them.
    curves, points    the balance functions, see `streamd.matching.balance.CurveBook`.
    set_start (m + 1,), set_group (k,) int64: the groups of set i are set_group[set_start[i]:set_start[i + 1]].
    groups   (g, 2) float64: the least share of each group, and its (fading) share of the matches.
    arena, start, length    the names, see `streamd.kernels.matching_ids`.
    ranks    (n, units) float64: given ranks, or (0, 0): then they are drawn by hash of (seed, name, unit).
    modes    (8,) int64, params (6,) float64: see the constants.

`state` is all of these in that order, as one tuple.
"""

import math

import numpy as np
from numba import njit

from streamd.kernels.matching_balance import PERTURBED, RANK, balance
from streamd.kernels.matching_ids import draw, key, precedes

# scores: (weight p) k, or k alone, or a draw
PRODUCT, ORDINAL, DRAW = 0, 1, 2
# loads: the sum of p, of -ln(1 - p), or what is known (units used and expected of the open attempts)
EXPECTED_LOAD, HAZARD_LOAD, REALISED_LOAD = 0, 1, 2
BLOCK, EXPECTED, OPTIMISTIC = 0, 1, 2  # holds
# modes
SCORE, LOAD, PER_ATTEMPT, MONEY, ADAPTIVE, SEED, DECLINES = 0, 1, 2, 3, 4, 5, 6
# params
OVER, MIN_P, MIN_SCORE, BOOST, FADING = 0, 1, 2, 3, 4
# terms
REFILL, PERIOD, RESET, PACE, BURST, INTERVAL = 0, 1, 2, 3, 4, 5
# why an edge cannot be taken
FREE, UNKNOWN, GONE, UNFIT, SPENT, PACED, LOW = 0, 1, 2, 3, 4, 5, 6

CLOSED, SLOW = -1.0, -2.0
TOP = 3  # candidates told

RESOURCE = np.dtype(
    [
        ("weight", np.float64),
        ("capacity", np.float64),
        ("used", np.float64),  # units taken by successes, or by attempts
        ("load", np.float64),
        ("open_load", np.float64),  # units the open attempts are expected to take
        ("open_units", np.float64),  # units they may take
        ("since", np.int64),  # start of the refill period
        ("rated_until", np.float64),  # the token bucket's theoretical arrival time
        ("skills", np.uint64),
        ("settled_load", np.float64),  # of settled attempts, for the calibration
        ("settled", np.int32),
        ("succeeded", np.int32),
        ("open", np.int32),
        ("concurrent", np.int32),  # 0: no bound
        ("curve", np.int32),
        ("terms", np.int32),
        ("groups", np.int32),  # a set of groups; 0: none
        ("segments", np.int32),  # how many edges of kept segments lead here
        ("hold", np.uint8),
        ("present", np.uint8),
    ]
)


@njit(cache=True, error_model="numpy")
def period(r, terms, now):  # type: ignore[no-untyped-def]
    """(capacity, used, load, start of the period) of a resource once the refills due by now are done."""
    length = terms[r.terms, PERIOD]
    if length <= 0.0 or now < r.since + length:
        return r.capacity, r.used, r.load, r.since
    n = np.int64((now - r.since) // length)
    since = r.since + n * np.int64(length)
    if terms[r.terms, RESET] != 0.0:
        return terms[r.terms, REFILL], 0.0, 0.0, since
    return r.capacity + n * terms[r.terms, REFILL], r.used, r.load, since


@njit(cache=True, error_model="numpy", inline="always")
def _room(r, capacity, used, amount, modes, params):  # type: ignore[no-untyped-def]
    """Whether one more attempt that may take `amount` units fits."""
    if modes[ADAPTIVE] == 0:
        return True
    if r.concurrent > 0 and r.open >= r.concurrent:
        return False
    if modes[PER_ATTEMPT] != 0:
        return used + amount <= capacity
    if r.hold == BLOCK:
        return used + r.open_units + amount <= capacity
    if used >= capacity or (r.hold == EXPECTED and used + r.open_load >= capacity):
        return False
    return used + r.open_units + amount <= capacity + np.floor(params[OVER] * capacity)


@njit(cache=True, error_model="numpy")
def _rank(u, used, capacity, arena, start, length, ranks, seed):  # type: ignore[no-untyped-def]
    """The rank of the unit of u that would be sold next."""
    unit = max(min(int(used), int(capacity) - 1), 0)
    if ranks.shape[0] > 0:
        return ranks[u, unit]
    return draw(key(arena, start[u], length[u], seed), unit + 1)


@njit(cache=True, error_model="numpy", inline="always")
def _k(u, r, capacity, used, load, curves, points, arena, start, length, ranks, modes):  # type: ignore[no-untyped-def]
    kind = curves[r.curve, 0]
    rank = 0.0
    if kind in (RANK, PERTURBED):
        rank = _rank(u, used, capacity, arena, start, length, ranks, modes[SEED])
    if modes[LOAD] == REALISED_LOAD:
        load = used + r.open_load
    return balance(curves, points, r.curve, load, capacity, rank)


@njit(cache=True, error_model="numpy", inline="always")
def renew(u, hot, table, curves, points, arena, start, length, ranks, modes, params):  # type: ignore[no-untyped-def]
    """Bring the cache of one resource up to date."""
    r = table[u]
    hot[u, 1] = _k(u, r, r.capacity, r.used, r.load, curves, points, arena, start, length, ranks, modes)
    if r.present == 0:
        hot[u, 0] = CLOSED
    elif r.terms > 0 or r.groups > 0 or modes[MONEY] != 0:
        hot[u, 0] = SLOW
    else:
        hot[u, 0] = r.weight if _room(r, r.capacity, r.used, 1.0, modes, params) else CLOSED


@njit(cache=True, error_model="numpy")
def refresh(u, state):  # type: ignore[no-untyped-def]
    """Bring the cache of one resource up to date."""
    hot, table, _terms, curves, points, _s, _g, _groups, arena, start, length, ranks, modes, params = state
    renew(u, hot, table, curves, points, arena, start, length, ranks, modes, params)


@njit(cache=True, error_model="numpy")
def refresh_all(state):  # type: ignore[no-untyped-def]
    hot, table, _terms, curves, points, _s, _g, _groups, arena, start, length, ranks, modes, params = state
    for u in range(hot.shape[0]):
        renew(u, hot, table, curves, points, arena, start, length, ranks, modes, params)


@njit(cache=True, error_model="numpy")
def _favour(r, terms, set_start, set_group, groups, boost, capacity, used, load, since, now, modes):  # type: ignore[no-untyped-def]
    """A factor of the score: behind its pace or share 1 or more, ahead of its pace less than 1."""
    factor = 1.0
    if terms[r.terms, PACE] != 0.0 and capacity > 0.0:
        spent = (used if modes[PER_ATTEMPT] != 0 else max(load, used)) / capacity
        due = min(1.0, (now - since) / terms[r.terms, PERIOD])
        if spent > due:
            factor = due / spent
    lift = 0.0
    for i in range(set_start[r.groups], set_start[r.groups + 1]):
        least, share = groups[set_group[i]]
        if share < least:
            lift = max(lift, (least - share) / least)
    return factor * (1.0 + boost * lift)


@njit(cache=True, error_model="numpy")
def weigh(u, p, amount, needs, now, chance, state):  # type: ignore[no-untyped-def]
    """(why not, score, k) of one edge, from the table.

    amount: units a success takes (money: the bid, which is then its worth too); chance: the draw of this edge.
    """
    (
        _hot,
        table,
        terms,
        curves,
        points,
        set_start,
        set_group,
        groups,
        arena,
        start,
        length,
        ranks,
        modes,
        params,
    ) = state
    if u < 0:
        return UNKNOWN, 0.0, 0.0
    r = table[u]
    if r.present == 0:
        return GONE, 0.0, 0.0
    if (r.skills & needs) != needs:
        return UNFIT, 0.0, 0.0
    capacity, used, load, since = period(r, terms, now)
    if not _room(r, capacity, used, amount, modes, params):
        return SPENT, 0.0, 0.0
    burst = terms[r.terms, BURST]
    if burst > 0.0 and r.rated_until > now + (burst - 1.0) * terms[r.terms, INTERVAL]:
        return PACED, 0.0, 0.0
    k = _k(u, r, capacity, used, load, curves, points, arena, start, length, ranks, modes)
    if modes[SCORE] == DRAW:
        score = chance
    elif modes[SCORE] == ORDINAL:
        score = k
    else:
        score = (amount if modes[MONEY] != 0 else r.weight) * p * k
        score *= _favour(
            r, terms, set_start, set_group, groups, params[BOOST], capacity, used, load, since, now, modes
        )
    if p < params[MIN_P] or score < params[MIN_SCORE] or (modes[DECLINES] != 0 and score <= 0.0):
        return LOW, score, k
    return FREE, score, k


@njit(cache=True, error_model="numpy")
def look(u, now, state):  # type: ignore[no-untyped-def]
    """(k, load) of a resource at this time."""
    _hot, table, terms, curves, points, _s, _g, _groups, arena, start, length, ranks, modes, _params = state
    capacity, used, load, _since = period(table[u], terms, now)
    k = _k(u, table[u], capacity, used, load, curves, points, arena, start, length, ranks, modes)
    return k, used + table[u].open_load if modes[LOAD] == REALISED_LOAD else load


@njit(cache=True, error_model="numpy")
def _barred(u, barred):  # type: ignore[no-untyped-def]
    for b in barred:  # noqa: SIM110  (numba compiles the loop)
        if b == u:
            return True
    return False


@njit(cache=True, error_model="numpy")
def _amount(i, u, amounts, table, modes):  # type: ignore[no-untyped-def]
    if modes[MONEY] == 0:
        return 1.0
    if amounts.size > 0 and amounts[i] == amounts[i]:
        return amounts[i]
    return table[u].weight if u >= 0 else 0.0


@njit(cache=True, error_model="numpy")
def choose(slots, p, amounts, barred, needs, now, chance, state, best, score):  # type: ignore[no-untyped-def]
    """The best edges of an arrival: highest score; among equals the lowest name, then the higher p.

    slots: (d,) int64, -1 an unknown resource; p: (d,) float64 for the score; amounts: (d,) float64 bids, NaN for
    "the resource's weight", or (0,); barred: (x,) int64, resources excluded; needs: uint64, bits of skills;
    chance: uint64, the arrival's hash, for the rule that draws.
    best: (m,) int64, positions, -1 for none, and score: (m,) float64: written, the best m, best first.
    """
    hot, table = state[0], state[1]
    arena, start, length, modes, params = state[8], state[9], state[10], state[12], state[13]
    careful = needs != 0 or barred.size > 0 or params[MIN_P] > 0.0 or modes[SCORE] == DRAW
    least, ordinal = params[MIN_SCORE], modes[SCORE] == ORDINAL
    if modes[DECLINES] != 0:
        least = max(least, 5e-324)
    last = best.size - 1
    for i in range(best.size):
        best[i], score[i] = -1, -np.inf
    for i in range(slots.size):
        u = slots[i]
        if u < 0 or hot[u, 0] == CLOSED:
            continue
        if careful or hot[u, 0] == SLOW:
            if _barred(u, barred):
                continue
            drawn = draw(key(arena, start[u], length[u], modes[SEED]) ^ chance, 0) if modes[SCORE] == DRAW else 0.0
            why, s, _ = weigh(u, p[i], _amount(i, u, amounts, table, modes), needs, now, drawn, state)
            if why != FREE:
                continue
        else:
            s = hot[u, 1] if ordinal else hot[u, 0] * p[i] * hot[u, 1]
            if s < least:
                continue
        if s >= score[last]:
            _rise(i, s, slots, p, arena, start, length, best, score)


@njit(cache=True, error_model="numpy")
def _rise(i, s, slots, p, arena, start, length, best, score):  # type: ignore[no-untyped-def]
    """Put edge i where it belongs among the best."""
    j = best.size
    while j > 0 and (
        best[j - 1] < 0
        or s > score[j - 1]
        or (s == score[j - 1] and before(i, best[j - 1], slots, p, arena, start, length))
    ):
        j -= 1
    for m in range(best.size - 1, j, -1):
        best[m], score[m] = best[m - 1], score[m - 1]
    if j < best.size:
        best[j], score[j] = i, s


@njit(cache=True, error_model="numpy")
def before(i, j, slots, p, arena, start, length):  # type: ignore[no-untyped-def]
    if slots[i] == slots[j]:
        return p[i] > p[j]
    return precedes(arena, start, length, slots[i], slots[j])


@njit(cache=True, error_model="numpy")
def explain(slots, p, amounts, barred, needs, now, state, counts):  # type: ignore[no-untyped-def]
    """Count the edges of an arrival by why they cannot be taken. counts: (LOW + 1,) int64, added to."""
    for i in range(slots.size):
        u = slots[i]
        if u >= 0 and _barred(u, barred):
            counts[UNFIT] += 1
            continue
        why, _, _ = weigh(u, p[i], _amount(i, u, amounts, state[1], state[12]), needs, now, 1.0, state)
        counts[why] += 1


@njit(cache=True, error_model="numpy")
def catch_up(u, now, state):  # type: ignore[no-untyped-def]
    """Do the refills of one resource that are due by now."""
    table, terms = state[1], state[2]
    if table[u].terms == 0:
        return
    capacity, used, load, since = period(table[u], terms, now)
    table[u].capacity = capacity
    table[u].used = used
    table[u].load = load
    table[u].since = since


@njit(cache=True, error_model="numpy")
def join(  # type: ignore[no-untyped-def]
    u, now, capacity, weight, concurrent, skills, set_of_groups, curve, terms_of, hold,
    hot, table, terms, curves, points, set_start, set_group, groups, arena, start, length, ranks, modes, params,
):  # fmt: skip
    """A resource joins, comes back or changes. Returns whether it was not here."""
    state = (
        hot, table, terms, curves, points, set_start, set_group, groups, arena, start, length, ranks, modes, params
    )  # fmt: skip
    catch_up(u, now, state)
    joins = table[u].present == 0
    table[u].present = 1
    if table[u].terms != terms_of:
        table[u].terms = terms_of
        span = np.int64(terms[terms_of, PERIOD])
        table[u].since = now // span * span if span > 0 else 0
        table[u].rated_until = 0.0
    table[u].capacity = capacity
    table[u].weight = weight
    table[u].concurrent = concurrent
    table[u].skills = skills
    table[u].groups = set_of_groups
    table[u].curve = curve
    table[u].hold = hold
    refresh(u, state)
    return joins


@njit(cache=True, error_model="numpy")
def join_all(  # type: ignore[no-untyped-def]
    first, last, capacity, weight, concurrent, skills, set_of_groups, curve, hold,
    hot, table, terms, curves, points, set_start, set_group, groups, arena, start, length, ranks, modes, params,
):  # fmt: skip
    """New resources join with one offer, which does not change with time."""
    for u in range(first, last):
        table[u].present = 1
        table[u].capacity = capacity
        table[u].weight = weight
        table[u].concurrent = concurrent
        table[u].skills = skills
        table[u].groups = set_of_groups
        table[u].curve = curve
        table[u].hold = hold
        renew(u, hot, table, curves, points, arena, start, length, ranks, modes, params)


@njit(cache=True, error_model="numpy", inline="always")
def charge(u, p, amount, table, modes):  # type: ignore[no-untyped-def]
    """An attempt begins: load, holds, and its units where attempts take them."""
    if modes[PER_ATTEMPT] != 0:
        table[u].load += amount
        table[u].used += amount
    elif modes[LOAD] == HAZARD_LOAD:
        table[u].load += -math.log1p(-min(p, 1.0 - 1e-12)) * amount
    else:
        table[u].load += p * amount
    table[u].open += 1
    table[u].open_load += p * amount
    table[u].open_units += amount


@njit(cache=True, error_model="numpy", inline="always")
def release(u, p, amount, success, judged, table, modes):  # type: ignore[no-untyped-def]
    """An attempt ends: its holds, its units if it succeeded."""
    table[u].open -= 1
    table[u].open_load -= p * amount
    table[u].open_units -= amount
    if table[u].open == 0:
        table[u].open_load = 0.0
        table[u].open_units = 0.0
    if success and modes[PER_ATTEMPT] == 0:
        table[u].used += amount
    if judged:
        table[u].settled_load += p
        table[u].settled += 1
        table[u].succeeded += 1 if success else 0


@njit(cache=True, error_model="numpy")
def book(u, p, amount, now, state):  # type: ignore[no-untyped-def]
    """An attempt on u begins. p: the probability its load is charged with."""
    table, terms, set_start, set_group, groups = state[1], state[2], state[5], state[6], state[7]
    catch_up(u, now, state)
    charge(u, p, amount, table, state[12])
    r = table[u]
    if terms[r.terms, BURST] > 0.0:
        table[u].rated_until = max(r.rated_until, now) + terms[r.terms, INTERVAL]
    fading = state[13][FADING]
    for g in range(groups.shape[0]):
        groups[g, 1] *= fading
    for i in range(set_start[r.groups], set_start[r.groups + 1]):
        groups[set_group[i], 1] += 1.0 - fading
    refresh(u, state)


@njit(cache=True, error_model="numpy")
def settle(u, p, amount, success, judged, now, state):  # type: ignore[no-untyped-def]
    """An open attempt ends. judged: whether the calibration counts it (it does not count a skipped answer)."""
    catch_up(u, now, state)
    release(u, p, amount, success, judged, state[1], state[12])
    refresh(u, state)


@njit(cache=True, error_model="numpy")
def deliver_late(u, amount, corrected, now, state):  # type: ignore[no-untyped-def]
    """A success after its attempt was closed as a failure. corrected: the calibration is told too."""
    table, modes = state[1], state[12]
    catch_up(u, now, state)
    if modes[PER_ATTEMPT] == 0:
        table[u].used += amount
    if corrected:
        table[u].succeeded += 1
    refresh(u, state)
