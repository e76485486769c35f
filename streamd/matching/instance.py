"""A recorded stream of arrivals as arrays: what the bounds and the replay work on."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamd.errors import BadRecord

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Instance(Struct, frozen=True):
    """n resources, T arrivals in order, E edges.

    weight, capacity: (n,); starts: (T + 1,): arrival t has the edges starts[t]:starts[t + 1]; slots: (E,)
    resources;
    p: (E,) probabilities; names: n ids, for the ties.
    """

    names: tuple[str, ...]
    weight: Floats
    capacity: Floats
    starts: Integers
    slots: Integers
    p: Floats

    @property
    def n(self) -> int:
        return len(self.weight)

    @property
    def arrivals(self) -> Integers:
        """(E,): whose edge it is."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


def instance(
    arrivals: Sequence[Sequence[tuple[int, float]]],
    weight: Sequence[float] | Floats,
    capacity: Sequence[float] | Floats,
    names: Sequence[str] | None = None,
) -> Instance:
    """An instance of lists of (resource, p). Raises BadRecord for a p outside 0 to 1 or a foreign resource."""
    slots = np.array([u for edges in arrivals for u, _ in edges], np.int64)
    p = np.array([p for edges in arrivals for _, p in edges], np.float64)
    starts = np.cumsum([0, *map(len, arrivals)]).astype(np.int64)
    n = len(weight)
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise BadRecord("p must be within 0 and 1")
    if ((slots < 0) | (slots >= n)).any() or len(capacity) != n:
        raise BadRecord("an edge leads to a resource that is not there")
    told = tuple(names) if names is not None else tuple(f"{u:0{len(str(n))}}" for u in range(n))
    return Instance(told, np.array(weight, np.float64), np.array(capacity, np.float64), starts, slots, p)
