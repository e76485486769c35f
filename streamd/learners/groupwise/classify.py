"""Task classify; see `streamd.learners.groupwise`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamd.errors import BadRecord
from streamd.learners import Label, Why
from streamd.learners.features import LONGEST
from streamd.learners.groupwise import metas
from streamd.learners.groupwise.memo import Memo
from streamd.learners.groupwise.model import Groupwise, require


class GroupwiseClassifier(Groupwise):
    """Class probabilities from the awake groups' models.

    loss: "log" (a probability counts as no less than 1e-6), "brier" (halved: within 0 and 1), or "zero_one" (the
        models vote).
    oracle: "softmax", "logistic" (two classes; a third is a BadRecord), or {river = ...}.
    max_classes: a label that would be one more is a BadRecord.
    coverage: how often the set of classes told with a prediction is to contain the truth; 0: no set.
    The other parameters are `GroupwiseRegressor`'s.
    """

    task = "classify"

    def __init__(
        self,
        groups: list[str] | dict[str, str] | None = None,
        everyone: bool = True,
        prior: dict[str, float] | None = None,
        loss: str = "log",
        oracle: Any = "softmax",
        eta: float = 0.1,
        meta: str = "anh",
        accounting: str | None = None,
        experts: str = "own",
        play: str = "average",
        floor: float = 1e-6,
        coverage: float = 0.9,
        standardise: bool = True,
        limit: float = 10.0,
        intercept: bool = True,
        max_classes: int = 100,
        max_features: int = 100,
        max_features_per_event: int = 1000,
        max_groups: int = 256,
        max_awake: int = 64,
        seed: int = 0,
        key: bytes | None = None,
    ) -> None:
        self.groups_declared = groups if groups is not None else []
        self.loss, self.oracle = loss, oracle
        require(loss in ("log", "brier", "zero_one"), "loss", 'must be "log", "brier" or "zero_one"')
        if isinstance(oracle, str):
            require(oracle in ("softmax", "logistic"), "oracle", 'must be "softmax" or "logistic"')
        require(max_classes >= 2, "max_classes", "must be 2 or more")
        self.lam, self.eta, self.floor, self.limit = 1.0, eta, floor, limit
        self.meta, self.accounting, self.experts, self.play = meta, accounting, experts, play
        self.clip, self.coverage = True, coverage
        self.standardise, self.intercept = standardise, intercept
        self.max_features, self.max_features_per_event = max_features, max_features_per_event
        self.seed, self.key = seed, key
        self._start(everyone, prior or {}, max_groups, max_awake)
        most = self.outside.max_classes if self.outside is not None else 2 if oracle == "logistic" else max_classes
        self.max_classes = min(max_classes, most)

    def numbers(self) -> int:
        return len(self.classes)

    def columns(self) -> int:
        return len(self.classes)

    def told_columns(self, known: int) -> int:
        return known

    def told(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        return numbers

    def number(self, y: Label, counted: bool) -> float:
        if not isinstance(y, str):
            raise BadRecord(f"label: {type(y).__name__} is not the name of a class")
        place = self._places.get(y)
        if place is None:
            if len(self.classes) >= self.max_classes:
                raise BadRecord(f"label: a new class, but there are {self.max_classes} already")
            if len(y) > LONGEST:
                raise BadRecord(f"label: a class name of {len(y)} characters, at most {LONGEST}")
            place = self._places[y] = len(self.classes)
            self.classes.append(y)
        return float(place)

    def reasons(self, memo: Memo, names: Sequence[str]) -> Why:
        best = int(memo.numbers.argmax())
        share = self.shares(memo)[:, 0] if len(names) else np.zeros(0)
        order = np.argsort(-share, kind="stable")
        return [[names[i], float(share[i]), float(memo.z[i, best])] for i in order.tolist()]

    def unit(self) -> float:
        return metas.rate("bayes") if self.loss == "log" else 1.0

    def covering(self, memo: Memo) -> list[str] | None:
        """The classes whose probability is large enough for the set to cover the truth as often as declared."""
        if not self.coverage or not len(memo.numbers):
            return None
        p = memo.numbers
        enough = [c for c in np.argsort(-p, kind="stable").tolist() if 1.0 - p[c] <= memo.half_width]
        return [self.classes[c] for c in enough]
