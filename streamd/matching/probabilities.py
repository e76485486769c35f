"""The probability that an attempt succeeds: from the event, or learned from outcomes.

    event      the edge says it
    beta       successes and failures of each resource, and of each (resource, kind of arrival), shrunk towards the
               resource's mean: (shrinkage mean + s) / (shrinkage + s + f); the resource's own starts at the prior
    logistic   sigmoid of hashed weights of the arrival's features, each alone and crossed with the resource;
    AdaGrad

Outcomes fade with `half_life` (event time). What is learned lies within `floor` and `ceiling`. Exploration scores
an
edge with another number than its load is charged with (always the mean): "thompson" draws from the posterior by
hash of (seed, arrival, resource), "ucb" adds `width` deviations; "epsilon" lets that share of the arrivals choose
evenly. For scarce capacity the note's measurements favour "none": balance explores by itself.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamd.errors import BadRecord, ConfigError
from streamd.kernels import matching_chances as kernel
from streamd.kernels import matching_ids as ids
from streamd.matching.names import Names
from streamd.snapshot import State

Floats = NDArray[np.float64]
Codes = tuple[bytes, bytes]  # the features of an arrival as the kernel takes them: uint64 and float64

EXPLORE = {"none": kernel.NONE, "epsilon": kernel.NONE, "thompson": kernel.THOMPSON, "ucb": kernel.UCB}
NO_CODES: Codes = (b"", b"")
MAX_FEATURES = 1000


class Source(Struct, frozen=True):
    """Where p comes from; see the module. Times in milliseconds. Raises ConfigError."""

    kind: Literal["event", "beta", "logistic"] = "event"
    prior: tuple[float, float] = (1.0, 1.0)
    shrinkage: float = 4.0
    half_life: int = 0
    floor: float = 0.0
    ceiling: float = 1.0
    explore: Literal["none", "thompson", "ucb", "epsilon"] = "none"
    width: float = 1.0
    epsilon: float = 0.05
    eta: float = 0.1
    l2: float = 1e-4
    bits: int = 16
    max_kinds: int = 1000
    max_pairs: int = 1 << 20

    def __post_init__(self) -> None:
        _require(self.kind in ("event", "beta", "logistic"), "kind", "expected event, beta or logistic")
        _require(self.explore in EXPLORE, "explore", f"expected one of {', '.join(EXPLORE)}")
        _require(all(0.0 < x <= 1e9 for x in self.prior), "prior", "both must be above 0")
        _require(0.0 <= self.shrinkage <= 1e9, "shrinkage", "must be 0 or more")
        _require(self.half_life >= 0, "half_life", "must be 0 (none) or more")
        _require(0.0 <= self.floor <= self.ceiling <= 1.0, "floor", "floor and ceiling must be within 0 and 1")
        _require(0.0 <= self.width <= 100.0, "width", "must be within 0 and 100")
        _require(0.0 <= self.epsilon <= 1.0, "epsilon", "must be within 0 and 1")
        _require(0.0 < self.eta <= 1e3 and 0.0 <= self.l2 <= 1e3, "eta", "eta must be above 0, l2 0 or more")
        _require(4 <= self.bits <= 26, "bits", "must be within 4 and 26")
        _require(1 <= self.max_kinds < kernel.KINDS, "max_kinds", "must be within 1 and 65535")
        _require(16 <= self.max_pairs <= 1 << 28, "max_pairs", "must be within 16 and 2^28")
        explores = self.kind != "event" or self.explore in ("none", "epsilon")
        _require(explores, "explore", "probabilities given by the event cannot be explored")


class Priced(NamedTuple):
    """Of each edge: the probability (what its load is charged with) and what it is scored with."""

    p: Floats
    q: Floats


class Chances:
    """What has been learned of the probabilities of one pool."""

    def __init__(self, source: Source, names: Names) -> None:
        self.source = source
        self.kinds: dict[str, int] = {}
        self._names = names
        self._settings = np.array(
            [*source.prior, source.shrinkage, source.half_life, source.floor, source.ceiling, source.width],
            np.float64,
        )
        self._explore = EXPLORE[source.explore]
        learns = source.kind == "beta"
        self._counts = np.zeros((16 if learns else 0, 3))
        self._pair = np.zeros(64, np.int64)
        self._pair_counts = np.zeros((64, 3))
        self._pairs = 0
        size = 1 << source.bits if source.kind == "logistic" else 0
        self._W, self._G = np.zeros(size), np.zeros(size)

    @property
    def draws(self) -> bool:
        """Whether `price` needs the arrival's hash."""
        return self._explore == kernel.THOMPSON

    def codes(self, features: Mapping[str, Any] | None) -> Codes:
        """An arrival's features, hashed; an intercept among them. Raises BadRecord."""
        if self.source.kind != "logistic":
            return NO_CODES
        features = features or {}
        if len(features) > MAX_FEATURES:
            raise BadRecord(f"features: {len(features)}, at most {MAX_FEATURES}")
        codes, values = [_hash("")], [1.0]
        for name, value in features.items():
            if value is None:
                continue
            if isinstance(value, str):
                codes.append(_hash(f"{name}={value}"))
                values.append(1.0)
                continue
            if not isinstance(value, bool | int | float) or not -1e6 <= value <= 1e6:
                raise BadRecord(f"features.{name}: expected a string, a boolean or a number within 1e6")
            codes.append(_hash(name))
            values.append(float(value))
        return np.array(codes, np.uint64).tobytes(), np.array(values).tobytes()

    def price(
        self, slots: NDArray[np.int64], given: Floats, kind: str | None, codes: Codes, now: int, chance: np.uint64
    ) -> Priced:
        """(d,) probabilities of the edges to these slots. given: what the event says. Changes nothing."""
        if self.source.kind == "event":
            if self.source.floor > 0.0 or self.source.ceiling < 1.0:
                given = np.clip(given, self.source.floor, self.source.ceiling)
            return Priced(given, given)
        p, q = np.empty(len(slots)), np.empty(len(slots))
        names, tail = self._names, (self._explore, chance)
        texts = (names.arena, names.start, names.length)
        if self.source.kind == "beta":
            self._grow()
            number = -1 if kind is None else self.kinds.get(kind, -1)
            tables = (self._counts, self._pair, self._pair_counts, now, self._settings)
            kernel.beta(slots, number, *tables, *tail, *texts, p, q)
        else:
            uint, floats = np.frombuffer(codes[0], np.uint64), np.frombuffer(codes[1], np.float64)
            kernel.logistic(slots, uint, floats, self._W, self._G, self._settings, *tail, *texts, p, q)
        return Priced(p, q)

    def learn(self, slot: int, kind: str | None, codes: Codes, success: bool, now: int) -> None:
        """An outcome of an attempt on this slot."""
        if self.source.kind == "beta":
            self._count(slot, kind, success, 1.0, now)
        elif self.source.kind == "logistic":
            names = self._names
            uint, floats = np.frombuffer(codes[0], np.uint64), np.frombuffer(codes[1], np.float64)
            texts = (names.arena, names.start, names.length)
            kernel.logistic_learn(
                slot, uint, floats, success, self._W, self._G, self.source.eta, self.source.l2, *texts
            )

    def correct(self, slot: int, kind: str | None, codes: Codes, now: int) -> None:
        """What was learned as a failure was a success. Gradient steps are not taken back: it is learned on top."""
        if self.source.kind == "beta":
            self._count(slot, kind, False, -1.0, now)
        self.learn(slot, kind, codes, True, now)

    def forget(self, slot: int) -> None:
        """The slot gets another resource."""
        if slot < len(self._counts):
            self._counts[slot] = 0.0
        if self.source.kind == "beta" and self._pairs:
            mine = (self._pair != 0) & ((self._pair - 1) // kernel.KINDS == slot)
            if mine.any():
                self._pair[mine], removed = 0, int(mine.sum())
                self._pairs -= removed
                self._rehash(len(self._pair))

    def state(self) -> State:
        """Live arrays; the caller copies. Pairs in order of their code, so that equal states are equal bytes."""
        if self.source.kind == "beta":
            self._grow()  # a replay prices nothing, so it may not have seen those that joined last
        order = np.argsort(self._pair, kind="stable")
        order = order[self._pair[order] != 0]
        arrays = {
            "counts": self._counts[: self._names.size],
            "pair": self._pair[order],
            "pair_counts": self._pair_counts[order],
            "W": self._W,
            "G": self._G,
        }
        return State(arrays, {"kinds": dict(self.kinds)})

    def restore(self, state: State) -> None:
        self.kinds = dict(state.document["kinds"])
        self._counts = np.array(state.arrays["counts"])
        self._W, self._G = np.array(state.arrays["W"]), np.array(state.arrays["G"])
        pair, counts = np.array(state.arrays["pair"]), np.array(state.arrays["pair_counts"])
        self._pairs = len(pair)
        size = 64
        while size < 2 * len(pair):
            size *= 2
        self._pair, self._pair_counts = np.zeros(size, np.int64), np.zeros((size, 3))
        kernel.rehash(pair, counts, self._pair, self._pair_counts)

    def _count(self, slot: int, kind: str | None, success: bool, weight: float, now: int) -> None:
        self._grow()
        number = -1 if kind is None or self._pairs >= self.source.max_pairs else self._kind(kind)
        tables = (self._counts, self._pair, self._pair_counts)
        self._pairs += kernel.learn(slot, number, success, weight, *tables, now, self._settings)
        if self._pairs * 3 > len(self._pair) * 2:
            self._rehash(len(self._pair) * 2)

    def _kind(self, kind: str) -> int:
        """Its number; -1 for one too many: the resource's own mean serves."""
        if kind not in self.kinds and len(self.kinds) < self.source.max_kinds:
            self.kinds[kind] = len(self.kinds)
        return self.kinds.get(kind, -1)

    def _rehash(self, size: int) -> None:
        pair, counts = np.zeros(size, np.int64), np.zeros((size, 3))
        kernel.rehash(self._pair, self._pair_counts, pair, counts)
        self._pair, self._pair_counts = pair, counts

    def _grow(self) -> None:
        if len(self._counts) < self._names.size:
            new = np.zeros((len(self._names.start), 3))
            new[: len(self._counts)] = self._counts
            self._counts = new


def _hash(text: str) -> int:
    raw = np.frombuffer(text.encode(), np.uint8)
    return int(ids.key(raw, 0, len(raw), 0))


def _require(holds: bool, key: str, expected: str) -> None:
    if not holds:
        raise ConfigError(key, expected)
