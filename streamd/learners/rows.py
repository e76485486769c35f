"""The rows of a run: features checked, their slots found, and found again once they have got new ones."""

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

from streamd.learners.feature_table import FeatureTable
from streamd.learners.features import LIMIT, NO_REASON, FeatureIndex

Arrays = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


class Rows:
    """Entries (code, value) of each row taken, as `streamd.learners.features` defines codes."""

    def __init__(self, index: FeatureIndex) -> None:
        self._index = index
        self._codes: list[int] = []  # lists, because they are quicker to append to than arrays
        self._values: list[float] = []
        self._starts = [0]
        self._plain = (np.empty(0, np.int64), np.empty(0))  # codes and values of the rows before the first taken
        self._before = 0  # entries in them
        self.taken: list[Any] = []  # features of each row; Raw of a plain one
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
        self._starts.append(self._before + len(codes))
        self.taken.append(x)
        return len(self.taken) - 1

    def plain(self, table: FeatureTable, events: Sequence[Raw]) -> list[int]:
        """Take in what is plain, before all else; the row of each, -1 for what is to be taken by itself.

        A row taken so has slots for all of its features, and never gets others.
        """
        read = table.read(events)
        plain = read.sizes >= 0
        self._plain, self._before = (read.codes, read.values), len(read.codes)
        self._starts += np.cumsum(read.sizes[plain]).tolist()
        self.taken += [event for event, taken in zip(events, plain.tolist(), strict=True) if taken]
        rows: list[int] = np.where(plain, np.cumsum(plain) - 1, -1).tolist()
        return rows

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
        start, end = (at - self._before for at in self._starts[latest : latest + 2])
        if codes != self._codes[start:end]:
            latest = self._latest[row] = self._append(self.taken[row], codes, values)
        return latest

    def arrays(self) -> Arrays:
        """(starts, codes, values), as the kernels take them."""
        starts, codes, values = array("q", self._starts), array("q", self._codes), array("d", self._values)
        return (
            np.frombuffer(starts, np.int64),
            np.concatenate((self._plain[0], np.frombuffer(codes, np.int64))),
            np.concatenate((self._plain[1], np.frombuffer(values))),
        )

    def texts(self, arrays: Arrays, rows: Sequence[int], entries: NDArray[np.int64]) -> list[str | None]:
        """How reasons name entries: (n, k) numbers within each row's own, flat; None for a number below 0.

        arrays: of these rows.
        """
        if not self._index.all_own:
            own = zip(rows, entries.tolist(), strict=True)
            return [text for row, of in own for text in self._named(row, of)]
        starts, codes, _ = arrays
        slots = np.full(entries.shape, NO_REASON)
        given = entries >= 0
        found = codes[(starts[rows, None] + entries)[given]]
        slots[given] = np.where(found < 0, ~found, found)
        return list(map(self._index.texts.__getitem__, slots.ravel().tolist()))

    def _named(self, row: int, entries: Sequence[int]) -> list[str | None]:
        taken = self.taken[row]
        x = msgspec.json.decode(taken) if isinstance(taken, Raw) else taken
        present = [(name, value) for name, value in x.items() if value is not None]
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
        self._starts.append(self._before + len(self._codes))
        self.taken.append(x)
        return len(self.taken) - 1
