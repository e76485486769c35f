"""A window of the last w numbers that stays sorted: its quantiles with one number more, without taking it in."""

from bisect import bisect_left, insort
from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Look(NamedTuple):
    """The window with the number at hand in it: its smallest and largest, and a quantile."""

    least: float
    quantile: float
    most: float


class SortedWindow:
    """w: how many numbers, the one at hand included."""

    def __init__(self, w: int) -> None:
        self.w = w
        self._line: deque[float] = deque()  # in order of arrival, at most w - 1
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._line)

    def look(self, u: float, q: float) -> Look:
        """The window as it would be with u in it; the quantile by linear interpolation, in numpy's arithmetic."""
        kept = self._sorted
        n = len(kept)
        if n == 0:
            return Look(u, u, u)
        place = bisect_left(kept, u)
        at = n * q
        low = int(at)
        a = kept[low] if low < place else u if low == place else kept[low - 1]
        high = min(low + 1, n)
        b = kept[high] if high < place else u if high == place else kept[high - 1]
        t = at - low
        quantile = a + (b - a) * t if t < 0.5 else b - (b - a) * (1 - t)
        return Look(min(u, kept[0]), quantile, max(u, kept[-1]))

    def add(self, u: float) -> None:
        """Take a number in. NaN is not kept."""
        if u != u or self.w < 2:
            return
        if len(self._line) == self.w - 1:
            del self._sorted[bisect_left(self._sorted, self._line.popleft())]
        self._line.append(u)
        insort(self._sorted, u)

    def sorted(self) -> NDArray[np.float64]:
        return np.array(self._sorted, np.float64)

    def array(self) -> NDArray[np.float64]:
        return np.array(self._line, np.float64)

    def fill(self, kept: NDArray[np.float64]) -> None:
        self._line = deque(kept.tolist()[-(self.w - 1) :] if self.w > 1 else ())
        self._sorted = sorted(self._line)
