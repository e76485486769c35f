"""The features of events from the bytes of their JSON to the entries of rows, compiled: one call for many events.

Only what is plain and known is read here: an object of names that have a slot, each once, with numbers, booleans,
null and categories that have a slot, no escapes. Of anything else who called asks the long way, which also says
what is wrong. What is read here has the same codes and the same bits there.

A table of features is a tuple of arrays. A name has a place, in the order of first sight, and its kind; a number's
or a boolean's name has its code, a category's has categories, each with its code:

    arena         (bytes,) uint8: names and categories one after the other
    names, values (size,) uint64, size a power of two: hash tables of names and of categories; 0 is free, else the
                  upper half of the hash and the place plus one
    of_names      (n, 5) int64: start and length in the arena, 0, kind, code
    of_values     (n, 4) int64: start and length, the place of the name, code
"""

import numpy as np
from numba import njit

from streamd.kernels.decimals import number
from streamd.kernels.json_text import skip
from streamd.kernels.matching_ids import key

NUMBER, BOOLEAN, CATEGORY = 0, 1, 2
ODD = -1
HIGH, LOW = np.uint64(0xFFFFFFFF00000000), np.uint64(0xFFFFFFFF)
QUOTE, BACKSLASH, COMMA, COLON, OPEN, CLOSE, MINUS = 34, 92, 44, 58, 123, 125, 45
T, F, N = 116, 102, 110


@njit(cache=True)
def _look(h, raw, at, end, owner, table, arena, places):  # type: ignore[no-untyped-def]
    """The place of raw[at:end] in a table, ~where it would be in the table if it is not there.

    places: (n, 3) start, length and owner of each place; a place of another owner is another one.
    """
    mask = np.uint64(table.size - 1)
    i = h & mask
    while table[i] != 0:
        if (table[i] & HIGH) == (h & HIGH):
            place = np.int64(table[i] & LOW) - 1
            start, length = places[place, 0], places[place, 1]
            if length == end - at and places[place, 2] == owner:
                same = True
                for k in range(length):
                    if arena[start + k] != raw[at + k]:
                        same = False
                        break
                if same:
                    return place
        i = (i + np.uint64(1)) & mask
    return ~np.int64(i)


@njit(cache=True)
def insert(raw, ends, kinds, slot, used, counts, table):  # type: ignore[no-untyped-def]
    """Give the next slots to features, in order.

    raw: (bytes,) uint8, name and category of each one after the other, ends: (m, 2) where they end, kinds: (m,);
    slot: the first one's; used: bytes of the arena in use; counts: (2,) names and categories there are, changed.
    Returns the bytes used then.
    """
    arena, names, values, of_names, of_values = table
    at = 0
    for j in range(kinds.size):
        end, last = ends[j, 0], ends[j, 1]
        h = key(raw, at, end - at, 0)
        name = _look(h, raw, at, end, 0, names, arena, of_names)
        if name < 0:
            place, name = ~name, counts[0]
            names[place] = (h & HIGH) | np.uint64(name + 1)
            of_names[name, 0], of_names[name, 1], of_names[name, 2], of_names[name, 3] = (
                used,
                end - at,
                0,
                kinds[j],
            )
            of_names[name, 4] = slot + j if kinds[j] == NUMBER else ~(slot + j)
            counts[0] += 1
            for i in range(at, end):
                arena[used] = raw[i]
                used += 1
        if kinds[j] == CATEGORY:
            h = key(raw, end, last - end, name + 1)
            place = ~_look(h, raw, end, last, name, values, arena, of_values)
            value = counts[1]
            values[place] = (h & HIGH) | np.uint64(value + 1)
            of_values[value, 0], of_values[value, 1] = used, last - end
            of_values[value, 2], of_values[value, 3] = name, ~(slot + j)
            counts[1] += 1
            for i in range(end, last):
                arena[used] = raw[i]
                used += 1
        at = last
    return used


