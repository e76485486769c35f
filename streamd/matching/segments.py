"""Edge sets kept under a name, so that an arrival names one instead of listing hundreds of edges."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamd.errors import BadRecord
from streamd.matching.resources import Resources
from streamd.snapshot import State


class Segment(NamedTuple):
    """slots: (d,) int64; p: (d,) float64; bids: (d,) float64, NaN for the resource's weight, or (0,)."""

    slots: NDArray[np.int64]
    p: NDArray[np.float64]
    bids: NDArray[np.float64]


class Segments:
    """The segments of one pool: at most `limit`, with `edges` edges in all.

    An edge may lead to a resource that has not joined yet: its place is kept, and it is matched from then on.
    """

    def __init__(self, resources: Resources, limit: int, edges: int) -> None:
        self.limit = limit
        self.edges = edges
        self.kept: dict[str, Segment] = {}
        self.size = 0
        self._resources = resources

    def put(self, name: str, ids: Sequence[str], p: NDArray[np.float64], bids: NDArray[np.float64]) -> None:
        """Keep or replace a segment; without edges it is dropped. Raises BadRecord and changes no segment."""
        old = self.kept.get(name)
        before = 0 if old is None else len(old.slots)
        if old is None and ids and len(self.kept) >= self.limit:
            raise BadRecord(f"segment: the pool holds its most, {self.limit}")
        if self.size - before + len(ids) > self.edges:
            raise BadRecord(f"segment: the pool's segments hold their most, {self.edges} edges")
        slots = self._slots(ids)
        if old is not None:
            np.subtract.at(self._resources.table["segments"], old.slots, 1)
        self.kept.pop(name, None)
        self.size += len(ids) - before
        if ids:
            self.kept[name] = Segment(slots, p, bids)

    def _slots(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The resources' slots, each held at once, so that making room for the next does not take one away."""
        slots: list[int] = []
        try:
            for name in ids:
                slot = self._resources.slot(name)
                self._resources.table["segments"][slot] += 1
                slots.append(slot)
        except BadRecord:
            for slot in slots:
                self._resources.table["segments"][slot] -= 1
            raise
        return np.array(slots, np.int64)

    def state(self) -> State:
        """Arrays made anew: no copy is needed."""
        kept = list(self.kept.values())
        none = np.zeros(0)
        arrays = {
            "slots": np.concatenate([np.zeros(0, np.int64), *(s.slots for s in kept)]),
            "p": np.concatenate([none, *(s.p for s in kept)]),
            "bids": np.concatenate([none, *(s.bids for s in kept)]),
            "lengths": np.array([(len(s.slots), len(s.bids)) for s in kept], np.int64).reshape(-1, 2),
        }
        return State(arrays, {"names": list(self.kept)})

    def restore(self, state: State) -> None:
        lengths = state.arrays["lengths"]
        edges, bids = np.cumsum(lengths, axis=0)[:-1].T
        columns = (
            np.split(np.array(state.arrays["slots"]), edges),
            np.split(np.array(state.arrays["p"]), edges),
            np.split(np.array(state.arrays["bids"]), bids),
        )
        names = state.document["names"]
        self.kept = {name: Segment(*parts) for name, *parts in zip(names, *columns, strict=False)}
        self.size = int(lengths[:, 0].sum()) if len(lengths) else 0
