"""The label loop over a recorded, fully labelled stream: what it would have cost and brought.

Each event is predicted (and judged), then decided on; its label, if asked for, comes `delay` events later: flipped
to another class with probability `noise`, never with probability `silent`. Nothing is learned that was not asked
for. Before the first label the guess is the class whose name comes first. One event is one second of event time.

>>> class Majority:
...     def __init__(self): self.classes, self.counts = [], {}
...     def predict(self, x):
...         total = sum(self.counts.values())
...         return [self.counts[y] / total for y in self.classes]
...     def learn(self, x, y, weight):
...         if y not in self.counts: self.classes.append(y)
...         self.counts[y] = self.counts.get(y, 0) + weight
>>> from streamd.querying import Keyed, strategy
>>> from streamd.querying.budgets import TokenBucket
>>> stream = [({}, "a" if i % 4 else "b") for i in range(1000)]
>>> asker = Asker(strategy("periodic", TokenBucket(0.1)), Keyed(1, "doc"), rho=0.0)
>>> result = simulate(stream, Majority(), asker)
>>> result.asked, result.accuracy > 0.7
(105, True)
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamd.querying.asker import Asker
from streamd.querying.decision import Candidate
from streamd.querying.draws import Keyed
from streamd.querying.measures import Measure
from streamd.querying.sketch import Sketch

SECOND = 1000  # milliseconds between two events


class Model(Protocol):
    """A learner, one event at a time."""

    @property
    def classes(self) -> Sequence[str]:
        """In the order of `predict`."""

    def predict(self, x: Any) -> list[float]:
        """Probabilities of the classes known; this is also where scales may be learned from x."""

    def learn(self, x: Any, y: str, weight: float) -> None: ...


@runtime_checkable
class Jury(Model, Protocol):
    """A model with a committee."""

    def members(self) -> NDArray[np.float64] | None:
        """(K, C) probabilities of its members, of the event predicted last; None where there is none."""


class Point(NamedTuple):
    """Of the curve: after so many events and labels, the accuracy from the point before to this."""

    events: int
    labels: int
    accuracy: float


class Result(Struct, frozen=True):
    """Shares are of events. accuracy, kappa: over all events, truth known; weighted, holdout: what the loop itself
    could tell. ahead: the largest number of labels by which the spending was ahead of the budget's share."""

    events: int
    asked: int
    learned: int
    share: float
    accuracy: float
    kappa: float
    weighted: float
    holdout: float
    ahead: float
    alarms: int
    curve: list[Point]


class _Tally:
    """Truth against guess."""

    def __init__(self, points: int, events: int) -> None:
        self._every = max(1, events // points)
        self._right = self._recent = self._seen = 0
        self._truth: dict[str, int] = {}
        self._told: dict[str, int] = {}
        self.curve: list[Point] = []

    def add(self, truth: str, guess: str, labels: int) -> None:
        self._seen += 1
        self._right += truth == guess
        self._recent += truth == guess
        self._truth[truth] = self._truth.get(truth, 0) + 1
        self._told[guess] = self._told.get(guess, 0) + 1
        if self._seen % self._every == 0:
            self.curve.append(Point(self._seen, labels, self._recent / self._every))
            self._recent = 0

    def measures(self) -> tuple[float, float]:
        """(accuracy, kappa)."""
        n = max(1, self._seen)
        accuracy = self._right / n
        chance = sum(count * self._told.get(name, 0) for name, count in self._truth.items()) / (n * n)
        return accuracy, (accuracy - chance) / (1 - chance) if chance < 1 else 0.0


def simulate(
    stream: Iterable[tuple[Any, str]],
    model: Model,
    asker: Asker,
    delay: int = 0,
    noise: float = 0.0,
    silent: float = 0.0,
    seed: int = 0,
    sketch: Sketch | None = None,
    points: int = 40,
    measure: Measure | None = None,
) -> Result:
    """Run the loop. sketch: for strategies and measures that compare events, and for the pending discount.

    measure: of what a label is worth, least confident by default; its own state begins here.
    """
    measure = Measure("least_confident") if measure is None else measure
    rows = list(stream)
    labels = sorted({y for _, y in rows})
    draws = Keyed(seed, "simulation")
    coming: deque[tuple[int, str, Any, str]] = deque()
    tally, learned, ahead = _Tally(points, len(rows)), 0, 0.0
    for i, (x, y) in enumerate(rows):
        now, event = i * SECOND, str(i)
        while coming and coming[0][0] <= i:
            learned += _arrive(model, asker, now, *coming.popleft()[1:])
        p = model.predict(x)
        tally.add(y, model.classes[int(np.argmax(p))] if p else labels[0], learned)
        if (query := _ask(asker, measure, sketch, model, event, x, p, now)) is not None:
            luck = draws.of(event)
            if luck.uniform("silent") >= silent:
                coming.append((i + delay, query, x, _told(y, labels, noise, luck.uniform("noise"))))
            ahead = max(ahead, asker.counts["asked"] - asker.budget.share * (i + 1))
        if delay == 0 and coming:
            learned += _arrive(model, asker, now, *coming.popleft()[1:])
        asker.expire(now)
    return _result(len(rows), learned, ahead, tally, asker)


def _ask(
    asker: Asker,
    measure: Measure,
    sketch: Sketch | None,
    model: Model,
    event: str,
    x: Any,
    p: list[float],
    now: int,
) -> str | None:
    """Decide, and apply the decision. Returns the event if its label is asked for."""
    vector = None if sketch is None else sketch.vector(x)
    near = [] if sketch is None or vector is None else sketch.near(vector)
    utility = measure.of(p, vector, near, model.members() if isinstance(model, Jury) and measure.polls else None)
    candidate = Candidate(event, utility, now, p, vector, near)
    if sketch is not None:
        sketch.observe(x)
    decision = asker.decide(candidate)
    measure.passed(vector, near, decision.ask)
    if (own := asker.own_label(candidate, decision)) is not None:
        model.learn(x, model.classes[own[0]], own[1])
    return event if asker.apply(candidate, decision) is not None else None


def _arrive(model: Model, asker: Asker, now: int, event: str, x: Any, y: str) -> int:
    """A label comes. Returns 1 if it was learned."""
    answer = asker.answer(event, y, now, classes=model.classes)
    if answer.kind not in ("learn", "late") or not isinstance(answer.label, str):
        return 0
    model.learn(x, answer.label, answer.weight)
    return 1


def _told(y: str, labels: Sequence[str], noise: float, u: float) -> str:
    """What the annotator says: with probability `noise` one of the other labels."""
    if u >= noise or len(labels) < 2:
        return y
    others = [label for label in labels if label != y]
    return others[min(int(u / noise * len(others)), len(others) - 1)]


def _result(events: int, learned: int, ahead: float, tally: _Tally, asker: Asker) -> Result:
    accuracy, kappa = tally.measures()
    quality = asker.estimates.view()
    asked = asker.counts["asked"]
    return Result(
        events,
        asked,
        learned,
        asked / max(1, events),
        accuracy,
        kappa,
        quality.weighted,
        quality.holdout,
        ahead,
        asker.counts["alarms"],
        tally.curve,
    )
