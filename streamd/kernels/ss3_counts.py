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
# Of what only compiled code calls no wrappers are made: with so many arrays they are most of the compiler's work.
# And what allocates nothing counts no references: there would be two for every array at every call.
making = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
inner = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False)
GONE = 1e-9  # what may be left of a count that was taken back
OVERFLOW = 2.0**512
SHARE = 16  # of the bound goes at a time


class Store(NamedTuple):
    """Flat, because compiled code pays for every level of a tuple."""

    # by term
    parent: NDArray[np.int32]  # an n-gram's first words; of a dead term: the next free one
    word: NDArray[np.int32]  # an n-gram's last word; of a word: its number in the run
    length: NDArray[np.int8]  # how many words; 0: dead
    first: NDArray[np.int32]  # where its pairs are
    held: NDArray[np.int16]  # how many pairs
    uses: NDArray[np.int32]  # n-grams made of it
    missed: NDArray[np.float64]  # how often it may have been seen before it was let in
    # by pair
    category: NDArray[np.int16]
    fr: NDArray[np.float64]
    rank: NDArray[np.int32]  # its place in the list; in a free block: the next free one of its size
    term: NDArray[np.int32]
    block_free: NDArray[np.int32]  # by size of block
    # lists: c * N + length - 1 is order[list_first:list_first + list_count]
    order: NDArray[np.int32]
    list_first: NDArray[np.int32]
    list_count: NDArray[np.int32]
    list_room: NDArray[np.int32]
    list_free: NDArray[np.int32]
    max_fr: NDArray[np.float64]
    floor: NDArray[np.float64]  # the largest fr ever pruned
    max_gv: NDArray[np.float64]
    fresh: NDArray[np.int64]  # the version `max_gv` belongs to
    # a cache of values, in the slot of the term's last bits
    cache_term: NDArray[np.int32]
    gv_of: NDArray[np.int64]  # the version
    cv_of: NDArray[np.int64]
    gv: NDArray[np.float64]  # (slots, C), pair by pair
    cv: NDArray[np.float64]
    table: NDArray[np.int32]  # hash of n-grams, term + 1
    docs: NDArray[np.float64]  # by category, what was learned
    words: NDArray[np.float64]
    log: NDArray[np.int32]  # (number in the run or -1, term) of words that came and went
    n: NDArray[np.int64]
    x: NDArray[np.float64]


BY_TERM = {
    "parent": "i4",
    "word": "i4",
    "length": "i1",
    "first": "i4",
    "held": "i2",
    "uses": "i4",
    "missed": "f8",
}
BY_PAIR = {"category": "i2", "fr": "f8", "rank": "i4", "term": "i4"}
BY_LIST = {"list_first": "i4", "list_count": "i4", "list_room": "i4"} | dict.fromkeys(
    ("max_fr", "floor", "max_gv"), "f8"
)
POOLS = {**BY_TERM, **BY_PAIR, "order": "i4", "log": "i4"}
GIVEN = {**BY_LIST, "fresh": "i8", "docs": "f8", "words": "f8", "cache_term": "i4", "gv_of": "i8", "cv_of": "i8"}


def empty(coarse: bool) -> Store:
    """Nothing learned. coarse: the counts will not be whole numbers, so keep order by eighths of an octave."""
    arrays: dict[str, NDArray[Any]] = {name: np.zeros(8, kind) for name, kind in POOLS.items()}
    arrays |= {name: np.zeros(0, kind) for name, kind in GIVEN.items()}
    arrays |= {"gv": np.zeros((0, 0)), "cv": np.zeros((0, 0)), "table": np.zeros(16, np.int32)}
    arrays |= {"block_free": np.full(len(ROOMS), NOBODY, np.int32), "list_free": np.full(32, NOBODY, np.int32)}
    n = np.zeros(12, np.int64)
    n[FREE], n[VERSION], n[COARSE] = NOBODY, 1, coarse
    return Store(**{**arrays, "n": n, "x": np.array([1.0, 0.0])})


