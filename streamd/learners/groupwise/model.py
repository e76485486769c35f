"""The groupwise learner's state and its run; see `streamd.learners.groupwise` for the algorithm."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from streamd.errors import ConfigError, StateError
from streamd.kernels import groupwise as kernel
from streamd.learners import Label, Why
from streamd.learners.features import FeatureIndex
from streamd.learners.groupwise import memo as memos
from streamd.learners.groupwise import metas
from streamd.learners.groupwise.groups import Groups
from streamd.learners.groupwise.memo import Memo
from streamd.learners.groupwise.steps import GroupwiseSteps, Run
from streamd.learners.groupwise.view import groups_view
from streamd.snapshot import State
from streamd.views import GroupsView

if TYPE_CHECKING:
    from streamd.learners.groupwise.outside import Outside

ORACLES = {
    "ridge": kernel.RIDGE,
    "vaw": kernel.VAW,
    "logistic": kernel.LOGISTIC,
    "softmax": kernel.SOFTMAX,
    "quantile": kernel.QUANTILE,
}
STEP = 8  # arrays grow by so many columns and slots: memory stays near what is needed


class Groupwise:
    """What the classifier and the regressor share. The parameters are told there; underscored names are state."""

    LIVE: ClassVar[frozenset[str]] = frozenset({"eta"})

    task: str
    classes: list[str]
    oracle: Any
    loss: str
    meta: str
    accounting: str | None
    experts: str
    play: str
    groups_declared: list[str] | dict[str, str]
    _P: NDArray[np.float64]
    _W: NDArray[np.float64]
    _G: NDArray[np.float64]
    _E: NDArray[np.float64]
    _table: NDArray[np.float64]

    def _start(self, everyone: bool, prior: Mapping[str, float], max_groups: int, max_awake: int) -> None:
        """Check what was declared and make the state."""
        self._check()
        self.accounting = metas.accounting_of(self.meta, self.loss, self.accounting, self.play)
        require(everyone or self.experts != "own+everyone", "experts", '"own+everyone" needs everyone')
        self.groups = Groups(self.groups_declared, prior, everyone, max_groups, max_awake)
        self.index = FeatureIndex(self.max_features, self.max_features_per_event)
        self.outside = self._outside()
        self.classes = []
        self._places: dict[str, int] = {}
        self.reset()

    def reset(self) -> None:
        """Forget what was learned, born groups too; classes and features keep their places."""
        self.groups.clear()
        self.clipped = self.born = 0
        if self.outside is not None:
            self.outside.clear()
        self._totals = np.zeros(len(kernel.TOTALS))
        self._moments = np.zeros((3, self.index.size))
        self._allocate(0, 0, 0)
        self._grow()
        for slot, name in enumerate(self.groups.fixed):
            self._bear(slot, self.groups.mass(name))

    # --- what it is asked

    def steps(self) -> GroupwiseSteps:
        return GroupwiseSteps(self)

    def peek(self, x: Any, tags: Sequence[str] = ()) -> tuple[NDArray[np.float64], Why]:
        """Predict without changing anything: ((C,) or (1,), the reasons)."""
        steps = self.steps()
        steps.predict(steps.row(x, tags))
        predictions = steps.execute()
        return predictions.values[0, : predictions.known[0]], predictions.whys()[0]

    def read(self, memo: bytes) -> Memo:
        """A memo's parts, in units of the range. Raises StateError for one that is none of this learner's."""
        return memos.read(memo, self.experts_of, self.heads_of)

    def groups_view(self) -> GroupsView:
        return groups_view(self)

    def probabilities(self, memo: bytes) -> NDArray[np.float64]:
        return self.told(self.read(memo).numbers)

    def members(self, memo: bytes) -> NDArray[np.float64]:
        """(n, C): what the model of each awake group predicted."""
        z = self.read(memo).z
        return np.array([self.told(row) for row in z]) if len(z) else np.zeros((0, 1))

    # --- what steps ask

    def numbers(self) -> int:
        """How many numbers a prediction has now."""
        raise NotImplementedError

    def columns(self) -> int:
        """How many of them are told."""
        raise NotImplementedError

    def told_columns(self, known: int) -> int:
        """How many are told of a prediction of so many numbers."""
        raise NotImplementedError

    def told(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """What is told of a prediction, in the label's units."""
        raise NotImplementedError

    def number(self, y: Label, counted: bool) -> float:
        """A label as the kernel takes it. BadRecord if it does not fit. counted: it will be learned."""
        raise NotImplementedError

    def reasons(self, memo: Memo, names: Sequence[str]) -> Why:
        """[group, weight of its model, what its model predicts], heaviest first."""
        raise NotImplementedError

    def shares(self, memo: Memo) -> NDArray[np.float64]:
        """(n, J): the weight of each awake group's model, over all experts that predict with it."""
        n = len(memo.groups)
        p = memo.p
        if self.experts == "pairs":
            return np.asarray(p.reshape(n, n, -1).sum(axis=0))
        shares = p[:n].copy()
        if len(p) > n:
            shares[0] += p[n:].sum(axis=0)
        return shares

    def unit(self) -> float:
        """What a loss scaled to [0, 1] is in the label's units."""
        raise NotImplementedError

    def interval(self, memo: Memo) -> tuple[float, float] | None:
        """Of the value; None for a classifier, and with `coverage` 0."""
        return None

    def covering(self, memo: Memo) -> list[str] | None:
        """The classes that cover; None for a regressor, and with `coverage` 0."""
        return None

    def length(self, awake: int, known: int) -> int:
        """Of a prediction in the buffer."""
        if not known:
            return 0
        return known + kernel.HEAD + awake * known + self.experts_of(awake) * self.heads_of(known)

    def plain(self, x: Mapping[str, Any], settled: bool) -> Mapping[str, Any]:
        """The features for an outside oracle: not the missing ones, nor those of another type than first seen.

        settled: nor those that have no place in the index; else new ones are kept as long as there is room.
        """
        index, kept = self.index, {}
        room = not settled and index.size <= index.max_features
        for name, value in x.items():
            if value is None:
                continue
            table: Mapping[str, Any]
            if isinstance(value, bool):
                table = index.booleans
            else:
                table = index.categories if isinstance(value, str) else index.numbers
            met = name in index.numbers or name in index.booleans or name in index.categories
            if name in table or (room and not met):
                kept[name] = value
        return kept

    def run(self, run: Run) -> None:
        self._grow()
        if self.outside is None:
            self._kernel(run, slice(None))
            return
        for i in range(len(run.ops)):
            self._one(self.outside, run, i)

    # --- the kernel

    def _kernel(self, run: Run, which: slice) -> None:
        ops, labels = run.ops[which], run.labels[which]
        if not len(ops):
            return
        state = (self._P, self._W, self._G, self._E, self._table)
        rest = (self._totals, self._moments, self._taus(), self._modes(), self._params())
        kernel.run(*run.rows, run.awake, ops, labels, run.buffer, *state, *rest)

    def _one(self, outside: "Outside", run: Run, i: int) -> None:
        """One step with oracles that the kernel does not know: it sees their z, and does the rest."""
        kind, row, start, n, _, _, offset, known, _ = run.ops[i].tolist()
        slots, x = run.awake[start : start + n].tolist(), run.outside[i]
        if kind == kernel.PREDICT and known:
            self._ask(outside, slots, x, run.buffer[offset:], known)
        self._kernel(run, slice(i, i + 1))
        if kind == kernel.BORN:
            outside.born(row)
        elif kind == kernel.OBSERVE:
            outside.observe(slots, x)
        elif kind in (kernel.LEARN, kernel.CORRECT) and run.labels[i, 1] > 0.0:
            y = float(run.labels[i, 0])
            outside.learn(slots, x, self.classes[int(y)] if self.classes else y)

    def _ask(
        self, outside: "Outside", slots: Sequence[int], x: Mapping[str, Any], into: NDArray[np.float64], known: int
    ) -> None:
        names = self.classes[:known]
        if not slots:
            mean = outside.everybody(x, names)
            into[:known] = mean if mean is not None else (1.0 / known if self.task == "classify" else 0.5)
        for i, slot in enumerate(slots):
            z = outside.predict(slot, x, names)
            if self.loss == "zero_one":
                z = np.eye(known)[int(z.argmax())]
            first = known + kernel.HEAD + i * known
            into[first : first + known] = z

    def _modes(self) -> NDArray[np.int64]:
        assert self.accounting is not None
        columns = self._columns() if self.outside is None else 1
        given = {
            "oracle": kernel.EXTERNAL if self.outside is not None else ORACLES[self.oracle],
            "loss": metas.LOSSES[self.loss],
            "meta": metas.METAS[self.meta],
            "accounting": metas.ACCOUNTINGS[self.accounting],
            "experts": metas.EXPERTS[self.experts],
            "play": metas.PLAYS[self.play],
            "standardise": self.standardise,
            "intercept": self.intercept,
            "clip": self.clip,
            "cover": self.coverage > 0.0,
            "everyone": self.groups.everyone,
            "seed": self.seed,
            "columns": columns,
        }
        return np.array([int(given[name]) for name in kernel.MODES], np.int64)

    def _params(self) -> NDArray[np.float64]:
        given = {
            "lam": self.lam,
            "eta": self.eta,
            "floor": self.floor,
            "limit": self.limit,
            "rate": metas.rate(self.meta),
            "alpha": 1.0 - self.coverage,
            "least": metas.LEAST,
        }
        return np.array([given[name] for name in kernel.PARAMS])

    def _taus(self) -> NDArray[np.float64]:
        return np.zeros(0)

    # --- shapes

    def _columns(self) -> int:
        """Of a feature vector: the slots in use, and the intercept."""
        return self.index.size - 1 + self.intercept

    def _outputs(self) -> int:
        """Of an oracle, at present."""
        if self.oracle == "softmax":
            return max(len(self.classes), 1)
        return len(self._taus()) if self.oracle == "quantile" else 1

    def heads_of(self, known: int) -> int:
        return known if self.loss == "pinball" else 1

    def experts_of(self, awake: int) -> int:
        if self.experts == "pairs":
            return awake * awake
        return awake + max(awake - 1, 0) if self.experts == "own+everyone" else awake

    def _width(self, slots: int) -> int:
        return {"own": 1, "own+everyone": 2, "pairs": slots}[self.experts]

    def _shapes(self, slots: int, columns: int, outputs: int) -> dict[str, tuple[int, ...]]:
        """Of what is kept. Only what the oracle and the meta use has a size."""
        inside = self.outside is None
        matrix = columns if inside and self.oracle in ("ridge", "vaw") else 0
        vector = columns if inside else 0
        squares = vector if self.oracle not in ("ridge", "vaw") else 0
        heads = self.heads_of(max(len(self._taus()), 1))
        return {
            "P": (slots, matrix, matrix),
            "W": (slots, vector, outputs),
            "G": (slots, squares, outputs),
            "E": (slots, self._width(slots), heads, 2 if self.meta == "anh" else 3),
            "table": (slots, len(kernel.TABLE)),
        }

    def _allocate(self, slots: int, columns: int, outputs: int) -> None:
        for name, shape in self._shapes(slots, columns, outputs).items():
            setattr(self, f"_{name}", np.zeros(shape))
        self._capacity = (slots, columns, outputs)

    def _grow(self) -> None:
        """Room for all slots, features and classes."""
        needed = (len(self.groups.names), self._columns() if self.outside is None else 0, self._outputs())
        if self._moments.shape[1] < self.index.size:
            grown = np.zeros((3, max(self.index.size, 2 * self._moments.shape[1])))
            grown[:, : self._moments.shape[1]] = self._moments
            self._moments = grown
        if all(have >= need for have, need in zip(self._capacity, needed, strict=True)):
            return
        old = {name: getattr(self, f"_{name}") for name in self._shapes(0, 0, 0)}
        had = self._capacity
        slots, columns = (-(-need // STEP) * STEP for need in needed[:2])
        self._allocate(max(had[0], slots), max(had[1], columns), max(had[2], needed[2]))
        for name, array in old.items():
            getattr(self, f"_{name}")[tuple(slice(size) for size in array.shape)] = array
        if self._P.size:
            new = np.arange(had[1], self._capacity[1])
            self._P[: had[0], new, new] = 1.0 / self.lam

    def _bear(self, slot: int, mass: float) -> None:
        """A declared group, at the start."""
        run = Run(
            (np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros(0)),
            np.zeros(0, np.int64),
            np.array([[kernel.BORN, slot, *[0] * (len(kernel.OPS) - 2)]], np.int64),
            np.array([[mass, 0.0, 0.0]]),
            np.zeros(0),
            [{}],
        )
        self._kernel(run, slice(None))
        if self.outside is not None:
            self.outside.born(slot)

    # --- state

    def state(self) -> State:
        slots = len(self.groups.names)
        shapes = self._shapes(slots, self._columns(), self._outputs())
        arrays = {
            name: getattr(self, f"_{name}")[tuple(slice(size) for size in shape)] for name, shape in shapes.items()
        }
        groups = self.groups.state()
        arrays |= {f"groups.{name}": array for name, array in groups.arrays.items()}
        arrays |= {"totals": self._totals, "moments": self._moments[:, : self.index.size]}
        arrays["features"] = self.index.state()
        document = {
            "classes": list(self.classes),
            "hashed": self.index.hashed,
            "clipped": self.clipped,
            "born": self.born,
            "groups": groups.document,
        }
        if self.outside is not None:
            outside = self.outside.state()
            arrays |= {f"outside.{name}": array for name, array in outside.arrays.items()}
            document["outside"] = outside.document
        return State(arrays, document)

    def restore(self, state: State) -> None:
        arrays, document = state
        try:
            self.index.restore(arrays["features"], int(document["hashed"]))
            self.groups.restore(arrays["groups.names"], arrays["groups.seen"], document["groups"])
            self.classes = list(document["classes"])
            self.clipped, self.born = int(document["clipped"]), int(document["born"])
            slots = len(self.groups.names)
            if self.outside is not None:
                parts = {name[8:]: array for name, array in arrays.items() if name.startswith("outside.")}
                self.outside.restore(State(parts, document["outside"]), slots)
            shapes = self._shapes(slots, self._columns(), self._outputs())
            shapes |= {"totals": (len(kernel.TOTALS),), "moments": (3, self.index.size)}
            for name, shape in shapes.items():
                if arrays[name].shape != shape:
                    raise StateError(f"{name} has the shape {arrays[name].shape}, expected {shape}")
                setattr(self, f"_{name}", np.array(arrays[name], np.float64, order="C"))
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"this is not the state of a groupwise learner: {error}") from None
        self._places = {y: c for c, y in enumerate(self.classes)}
        self._capacity = (slots, self._columns(), self._outputs())

    # --- declarations

    lam: float
    eta: float
    floor: float
    limit: float
    standardise: bool
    intercept: bool
    clip: bool
    coverage: float
    seed: int
    max_features: int
    max_features_per_event: int
    key: bytes | None

    def _check(self) -> None:
        require(self.meta in metas.METAS, "meta", f"must be one of {', '.join(metas.METAS)}")
        require(self.experts in metas.EXPERTS, "experts", f"must be one of {', '.join(metas.EXPERTS)}")
        require(self.play in metas.PLAYS, "play", 'must be "average" or "sampled"')
        known = (None, *metas.ACCOUNTINGS)
        require(self.accounting in known, "accounting", f"must be one of {', '.join(metas.ACCOUNTINGS)}")
        require(1e-12 <= self.lam <= 1e12, "lam", "must be within 1e-12 and 1e12")
        require(0.0 < self.eta < math.inf, "eta", "must be above 0")
        require(0.0 <= self.floor <= 1.0, "floor", "must be within 0 and 1")
        require(0.0 < self.limit < math.inf, "limit", "must be above 0")
        require(0.0 <= self.coverage < 1.0, "coverage", "must be 0 (none) or below 1")
        require(0 <= self.seed < 1 << 63, "seed", "must be within 0 and 2^63")
        require(1 <= self.max_features <= 4096, "max_features", "must be within 1 and 4096")
        require(self.max_features_per_event >= 1, "max_features_per_event", "must be 1 or more")

    def _outside(self) -> "Outside | None":
        if isinstance(self.oracle, str):
            return None
        if not isinstance(self.oracle, Mapping) or set(self.oracle) != {"river"}:
            raise ConfigError("oracle", "expected a name, or a table with `river`")
        from streamd.learners.groupwise.outside import Outside  # here, for river's sake

        sizes = (self.seed, self.max_features, self.max_features_per_event)
        return Outside(self.oracle["river"], self.task == "classify", *sizes, self.key)


def require(holds: bool, key: str, expected: str) -> None:
    if not holds:
        raise ConfigError(key, expected)
