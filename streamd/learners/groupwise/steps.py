"""One run of a groupwise learner: steps collected as arrays, handed to the kernel at once."""

from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamd.errors import BadRecord
from streamd.kernels import groupwise as kernel
from streamd.learners import Label, Why
from streamd.learners.features import HEAVIEST
from streamd.learners.groupwise import memo as memos
from streamd.learners.groupwise.groups import Members
from streamd.learners.groupwise.memo import Memo
from streamd.learners.rows import Rows

if TYPE_CHECKING:
    from streamd.learners.groupwise.model import Groupwise


class Seat(NamedTuple):
    """Where a prediction lies in the run's buffer: its own, or one that came back as a memo."""

    offset: int
    length: int
    known: int
    groups: Sequence[int]
    names: Sequence[str]


class Run(NamedTuple):
    """A run as arrays, see the kernel; `rows`: the features of each row as given."""

    rows: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
    awake: NDArray[np.int64]
    ops: NDArray[np.int64]
    labels: NDArray[np.float64]
    buffer: NDArray[np.float64]
    outside: Sequence[Mapping[str, Any]]


class GroupwisePredictions:
    """The predictions of one run; see `streamd.learners.Predictions`."""

    def __init__(self, model: "Groupwise", seats: Sequence[Seat], buffer: NDArray[np.float64]) -> None:
        self._model, self._seats, self._buffer = model, seats, buffer

    @property
    def values(self) -> NDArray[np.float64]:
        table = np.zeros((len(self._seats), self._model.columns()))
        for i, seat in enumerate(self._seats):
            told = self._model.told(self._buffer[seat.offset : seat.offset + seat.known])
            table[i, : len(told)] = told
        return table

    @property
    def known(self) -> NDArray[np.int64]:
        return np.array([self._model.told_columns(seat.known) for seat in self._seats], np.int64)

    def memos(self) -> list[bytes]:
        buffer = self._buffer
        return [
            memos.write(buffer[seat.offset : seat.offset + seat.length], seat.groups, seat.known)
            for seat in self._seats
        ]

    def whys(self) -> list[Why]:
        """[group, weight of its model, what its model predicts], heaviest first, of all that are awake.

        The prediction is the value, or the probability of the class that was played the likeliest.
        """
        reasons = self._model.reasons
        return [reasons(self._read(i), seat.names) if seat.known else [] for i, seat in enumerate(self._seats)]

    def interval(self, i: int) -> tuple[float, float] | None:
        return self._model.interval(self._read(i))

    def covering(self, i: int) -> list[str] | None:
        return self._model.covering(self._read(i))

    def _read(self, i: int) -> Memo:
        """Where the prediction lies, as a memo's parts."""
        seat = self._seats[i]
        model, known = self._model, seat.known
        experts, heads = model.experts_of(len(seat.groups)), model.heads_of(known)
        return memos.view(self._buffer, seat.offset, seat.groups, known, experts, heads)


