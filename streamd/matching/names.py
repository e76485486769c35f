"""Resource ids and their slots, in about 30 bytes a name: see `streamd.kernels.matching_ids`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamd.errors import BadRecord, StateError
from streamd.kernels import matching_ids as kernel
from streamd.snapshot import State

LONGEST = 512  # bytes of a name


class Names:
    """Slots are given out in order and again after `forget`; a slot without a name has length -1."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.size = 0  # slots ever given out
        self.free: list[int] = []
        self.arena = np.zeros(1024, np.uint8)
        self.filled = 0
        self.start = np.zeros(16, np.int64)
        self.length = np.full(16, -1, np.int16)
        self.table = np.zeros(64, np.uint64)
        self._wasted = 0

    def __len__(self) -> int:
        return self.size - len(self.free)

    def find(self, names: Sequence[str]) -> NDArray[np.int64]:
        """The slot of each name, -1 where it is unknown. Raises BadRecord for a name with a zero byte in it."""
        slots = np.empty(len(names), np.int64)
        if not names:
            return slots
        raw = np.frombuffer("\0".join(names).encode(), np.uint8)
        found = kernel.find(raw, self.table, self.arena, self.start, self.length, self.seed, slots)
        if found != len(names):
            raise BadRecord("a resource's id holds a zero byte")
        return slots

    def name(self, slot: int) -> str:
        at = int(self.start[slot])
        return self.arena[at : at + int(self.length[slot])].tobytes().decode()

    def add(self, name: str) -> int:
        """A slot for a new name. Raises BadRecord for one that cannot be kept."""
        raw = name.encode()
        if not 0 < len(raw) <= LONGEST or b"\0" in raw:
            raise BadRecord(f"a resource's id must have 1 to {LONGEST} bytes, none of them zero")
        slot = self.free.pop() if self.free else self.size
        self.size = max(self.size, slot + 1)
        self._grow(len(raw))
        self.arena[self.filled : self.filled + len(raw)] = np.frombuffer(raw, np.uint8)
        self.start[slot], self.length[slot] = self.filled, len(raw)
        self.filled += len(raw)
        kernel.insert(self.table, self.arena, self.start, self.length, self.seed, slot, slot + 1)
        return slot

    def add_all(self, names: Sequence[str]) -> int:
        """Slots in a row for new names that can be kept, each another. Returns the first; no slot may be free."""
        raws = [name.encode() for name in names]
        text = b"".join(raws)
        first, self.size = self.size, self.size + len(raws)
        self._grow(len(text))
        lengths = np.array([len(raw) for raw in raws], np.int64)
        ends = self.filled + np.cumsum(lengths)
        self.start[first : self.size], self.length[first : self.size] = ends - lengths, lengths
        self.arena[self.filled : self.filled + len(text)] = np.frombuffer(text, np.uint8)
        self.filled += len(text)
        kernel.insert(self.table, self.arena, self.start, self.length, self.seed, first, self.size)
        return first

    def forget(self, slot: int) -> None:
        kernel.remove(self.table, self.arena, self.start, self.length, self.seed, slot)
        self._wasted += int(self.length[slot])
        self.length[slot] = -1
        self.free.append(slot)

    def state(self) -> State:
        """Arrays made anew: the lengths, and the names one after the other in the order of their slots."""
        length = self.length[: self.size].copy()
        arena = np.empty(self.filled - self._wasted, np.uint8)
        kernel.pack(self.arena, self.start, length, arena)
        return State({"length": length, "arena": arena, "free": np.array(self.free, np.int64)}, {})

    def restore(self, state: State) -> None:
        length, arena = state.arrays["length"], state.arrays["arena"]
        sizes = np.maximum(length.astype(np.int64), 0)
        self.size, self.filled = len(length), int(sizes.sum())
        if self.filled != len(arena):
            raise StateError("the names of the resources do not fit together")
        self.free = [int(slot) for slot in state.arrays["free"]]
        self._wasted = 0
        self.start = _resized(np.cumsum(sizes) - sizes, max(16, self.size), 0)
        self.length = _resized(length, len(self.start), -1)
        self.arena = _resized(arena, max(1024, len(arena)), 0)
        self._rehash()

    def _grow(self, more: int) -> None:
        if self.size > len(self.start):
            wanted = self.size + self.size // 2
            self.start = _resized(self.start, wanted, 0)
            self.length = _resized(self.length, wanted, -1)
        if self.filled + more > len(self.arena):
            if self._wasted > self.filled // 2:
                self._compact()
            self.arena = _resized(self.arena, self.filled + self.filled // 2 + more, 0)
        if len(self) * 3 > len(self.table) * 2:
            self._rehash()

    def _compact(self) -> None:
        length = self.length[: self.size]
        packed = np.empty(self.filled - self._wasted, np.uint8)
        kernel.pack(self.arena, self.start, length, packed)
        sizes = np.maximum(length, 0)
        self.start[: self.size] = np.cumsum(sizes, dtype=np.int64) - sizes
        self.arena[: len(packed)] = packed
        self.filled, self._wasted = len(packed), 0

    def _rehash(self) -> None:
        size = 64
        while len(self) * 2 > size:
            size *= 2
        self.table = np.zeros(size, np.uint64)
        kernel.insert(self.table, self.arena, self.start, self.length, self.seed, 0, self.size)


def _resized(old: NDArray[Any], size: int, fill: int) -> NDArray[Any]:
    new = np.zeros(size, old.dtype) if fill == 0 else np.full(size, fill, old.dtype)
    new[: len(old)] = old
    return new
