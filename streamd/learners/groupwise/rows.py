"""The rows of a run: features checked, their slots found, and found again once they have got new ones."""

from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamd.learners.features import LIMIT, FeatureIndex


class Rows:
    """Entries (code, value) of each row taken, as `streamd.learners.features` defines codes."""

    def __init__(self, index: FeatureIndex) -> None:
        self._index = index
        self._codes = array("q")
        self._values = array("d")
        self._starts = [0]
        self.taken: list[Mapping[str, Any]] = []
        self._latest: dict[int, int] = {}  # a row with features new to us -> its latest copy

    def take(self, x: Any) -> int:
        """Check features and add them as a row. Raises BadRecord and changes nothing if they do not fit."""
        codes, values = self._codes, self._values
        start = len(codes)
        numbers, categories, booleans = self._index.numbers, self._index.categories, self._index.booleans
        try:
            if len(x) > self._index.max_features_per_event:
                raise KeyError
            for name, value in x.items():
                kind = type(value)
                if kind is float or kind is int:
                    codes.append(numbers[name])
                    if not -LIMIT < value < LIMIT:
                        raise KeyError
                    values.append(value)
                elif kind is str:
                    codes.append(categories[name][value])
                    values.append(1.0)
                elif kind is bool:
                    codes.append(booleans[name])
                    values.append(value)
                elif value is not None:
                    raise KeyError
        except (KeyError, TypeError, AttributeError):  # something new or wrong: look closely
            del codes[start:], values[start:]
            return self._slowly(x)
        self._starts.append(len(codes))
        self.taken.append(x)
        return len(self.taken) - 1

    def observe(self, row: int) -> int:
        """Give the row's new features their slots; returns the row to be used."""
        if row in self._latest:
            self._index.observe(self.taken[row])
        return self.renewed(row)

    def renewed(self, row: int) -> int:
        """The row with the slots its features have by now. Steps already taken keep theirs."""
        if row not in self._latest:
            return row
        latest = self._latest[row]
        codes, values, _ = self._index.codes(self.taken[row], late=True)
        if codes != self._codes[self._starts[latest] : self._starts[latest + 1]].tolist():
            latest = self._latest[row] = self._append(self.taken[row], codes, values)
        return latest

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """(starts, codes, values), as the kernels take them."""
        starts = np.array(self._starts, np.int64)
        codes = np.frombuffer(self._codes, np.int64) if self._codes else np.zeros(0, np.int64)
        return starts, codes, np.frombuffer(self._values) if self._values else np.zeros(0)

    def _slowly(self, x: Any) -> int:
        codes, values, complete = self._index.codes(x)
        row = self._append(x, codes, values)
        if not complete:
            self._latest[row] = row
        return row

    def _append(self, x: Mapping[str, Any], codes: list[int], values: list[float]) -> int:
        self._codes.extend(codes)
        self._values.extend(values)
        self._starts.append(len(self._codes))
        self.taken.append(x)
        return len(self.taken) - 1
