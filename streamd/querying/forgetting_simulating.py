"""Forgetting and simulating: utilities for labels that come after a known delay (Pham, Kottke, Krempl, Sick 2022).

When the label of an event comes, the model will have forgotten what is older than its window and will know the
labels that are on their way now. So the utility is taken from a model of that moment:

    forgetting   fitted on labels whose event is no older than (arrival of this label - w_train)
    simulating   with the labels on their way put in as the model of now expects them: "bagging" draws them K times
                 and averages the utilities, "fuzzy" puts in every class, weighted by its probability

It fits a model per event, so it is for low rates and for comparison; a pending discount (`auto`) is the cheap
form.
"""

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from streamd.errors import ConfigError
from streamd.querying.decision import Candidate, Decision, Draws, Strategy, numbers
from streamd.querying.utilities import worth
from streamd.snapshot import State, merge, split

Floats = NDArray[np.float64]
Fit = Callable[[Floats, Floats, Floats], Floats]
"""(n, d) events, (n, C) weights of their classes, (d,) an event -> (C,) its label mass."""

LEAST = 0.001  # a class without any weight would never be simulated


def parzen(gamma: float) -> Fit:
    """A kernel density model: the label mass near an event is sum_i exp(-gamma ||x - x_i||^2) weight_i."""

    def mass(X: Floats, weights: Floats, x: Floats) -> Floats:
        near = np.exp(-gamma * ((X - x) ** 2).sum(axis=1)) if len(X) else np.zeros(0)
        return near @ weights if len(X) else np.zeros(weights.shape[1])

    return mass


class ForgettingSimulating(Strategy):
    """strategy: decides on the utility given to it. fit: the model. classes: how many.

    delay: between an event and its label, in events; w_train: events the model remembers.
    simulate: "fuzzy", "bagging" or "none"; K: how often labels are drawn. The sketch x must be there.
    """

    def __init__(
        self,
        strategy: Strategy,
        fit: Fit,
        classes: int,
        delay: int,
        w_train: int = 500,
        simulate: str = "fuzzy",
        K: int = 2,
    ) -> None:
        if simulate not in ("fuzzy", "bagging", "none"):
            raise ConfigError("simulate", 'must be "fuzzy", "bagging" or "none"')
        if not 0 <= delay < w_train:
            raise ConfigError("delay", "must be below w_train: else a label comes for what is forgotten")
        super().__init__(strategy.budget)
        self.strategy = strategy
        self.fit = fit
        self.classes = classes
        self.delay = delay
        self.w_train = w_train
        self.simulate = simulate
        self.K = K
        self._t = 0
        self._labelled: deque[tuple[int, Floats, int]] = deque()
        self._asked: deque[tuple[int, Floats]] = deque()
        self._unanswered = False  # the query closed last had no label

    def decide(self, candidate: Candidate, draws: Draws) -> Decision:
        if candidate.x is None or candidate.utility != candidate.utility:
            return self.strategy.decide(candidate, draws)
        return self.strategy.decide(candidate._replace(utility=self._worth(candidate.x, draws)), draws)

    def moved(self, candidate: Candidate, decision: Decision) -> None:
        if decision.ask and candidate.x is not None:
            self._asked.append((self._t, candidate.x))
        self._t += 1
        while self._labelled and self._labelled[0][0] < self._t - self.w_train:
            self._labelled.popleft()
        while self._asked and self._asked[0][0] < self._t - self.w_train:
            self._asked.popleft()

    def apply(self, candidate: Candidate, decision: Decision) -> int:
        self.moved(candidate, decision)
        return self.strategy.apply(candidate, decision)

    def taught(self, p: Sequence[float], label: int, decision: Decision) -> float:
        """Labels come in the order in which they were asked for: the delay is known and constant."""
        self._unanswered = False
        if self._asked and label < self.classes:
            at, x = self._asked.popleft()
            self._labelled.append((at, x, label))
        return self.strategy.taught(p, label, decision)

    def closed(self) -> None:
        """Where no label followed the last time, that query, the oldest, expired."""
        if self._unanswered and self._asked:
            self._asked.popleft()
        self._unanswered = True
        self.strategy.closed()

    def alarm(self) -> None:
        self.strategy.alarm()

    def _worth(self, x: Floats, draws: Draws) -> float:
        oldest = self._t + self.delay - self.w_train
        kept = [(z, label) for at, z, label in self._labelled if at >= oldest]
        X = np.array([z for z, _ in kept]).reshape(len(kept), len(x))
        weights = np.zeros((len(kept), self.classes))
        weights[np.arange(len(kept)), [label for _, label in kept]] = 1.0
        pending = [z for at, z in self._asked if at >= oldest]
        if not pending or self.simulate == "none":
            return self._uncertainty(self.fit(X, weights, x))
        Z = np.array(pending)
        expected = np.array([_spread(self.fit(X, weights, z)) for z in Z])
        both = np.concatenate((X, Z))
        if self.simulate == "fuzzy":
            return self._uncertainty(self.fit(both, np.concatenate((weights, expected)), x))
        found = []
        for k in range(self.K):
            drawn = np.zeros_like(expected)
            for i, p in enumerate(expected):
                u = draws.uniform(f"simulate/{k}/{i}")
                drawn[i, min(int((p.cumsum() < u).sum()), self.classes - 1)] = 1.0
            found.append(self._uncertainty(self.fit(both, np.concatenate((weights, drawn)), x)))
        return float(np.mean(found))

    def _uncertainty(self, mass: Floats) -> float:
        p: list[float] = _spread(mass).tolist()
        return worth(p)

    def state(self) -> State:
        rows = [(float(at), float(label), *x) for at, x, label in self._labelled]
        rows += [(float(at), -1.0, *x) for at, x in self._asked]
        width = len(rows[0]) if rows else 2
        kept = State(
            {
                "rows": np.array(rows).reshape(len(rows), width),
                "t": np.array([float(self._t), float(self._unanswered)]),
            },
            {},
        )
        return merge({"own": kept, "strategy": self.strategy.state()})

    def restore(self, state: State) -> None:
        parts = split(state)
        rows = numbers(parts["own"], "rows", (-1, -1))
        t, unanswered = numbers(parts["own"], "t", (2,)).tolist()
        self._t, self._unanswered = int(t), bool(unanswered)
        self._labelled = deque((int(row[0]), row[2:], int(row[1])) for row in rows if row[1] >= 0)
        self._asked = deque((int(row[0]), row[2:]) for row in rows if row[1] < 0)
        self.strategy.restore(parts["strategy"])


def _spread(mass: Floats) -> Floats:
    """Probabilities, none of them 0."""
    raised = mass + LEAST
    spread: Floats = raised / raised.sum()
    return spread
