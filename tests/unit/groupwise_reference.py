"""Groupwise learning in plain numpy, to be read: what the compiled learner is measured against.

One event at a time, dictionaries of groups, textbook formulas; labels come before the next event.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Ridge:
    """theta = (lam I + sum x x')^-1 sum y x, by Sherman-Morrison; `vaw` puts the present x into the matrix."""

    def __init__(self, d: int, lam: float, vaw: bool) -> None:
        self.P, self.b, self.vaw = np.eye(d) / lam, np.zeros(d), vaw

    def predict(self, x: NDArray[Any]) -> float:
        z = float(x @ self.P @ self.b)
        return z / (1.0 + float(x @ self.P @ x)) if self.vaw else z

    def learn(self, x: NDArray[Any], y: float) -> None:
        Px = self.P @ x
        self.P -= np.outer(Px, Px) / (1.0 + x @ Px)
        self.b += y * x


class Played(NamedTuple):
    z: NDArray[np.float64]
    p: NDArray[np.float64]
    value: float
    fallback: bool


def phi(R: float, C: float) -> float:
    return float(np.exp(max(R, 0.0) ** 2 / (3 * C))) if C > 0 else 1.0


def hedge(R: float, C: float) -> float:
    """AdaNormalHedge's weight."""
    return 0.5 * (phi(R + 1, C + 1) - phi(R - 1, C + 1))


class Reference:
    """meta: anh, aa, ewa or mlpoly, squared loss. q: prior by group. An expert is (group, the model it plays)."""

    def __init__(
        self,
        d: int,
        q: Sequence[float],
        lam: float = 1.0,
        vaw: bool = False,
        meta: str = "anh",
        accounting: str = "expected",
        experts: str = "own",
        floor: float = 0.0,
        clip: bool = True,
    ) -> None:
        self.oracles = [Ridge(d, lam, vaw) for _ in q]
        self.q, self.meta, self.accounting, self.experts = q, meta, accounting, experts
        self.floor, self.clip = floor, clip
        self.R: dict[tuple[int, int], float] = {}
        self.C: dict[tuple[int, int], float] = {}
        self.V: dict[tuple[int, int], float] = {}
        self.w: dict[tuple[int, int], float] = {}
        self.largest = 0.0

    def play(self, x: NDArray[Any], awake: Sequence[int]) -> Played:
        z = np.array([self.oracles[g].predict(x) for g in awake])
        z = np.clip(z, 0, 1) if self.clip else z
        pairs = self._pairs(len(awake))
        named = [(awake[g], awake[m]) for g, m in pairs]
        prior = np.array([self._prior(e) for e in named])
        weight = np.array([self._weight(e) for e in named])
        fallback = not weight.any()
        weight = prior * (weight + (self.floor if self.meta == "anh" else 0.0))
        p = weight / weight.sum() if weight.any() else prior / prior.sum()
        models = z[[m for _, m in pairs]]
        return Played(z, p, self._substitute(p, models) if self.meta == "aa" else float(p @ models), fallback)

    def learn(self, x: NDArray[Any], awake: Sequence[int], y: float, played: Played) -> None:
        pairs = self._pairs(len(awake))
        models = played.z[[m for _, m in pairs]]
        losses = (models - y) ** 2
        expected = (played.value - y) ** 2 if self.accounting == "mixture" else played.p @ losses
        rate = {"aa": 2.0, "ewa": 0.5}.get(self.meta, 0.0)
        mix = played.p @ np.exp(-rate * losses)
        for (g, m), z, loss in zip(pairs, models, losses, strict=True):
            e = (awake[g], awake[m])
            gradient = (played.value - y) * (played.value - z)
            r = gradient if self.accounting == "gradient" else expected - loss
            self.R[e] = self.R.get(e, 0.0) + r
            self.C[e] = self.C.get(e, 0.0) + abs(r)
            self.V[e] = self.V.get(e, 0.0) + r * r
            self.w[e] = self.w.get(e, 1.0) * np.exp(-rate * loss) / mix
            self.largest = max(self.largest, r * r)
        for g in awake:
            self.oracles[g].learn(x, y)

    def _pairs(self, n: int) -> list[tuple[int, int]]:
        if self.experts == "pairs":
            return [(g, m) for g in range(n) for m in range(n)]
        own = [(g, g) for g in range(n)]
        return own + [(g, 0) for g in range(1, n)] if self.experts == "own+everyone" else own

    def _prior(self, e: tuple[int, int]) -> float:
        return self.q[e[0]] * (self.q[e[1]] if self.experts == "pairs" else 1.0)

    def _weight(self, e: tuple[int, int]) -> float:
        R, C = self.R.get(e, 0.0), self.C.get(e, 0.0)
        if self.meta == "anh":
            return hedge(R, C)
        if self.meta == "mlpoly":
            return max(R, 0.0) / (self.V.get(e, 0.0) + self.largest) if R > 0 else 0.0
        return self.w.get(e, 1.0)

    @staticmethod
    def _substitute(p: NDArray[Any], z: NDArray[Any]) -> float:
        def g(y: float) -> float:
            return float(-np.log(p @ np.exp(-2.0 * (z - y) ** 2)) / 2.0)

        return 0.5 + (g(0.0) - g(1.0)) / 2.0