@njit(cache=True)
def _string(raw, at, end):  # type: ignore[no-untyped-def]
    """Where the string that begins at the quote `at` has its last one; ODD for one that is not plain."""
    if at >= end or raw[at] != QUOTE:
        return ODD
    at += 1
    while at < end and raw[at] != QUOTE:
        if raw[at] == BACKSLASH or raw[at] < 32:
            return ODD
        at += 1
    return at if at < end else ODD


@njit(cache=True)
def _one(raw, at, end, most, row, table, stamps, codes, found, n):  # type: ignore[no-untyped-def]
    """The features raw[at:end] of one event, written from n on. Returns where they end, or ODD."""
    arena, names, values, of_names, of_values = table
    given = 0
    at = skip(raw, at, end)
    if at >= end or raw[at] != OPEN:
        return ODD
    at = skip(raw, at + 1, end)
    while at < end and raw[at] != CLOSE:
        last = _string(raw, at, end)
        given += 1
        if last == ODD or given > most:
            return ODD
        name = _look(key(raw, at + 1, last - at - 1, 0), raw, at + 1, last, 0, names, arena, of_names)
        if name < 0 or stamps[name] == row:
            return ODD
        stamps[name] = row
        kind = of_names[name, 3]
        at = skip(raw, last + 1, end)
        if at >= end or raw[at] != COLON:
            return ODD
        at = skip(raw, at + 1, end)
        if at >= end:
            return ODD
        c = raw[at]
        if c == QUOTE:
            last = _string(raw, at, end)
            if last == ODD or kind != CATEGORY:
                return ODD
            h = key(raw, at + 1, last - at - 1, name + 1)
            value = _look(h, raw, at + 1, last, name, values, arena, of_values)
            if value < 0:
                return ODD
            codes[n], found[n] = of_values[value, 3], 1.0
            at = last + 1
            n += 1
        elif c in (T, F):
            if kind != BOOLEAN:
                return ODD
            codes[n], found[n] = of_names[name, 4], 1.0 if c == T else 0.0
            at += 4 if c == T else 5
            n += 1
        elif c == N:
            at += 4
        else:
            negative = c == MINUS
            told, at = number(raw, at + 1 if negative else at, end)
            if at == ODD or kind != NUMBER or (negative and told == 0.0):
                return ODD
            codes[n], found[n] = of_names[name, 4], -told if negative else told
            n += 1
        at = skip(raw, at, end)
        if at < end and raw[at] == COMMA:
            at = skip(raw, at + 1, end)
    return n if at == end - 1 else ODD


@njit(cache=True)
def read(raw, ends, most, row, table, stamps, codes, found, sizes):  # type: ignore[no-untyped-def]
    """The entries of many events. Returns how many.

    raw: (bytes,) uint8, valid JSON, of each until its place in ends: (m,); most: features an event may have; row:
    a number that is not in stamps, (names,), nor are the m - 1 after it. Written: codes, (N,) int64, and found,
    (N,) float64, one event's entries after the other's, and how many each has, sizes: (m,), or ODD.
    """
    at, n = 0, 0
    for j in range(ends.size):
        last = _one(raw, at, ends[j], most, row + j, table, stamps, codes, found, n)
        sizes[j] = ODD if last == ODD else last - n
        n = n if last == ODD else last
        at = ends[j]
    return n


def load() -> None:
    """Compile, or load from the cache, by reading nothing."""
    none, one = np.frombuffer(b"", np.uint8), np.zeros(1, np.int64)
    hashes = np.zeros(2, np.uint64)
    table = (np.zeros(1, np.uint8), hashes, hashes, np.zeros((1, 5), np.int64), np.zeros((1, 4), np.int64))
    insert(none, np.zeros((0, 2), np.int64), one[:0], 1, 0, np.zeros(2, np.int64), table)
    read(none, one[:0], 1, 1, table, one, one, np.zeros(1), one)