class GroupwiseSteps:
    """See `streamd.learners.Steps`. Slots, classes and groups are given out at once, so execute every run.

    The groups of a row are found when it is taken; which of them are born is asked again at every step.
    """

    def __init__(self, model: "Groupwise") -> None:
        self._model = model
        self._groups = model.groups
        self._rows = Rows(model.index)
        self._members: list[Members] = []
        self._slots: dict[int, tuple[int, list[int]]] = {}  # row -> its awake groups, as of so many births
        self._awake = array("q")
        self._ops = array("q")
        self._labels = array("d")
        self._size = 0  # of the buffer
        self._seats: list[Seat] = []
        self._remembered: list[tuple[int, bytes]] = []
        self._outside: list[Mapping[str, Any]] = []

    def row(self, x: Any, tags: Sequence[str] = ()) -> int:
        row = self._rows.take(x)
        self._members.extend([_NOBODY] * (row - len(self._members)))
        self._members.append(self._groups.members(x, tags))
        return row

    def predict(self, row: int) -> None:
        slots, known = self._awake_now(row), self._model.numbers()
        ids = [self._groups.ids[slot] for slot in slots]
        names = [self._groups.names[slot] for slot in slots]
        seat = Seat(self._size, self._model.length(len(slots), known), known, ids, names)
        self._seats.append(seat)
        self._size += seat.length
        self._step(kernel.PREDICT, row, slots, (), seat.offset, known, known, (0.0, 0.0, 0.0))

    def observe(self, row: int) -> None:
        self._rows.observe(row)
        births = self._groups.observe(self._members[row])
        for birth in births:
            self._model.born += 1
            self._step(kernel.BORN, birth.slot, (), (), 0, 0, 0, (birth.mass, 0.0, 0.0), fresh=True)
        self._step(kernel.OBSERVE, row, self._awake_now(row), (), 0, 0, 0, (0.0, 0.0, 0.0))

    def learn(self, row: int, y: Label, seen: int | bytes = b"", weight: float = 1.0, shown: float = 1.0) -> None:
        """The oracles of the groups the event is in now learn it; R and C move by the prediction as it was made.

        weight: 0 teaches nothing; R, C, the bounds and the oracles count any other label once. shown: of its
        losses in what is shown, 1/P of a label that was asked for with probability P.
        """
        if not (0.0 <= weight <= HEAVIEST and 0.0 < shown <= HEAVIEST):
            raise BadRecord(f"the label's weight is not within 0 and {HEAVIEST:g}")
        seat = self._seat(seen)
        number = self._model.number(y, weight > 0.0)
        slots = self._awake_now(row)
        self._teach(kernel.LEARN, row, slots, seat, (number, shown if weight > 0.0 else 0.0, 0.0))

    def correct(self, row: int, old: Label, new: Label, seen: int | bytes = b"", shown: float = 1.0) -> None:
        """R, C, weights and losses are moved to the new label, and so are ridge and VAW oracles (exactly, unless
        features are standardised: their scales have moved). The other oracles learn the new label on top; so does
        every oracle if the learner forgot the prediction's groups. shown: as when the old one was learned."""
        seat = self._seat(seen)
        before, after = self._model.number(old, False), self._model.number(new, True)
        slots = self._groups.held(seat.groups)
        here = [slot for slot in self._awake_now(row) if slot in slots]
        self._teach(kernel.CORRECT, row, here, seat, (after, shown, before))

    def execute(self) -> GroupwisePredictions:
        buffer = np.zeros(self._size)
        for offset, memo in self._remembered:
            words = np.frombuffer(memo, np.float64)
            buffer[offset : offset + len(words)] = words
        run = Run(
            self._rows.arrays(),
            np.array(self._awake, np.int64),
            np.array(self._ops, np.int64).reshape(-1, len(kernel.OPS)),
            np.array(self._labels).reshape(-1, 3),
            buffer,
            self._outside,
        )
        self._model.run(run)
        return GroupwisePredictions(self._model, self._seats, buffer)

    def _awake_now(self, row: int) -> list[int]:
        at, slots = self._slots.get(row, (-1, []))
        if at != self._groups.changes:
            slots = self._groups.awake(self._members[row])
            self._slots[row] = self._groups.changes, slots
        return slots

    def _seat(self, seen: int | bytes) -> Seat:
        if isinstance(seen, int):
            return self._seats[seen]
        read: Memo = self._model.read(seen)
        if not len(read.numbers):
            return Seat(0, 0, 0, (), ())
        length = len(seen) // 8 - len(read.groups) - 2
        seat = Seat(self._size, length, len(read.numbers), read.groups, ())
        self._remembered.append((seat.offset, seen[: 8 * length]))
        self._size += length
        return seat

    def _teach(
        self, kind: int, row: int, slots: Sequence[int], seat: Seat, label: tuple[float, float, float]
    ) -> None:
        judged = self._groups.held(seat.groups)
        self._step(kind, row, slots, judged, seat.offset, self._model.numbers(), seat.known, label)

    def _step(
        self,
        kind: int,
        row: int,
        here: Sequence[int],
        judged: Sequence[int],
        offset: int,
        known: int,
        known_then: int,
        label: tuple[float, float, float],
        fresh: bool = False,
    ) -> None:
        if not fresh:
            if self._model.outside is not None:
                self._outside.append(self._model.plain(self._rows.taken[row], kind != kernel.PREDICT))
            row = self._rows.renewed(row)
        elif self._model.outside is not None:
            self._outside.append({})
        start = len(self._awake)
        self._awake.extend(here)
        self._awake.extend(judged)
        after = start + len(here)
        self._ops.extend((kind, row, start, len(here), after, len(judged), offset, known, known_then))
        self._labels.extend(label)


_NOBODY = Members((), (), (), (), 0)
