"""The names of a `FeatureIndex` in a form that kernels read, so that plain events need not become objects."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

from streamd.kernels import features as kernel
from streamd.learners.features import KINDS, LINES, FeatureIndex

LEAST = 64  # slots


class Entries(NamedTuple):
    """Of m events: how many each has, (m,), and their codes and values one after the other."""

    sizes: NDArray[np.int64]
    codes: NDArray[np.int64]
    values: NDArray[np.float64]


class FeatureTable:
    """Follows an index of the learned form; of one of the other form it knows no feature."""

    def __init__(self, index: FeatureIndex) -> None:
        self.index = index
        self._row = 1  # a stamp of its own for each event read
        self._used = self._read = 0  # bytes: of the table's arena, of the index's names
        self._make_room(LEAST, 0)

    def read(self, events: Sequence[Raw]) -> Entries:
        """events: the features of each, JSON that is valid.

        What is not plain, or not all known, has the size `kernel.ODD`.
        """
        self._follow()
        raw = np.frombuffer(b"".join(events), np.uint8)
        ends = np.cumsum(np.array([len(memoryview(event)) for event in events], np.int64))
        codes, values = np.empty(raw.size // 4 + 1, np.int64), np.empty(raw.size // 4 + 1)
        sizes = np.empty(len(events), np.int64)
        most = self.index.max_features_per_event
        n = kernel.read(raw, ends, most, self._row, self._table, self._stamps, codes, values, sizes)
        self._row += len(events)
        return Entries(sizes, codes[:n], values[:n])

    def _follow(self) -> None:
        """Take in the slots given since the last time."""
        names, size = self.index.names, self.index.size
        if self._read == len(names):
            return
        if size > self._slots or len(names) > self._table[0].size:
            self._make_room(2 * size, 2 * len(names))
        lines = LINES.decode_lines(bytes(names[self._read :]))
        parts = [text.encode() for _, name, value in lines for text in (name, value)]
        raw = np.frombuffer(b"".join(parts), np.uint8)
        ends = np.cumsum(np.array([len(part) for part in parts], np.int64)).reshape(-1, 2)
        kinds = np.array([KINDS.index(kind) for kind, _, _ in lines], np.int64)
        self._used = kernel.insert(raw, ends, kinds, size - len(lines), self._used, self._counts, self._table)
        self._read = len(names)

    def _make_room(self, slots: int, room: int) -> None:
        """Begin anew with room for so many slots, and bytes of their names."""
        size = 1 << (2 * slots).bit_length()
        tables = np.zeros(size, np.uint64), np.zeros(size, np.uint64)
        places = np.zeros((slots, 5), np.int64), np.zeros((slots, 4), np.int64)
        self._table = (np.zeros(max(1, room), np.uint8), *tables, *places)
        self._stamps = np.zeros(slots, np.int64)
        self._counts = np.zeros(2, np.int64)
        self._slots, self._used, self._read = slots, 0, 0
