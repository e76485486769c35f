"""Who answers, how well, how fast and at what price.

Each annotator has a confusion matrix, the counts of what was said for which truth, kept by online Dawid and Skene
(1979): the answers to an event give a posterior over the truth, prior times the matrices; the matrices then take
the answers in, weighted by the posterior. Dirichlet priors make it defined from the first answer on: `agree`
counts on the diagonal, `disagree` spread over the other classes. A gold question, whose truth is known, counts in
full; one answer alone tells nothing of who gave it and counts nothing.

The pick is sequential (decide whom to ask after whether to ask): the least loaded first, then the better accuracy
for the money, then the name.

>>> team = Annotators(["ann", "bob"])
>>> for _ in range(20):
...     team.gold("ann", "yes", "yes"); team.gold("bob", "no", "yes")
>>> round(team.accuracy("ann"), 2), round(team.accuracy("bob"), 2)
(0.96, 0.16)
>>> team.consensus({"ann": "yes", "bob": "no"}, ["yes", "no"])
('yes', 0.8344370860927153)
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamd.errors import StateError
from streamd.snapshot import State

Floats = NDArray[np.float64]

ANSWERS, SECONDS, PAID, LOAD, AGREED, COMPARED, SKIPS = range(7)
OTHERS = "(others)"


class Standing(NamedTuple):
    """One annotator, as shown. accuracy: the mean of the diagonal; agreement: with the consensus of several."""

    name: str
    accuracy: float
    agreement: float
    seconds: float
    cost: float
    load: int
    answers: int
    skips: int
    bad: bool


class Annotators:
    """names: who may be asked. cost: of a label of each (1 if not named). agree, disagree: the prior.

    An answer by somebody unknown makes a new annotator with the prior, who is never picked; past `most` of them
    they share one account. A class unknown so far is added to all matrices; past `classes` it is not taken in.
    """

    def __init__(
        self,
        names: Iterable[str] = (),
        cost: Mapping[str, float] | None = None,
        agree: float = 4.0,
        disagree: float = 1.0,
        most: int = 10_000,
        classes: int = 100,
    ) -> None:
        self.cost = dict(cost or {})
        self.agree = agree
        self.disagree = disagree
        self.most = most
        self.max_classes = classes
        self.unknown = 0  # answers, and skips, by annotators not named
        self._named = sorted(set(names))
        self._places: dict[str, int] = {}
        self._classes: dict[str, int] = {}
        self._counts = np.zeros((0, 0, 0))  # annotator, truth, said
        self._sums = np.zeros((0, 7))
        for name in self._named:
            self._place(name)

    @property
    def names(self) -> list[str]:
        """Who may be asked."""
        return list(self._named)

    # --- whom to ask

    def pick(self, excluded: Iterable[str] = ()) -> str | None:
        """The annotator for the next query; None if nobody is left."""
        free = sorted(set(self._named) - set(excluded))
        return min(free, key=self._rank, default=None)

    def _rank(self, name: str) -> tuple[float, float, str]:
        place = self._places[name]
        return float(self._sums[place, LOAD]), -self.accuracy(name) / self.price(name), name

    def price(self, name: str) -> float:
        return max(self.cost.get(name, 1.0), 1e-9)

    def mean_price(self) -> float:
        """What a label costs in the pool's mean: what a query is debited until it is known who answers."""
        team = self._named or self.cost
        return sum(map(self.price, team)) / len(team) if team else 1.0

    def assign(self, name: str) -> None:
        """One more open query for an annotator."""
        place = self._place(name)  # first: it may make the table larger
        self._sums[place, LOAD] += 1

    def release(self, name: str) -> None:
        """An open query was answered, skipped, or taken back."""
        place = self._place(name)
        self._sums[place, LOAD] = max(0.0, self._sums[place, LOAD] - 1)

    # --- what they said

    def answered(self, name: str, seconds: float) -> float:
        """Note an answer and how long it took. Returns its price."""
        self._meet(name)
        place = self._place(name)
        self._sums[place, ANSWERS] += 1
        self._sums[place, SECONDS] += max(0.0, seconds)
        self._sums[place, PAID] += self.price(name)
        return self.price(name)

    def _meet(self, name: str) -> None:
        if self._named and name not in self._named:
            self.unknown += 1

    def skipped(self, name: str) -> None:
        self._meet(name)
        place = self._place(name)
        self._sums[place, SKIPS] += 1

    def consensus(self, said: Mapping[str, str], classes: Sequence[str] = ()) -> tuple[str, float]:
        """The truth most probable given what each said, and its probability. Changes nothing.

        classes: those known to the model; classes only named here count too. Ties go to the first in this order.
        """
        names = self._all(said.values(), classes)
        posterior = self._posterior(said, names)
        best = int(np.argmax(posterior))
        return names[best], float(posterior[best])

    def learn(self, said: Mapping[str, str], classes: Sequence[str] = ()) -> None:
        """Take the answers to one event into the matrices: once, when all are there."""
        if len(said) < 2:
            return
        names = self._all(said.values(), classes)
        posterior = self._posterior(said, names)
        consensus = names[int(np.argmax(posterior))]
        for annotator, label in said.items():
            place = self._place(annotator)
            self._sums[place, COMPARED] += 1
            self._sums[place, AGREED] += label == consensus
            for truth, q in zip(names, posterior, strict=True):
                self._count(place, truth, label, float(q))

    def gold(self, name: str, said: str, truth: str) -> None:
        """An answer to a question whose truth is known."""
        self._count(self._place(name), truth, said, 1.0)

    # --- what is known of them

    def accuracy(self, name: str) -> float:
        """The chance of a right answer, over the questions compared; before anything is known, the prior's."""
        place = self._known(name)
        right, seen = 0.0, 0.0
        if place is not None and self._counts.size:
            right, seen = float(np.trace(self._counts[place])), float(self._counts[place].sum())
        return (right + self.agree) / (seen + self.agree + self.disagree)

    def standings(self) -> list[Standing]:
        """All of them, by name. bad: clearly worse than guessing, or than the others: see `_bad`."""
        found = []
        for name in sorted(self._places):
            sums = self._sums[self._places[name]]
            answers = int(sums[ANSWERS])
            agreement = sums[AGREED] / sums[COMPARED] if sums[COMPARED] else math.nan
            seconds = sums[SECONDS] / answers if answers else math.nan
            standing = (self.accuracy(name), float(agreement), float(seconds), self.price(name))
            found.append(Standing(name, *standing, int(sums[LOAD]), answers, int(sums[SKIPS]), self._bad(name)))
        return found

    def _bad(self, name: str) -> bool:
        """The upper end of the accuracy, by two standard deviations of its counts, is below the team's mean less a
        tenth; or below what guessing would give."""
        place = self._places[name]
        seen = float(self._counts[place].sum()) if self._counts.size else 0.0
        if seen < 5:
            return False
        accuracy = self.accuracy(name)
        upper = accuracy + 2.0 * math.sqrt(accuracy * (1.0 - accuracy) / seen)
        team = [self.accuracy(other) for other in self._places if other != name]
        classes = max(2, len(self._classes))
        return upper < 1.0 / classes or (bool(team) and upper < sum(team) / len(team) - 0.1)

    # --- the arrays

    def _posterior(self, said: Mapping[str, str], names: Sequence[str]) -> Floats:
        logs = np.zeros(len(names))
        for annotator, label in said.items():
            matrix = self._matrix(self._known(annotator), names)
            logs += np.log(matrix[:, names.index(label)])
        p = np.exp(logs - logs.max())
        posterior: Floats = p / p.sum()
        return posterior

    def _matrix(self, place: int | None, names: Sequence[str]) -> Floats:
        """P(said | truth) of an annotator over these classes, rows sum to 1."""
        n = len(names)
        counts = np.full((n, n), self.disagree / max(1, n - 1))
        np.fill_diagonal(counts, self.agree)
        if place is not None and self._counts.size:
            known = [(i, self._classes[name]) for i, name in enumerate(names) if name in self._classes]
            here, there = [i for i, _ in known], [c for _, c in known]
            counts[np.ix_(here, here)] += self._counts[place][np.ix_(there, there)]
        matrix: Floats = counts / counts.sum(axis=1, keepdims=True)
        return matrix

    def _count(self, place: int, truth: str, said: str, weight: float) -> None:
        t, s = self._class(truth), self._class(said)
        if t is not None and s is not None:
            self._counts[place, t, s] += weight

    def _all(self, said: Iterable[str], classes: Sequence[str]) -> list[str]:
        return list(dict.fromkeys([*classes, *said]))

    def _known(self, name: str) -> int | None:
        return self._places.get(name, self._places.get(OTHERS))

    def _class(self, name: str) -> int | None:
        if name not in self._classes:
            if len(self._classes) >= self.max_classes:
                return None
            self._classes[name] = len(self._classes)
            self._resize()
        return self._classes[name]

    def _place(self, name: str) -> int:
        if name not in self._places:
            if len(self._places) >= self.most and name not in self._named:
                name = OTHERS
            if name not in self._places:
                self._places[name] = len(self._places)
                self._resize()
        return self._places[name]

    def _resize(self) -> None:
        people, classes = len(self._places), len(self._classes)
        counts, sums = np.zeros((people, classes, classes)), np.zeros((people, 7))
        a, c, _ = self._counts.shape
        counts[:a, :c, :c] = self._counts
        sums[: len(self._sums)] = self._sums
        self._counts, self._sums = counts, sums

    def state(self) -> State:
        document = {"names": list(self._places), "classes": list(self._classes), "unknown": self.unknown}
        return State({"counts": self._counts, "sums": self._sums}, document)

    def restore(self, state: State) -> None:
        try:
            names, classes = state.document["names"], state.document["classes"]
            counts, sums = state.arrays["counts"], state.arrays["sums"]
            self.unknown = int(state.document["unknown"])
        except KeyError as error:
            raise StateError(f"the state of the annotators has no {error}") from None
        if counts.shape != (len(names), len(classes), len(classes)) or sums.shape != (len(names), 7):
            raise StateError("the state of the annotators does not fit together")
        self._places = {name: place for place, name in enumerate(names)}
        self._classes = {name: place for place, name in enumerate(classes)}
        self._counts, self._sums = np.array(counts), np.array(sums)
        for name in self._named:
            self._place(name)
