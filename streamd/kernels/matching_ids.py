"""Identifiers of resources, compiled: a hash table over bytes, and draws that depend on names only.

Ten million names in a dictionary of strings take more than the 200 bytes a resource may have; here a name costs
its bytes, a place in the table (8 bytes at a load of at most two thirds) and where its bytes begin.

A table is (size,) uint64, its size a power of two: an entry is 0 if free, else the upper half of the name's hash
and its slot plus one. Names lie one after the other in `arena`, (bytes,) uint8; slot u has
`arena[start[u]:][:length[u]]`.
"""

import numpy as np
from numba import njit

LOW = np.uint64(0xFFFFFFFF)
HIGH = np.uint64(0xFFFFFFFF00000000)


@njit(cache=True)
def mix(x):  # type: ignore[no-untyped-def]
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014): a bijection of uint64 that scatters."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True)
def key(raw, start, length, seed):  # type: ignore[no-untyped-def]
    """A hash of bytes (FNV-1a, then scattered), keyed by a seed."""
    h = np.uint64(0xCBF29CE484222325) ^ np.uint64(seed)
    for i in range(start, start + length):
        h = (h ^ np.uint64(raw[i])) * np.uint64(0x100000001B3)
    return mix(h)


@njit(cache=True)
def uniform(h):  # type: ignore[no-untyped-def]
    """A number in [0, 1) of a hash."""
    return float(h >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True)
def draw(h, salt):  # type: ignore[no-untyped-def]
    """The `salt`-th number in [0, 1) of a hash."""
    return uniform(mix(h + np.uint64(salt) * np.uint64(0x9E3779B97F4A7C15)))


@njit(cache=True)
def precedes(arena, start, length, u, v):  # type: ignore[no-untyped-def]
    """Whether the name of u comes before that of v, byte by byte (for UTF-8: by code points)."""
    for i in range(min(length[u], length[v])):
        a, b = arena[start[u] + i], arena[start[v] + i]
        if a != b:
            return a < b
    return length[u] < length[v]


@njit(cache=True)
def _same(arena, start, length, u, raw, at, size):  # type: ignore[no-untyped-def]
    if length[u] != size:
        return False
    for i in range(size):  # noqa: SIM110  (numba compiles the loop)
        if arena[start[u] + i] != raw[at + i]:
            return False
    return True


@njit(cache=True)
def find(raw, table, arena, start, length, seed, slots):  # type: ignore[no-untyped-def]
    """The slots of names that are joined by a zero byte in `raw`; -1 for one that is unknown.

    slots: (names,) int64, written. Returns how many names there are in `raw`; no more than fit are written.
    """
    mask = np.uint64(table.size - 1)
    at, n = 0, 0
    while at <= raw.size:
        end = at
        h = np.uint64(0xCBF29CE484222325) ^ np.uint64(seed)
        while end < raw.size and raw[end] != 0:
            h = (h ^ np.uint64(raw[end])) * np.uint64(0x100000001B3)
            end += 1
        h = mix(h)
        if n < slots.size:
            slots[n] = place(h, table, mask, arena, start, length, raw, at, end - at)
        n += 1
        at = end + 1
    return n


@njit(cache=True)
def place(h, table, mask, arena, start, length, raw, at, size):  # type: ignore[no-untyped-def]
    i = h & mask
    while table[i] != 0:
        if (table[i] & HIGH) == (h & HIGH):
            u = np.int64(table[i] & LOW) - 1
            if _same(arena, start, length, u, raw, at, size):
                return u
        i = (i + np.uint64(1)) & mask
    return -1


@njit(cache=True)
def insert(table, arena, start, length, seed, first, last):  # type: ignore[no-untyped-def]
    """Enter the slots first:last, whose names are in the arena, not yet in the table. A length of -1: no name."""
    mask = np.uint64(table.size - 1)
    for u in range(first, last):
        if length[u] < 0:
            continue
        h = key(arena, start[u], length[u], seed)
        i = h & mask
        while table[i] != 0:
            i = (i + np.uint64(1)) & mask
        table[i] = (h & HIGH) | np.uint64(u + 1)


@njit(cache=True)
def pack(arena, start, length, packed):  # type: ignore[no-untyped-def]
    """Write the names one after the other in the order of their slots, without gaps."""
    at = 0
    for u in range(length.size):
        for i in range(length[u]):
            packed[at + i] = arena[start[u] + i]
        at += max(length[u], 0)


@njit(cache=True)
def remove(table, arena, start, length, seed, u):  # type: ignore[no-untyped-def]
    """Take slot u out of the table; those behind it move up, so that no gap cuts a search short."""
    mask = np.uint64(table.size - 1)
    i = key(arena, start[u], length[u], seed) & mask
    while np.int64(table[i] & LOW) - 1 != u:
        i = (i + np.uint64(1)) & mask
    gap = i
    while True:
        i = (i + np.uint64(1)) & mask
        if table[i] == 0:
            break
        v = np.int64(table[i] & LOW) - 1
        home = key(arena, start[v], length[v], seed) & mask
        if ((i - home) & mask) >= ((i - gap) & mask):
            table[gap] = table[i]
            gap = i
    table[gap] = np.uint64(0)
