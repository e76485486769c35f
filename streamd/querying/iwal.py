"""IWAL: ask with a probability that falls with the evidence, learn with its inverse as weight
(Beygelzimer, Dasgupta, Langford 2009; Beygelzimer, Hsu, Langford, Zhang 2010).

G is how much smaller the error of the best hypothesis is than that of the best one with another label here. With e
= c0 ln(k + 1) / k after k events, ask with P = 1 if G <= sqrt(e) min(1, sqrt(err + G)) + e, else with the root of
G = sqrt(e) / sqrt(P) + e / P, that is P = ((sqrt(e) + sqrt(e + 4 e G)) / (2 G))^2. Vowpal Wabbit leaves out the
parentheses around 2 G, so that there P falls to 1e-9 past the threshold and then rises with the evidence.

G is estimated as the weight of a label that would turn the prediction, per event: ln(p1 / p2) / sensitivity / k,
sensitivity being the log odds that one label moves.

>>> [round(chance(G, k=1000, c0=0.1, err=0.1), 3) for G in (0.0, 0.02, 0.05, 0.2)]
[1.0, 1.0, 0.303, 0.024]
"""

import math
from collections.abc import Sequence

import numpy as np

from streamd.errors import ConfigError
from streamd.querying.decision import RANDOM, Budget, Candidate, Decision, Draws, Strategy, numbers, refused
from streamd.snapshot import State

LEAST = 1e-6  # a probability that weights can still be formed with


def chance(G: float, k: int, c0: float, err: float) -> float:
    """P of asking after k events (k >= 1), in (0, 1]; falls with G."""
    e = c0 * math.log(k + 1) / k
    if math.sqrt(e) * min(1.0, math.sqrt(err + G)) + e >= G:
        return 1.0
    root = (math.sqrt(e) + math.sqrt(e + 4.0 * e * G)) / (2.0 * G)
    return min(1.0, max(root * root, LEAST))


class IWAL(Strategy):
    """c0: mellowness, larger asks more. sensitivity: see above. The weight of a label is 1 / P, as decided."""

    def __init__(self, budget: Budget, c0: float = 0.1, sensitivity: float = 0.1) -> None:
        if not c0 > 0:
            raise ConfigError("c0", "must be above 0")
        if not sensitivity > 0:
            raise ConfigError("sensitivity", "must be above 0")
        super().__init__(budget)
        self.c0 = c0
        self.sensitivity = sensitivity
        self._k = 0
        self._errors = 0.0  # weighted by 1 / P, of k events

    def decide(self, candidate: Candidate, draws: Draws) -> Decision:
        if not self.budget.left(candidate) or candidate.utility != candidate.utility:
            return refused(candidate)
        k = self._k + 1
        err = min(1.0, self._errors / k)
        p_ask = chance(self._gap(candidate.p, k), k, self.c0, err)
        return Decision(draws.uniform("iwal") < p_ask, RANDOM, candidate.utility, 0.0, p_ask)

    def moved(self, candidate: Candidate, decision: Decision) -> None:
        self._k += 1

    def taught(self, p: Sequence[float], label: int, decision: Decision) -> float:
        weight = 1.0 / max(decision.p_ask, LEAST)
        if len(p) == 0 or int(np.argmax(p)) != label:
            self._errors += weight
        return weight

    def _gap(self, p: Sequence[float], k: int) -> float:
        if len(p) < 2:
            return 0.0
        first, second = sorted(p)[-1:-3:-1]
        if not first > 0:
            return 0.0
        return math.log(first / max(second, 1e-12)) / self.sensitivity / k

    def state(self) -> State:
        return State({"iwal": np.array([float(self._k), self._errors])}, {})

    def restore(self, state: State) -> None:
        k, self._errors = numbers(state, "iwal", (2,)).tolist()
        self._k = int(k)
