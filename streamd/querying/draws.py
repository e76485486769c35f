"""Random numbers by counting, not by position: a hash of (seed, shard, event, purpose).

So a decision does not depend on how many were made before it, on batches, or on a restart. The event is hashed
once with BLAKE2b, keyed by seed and shard; each purpose is mixed in with the finaliser of SplitMix64 (Steele, Lea,
Flood 2014), which passes the usual test batteries.

>>> draws = Keyed(seed=7, shard="tickets/0").of("event-1")
>>> draws.uniform("slice") == Keyed(7, "tickets/0").of("event-1").uniform("slice")
True
>>> draws.uniform("slice") == draws.uniform("tie")
False
"""

import hashlib
import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


class Keyed:
    """The generator of one shard."""

    def __init__(self, seed: int, shard: str) -> None:
        key = hashlib.blake2b(f"{seed}/{shard}".encode(), digest_size=32).digest()
        self._keyed = hashlib.blake2b(digest_size=8, key=key)  # to be copied: half the price of a new one

    def of(self, event: str) -> "EventDraws":
        """The numbers of one event."""
        keyed = self._keyed.copy()
        keyed.update(event.encode("utf-8", "surrogatepass"))
        return EventDraws(int.from_bytes(keyed.digest(), "little"))

    def of_run(self, events: Iterable[str]) -> "RunDraws":
        """The numbers of several events, each the same as alone."""
        fresh, digests = self._keyed.copy, []
        for event in events:
            keyed = fresh()
            keyed.update(event.encode("utf-8", "surrogatepass"))
            digests.append(keyed.digest())
        return RunDraws(np.frombuffer(b"".join(digests), "<u8"))


class RunDraws:
    """bases: (n,) 64 bits that stand for an event each."""

    def __init__(self, bases: NDArray[np.uint64]) -> None:
        self._bases = bases

    def uniform(self, purpose: str) -> NDArray[np.float64]:
        """(n,), as `EventDraws.uniform`."""
        z = (self._bases ^ np.uint64(_salt(purpose))) + np.uint64(GOLDEN)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        drawn: NDArray[np.float64] = ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return drawn


class EventDraws:
    """base: 64 bits that stand for the event."""

    __slots__ = ("_base",)

    def __init__(self, base: int) -> None:
        self._base = base

    def uniform(self, purpose: str) -> float:
        """In [0, 1), of 53 bits."""
        z = ((self._base ^ _salt(purpose)) + GOLDEN) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return ((z ^ (z >> 31)) >> 11) * 2.0**-53

    def normal(self, purpose: str) -> float:
        """Of mean 0 and deviation 1, by Box and Muller."""
        radius = math.sqrt(-2.0 * math.log(1.0 - self.uniform(purpose)))
        return radius * math.cos(2.0 * math.pi * self.uniform(purpose + "'"))

    def poisson(self, purpose: str) -> int:
        """Of mean 1, by inversion: how often a member of an online-bagged ensemble learns the event."""
        left, p, k = self.uniform(purpose), math.exp(-1.0), 0
        while left >= p and k < 20:
            left -= p
            k += 1
            p /= k
        return k


@lru_cache(maxsize=1024)
def _salt(purpose: str) -> int:
    return int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=8).digest(), "little")
