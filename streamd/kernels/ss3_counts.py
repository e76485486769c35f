"""What an SS3 model stores: how often each term was seen in each category, and the most frequent of them at hand.

A *term* is a word or an n-gram; an n-gram is the child of the term of its first words. A *pair* is a (term,
category) with its frequency fr; the pairs of one term lie side by side, sorted by category. For every category
and length there is a *list* of its pairs, the most frequent first, kept in order by one swap per count (two pairs
of one frequency may stand in any order), so that the largest values are found without looking at all.

Everything is in growing pools; a block that has become too small is used again by another term. 27 bytes a term,
22 a pair, about 8 of hash table a term. Names of words are kept by the learner.

Frequencies are in units of `x[UNIT]`: forgetting makes the unit larger instead of every count smaller.

Where the vocabulary is bounded, the terms seen least give way: those that no other n-gram is made of, by their
upper count (what is stored plus what may have been missed), a sixteenth of the bound at a time. `x[ERROR]` is the
largest upper count ever thrown away. By induction no term was seen more often than its upper count, and no term
that is not stored more often than `x[ERROR]`: Space-Saving's guarantee (Metwally, Agrawal, El Abbadi 2005), with
the lower ends of the counts stored, and evictions in batches. For words alone x[ERROR] <= 16/15 of the words
learned, divided by the bound.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

# places in `n`
IDS, ALIVE, FREE, POOL, ORDER, VERSION, EVICTED, LOGGED, LIVE, COARSE, SINCE_PRUNING, PAIRS = range(12)
UNIT, ERROR = 0, 1  # places in `x`
NOBODY = -1
ROOMS = np.array([1, 2, 3] + [n << e for e in range(1, 15) for n in (2, 3)], np.int64)  # sizes of blocks of pairs
GONE = 1e-9  # what may be left of a count that was taken back
LARGEST = 2.0**512
SHARE = 16  # of the bound goes at a time


class Terms(NamedTuple):
    """parent: an n-gram's first words (of a dead term: the next free one); word: its last word (of a word: its
    number in the run); length: how many words, 0 for a dead term; first, count: its pairs; uses: n-grams made of
    it; missed: how often it may have been seen before it was let in."""

    parent: NDArray[np.int32]
    word: NDArray[np.int32]
    length: NDArray[np.int8]
    first: NDArray[np.int32]
    count: NDArray[np.int16]
    uses: NDArray[np.int32]
    missed: NDArray[np.float64]


class Pairs(NamedTuple):
    """rank: the place in the list of its category and length; in a free block, the next free one of its size."""

    category: NDArray[np.int16]
    fr: NDArray[np.float64]
    rank: NDArray[np.int32]
    term: NDArray[np.int32]
    free: NDArray[np.int32]  # by size of block


class Lists(NamedTuple):
    """List c * N + length - 1 is order[first:first + count]. floor: the largest fr ever pruned from it."""

    order: NDArray[np.int32]
    first: NDArray[np.int32]
    count: NDArray[np.int32]
    room: NDArray[np.int32]
    free: NDArray[np.int32]
    max_fr: NDArray[np.float64]
    floor: NDArray[np.float64]
    max_gv: NDArray[np.float64]
    fresh: NDArray[np.int64]  # the version `max_gv` belongs to


class Cache(NamedTuple):
    """The values of terms at a version, in the slot of the term's last bits: gv and cv, pair by pair."""

    term: NDArray[np.int32]
    gv_of: NDArray[np.int64]
    cv_of: NDArray[np.int64]
    gv: NDArray[np.float64]
    cv: NDArray[np.float64]


class Store(NamedTuple):
    """docs, words: per category, what was learned. log: (number in the run or -1, term) of words that came and
    went. table: hash of n-grams, term + 1."""

    terms: Terms
    pairs: Pairs
    lists: Lists
    cache: Cache
    table: NDArray[np.int32]
    docs: NDArray[np.float64]
    words: NDArray[np.float64]
    log: NDArray[np.int32]
    n: NDArray[np.int64]
    x: NDArray[np.float64]


