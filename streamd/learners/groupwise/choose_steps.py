"""One run of a chooser: its steps applied one after the other, its predictions, what is remembered of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamd.errors import BadRecord
from streamd.learners import Why
from streamd.learners.features import HEAVIEST
from streamd.learners.groupwise.groups import Members

if TYPE_CHECKING:
    from streamd.learners.groupwise.choose import GroupwiseChooser


class Drawn(NamedTuple):
    """A prediction. path: (m,) of 0 and 1; paths: (n, m), those of the awake groups; p: (n,) their weights."""

    path: NDArray[np.uint8]
    paths: NDArray[np.uint8]
    p: NDArray[np.float64]
    groups: Sequence[int]  # identities
    names: Sequence[str]

    def memo(self) -> bytes:
        """Path, paths, then p and the groups' identities."""
        return (
            self.path.tobytes()
            + self.paths.tobytes()
            + self.p.tobytes()
            + np.array(self.groups, np.int64).tobytes()
        )


class ChooserPredictions:
    """The predictions of one run; see `streamd.learners.Predictions`. values: (n, m), 1 for a path's edges."""

    def __init__(self, drawn: Sequence[Drawn], edges: Sequence[str]) -> None:
        self._drawn, self._names = drawn, edges
        self._edges = len(edges)

    @property
    def values(self) -> NDArray[np.float64]:
        return np.array([one.path for one in self._drawn], np.float64).reshape(len(self._drawn), self._edges)

    @property
    def known(self) -> NDArray[np.int64]:
        return np.full(len(self._drawn), self._edges, np.int64)

    def memos(self) -> list[bytes]:
        return [one.memo() for one in self._drawn]

    def whys(self) -> list[Why]:
        """[group, its weight, the edges of its own path], heaviest first."""
        return [self._why(one) for one in self._drawn]

    def _why(self, one: Drawn) -> Why:
        order = np.argsort(-one.p, kind="stable").tolist()
        return [[one.names[g], float(one.p[g]), named(self._names, one.paths[g])] for g in order]


class ChooserSteps:
    """One run; see `streamd.learners.Steps`. A label is {edge: cost}, one cost for every edge."""

    def __init__(self, model: "GroupwiseChooser") -> None:
        self._model = model
        self._rows: list[tuple[dict[str, Any], Members]] = []
        self._drawn: list[Drawn] = []

    def row(self, x: Any, tags: Sequence[str] = ()) -> int:
        present = self._model.types.check(x)
        self._rows.append((present, self._model.groups.members(present, tags)))
        return len(self._rows) - 1

    def predict(self, row: int) -> None:
        self._drawn.append(self._model.draw(self._rows[row][1]))

    def observe(self, row: int) -> None:
        present, members = self._rows[row]
        self._model.types.observe(present)
        self._model.observe(members)

    def learn(self, row: int, y: Any, seen: int | bytes = b"", weight: float = 1.0, shown: float = 1.0) -> None:
        """weight: 0 teaches nothing, any other label counts once; shown: of its costs in what is shown."""
        if not (0.0 <= weight <= HEAVIEST and 0.0 < shown <= HEAVIEST):
            raise BadRecord(f"the label's weight is not within 0 and {HEAVIEST:g}")
        drawn, costs = self._seen(seen), self._model.costs(y, weight > 0.0)
        if weight > 0.0:
            self._model.learn(self._rows[row][1], drawn, costs, shown, 1.0)

    def correct(self, row: int, old: Any, new: Any, seen: int | bytes = b"", shown: float = 1.0) -> None:
        """Costs are sums: the old label's are taken out of them, and out of R and C, exactly."""
        drawn = self._seen(seen)
        before, after = self._model.costs(old, False), self._model.costs(new, True)
        self._model.learn(self._rows[row][1], drawn, before, shown, -1.0)
        self._model.learn(self._rows[row][1], drawn, after, shown, 1.0)

    def execute(self) -> ChooserPredictions:
        return ChooserPredictions(self._drawn, self._model.classes)

    def _seen(self, seen: int | bytes) -> Drawn | None:
        if isinstance(seen, int):
            return self._drawn[seen]
        return self._model.read(seen) if seen else None


def named(edges: Sequence[str], path: NDArray[Any]) -> list[str]:
    """The names of a path's edges, in the order declared."""
    return [name for name, on in zip(edges, path.tolist(), strict=True) if on]
