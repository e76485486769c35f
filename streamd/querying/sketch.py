"""A short dense vector of an event's features, and the hash buckets of its neighbourhood.

Each name (or name and category) has a hashed place and sign among d numbers (feature hashing, Weinberger et al.
2009); each of the d is brought to mean 0 and deviation 1 as far as seen. The buckets are the signs of `bits`
random directions, in `tables` independent tables (SimHash, Charikar 2002): events of one bucket point the same
way.

>>> sketch = Sketch(dimensions=8)
>>> a, b = sketch.vector({"age": 39.0, "sex": "Male"}), sketch.vector({"age": 39.0, "sex": "Male"})
>>> (a == b).all(), len(sketch.near(a))
(np.True_, 2)
"""

import hashlib
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from streamd.querying.decision import numbers
from streamd.snapshot import State

Floats = NDArray[np.float64]

FAR = 10.0  # deviations at which a number is cut


class Sketch:
    """dimensions: d. bits, tables: of the buckets."""

    def __init__(self, dimensions: int = 32, bits: int = 6, tables: int = 2) -> None:
        self.dimensions = dimensions
        self.bits = bits
        self.tables = tables
        self._moments = np.zeros((2, dimensions))  # mean, sum of squared deviations
        self._seen = 0
        self._directions = _directions(tables * bits, dimensions)

    def vector(self, features: Mapping[str, float | bool | str | None]) -> Floats:
        """(d,), standardised with what was observed before. Missing values and what is no number are left out."""
        raw = self._raw(features)
        if self._seen > 1:
            deviation = np.sqrt(self._moments[1] / self._seen)
            raw = (raw - self._moments[0]) / np.where(deviation > 0, deviation, 1.0)
        return np.clip(raw, -FAR, FAR)

    def observe(self, features: Mapping[str, float | bool | str | None]) -> None:
        """Take an event into the means and deviations."""
        raw = self._raw(features)
        self._seen += 1
        delta = raw - self._moments[0]
        self._moments[0] += delta / self._seen
        self._moments[1] += delta * (raw - self._moments[0])

    def near(self, x: Floats) -> tuple[int, ...]:
        """The bucket of each table, numbered without overlap."""
        signs = (self._directions @ x > 0).reshape(self.tables, self.bits)
        codes = signs @ (1 << np.arange(self.bits))
        return tuple((codes + (np.arange(self.tables) << self.bits)).tolist())

    def _raw(self, features: Mapping[str, float | bool | str | None]) -> Floats:
        x = np.zeros(self.dimensions)
        for name, value in features.items():
            if isinstance(value, str):
                name, value = f"{name}={value}", 1.0
            if value is None or not abs(value) < 1e100:
                continue
            place, sign = _place(name, self.dimensions)
            x[place] += sign * value
        return x

    def state(self) -> State:
        return State({"moments": self._moments, "seen": np.array([float(self._seen)])}, {})

    def restore(self, state: State) -> None:
        self._moments = numbers(state, "moments", (2, self.dimensions))
        self._seen = int(numbers(state, "seen", (1,))[0])


@lru_cache(maxsize=1 << 16)
def _place(name: str, dimensions: int) -> tuple[int, float]:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    number = int.from_bytes(digest, "little")
    return (number >> 1) % dimensions, 1.0 if number & 1 else -1.0


def _directions(count: int, dimensions: int) -> Floats:
    """Fixed for all shards and versions: signs from a hash of the place."""
    bits = hashlib.shake_128(b"streamd/sketch").digest(count * dimensions)
    signs = np.frombuffer(bits, np.uint8).astype(np.float64) / 255.0 - 0.5
    return signs.reshape(count, dimensions)
