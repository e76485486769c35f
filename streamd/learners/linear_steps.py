"""A run of a linear model: rows, what is to be done with them, and the predictions of it."""

from array import array
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

from streamd.errors import BadRecord
from streamd.kernels import linear as kernel
from streamd.learners import Label, Taught, Why
from streamd.learners.features import HEAVIEST
from streamd.learners.rows import Rows

if TYPE_CHECKING:
    from streamd.learners.linear import Linear

REASONS = 3  # per prediction


class LinearPredictions(NamedTuple):
    """The predictions of one run; see `streamd.learners.Predictions`.

    texts: n REASONS, flat: how reasons name the features that count most, None: no more; made when asked for.
    shares: (n, REASONS), how much they count.
    """

    values: NDArray[np.float64]
    known: NDArray[np.int64]
    texts: Callable[[], Sequence[str | None]]
    shares: NDArray[np.float64]

    def memos(self) -> list[bytes]:
        raw, size = self.values.tobytes(), 8 * self.values.shape[1]
        starts, lengths = range(0, len(raw), size or 1), (8 * self.known).tolist()
        if not size:
            return [b""] * len(lengths)
        return [raw[start : start + length] for start, length in zip(starts, lengths, strict=True)]

    def whys(self) -> list[Why]:
        """Of each up to three of [feature or feature=category, its part of the margin], strongest first."""
        texts = self.texts()
        reasons = list(map(list, zip(texts, self.shares.ravel().tolist(), strict=True)))
        whys = list(map(list, zip(*(reasons[k::REASONS] for k in range(REASONS)), strict=True)))
        for i in {at // REASONS for at, text in enumerate(texts) if text is None}:
            whys[i] = [reason for reason in whys[i] if reason[0] is not None]
        return whys


class LinearSteps:
    """One run; see `streamd.learners.Steps`. Slots and classes are given out at once, so execute every run.

    A row is checked against what was known when it was taken: take it just before its first step.
    """

    def __init__(self, model: "Linear") -> None:
        self._model = model
        self._rows = Rows(model._index)
        self._renewed = self._rows.renewed
        self._ops: list[float] = []
        self._predicted: list[int] = []  # prediction -> row
        self._known: list[int] = []

    def row(self, x: Any, tags: Sequence[str] = ()) -> int:
        return self._rows.take(x)

    def plain(self, events: Sequence[Raw]) -> list[int]:
        return self._rows.plain(self._model.table(), events)

    def predict(self, row: int) -> None:
        row, known = self._renewed(row), self._model._known()
        self._ops += (kernel.PREDICT, row, 0.0, 0.0, known)
        self._predicted.append(row)
        self._known.append(known)

    def observe(self, row: int) -> None:
        self._ops += (kernel.OBSERVE, self._rows.observe(row), 0.0, 0.0, 0)

    def learn(self, row: int, y: Label, seen: int | bytes = b"", weight: float = 1.0) -> None:
        self.teach(row, self._model._label(y), weight)

    def correct(self, row: int, old: Label, new: Label, seen: int | bytes = b"") -> None:
        """Gradient steps cannot be taken back: the new label is learned on top."""
        self.teach(row, self._model._label(new), 1.0)

    def teach(self, row: int, y: Any, weight: float) -> None:
        """As `learn`, for a label already checked; any hashable may be a class."""
        if not 0.0 <= weight <= HEAVIEST:
            raise BadRecord(f"the label's weight is not within 0 and {HEAVIEST:g}")
        number = self._model._number(y)
        self._ops += (kernel.LEARN, self._renewed(row), number, weight, self._model._known())

    def numbers(self, labels: Sequence[Label]) -> Sequence[float] | None:
        return self._model._numbers(labels)

    def columns(self, rows: Sequence[int], taught: Taught, predict: bool) -> LinearPredictions:
        known, n, m = self._model._known(), len(rows), len(taught.rows)
        of_event = 2 if predict else 1
        ops = np.zeros((of_event * n + m, 5))
        ops[:, 4] = known
        after = np.array(taught.after, np.int64)
        learned = of_event * after + np.arange(m)
        ops[learned, 0] = kernel.LEARN
        ops[learned, 1], ops[learned, 2], ops[learned, 3] = taught.rows, taught.numbers, taught.weights
        others = np.ones(len(ops), np.bool_)
        others[learned] = False
        ops[others, 0] = np.tile((kernel.PREDICT, kernel.OBSERVE) if predict else (kernel.OBSERVE,), n)
        ops[others, 1] = np.repeat(rows, of_event)
        self._predicted, self._known = (list(rows), [known] * n) if predict else ([], [])
        return self._execute(ops)

    def execute(self) -> LinearPredictions:
        return self._execute(np.frombuffer(array("d", self._ops), np.float64).reshape(-1, 5))

    def _execute(self, ops: NDArray[np.float64]) -> LinearPredictions:
        arrays = self._rows.arrays()
        values, entries, shares = self._model._run(*arrays, ops, len(self._predicted))
        # A shadow's reasons are never asked for.
        texts = partial(self._rows.texts, arrays, self._predicted, entries)
        return LinearPredictions(values, np.array(self._known, np.int64), texts, shares)
