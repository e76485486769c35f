"""What a label is worth, by the name it has in the configuration: one object with what it must remember.

    least_confident, margin, entropy   of the probabilities predicted
    ss3                                1 - (cv1 - cv2) / (cv1 + cv2); of several labels, of the two between which
                                       the line is drawn
    expected_gain                      probabilistic active learning, k = n p, n the labels asked for in the same
                                       hashed neighbourhood
    expected_model_change              of a linear model, by the length of the event's sketch
    vote_entropy, mean_kl, variance    the disagreement of a committee of K: over ln K; as 1 - exp(-KL); as it is
    d_optimal, a_optimal               the leverage of the event's sketch: for regression

With beta above 0 the utility is weighted by the share of recent events in the event's hashed neighbourhood, of
the largest such share, to the power of beta.

>>> measure = Measure("margin")
>>> round(measure.of([0.5, 0.3, 0.2]), 3), Measure("ss3").of([0.25, 0.25, 0.25, 0.25])
(0.8, 1.0)
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from streamd.errors import ConfigError
from streamd.querying import committee, utilities
from streamd.querying.decision import numbers
from streamd.querying.gain import expected_gain
from streamd.querying.leverage import Leverage
from streamd.snapshot import State, merge, split

Floats = NDArray[np.float64]

FADING = 0.999  # of the density, per event
FEW = 10  # classes up to which the gain looks two labels ahead

_OF_P: Mapping[str, Callable[[Sequence[float]], float]] = {
    "least_confident": utilities.worth,
    "margin": lambda p: float(utilities.margin([p])[0]),
    "entropy": lambda p: float(utilities.entropy([p])[0]),
    "ss3": utilities.ss3_worth,
}
OF_MEMBERS = ("vote_entropy", "mean_kl", "variance")
_LEVERAGE = {"d_optimal": "D", "a_optimal": "A"}

OF_CLASSES = (*_OF_P, "expected_gain", "expected_model_change", "vote_entropy", "mean_kl")
OF_VALUES = (*_LEVERAGE, "variance")


class Measure:
    """name: see above. beta: of the density, 0 for none. dimensions, buckets: of the sketch."""

    def __init__(self, name: str, beta: float = 0.0, dimensions: int = 32, buckets: int = 128) -> None:
        if name not in (*OF_CLASSES, *OF_VALUES):
            raise ConfigError("utility", f"expected one of {', '.join((*OF_CLASSES, *OF_VALUES))}")
        if not 0.0 <= beta <= 100.0:
            raise ConfigError("density", "must be within 0 and 100")
        self.name = name
        self.beta = beta
        self.compares = beta > 0 or name in _LEVERAGE or name.startswith("expected")
        """Whether it needs the event's sketch and neighbourhood."""
        self.polls = name in OF_MEMBERS
        """Whether it needs what the members of a committee predict."""
        self._plain = _OF_P.get(name)
        self._leverage = Leverage(dimensions, _LEVERAGE[name]) if name in _LEVERAGE else None
        self._asked = np.zeros(buckets)
        self._dense = np.zeros(buckets)

    def of_run(self, rows: Floats, known: Sequence[int]) -> Floats | None:
        """The utilities of predictions, (n,), each as `of` tells it; None where it needs more than they are.

        rows: (n, C); known: how many of the columns are predicted.
        """
        plain = self._plain
        if plain is None or self.beta:
            return None
        least = min(known)
        if plain is utilities.worth and 2 <= least == max(known):
            return utilities.worths(rows[:, :least])
        return np.array([plain(p[:n]) for p, n in zip(rows.tolist(), known, strict=True)])

    def of(
        self,
        p: Sequence[float],
        x: Floats | None = None,
        near: Sequence[int] = (),
        members: Floats | None = None,
        chosen: Sequence[int] | None = None,
    ) -> float:
        """Pure. p: as predicted. x, near: of the sketch, where `compares`. members: (K, C) probabilities, or
        (K, 1) values, where `polls`; without any the utility is that of an ignorant model, 1. chosen: the classes
        decided on, of a model that may name several: `ss3` is then that of the two next to the boundary."""
        if chosen is not None:
            p = utilities.boundary(p, chosen)
        plain = self._plain
        worth = plain(p) if plain is not None else self._worth(p, x, near, members)
        return worth * self._density(near) ** self.beta if self.beta else worth

    def _worth(self, p: Sequence[float], x: Floats | None, near: Sequence[int], members: Floats | None) -> float:
        if self.polls:
            return self._disagreement(members)
        assert x is not None
        if self._leverage is not None:
            return self._leverage.worth(x)
        if len(p) < 2:
            return 1.0
        if self.name == "expected_model_change":
            return float(utilities.expected_model_change([p], [math.sqrt(1.0 + float(x @ x))])[0])
        mass = min((float(self._asked[bucket]) for bucket in near), default=0.0)
        row, _ = utilities.repaired([p])
        return float(expected_gain(row * mass, m_max=2 if len(p) <= FEW else 1)[0])

    def _disagreement(self, members: Floats | None) -> float:
        if members is None or len(members) < 2 or not members.size:
            return 1.0
        if self.name != "variance" and members.shape[1] < 2:
            return 1.0  # they cannot disagree yet
        if self.name == "variance":
            return float(committee.variance(members)[0])
        if self.name == "mean_kl":
            return 1.0 - math.exp(-float(committee.mean_kl(members[:, None, :])[0]))
        return float(committee.vote_entropy(members[:, None, :])[0]) / math.log(len(members))

    def _density(self, near: Sequence[int]) -> float:
        peak = self._dense.max()
        if not near or peak <= 0:
            return 1.0
        return min(float(self._dense[bucket]) for bucket in near) / float(peak)

    def passed(self, x: Floats | None, near: Sequence[int], asked: bool) -> None:
        """An event has gone by. The only mutator."""
        if self.beta:
            self._dense *= FADING
            self._dense[list(near)] += 1.0
        if asked and self.compares and x is not None:
            self._asked[list(near)] += 1.0
            if self._leverage is not None:
                self._leverage.asked(x)

    def state(self) -> State:
        own = State({"asked": self._asked, "dense": self._dense} if self.compares else {}, {})
        parts = {"own": own}
        if self._leverage is not None:
            parts["leverage"] = self._leverage.state()
        return merge(parts)

    def restore(self, state: State) -> None:
        parts = split(state)
        if self.compares and parts["own"].arrays:
            self._asked = numbers(parts["own"], "asked", self._asked.shape)
            self._dense = numbers(parts["own"], "dense", self._dense.shape)
        if self._leverage is not None and "leverage" in parts:
            self._leverage.restore(parts["leverage"])
