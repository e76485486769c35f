"""Task regress; see `streamd.learners.groupwise`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamd.learners import Label, Why
from streamd.learners.features import check_number
from streamd.learners.groupwise.memo import Memo
from streamd.learners.groupwise.model import Groupwise, require


class GroupwiseRegressor(Groupwise):
    """A value predicted from the awake groups' models, nearly as good on every group as that group's own.

    range: (low, high) of the labels; a label outside is counted in `clipped` and learned as the nearer end.
    groups: predicates, see `predicates`; as a table, name = predicate. everyone: a group of every event.
    prior: mass by group, else 1.
    loss: "squared", or "pinball" at `quantiles`; the value told is the quantile nearest to 1/2.
    oracle: "ridge" or "vaw" (squared), "quantile" (pinball), or {river = ...}; lam: ridge; eta: AdaGrad's rate.
    meta, accounting, experts, play, floor: see `metas`.
    clip: hold models' predictions within the range.
    coverage: of the intervals, see `intervals`; 0 for none.
    standardise, limit: numbers to mean 0 and deviation 1, as far as known at the time, held within `limit`; where
        a feature's scale is known beforehand, or drifts, scale it before and say false. intercept: a column of 1.
    max_features: columns; further features share one by hash, counted in `index.hashed`.
    max_groups, max_awake: see `groups`. seed: for sampled play.
    All raise ConfigError with the key when they do not fit.
    """

    task = "regress"

    def __init__(
        self,
        range: tuple[float, float],
        groups: list[str] | dict[str, str] | None = None,
        everyone: bool = True,
        prior: dict[str, float] | None = None,
        loss: str = "squared",
        quantiles: list[float] | None = None,
        oracle: Any = None,
        lam: float = 1.0,
        eta: float = 0.1,
        meta: str = "anh",
        accounting: str | None = None,
        experts: str = "own",
        play: str = "average",
        floor: float = 1e-6,
        clip: bool = True,
        coverage: float = 0.9,
        standardise: bool = True,
        limit: float = 10.0,
        intercept: bool = True,
        max_features: int = 100,
        max_features_per_event: int = 1000,
        max_groups: int = 256,
        max_awake: int = 64,
        seed: int = 0,
        key: bytes | None = None,
    ) -> None:
        self.range = (float(range[0]), float(range[1]))
        self.groups_declared = groups if groups is not None else []
        self.loss, self.quantiles = loss, quantiles if quantiles is not None else [0.05, 0.5, 0.95]
        fitting = {"squared": ("ridge", "vaw"), "pinball": ("quantile",)}
        require(loss in fitting, "loss", 'must be "squared" or "pinball"')
        self.oracle = oracle if oracle is not None else fitting[loss][0]
        if isinstance(self.oracle, str):
            require(self.oracle in fitting[loss], "oracle", f"{loss} loss has {' and '.join(fitting[loss])}")
        else:
            require(loss == "squared", "oracle", "river models predict one value: squared loss")
        low, high = self.range
        require(-1e100 < low < high < 1e100, "range", "must be two numbers, the first below the second")
        ordered = all(a < b for a, b in zip(self.quantiles, self.quantiles[1:], strict=False))
        inside = all(0.0 < tau < 1.0 for tau in self.quantiles)
        require(len(self.quantiles) > 0 and ordered and inside, "quantiles", "must ascend between 0 and 1")
        self._quantiles = np.array(self.quantiles if loss == "pinball" else [], np.float64)
        self._centre = int(np.abs(self._quantiles - 0.5).argmin()) if loss == "pinball" else 0
        self.lam, self.eta, self.floor, self.limit = lam, eta, floor, limit
        self.meta, self.accounting, self.experts, self.play = meta, accounting, experts, play
        self.clip, self.coverage = clip, coverage
        self.standardise, self.intercept = standardise, intercept
        self.max_features, self.max_features_per_event = max_features, max_features_per_event
        self.seed, self.key = seed, key
        self._start(everyone, prior or {}, max_groups, max_awake)

    def numbers(self) -> int:
        return max(len(self._quantiles), 1)

    def columns(self) -> int:
        return 1

    def told_columns(self, known: int) -> int:
        return 1

    def told(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._scaled(numbers[self._centre : self._centre + 1])

    def quantiles_of(self, memo: bytes) -> NDArray[np.float64]:
        """(K,) the quantiles a memo holds, in ascending order; with squared loss (1,) the value."""
        return self._scaled(self.read(memo).numbers)

    def number(self, y: Label, counted: bool) -> float:
        value = check_number("label", y)
        low, high = self.range
        if counted and not low <= value <= high:
            self.clipped += 1
        return min(max((value - low) / (high - low), 0.0), 1.0)

    def reasons(self, memo: Memo, names: Sequence[str]) -> Why:
        share = self.shares(memo)[:, min(self._centre, memo.p.shape[1] - 1)] if len(names) else np.zeros(0)
        predicted = self._scaled(memo.z[:, self._centre]) if len(names) else np.zeros(0)
        order = np.argsort(-share, kind="stable")
        return [[names[i], float(share[i]), float(predicted[i])] for i in order.tolist()]

    def unit(self) -> float:
        width = self.range[1] - self.range[0]
        return width * width if self.loss == "squared" else width

    def interval(self, memo: Memo) -> tuple[float, float] | None:
        """Held within the range; a negative half-width gives the empty interval's middle."""
        if not self.coverage or not len(memo.numbers):
            return None
        ends = np.array([memo.numbers[0] - memo.half_width, memo.numbers[-1] + memo.half_width])
        if ends[0] > ends[1]:
            ends[:] = ends.mean()
        low, high = self._scaled(np.clip(ends, 0.0, 1.0)).tolist()
        return low, high

    def _taus(self) -> NDArray[np.float64]:
        return self._quantiles

    def _scaled(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        low, high = self.range
        return np.asarray(low + numbers * (high - low))
