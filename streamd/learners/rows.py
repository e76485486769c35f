"""The rows of a run: features checked, their slots found, and found again once they have got new ones."""

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamd.learners.features import LIMIT, NO_REASON, FeatureIndex


class Rows:
    """Entries (code, value) of each row taken, as `streamd.learners.features` defines codes."""

    def __init__(self, index: FeatureIndex) -> None:
        self._index = index
        self._codes: list[int] = []  # lists, because they are quicker to append to than arrays
        self._values: list[float] = []
        self._starts = [0]
        self.taken: list[Mapping[str, Any]] = []
        self._limit = index.max_features_per_event
        self._latest: dict[int, int] = {}  # a row with features new to us -> its latest copy

    def take(self, x: Any) -> int:
        """Check features and add them as a row. Raises BadRecord and changes nothing if they do not fit."""
        codes, values = self._codes, self._values
        start, add_code, add_value = len(codes), codes.append, values.append
        numbers, categories, booleans = self._index.numbers, self._index.categories, self._index.booleans
        try:
            if len(x) > self._limit:
                raise KeyError
            for name, value in x.items():
                kind = type(value)
                if kind is float or kind is int:
                    add_code(numbers[name])
                    if not -LIMIT < value < LIMIT:
                        raise KeyError
                    add_value(value)
                elif kind is str:
                    add_code(categories[name][value])
                    add_value(1.0)
                elif kind is bool:
                    add_code(booleans[name])
                    add_value(value)
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
        if not self._latest or row not in self._latest:
            return row
        self._index.observe(self.taken[row])
        return self.renewed(row)

    def renewed(self, row: int) -> int:
        """The row with the slots its features have by now. Steps already taken keep theirs."""
        if not self._latest or row not in self._latest:
            return row
        latest = self._latest[row]
        codes, values, _ = self._index.codes(self.taken[row], late=True)
        if codes != self._codes[self._starts[latest] : self._starts[latest + 1]]:
            latest = self._latest[row] = self._append(self.taken[row], codes, values)
        return latest

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """(starts, codes, values), as the kernels take them."""
        starts, codes, values = array("q", self._starts), array("q", self._codes), array("d", self._values)
        return np.frombuffer(starts, np.int64), np.frombuffer(codes, np.int64), np.frombuffer(values)

    def texts(self, rows: Sequence[int], entries: NDArray[np.int64]) -> list[str | None]:
        """How reasons name entries: (n, k) numbers within each row's own, flat; None for a number below 0."""
        if not self._index.all_own:
            own = zip(rows, entries.tolist(), strict=True)
            return [text for row, of in own for text in self._named(row, of)]
        codes, texts = self._codes, self._index.texts
        at = np.where(entries < 0, -1, np.array(self._starts, np.int64)[rows, None] + entries)
        found = [codes[i] if i >= 0 else NO_REASON for i in at.ravel().tolist()]
        return [texts[code if code >= 0 else ~code] for code in found]

    def _named(self, row: int, entries: Sequence[int]) -> list[str | None]:
        present = [(name, value) for name, value in self.taken[row].items() if value is not None]
        texts = [f"{name}={value}" if isinstance(value, str) else name for name, value in present]
        return [texts[j] if j >= 0 else None for j in entries]

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
