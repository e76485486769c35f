"""Decimal numbers in JSON to the nearest float64, compiled: the same bits that `float` gives, or no answer.

Up to 15 digits one division is exact (Clinger 1990); up to 19 it is Lemire's product with a 128-bit power of five
("Number parsing at a gigabyte per second", 2021). Whatever is longer, smaller than 1e-40, or not plain, is left to
who asked.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

LEAST, MOST = -60, 22  # powers of ten in the table
DIGITS = 19  # what fits into 64 bits


def _powers() -> NDArray[np.uint64]:
    """(MOST - LEAST + 1, 2) uint64: the upper and the lower half of 5^q, scaled to 128 bits, q = LEAST to MOST."""
    rows = []
    for q in range(LEAST, MOST + 1):
        power = 5 ** abs(q)
        if q >= 0:
            scaled = power << (128 - power.bit_length())
        else:
            scaled = (1 << ((power - 1).bit_length() + (127 if q >= -27 else 128))) // power + 1
            scaled >>= max(0, scaled.bit_length() - 128)
        rows.append((scaled >> 64, scaled & (1 << 64) - 1))
    return np.array(rows, np.uint64)


_FIVES = _powers()
_TENS = np.array([10.0**i for i in range(23)])


@njit(cache=True)
def number(raw, at, end):  # type: ignore[no-untyped-def]
    """(value, where it ends) of the number that begins at `at`; where it ends is -1 if it is none of ours.

    raw: (bytes,) uint8, valid JSON. No sign: a number below 0 is none.
    """
    w, digits, shift, i = np.uint64(0), 0, 0, at
    fraction = False
    while i < end:
        c = raw[i]
        if 48 <= c <= 57:
            w = w * np.uint64(10) + np.uint64(c - 48)
            digits += 1 if digits > 0 or c != 48 else 0
            shift -= 1 if fraction else 0
        elif c == 46 and not fraction:
            fraction = True
        else:
            break
        i += 1
    if i == at or digits > DIGITS:
        return 0.0, -1
    if i < end and (raw[i] == 101 or raw[i] == 69):
        i += 1
        sign = 1
        if i < end and (raw[i] == 43 or raw[i] == 45):
            sign = -1 if raw[i] == 45 else 1
            i += 1
        exponent = 0
        while i < end and 48 <= raw[i] <= 57:
            exponent = min(exponent * 10 + int(raw[i]) - 48, 100_000)
            i += 1
        shift += sign * exponent
    if w == np.uint64(0):
        return 0.0, i
    if w < np.uint64(1 << 53) and -22 <= shift <= 22:
        return (float(w) / _TENS[-shift] if shift < 0 else float(w) * _TENS[shift]), i
    if shift < LEAST or shift > MOST:
        return 0.0, -1
    value = _scaled(w, shift)
    return value, (i if value >= 1e-40 else -1)


@njit(cache=True)
def _scaled(w, q):  # type: ignore[no-untyped-def]
    """w 10^q, rounded to even; -1.0 where that cannot be told. w > 0."""
    lead = 0
    while (w >> np.uint64(63)) == np.uint64(0):
        w <<= np.uint64(1)
        lead += 1
    high, low = _product(w, _FIVES[q - LEAST, 0])
    if (high & np.uint64(0x1FF)) == np.uint64(0x1FF):
        more, _ = _product(w, _FIVES[q - LEAST, 1])
        low += more
        if more > low:
            high += np.uint64(1)
    if low == np.uint64(0xFFFFFFFFFFFFFFFF) and q < -27:
        return -1.0
    upper = np.int64(high >> np.uint64(63))
    mantissa = high >> np.uint64(upper + 9)
    odd = (mantissa & np.uint64(3)) == np.uint64(1)
    if odd and low <= np.uint64(1) and -4 <= q <= 23 and (mantissa << np.uint64(upper + 9)) == high:
        mantissa &= ~np.uint64(1)  # exactly between two: to the even one
    mantissa += mantissa & np.uint64(1)
    mantissa >>= np.uint64(1)
    power = ((217706 * q) >> 16) + upper - lead + 64 - 53
    return np.ldexp(float(mantissa), power)


@njit(cache=True)
def _product(a, b):  # type: ignore[no-untyped-def]
    """(upper, lower) half of the product of two uint64."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    a1, a0, b1, b0 = a >> half, a & low, b >> half, b & low
    p00, p01, p10 = a0 * b0, a0 * b1, a1 * b0
    middle = (p00 >> half) + (p01 & low) + (p10 & low)
    return a1 * b1 + (p01 >> half) + (p10 >> half) + (middle >> half), (middle << half) | (p00 & low)