def widen(s: Store, C: int, N: int, slots: int) -> Store:
    """Room for C categories and a cache of about `slots` terms."""
    if len(s.docs) >= C:
        return s
    width = 1 << (C - 1).bit_length()
    slots = max(64, min(slots, (1 << 19) // width))
    return s._replace(
        **{name: _longer(getattr(s, name), width * N) for name in (*BY_LIST, "fresh")},
        **{name: _longer(getattr(s, name), width) for name in ("docs", "words")},
        cache_term=np.full(slots, NOBODY, np.int32),
        gv_of=np.zeros(slots, np.int64),
        cv_of=np.zeros(slots, np.int64),
        gv=np.zeros((slots, width)),
        cv=np.zeros((slots, width)),
    )


def _longer(array: NDArray[Any], size: int) -> NDArray[Any]:
    new = np.zeros(size, array.dtype)
    new[: len(array)] = array
    return new


# --- growing


@making
def _more(array, size):  # type: ignore[no-untyped-def]
    if size == array.size:
        return array
    new = np.zeros(size, array.dtype)
    new[: array.size] = array
    return new


@inner
def _need(s, c, N):  # type: ignore[no-untyped-def]
    need = 4
    for L in range(c * N, c * N + N):
        need = max(need, 2 * s.list_room[L])
    return need


@inner
def short(s, c, N):  # type: ignore[no-untyped-def]
    """Whether `reserve` must be called before an occurrence is counted in category c."""
    n = s.n
    return (
        n[IDS] == s.parent.size
        or n[POOL] + 2 * s.docs.size + 2 > s.fr.size
        or n[ORDER] + _need(s, c, N) > s.order.size
        or 3 * (n[ALIVE] + 1) > 2 * s.table.size
        or 2 * (n[LOGGED] + 2 * N + 2) > s.log.size
    )


@making
def reserve(s, c, N):  # type: ignore[no-untyped-def]
    """Room for counting one occurrence: a term, its blocks, its place in a list, its hash entry, its log lines."""
    return _grown(s, _need(s, c, N), 2 * N + 2)


@making
def _grown(s, need, lines):  # type: ignore[no-untyped-def]
    n = s.n
    ids = n[IDS] + n[IDS] // 16 + 64 if n[IDS] == s.parent.size else s.parent.size
    pool = s.fr.size
    if n[POOL] + 2 * s.docs.size + 2 > pool:
        pool = n[POOL] + n[POOL] // 16 + 2 * s.docs.size + 64
    order = s.order.size
    if n[ORDER] + need > order:
        order = n[ORDER] + n[ORDER] // 16 + need + 64
    log = s.log.size
    if 2 * (n[LOGGED] + lines) > log:
        log += 2 * (n[LOGGED] + lines)
    size = s.table.size
    while 3 * (n[ALIVE] + 1) > 2 * size:
        size *= 2
    table = _rehashed(s, size) if size > s.table.size else s.table
    return Store(
        _more(s.parent, ids), _more(s.word, ids), _more(s.length, ids), _more(s.first, ids), _more(s.held, ids),
        _more(s.uses, ids), _more(s.missed, ids),
        _more(s.category, pool), _more(s.fr, pool), _more(s.rank, pool), _more(s.term, pool), s.block_free,
        _more(s.order, order), s.list_first, s.list_count, s.list_room, s.list_free,
        s.max_fr, s.floor, s.max_gv, s.fresh, s.cache_term, s.gv_of, s.cv_of, s.gv, s.cv,
        table, s.docs, s.words, _more(s.log, log), s.n, s.x,
    )  # fmt: skip


@inner
def write_log(s, number, t):  # type: ignore[no-untyped-def]
    i = 2 * s.n[LOGGED]
    s.log[i], s.log[i + 1] = number, t
    s.n[LOGGED] += 1


# --- the table of n-grams


@inner
def _hash(parent, word, size):  # type: ignore[no-untyped-def]
    h = np.uint64(parent) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(word) * np.uint64(0xC2B2AE3D27D4EB4F)
    h ^= h >> np.uint64(29)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(32)
    return np.int64(h & np.uint64(size - 1))


@making
def _rehashed(s, size):  # type: ignore[no-untyped-def]
    table = np.zeros(size, np.int32)
    for t in range(s.n[IDS]):
        if s.length[t] > 1:
            _enter(s, table, t)
    return table


@inner
def _enter(s, table, t):  # type: ignore[no-untyped-def]
    i = _hash(s.parent[t], s.word[t], table.size)
    while table[i] > 0:
        i = (i + 1) & (table.size - 1)
    table[i] = t + 1


@inner
def child(s, parent, word):  # type: ignore[no-untyped-def]
    """The n-gram of `parent` and this word after it, or NOBODY."""
    size = s.table.size
    i = _hash(parent, word, size)
    while s.table[i] > 0:
        t = s.table[i] - 1
        if s.parent[t] == parent and s.word[t] == word:
            return t
        i = (i + 1) & (size - 1)
    return NOBODY


@inner
def _unhash(s, t):  # type: ignore[no-untyped-def]
    size = s.table.size
    i = _hash(s.parent[t], s.word[t], size)
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
            home = _hash(s.parent[u], s.word[u], size)
            if ((j - home) & (size - 1)) >= ((j - i) & (size - 1)):
                break
        s.table[i] = s.table[j]
        i = j


# --- blocks


@inner
def _size_of(k):  # type: ignore[no-untyped-def]
    size = 0
    while ROOMS[size] < k:
        size += 1
    return size


@inner
def _take(s, size):  # type: ignore[no-untyped-def]
    a = s.block_free[size]
    if a != NOBODY:
        s.block_free[size] = s.rank[a]
        return np.int64(a)
    a = s.n[POOL]
    s.n[POOL] += ROOMS[size]
    return np.int64(a)


@inner
def _give_back(s, a, size):  # type: ignore[no-untyped-def]
    s.rank[a] = s.block_free[size]
    s.block_free[size] = a


@inner
def list_of(s, p, N):  # type: ignore[no-untyped-def]
    return s.category[p] * N + s.length[s.term[p]] - 1


@inner
def _move(s, p, q, N):  # type: ignore[no-untyped-def]
    """Move pair p to the free place q; its list follows."""
    s.category[q], s.fr[q], s.rank[q], s.term[q] = (
        s.category[p], s.fr[p], s.rank[p], s.term[p],
    )  # fmt: skip
    s.order[s.list_first[list_of(s, q, N)] + s.rank[q]] = q


@inner
def _resize(s, t, k, N):  # type: ignore[no-untyped-def]
    """Let the block of term t be of the size that k pairs need."""
    old, new = _size_of(s.held[t]), _size_of(k)
    if s.held[t] > 0 and old == new and k > 0:
        return
    a, b = np.int64(s.first[t]), np.int64(0)
    if k > 0:
        b = _take(s, new)
        for j in range(min(k, s.held[t])):
            _move(s, a + j, b + j, N)
    if s.held[t] > 0:
        _give_back(s, a, old)
    s.first[t] = b


@inner
def find_pair(s, t, c):  # type: ignore[no-untyped-def]
    """Where the pair of this term and category is, or NOBODY."""
    low, high = np.int64(s.first[t]), np.int64(s.first[t]) + s.held[t]
    while low < high:
        middle = (low + high) // 2
        found = s.category[middle]
        if found == c:
            return middle
        if found < c:
            low = middle + 1
        else:
            high = middle
    return np.int64(NOBODY)


@inner
def _add_pair(s, t, c, N):  # type: ignore[no-untyped-def]
    k = s.held[t]
    _resize(s, t, k + 1, N)
    first = np.int64(s.first[t])
    p = first + k
    while p > first and s.category[p - 1] > c:
        _move(s, p - 1, p, N)
        p -= 1
    s.category[p], s.fr[p], s.term[p] = c, 0.0, t
    s.held[t] = k + 1
    s.n[PAIRS] += 1
    _append(s, c * N + s.length[t] - 1, p)
    return p


@inner
def _drop_pair(s, p, N):  # type: ignore[no-untyped-def]
    """Remove a pair; a term left without any goes, too, unless n-grams are made of it."""
    t = s.term[p]
    s.fr[p] = -1.0
    settle(s, p, N)
    s.list_count[list_of(s, p, N)] -= 1
    s.n[PAIRS] -= 1
    last = np.int64(s.first[t]) + s.held[t] - 1
    while p < last:
        _move(s, p + 1, p, N)
        p += 1
    _resize(s, t, s.held[t] - 1, N)
    s.held[t] -= 1


# --- lists


@inner
def _append(s, L, p):  # type: ignore[no-untyped-def]
    if s.list_count[L] == s.list_room[L]:
        size = 2
        while s.list_room[L] > 0 and (1 << size) <= s.list_room[L]:
            size += 1
        a = np.int64(s.list_free[size])
        if a != NOBODY:
            s.list_free[size] = s.order[a]
        else:
            a = s.n[ORDER]
            s.n[ORDER] += 1 << size
        b = s.list_first[L]
        for i in range(s.list_count[L]):
            s.order[a + i] = s.order[b + i]
        if s.list_room[L] > 0:
            s.order[b] = s.list_free[size - 1]
            s.list_free[size - 1] = b
        s.list_first[L], s.list_room[L] = a, 1 << size
    s.rank[p] = s.list_count[L]
    s.order[s.list_first[L] + s.list_count[L]] = p
    s.list_count[L] += 1


@inner
def _key(fr, coarse):  # type: ignore[no-untyped-def]
    """What a list is sorted by: whole counts, or eighths of an octave, which a change of unit does not disturb."""
    if coarse == 0:
        return math.ceil(fr)
    if fr <= 0.0:
        return fr - 1e6
    mantissa, exponent = math.frexp(fr)
    return 8.0 * exponent + math.floor(16.0 * mantissa)


@inner
def ceiling(fr, coarse):  # type: ignore[no-untyped-def]
    """No pair after one of this frequency has more than this."""
    return fr * 1.125 if coarse else math.ceil(fr)


@inner
def settle(s, p, N):  # type: ignore[no-untyped-def]
    """Put a pair whose frequency has changed in its place: one swap for every other key it passes."""
    L = list_of(s, p, N)
    order, rank, fr, coarse = s.order, s.rank, s.fr, s.n[COARSE]
    a, size, r, key = np.int64(s.list_first[L]), s.list_count[L], np.int64(rank[p]), _key(s.fr[p], coarse)
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


@inner
def _swap(order, rank, a, r, q):  # type: ignore[no-untyped-def]
    order[a + r], order[a + q] = order[a + q], order[a + r]
    rank[order[a + r]], rank[order[a + q]] = r, q
    return q


@inner
def _top(s, L):  # type: ignore[no-untyped-def]
    """The largest frequency of a list: it is among those of the first key."""
    a, size = s.list_first[L], s.list_count[L]
    best, i = 0.0, 0
    while i < size:
        fr = s.fr[s.order[a + i]]
        if i > 0 and _key(fr, s.n[COARSE]) < _key(best, s.n[COARSE]):
            break
        best = max(best, fr)
        if s.n[COARSE] == 0 and best == math.ceil(best):
            break
        i += 1
    return best


@inner
def refresh(s, c, N):  # type: ignore[no-untyped-def]
    """After a change of category c: its largest frequencies, and whether it counts as a category."""
    for L in range(c * N, c * N + N):
        s.max_fr[L] = max(s.x[UNIT], max(_top(s, L), s.floor[L]))
    s.n[VERSION] += 1


@inner
def count_live(s, N):  # type: ignore[no-untyped-def]
    live = 0
    for c in range(s.docs.size):
        if s.docs[c] > 0.0 or s.list_count[c * N] > 0:
            live += 1
    s.n[LIVE] = live


# --- terms


@inner
def new_term(s, parent, word, length):  # type: ignore[no-untyped-def]
    """A term without pairs. word: an n-gram's last word; a word's number in the run."""
    n = s.n
    t = n[FREE]
    if t != NOBODY:
        n[FREE] = s.parent[t]
    else:
        t = n[IDS]
        n[IDS] += 1
    n[ALIVE] += 1
    s.parent[t], s.word[t], s.length[t] = parent, word, length
    s.first[t], s.held[t], s.uses[t], s.missed[t] = 0, 0, 0, s.x[ERROR]
    if length > 1:
        _enter(s, s.table, t)
        s.uses[parent] += 1
        s.uses[word] += 1
    else:
        write_log(s, word, t)
    return t


@inner
def _free(s, t, local):  # type: ignore[no-untyped-def]
    """Give up a term that has neither pairs nor uses, and what it alone kept."""
    while s.length[t] > 1:
        parent, word = s.parent[t], s.word[t]
        _unhash(s, t)
        s.uses[parent] -= 1
        s.uses[word] -= 1
        _bury(s, t)
        if word != parent and _idle(s, word):
            _free_word(s, word, local)
        if not _idle(s, parent):
            return
        t = parent
    _free_word(s, t, local)


@inner
def _idle(s, t):  # type: ignore[no-untyped-def]
    return s.held[t] == 0 and s.uses[t] == 0


@inner
def _free_word(s, t, local):  # type: ignore[no-untyped-def]
    number = s.word[t]
    if 0 <= number < local.size and local[number] == t:
        local[number] = NOBODY
    write_log(s, NOBODY, t)
    _bury(s, t)


@inner
def _bury(s, t):  # type: ignore[no-untyped-def]
    s.length[t], s.word[t], s.missed[t] = 0, 0, 0.0
    s.parent[t] = s.n[FREE]
    s.n[FREE] = t
    s.n[ALIVE] -= 1


@inner
def add(s, t, c, amount, N):  # type: ignore[no-untyped-def]
    """Count a term in a category."""
    p = find_pair(s, t, c)
    if p == NOBODY:
        p = _add_pair(s, t, c, N)
    s.fr[p] += amount
    settle(s, p, N)


@inner
def subtract(s, t, c, amount, local, N):  # type: ignore[no-untyped-def]
    """Take a count back; what was evicted since then has none to give."""
    p = find_pair(s, t, c)
    if p == NOBODY:
        return
    s.fr[p] -= amount
    if s.fr[p] > GONE * s.x[UNIT]:
        settle(s, p, N)
        return
    _drop_pair(s, p, N)
    if _idle(s, t):
        _free(s, t, local)


@inner
def _upper(s, t):  # type: ignore[no-untyped-def]
    total = s.missed[t]
    for p in range(s.first[t], s.first[t] + s.held[t]):
        total += s.fr[p]
    return total


@inner
def _evict(s, t, local, N):  # type: ignore[no-untyped-def]
    s.x[ERROR] = max(s.x[ERROR], _upper(s, t))
    while s.held[t] > 0:
        _drop_pair(s, np.int64(s.first[t]) + s.held[t] - 1, N)
    s.n[EVICTED] += 1
    before = s.n[ALIVE]
    _free(s, t, local)
    s.n[EVICTED] += before - s.n[ALIVE] - 1


@inner
def smallest(values, k, scratch):  # type: ignore[no-untyped-def]
    """The k-th smallest, from 0 (Hoare's selection)."""
    for i in range(values.size):
        scratch[i] = values[i]
    low, high = 0, values.size - 1
    while low < high:
        pivot, i, j = scratch[(low + high) // 2], low, high
        while i <= j:
            while scratch[i] < pivot:
                i += 1
            while scratch[j] > pivot:
                j -= 1
            if i <= j:
                scratch[i], scratch[j] = scratch[j], scratch[i]
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            break
    return scratch[k]


@making
def _leaves(s):  # type: ignore[no-untyped-def]
    """The terms that no other is made of, in the order of their numbers."""
    found, count = np.empty(s.n[IDS], np.int64), 0
    for t in range(s.n[IDS]):
        if s.length[t] > 0 and s.uses[t] == 0:
            found[count] = t
            count += 1
    return found[:count]


@making
def evict(s, tips, width, t, bound, local, N):  # type: ignore[no-untyped-def]
    """Make room for new terms. tips[:width], t: terms in hand, which stay. `local` forgets the words that go."""
    s = _grown(s, 4, s.n[ALIVE] + 2 * N + 2)
    _hold(s, tips, width, t, 1)
    goal = s.n[ALIVE] - max(1, bound // SHARE)
    while s.n[ALIVE] > goal:
        leaves = _leaves(s)
        if leaves.size == 0:
            break
        upper = np.empty(leaves.size)
        for i in range(leaves.size):
            upper[i] = _upper(s, leaves[i])
        most = min(s.n[ALIVE] - goal, leaves.size)
        limit = smallest(upper, most - 1, np.empty(leaves.size))
        _evict_up_to(s, leaves, upper, limit, most, goal, local, N)
    _hold(s, tips, width, t, -1)
    for c in range(s.docs.size):
        refresh(s, c, N)
    return s


@inner
def _evict_up_to(s, leaves, upper, limit, most, goal, local, N):  # type: ignore[no-untyped-def]
    """Those below the limit, then those at it in the order of their numbers, until the goal is reached."""
    at = most
    for value in upper:
        at -= value < limit
    for i in range(leaves.size):
        if s.n[ALIVE] <= goal:
            return
        if upper[i] > limit or (upper[i] == limit and at == 0):
            continue
        at -= 1 if upper[i] == limit else 0
        if s.length[leaves[i]] > 0 and s.uses[leaves[i]] == 0:
            _evict(s, leaves[i], local, N)


@inner
def _hold(s, tips, width, t, by):  # type: ignore[no-untyped-def]
    for i in range(width):
        if tips[i] != NOBODY:
            s.uses[tips[i]] += by
    if t != NOBODY:
        s.uses[t] += by


@making
def prune(s, least, local, N):  # type: ignore[no-untyped-def]
    """Drop all n-grams of two words or more seen at most `least` times in a category; max_fr stays as it was."""
    s = _grown(s, 4, s.n[ALIVE] + 2 * N + 2)
    for c in range(s.docs.size):
        for L in range(c * N + 1, c * N + N):
            s.floor[L] = max(s.floor[L], _top(s, L))
            while s.list_count[L] > 0:
                p = np.int64(s.order[s.list_first[L] + s.list_count[L] - 1])
                if s.fr[p] > least:
                    break
                t = s.term[p]
                _drop_pair(s, p, N)
                if _idle(s, t):
                    _free(s, t, local)
        refresh(s, c, N)
    return s


@njit(cache=True, error_model="numpy")
def restored(s, category, fr, N):  # type: ignore[no-untyped-def]
    """Blocks, lists and table anew, from terms whose `held` is set and their pairs in the order of the terms."""
    count = s.held.copy()
    s.held[:] = 0
    p = 0
    for t in range(s.n[IDS]):
        if s.length[t] > 1:
            s.uses[s.parent[t]] += 1
            s.uses[s.word[t]] += 1
            _enter(s, s.table, t)
    for t in range(s.n[IDS]):
        for _ in range(count[t]):
            if short(s, category[p], N):
                s = reserve(s, category[p], N)
            add(s, t, category[p], fr[p], N)
            p += 1
    for c in range(s.docs.size):
        refresh(s, c, N)
    count_live(s, N)
    return s