def empty(coarse: bool) -> Store:
    """Nothing learned. coarse: the counts will not be whole numbers, so keep order by eighths of an octave."""
    i2, i4, i8, f8 = (lambda size, kind=kind: np.zeros(size, kind) for kind in ("i2", "i4", "i8", "f8"))
    terms = Terms(i4(8), i4(8), np.zeros(8, np.int8), i4(8), i2(8), i4(8), f8(8))
    pairs = Pairs(i2(8), f8(8), i4(8), i4(8), np.full(len(ROOMS), NOBODY, np.int32))
    lists = Lists(i4(8), i4(0), i4(0), i4(0), np.full(32, NOBODY, np.int32), f8(0), f8(0), f8(0), i8(0))
    cache = Cache(i4(0), i8(0), i8(0), np.zeros((0, 0)), np.zeros((0, 0)))
    n = i8(12)
    n[FREE], n[VERSION], n[COARSE] = NOBODY, 1, coarse
    return Store(terms, pairs, lists, cache, i4(16), f8(0), f8(0), i4(16), n, np.array([1.0, 0.0]))


def widen(s: Store, C: int, N: int, slots: int) -> Store:
    """Room for C categories and a cache of about `slots` terms."""
    if len(s.docs) >= C:
        return s
    width = 1 << (C - 1).bit_length() if C > 1 else 1
    lists = s.lists._replace(
        **{name: _longer(getattr(s.lists, name), width * N) for name in ("first", "count", "room", "floor")},
        **{name: _longer(getattr(s.lists, name), width * N) for name in ("max_fr", "max_gv", "fresh")},
    )
    slots = max(64, min(slots, (1 << 19) // width))
    gv, cv = np.zeros((slots, width)), np.zeros((slots, width))
    cache = Cache(np.full(slots, NOBODY, np.int32), np.zeros(slots, np.int64), np.zeros(slots, np.int64), gv, cv)
    return s._replace(lists=lists, cache=cache, docs=_longer(s.docs, width), words=_longer(s.words, width))


def _longer(array: NDArray[Any], size: int) -> NDArray[Any]:
    new = np.zeros(size, array.dtype)
    new[: len(array)] = array
    return new


# --- growing


@njit(cache=True)
def _more(array, size):  # type: ignore[no-untyped-def]
    new = np.zeros(size, array.dtype)
    new[: array.size] = array
    return new


@njit(cache=True)
def reserve(s, c, N):  # type: ignore[no-untyped-def]
    """Room for counting one occurrence: a term, its blocks, its place in a list, its hash entry, its log line."""
    n, terms, pairs, lists, table, log = s.n, s.terms, s.pairs, s.lists, s.table, s.log
    if n[IDS] == terms.parent.size:
        z = n[IDS] + n[IDS] // 4 + 64
        terms = Terms(
            _more(terms.parent, z), _more(terms.word, z), _more(terms.length, z), _more(terms.first, z),
            _more(terms.count, z), _more(terms.uses, z), _more(terms.missed, z),
        )  # fmt: skip
    if n[POOL] + 2 * s.docs.size + 2 > pairs.fr.size:
        z = n[POOL] + n[POOL] // 4 + 2 * s.docs.size + 64
        pairs = Pairs(
            _more(pairs.category, z), _more(pairs.fr, z), _more(pairs.rank, z), _more(pairs.term, z), pairs.free
        )
    need = 4
    for L in range(c * N, c * N + N):
        need = max(need, 2 * lists.room[L])
    if n[ORDER] + need > lists.order.size:
        order = _more(lists.order, n[ORDER] + n[ORDER] // 4 + need + 64)
        lists = Lists(
            order, lists.first, lists.count, lists.room, lists.free, lists.max_fr, lists.floor, lists.max_gv,
            lists.fresh,
        )  # fmt: skip
    if 3 * (n[ALIVE] + 1) > 2 * table.size:
        table = _rehashed(terms, n[IDS], 2 * table.size)
    return Store(terms, pairs, lists, s.cache, table, s.docs, s.words, _roomy(log, n, 2 * N + 2), n, s.x)


@njit(cache=True)
def _roomy(log, n, lines):  # type: ignore[no-untyped-def]
    need = 2 * (n[LOGGED] + lines)
    return _more(log, need + log.size) if need > log.size else log


@njit(cache=True)
def _with_log(s, lines):  # type: ignore[no-untyped-def]
    return Store(
        s.terms, s.pairs, s.lists, s.cache, s.table, s.docs, s.words, _roomy(s.log, s.n, lines), s.n, s.x
    )  # fmt: skip


@njit(cache=True)
def write_log(s, number, t):  # type: ignore[no-untyped-def]
    i = 2 * s.n[LOGGED]
    s.log[i], s.log[i + 1] = number, t
    s.n[LOGGED] += 1


# --- the table of n-grams


@njit(cache=True)
def _hash(parent, word, size):  # type: ignore[no-untyped-def]
    h = np.uint64(parent) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(word) * np.uint64(0xC2B2AE3D27D4EB4F)
    h ^= h >> np.uint64(29)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(32)
    return np.int64(h & np.uint64(size - 1))


@njit(cache=True)
def _rehashed(terms, ids, size):  # type: ignore[no-untyped-def]
    table = np.zeros(size, np.int32)
    for t in range(ids):
        if terms.length[t] > 1:
            i = _hash(terms.parent[t], terms.word[t], size)
            while table[i] > 0:
                i = (i + 1) & (size - 1)
            table[i] = t + 1
    return table


@njit(cache=True)
def child(s, parent, word):  # type: ignore[no-untyped-def]
    """The n-gram of `parent` and this word after it, or NOBODY."""
    size = s.table.size
    i = _hash(parent, word, size)
    while s.table[i] > 0:
        t = s.table[i] - 1
        if s.terms.parent[t] == parent and s.terms.word[t] == word:
            return t
        i = (i + 1) & (size - 1)
    return NOBODY


@njit(cache=True)
def _unhash(s, t):  # type: ignore[no-untyped-def]
    size = s.table.size
    i = _hash(s.terms.parent[t], s.terms.word[t], size)
    while s.table[i] != t + 1:
        i = (i + 1) & (size - 1)
    j = i
    while True:  # close the gap: move back what would no longer be found
        s.table[i] = 0
        while True:
            j = (j + 1) & (size - 1)
            if s.table[j] == 0:
                return
            u = s.table[j] - 1
            home = _hash(s.terms.parent[u], s.terms.word[u], size)
            if ((j - home) & (size - 1)) >= ((j - i) & (size - 1)):
                break
        s.table[i] = s.table[j]
        i = j


# --- blocks


@njit(cache=True)
def _size_of(k):  # type: ignore[no-untyped-def]
    size = 0
    while ROOMS[size] < k:
        size += 1
    return size


@njit(cache=True)
def _take(s, size):  # type: ignore[no-untyped-def]
    a = s.pairs.free[size]
    if a != NOBODY:
        s.pairs.free[size] = s.pairs.rank[a]
        return np.int64(a)
    a = s.n[POOL]
    s.n[POOL] += ROOMS[size]
    return np.int64(a)


@njit(cache=True)
def _give_back(s, a, size):  # type: ignore[no-untyped-def]
    s.pairs.rank[a] = s.pairs.free[size]
    s.pairs.free[size] = a


@njit(cache=True)
def list_of(s, p, N):  # type: ignore[no-untyped-def]
    return s.pairs.category[p] * N + s.terms.length[s.pairs.term[p]] - 1


@njit(cache=True)
def _move(s, p, q, N):  # type: ignore[no-untyped-def]
    """Move pair p to the free place q; its list follows."""
    pairs = s.pairs
    pairs.category[q], pairs.fr[q], pairs.rank[q], pairs.term[q] = (
        pairs.category[p], pairs.fr[p], pairs.rank[p], pairs.term[p],
    )  # fmt: skip
    s.lists.order[s.lists.first[list_of(s, q, N)] + pairs.rank[q]] = q


@njit(cache=True)
def _resize(s, t, k, N):  # type: ignore[no-untyped-def]
    """Let the block of term t be of the size that k pairs need."""
    old, new = _size_of(s.terms.count[t]), _size_of(k)
    if s.terms.count[t] > 0 and old == new and k > 0:
        return
    a, b = np.int64(s.terms.first[t]), np.int64(0)
    if k > 0:
        b = _take(s, new)
        for j in range(min(k, s.terms.count[t])):
            _move(s, a + j, b + j, N)
    if s.terms.count[t] > 0:
        _give_back(s, a, old)
    s.terms.first[t] = b


@njit(cache=True)
def find_pair(s, t, c):  # type: ignore[no-untyped-def]
    """Where the pair of this term and category is, or NOBODY."""
    low, high = np.int64(s.terms.first[t]), np.int64(s.terms.first[t]) + s.terms.count[t]
    while low < high:
        middle = (low + high) // 2
        found = s.pairs.category[middle]
        if found == c:
            return middle
        if found < c:
            low = middle + 1
        else:
            high = middle
    return np.int64(NOBODY)


@njit(cache=True)
def _add_pair(s, t, c, N):  # type: ignore[no-untyped-def]
    k = s.terms.count[t]
    _resize(s, t, k + 1, N)
    first = np.int64(s.terms.first[t])
    p = first + k
    while p > first and s.pairs.category[p - 1] > c:
        _move(s, p - 1, p, N)
        p -= 1
    s.pairs.category[p], s.pairs.fr[p], s.pairs.term[p] = c, 0.0, t
    s.terms.count[t] = k + 1
    s.n[PAIRS] += 1
    _append(s, c * N + s.terms.length[t] - 1, p)
    return p


@njit(cache=True)
def _drop_pair(s, p, N):  # type: ignore[no-untyped-def]
    """Remove a pair; a term left without any goes, too, unless n-grams are made of it."""
    t = s.pairs.term[p]
    s.pairs.fr[p] = -1.0
    settle(s, p, N)
    s.lists.count[list_of(s, p, N)] -= 1
    s.n[PAIRS] -= 1
    last = np.int64(s.terms.first[t]) + s.terms.count[t] - 1
    while p < last:
        _move(s, p + 1, p, N)
        p += 1
    _resize(s, t, s.terms.count[t] - 1, N)
    s.terms.count[t] -= 1


# --- lists


@njit(cache=True)
def _append(s, L, p):  # type: ignore[no-untyped-def]
    lists = s.lists
    if lists.count[L] == lists.room[L]:
        size = 2
        while lists.room[L] > 0 and (1 << size) <= lists.room[L]:
            size += 1
        a = np.int64(lists.free[size])
        if a != NOBODY:
            lists.free[size] = lists.order[a]
        else:
            a = s.n[ORDER]
            s.n[ORDER] += 1 << size
        b = lists.first[L]
        lists.order[a : a + lists.count[L]] = lists.order[b : b + lists.count[L]]
        if lists.room[L] > 0:
            lists.order[b] = lists.free[size - 1]
            lists.free[size - 1] = b
        lists.first[L], lists.room[L] = a, 1 << size
    s.pairs.rank[p] = lists.count[L]
    lists.order[lists.first[L] + lists.count[L]] = p
    lists.count[L] += 1


@njit(cache=True)
def _key(fr, coarse):  # type: ignore[no-untyped-def]
    """What a list is sorted by: whole counts, or eighths of an octave, which a change of unit does not disturb."""
    if coarse == 0:
        return math.ceil(fr)
    if fr <= 0.0:
        return fr - 1e6
    mantissa, exponent = math.frexp(fr)
    return 8.0 * exponent + math.floor(16.0 * mantissa)


@njit(cache=True)
def ceiling(fr, coarse):  # type: ignore[no-untyped-def]
    """No pair after one of this frequency has more than this."""
    return fr * 1.125 if coarse else math.ceil(fr)


@njit(cache=True)
def settle(s, p, N):  # type: ignore[no-untyped-def]
    """Put a pair whose frequency has changed in its place: one swap for every other key it passes."""
    L = list_of(s, p, N)
    order, rank, fr, coarse = s.lists.order, s.pairs.rank, s.pairs.fr, s.n[COARSE]
    a, size, r, key = np.int64(s.lists.first[L]), s.lists.count[L], np.int64(rank[p]), _key(s.pairs.fr[p], coarse)
    while r > 0:
        other = _key(fr[order[a + r - 1]], coarse)
        if other >= key:
            break
        low, high = np.int64(0), r - 1  # the first of that key
        while low < high:
            middle = (low + high) // 2
            if _key(fr[order[a + middle]], coarse) <= other:
                high = middle
            else:
                low = middle + 1
        r = _swap(order, rank, a, r, low)
    while r < size - 1:
        other = _key(fr[order[a + r + 1]], coarse)
        if other <= key:
            break
        low, high = r + 1, np.int64(size - 1)  # the last of that key
        while low < high:
            middle = (low + high + 1) // 2
            if _key(fr[order[a + middle]], coarse) >= other:
                low = middle
            else:
                high = middle - 1
        r = _swap(order, rank, a, r, low)


@njit(cache=True)
def _swap(order, rank, a, r, q):  # type: ignore[no-untyped-def]
    order[a + r], order[a + q] = order[a + q], order[a + r]
    rank[order[a + r]], rank[order[a + q]] = r, q
    return q


@njit(cache=True)
def _top(s, L):  # type: ignore[no-untyped-def]
    """The largest frequency of a list: it is among those of the first key."""
    a, size = s.lists.first[L], s.lists.count[L]
    best, i = 0.0, 0
    while i < size:
        fr = s.pairs.fr[s.lists.order[a + i]]
        if i > 0 and _key(fr, s.n[COARSE]) < _key(best, s.n[COARSE]):
            break
        best = max(best, fr)
        if s.n[COARSE] == 0 and best == math.ceil(best):
            break
        i += 1
    return best


@njit(cache=True)
def refresh(s, c, N):  # type: ignore[no-untyped-def]
    """After a change of category c: its largest frequencies, and whether it counts as a category."""
    for L in range(c * N, c * N + N):
        s.lists.max_fr[L] = max(s.x[UNIT], max(_top(s, L), s.lists.floor[L]))
    s.n[VERSION] += 1


@njit(cache=True)
def count_live(s, N):  # type: ignore[no-untyped-def]
    live = 0
    for c in range(s.docs.size):
        if s.docs[c] > 0.0 or s.lists.count[c * N] > 0:
            live += 1
    s.n[LIVE] = live


# --- terms


@njit(cache=True)
def new_term(s, parent, word, length):  # type: ignore[no-untyped-def]
    """A term without pairs. word: an n-gram's last word; a word's number in the run."""
    terms, n = s.terms, s.n
    t = n[FREE]
    if t != NOBODY:
        n[FREE] = terms.parent[t]
    else:
        t = n[IDS]
        n[IDS] += 1
    n[ALIVE] += 1
    terms.parent[t], terms.word[t], terms.length[t] = parent, word, length
    terms.first[t], terms.count[t], terms.uses[t], terms.missed[t] = 0, 0, 0, s.x[ERROR]
    if length > 1:
        i = _hash(parent, word, s.table.size)
        while s.table[i] > 0:
            i = (i + 1) & (s.table.size - 1)
        s.table[i] = t + 1
        terms.uses[parent] += 1
        terms.uses[word] += 1
    else:
        write_log(s, word, t)
    return t


@njit(cache=True)
def _free(s, t, local):  # type: ignore[no-untyped-def]
    """Give up a term that has neither pairs nor uses, and what it alone kept."""
    terms = s.terms
    while terms.length[t] > 1:
        parent, word = terms.parent[t], terms.word[t]
        _unhash(s, t)
        terms.uses[parent] -= 1
        terms.uses[word] -= 1
        _bury(s, t)
        if word != parent and _idle(s, word):
            _free_word(s, word, local)
        if not _idle(s, parent):
            return
        t = parent
    _free_word(s, t, local)


@njit(cache=True)
def _idle(s, t):  # type: ignore[no-untyped-def]
    return s.terms.count[t] == 0 and s.terms.uses[t] == 0


@njit(cache=True)
def _free_word(s, t, local):  # type: ignore[no-untyped-def]
    number = s.terms.word[t]
    if 0 <= number < local.size and local[number] == t:
        local[number] = NOBODY
    write_log(s, NOBODY, t)
    _bury(s, t)


@njit(cache=True)
def _bury(s, t):  # type: ignore[no-untyped-def]
    s.terms.length[t], s.terms.word[t], s.terms.missed[t] = 0, 0, 0.0
    s.terms.parent[t] = s.n[FREE]
    s.n[FREE] = t
    s.n[ALIVE] -= 1


@njit(cache=True)
def add(s, t, c, amount, N):  # type: ignore[no-untyped-def]
    """Count a term in a category."""
    p = find_pair(s, t, c)
    if p == NOBODY:
        p = _add_pair(s, t, c, N)
    s.pairs.fr[p] += amount
    settle(s, p, N)


@njit(cache=True)
def subtract(s, t, c, amount, local, N):  # type: ignore[no-untyped-def]
    """Take a count back; what was evicted since then has none to give."""
    p = find_pair(s, t, c)
    if p == NOBODY:
        return
    s.pairs.fr[p] -= amount
    if s.pairs.fr[p] > GONE * s.x[UNIT]:
        settle(s, p, N)
        return
    _drop_pair(s, p, N)
    if _idle(s, t):
        _free(s, t, local)


@njit(cache=True)
def _upper(s, t):  # type: ignore[no-untyped-def]
    total = s.terms.missed[t]
    for p in range(s.terms.first[t], s.terms.first[t] + s.terms.count[t]):
        total += s.pairs.fr[p]
    return total


@njit(cache=True)
def _evict(s, t, local, N):  # type: ignore[no-untyped-def]
    s.x[ERROR] = max(s.x[ERROR], _upper(s, t))
    while s.terms.count[t] > 0:
        _drop_pair(s, np.int64(s.terms.first[t]) + s.terms.count[t] - 1, N)
    s.n[EVICTED] += 1
    before = s.n[ALIVE]
    _free(s, t, local)
    s.n[EVICTED] += before - s.n[ALIVE] - 1


@njit(cache=True)
def evict(s, tips, width, t, bound, local, N):  # type: ignore[no-untyped-def]
    """Make room for new terms. tips[:width], t: terms in hand, which stay. `local` forgets the words that go.

    """
    s = _with_log(s, s.n[ALIVE] + 2 * N + 2)
    _hold(s, tips, width, t, 1)
    goal = s.n[ALIVE] - max(1, bound // SHARE)
    while s.n[ALIVE] > goal:
        leaves = np.nonzero((s.terms.length[: s.n[IDS]] > 0) & (s.terms.uses[: s.n[IDS]] == 0))[0]
        if leaves.size == 0:
            break
        upper = np.empty(leaves.size)
        for i in range(leaves.size):
            upper[i] = _upper(s, leaves[i])
        most = min(s.n[ALIVE] - goal, leaves.size)
        limit = np.partition(upper, most - 1)[most - 1]
        _evict_up_to(s, leaves, upper, limit, most, goal, local, N)
    _hold(s, tips, width, t, -1)
    for c in range(s.docs.size):
        refresh(s, c, N)
    return s


@njit(cache=True)
def _evict_up_to(s, leaves, upper, limit, most, goal, local, N):  # type: ignore[no-untyped-def]
    """Those below the limit, then those at it in the order of their numbers, until the goal is reached."""
    below = np.sum(upper < limit)
    at = most - below
    for i in range(leaves.size):
        if s.n[ALIVE] <= goal:
            return
        if upper[i] > limit or (upper[i] == limit and at == 0):
            continue
        at -= 1 if upper[i] == limit else 0
        if s.terms.length[leaves[i]] > 0 and s.terms.uses[leaves[i]] == 0:
            _evict(s, leaves[i], local, N)


@njit(cache=True)
def _hold(s, tips, width, t, by):  # type: ignore[no-untyped-def]
    for i in range(width):
        if tips[i] != NOBODY:
            s.terms.uses[tips[i]] += by
    if t != NOBODY:
        s.terms.uses[t] += by


@njit(cache=True)
def prune(s, least, local, N):  # type: ignore[no-untyped-def]
    """Drop all n-grams of two words or more seen at most `least` times in a category; max_fr stays as it was."""
    s = _with_log(s, s.n[ALIVE] + 2 * N + 2)
    for c in range(s.docs.size):
        for L in range(c * N + 1, c * N + N):
            s.lists.floor[L] = max(s.lists.floor[L], _top(s, L))
            while s.lists.count[L] > 0:
                p = np.int64(s.lists.order[s.lists.first[L] + s.lists.count[L] - 1])
                if s.pairs.fr[p] > least:
                    break
                t = s.pairs.term[p]
                _drop_pair(s, p, N)
                if _idle(s, t):
                    _free(s, t, local)
        refresh(s, c, N)
    return s


@njit(cache=True)
def restored(s, category, fr, N):  # type: ignore[no-untyped-def]
    """Blocks, lists and table anew, from terms whose `count` is set and their pairs in the order of the terms."""
    counts = s.terms.count.copy()
    s.terms.count[:] = 0
    s.terms.uses[:] = 0
    p = 0
    for t in range(s.n[IDS]):
        if s.terms.length[t] > 1:
            s.terms.uses[s.terms.parent[t]] += 1
            s.terms.uses[s.terms.word[t]] += 1
        for _ in range(counts[t]):
            s = reserve(s, category[p], N)
            add(s, t, category[p], fr[p], N)
            p += 1
    size = 16
    while 3 * (s.n[ALIVE] + 1) > 2 * size:
        size *= 2
    table = _rehashed(s.terms, s.n[IDS], size)
    for c in range(s.docs.size):
        refresh(s, c, N)
    count_live(s, N)
    return Store(s.terms, s.pairs, s.lists, s.cache, table, s.docs, s.words, s.log, s.n, s.x)
