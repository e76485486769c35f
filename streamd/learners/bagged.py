"""A learner with an online-bagged ensemble beside it, to ask where its members disagree (Oza and Russell 2001).

The learner itself predicts and learns as if it were alone: its predictions, memos and state are those it would
have. Beside it, each of `size` members learns every label Poisson(1) times. The draws are counted, not taken from
a generator's position: those of label n for member k are a hash of (seed, n, k), n the labels learned so far, part
of the state. So a replay, a restart and another cut into runs draw the same.

Members predict with every prediction, and what they predict is seen by the query stage alone; it is neither
journalled nor remembered, because a replay never decides.

>>> from streamd.learners.linear import LinearClassifier
>>> model = Bagged(LinearClassifier, size=5)
>>> steps = model.steps()
>>> for i in range(40):
...     steps.learn(steps.row({"x": float(i % 10)}), "high" if i % 10 > 4 else "low", b"")
>>> steps.predict(steps.row({"x": 4.5}))
>>> predictions = steps.execute()
>>> p, members = predictions.values[0], predictions.members(0)
>>> p.shape, members.shape, bool((members.std(axis=0) > 0).all())
((2,), (5, 2), True)

Oza, N. C., Russell, S.: Online bagging and boosting. AISTATS 2001.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamd.errors import StateError
from streamd.learners import Label, Learner, Predictions, Repairs, Steps, Why
from streamd.querying.draws import Keyed
from streamd.snapshot import State, merge, split

PART = "committee"


class BaggedPredictions:
    """The learner's own predictions of one run, and what the members predicted."""

    def __init__(self, own: Predictions, members: Sequence[Predictions]) -> None:
        self._own = own
        self._members = members
        self.values = own.values
        self.known = own.known
        self.memos = own.memos
        self.whys = own.whys

    def members(self, i: int) -> NDArray[np.float64]:
        """(K, C) probabilities, or (K, 1) values, of prediction i."""
        return np.stack([told.values[i, : self.known[i]] for told in self._members])


class BaggedSteps:
    """One run; every step is the members' too. Rows have the same numbers in all of them."""

    def __init__(self, model: "Bagged") -> None:
        self._model = model
        self._own = model.own.steps()
        self._members = [member.steps() for member in model.ensemble]

    def row(self, x: Any, tags: Sequence[str] = ()) -> int:
        row = self._own.row(x, tags)
        for steps in self._members:
            steps.row(x, tags)
        return row

    def predict(self, row: int) -> None:
        self._own.predict(row)
        for steps in self._members:
            steps.predict(row)

    def observe(self, row: int) -> None:
        self._own.observe(row)
        for steps in self._members:
            steps.observe(row)

    def learn(self, row: int, y: Label, seen: int | bytes = b"", weight: float = 1.0) -> None:
        self._own.learn(row, y, seen, weight)
        self._bag(weight, lambda steps, weight: steps.learn(row, y, seen, weight))

    def correct(self, row: int, old: Label, new: Label, seen: int | bytes = b"") -> None:
        self._own.correct(row, old, new, seen)
        self._bag(1.0, lambda steps, weight: steps.learn(row, new, seen, weight))

    def execute(self) -> BaggedPredictions:
        return BaggedPredictions(self._own.execute(), [steps.execute() for steps in self._members])

    def _bag(self, weight: float, learn: Callable[[Steps, float], None]) -> None:
        """Each member learns as often as was drawn; never, with weight 0, so that all know the same classes."""
        times = self._model.draw() if weight > 0.0 else [0] * len(self._members)
        for steps, often in zip(self._members, times, strict=True):
            for _ in range(often):
                learn(steps, weight)
            if not often:
                learn(steps, 0.0)


class Bagged:
    """make: of the learner and of each member, one whose corrections learn on top. size: K, 2 or more."""

    def __init__(self, make: Callable[[], Learner], size: int, seed: int = 0) -> None:
        self._make = make
        self._keyed = Keyed(seed, "bagged")
        self._purposes = [f"bag/{k}" for k in range(size)]
        self.own = make()
        self.ensemble = [make() for _ in range(size)]
        self._learned = 0

    @property
    def classes(self) -> Sequence[str]:
        return self.own.classes

    @property
    def repaired(self) -> int:
        return self.own.repaired if isinstance(self.own, Repairs) else 0

    def steps(self) -> BaggedSteps:
        return BaggedSteps(self)

    def draw(self) -> list[int]:
        """How often each member learns the next label."""
        draws = self._keyed.of(str(self._learned))
        self._learned += 1
        return [draws.poisson(purpose) for purpose in self._purposes]

    def probabilities(self, memo: bytes) -> NDArray[np.float64]:
        return self.own.probabilities(memo)

    def peek(self, x: Any) -> tuple[NDArray[np.float64], Why]:
        return self.own.peek(x)

    def reset(self) -> None:
        for learner in (self.own, *self.ensemble):
            learner.reset()
        self._learned = 0

    def state(self) -> State:
        """The learner's own, and a part that it does not know: so either restores the other's."""
        own = self.own.state()
        beside = merge({str(k): member.state() for k, member in enumerate(self.ensemble)})
        arrays = {f"{PART}/{name}": array for name, array in beside.arrays.items()}
        document = {PART: {"learned": self._learned, "members": beside.document}}
        return State({**own.arrays, **arrays}, {**own.document, **document})

    def restore(self, state: State) -> None:
        """Members the state does not have start as the learner is; those too many are forgotten."""
        kept = state.document.get(PART, {"learned": 0, "members": {}})
        cut = len(PART) + 1
        arrays = {name[cut:]: array for name, array in state.arrays.items() if name.startswith(f"{PART}/")}
        self.own.restore(state)
        try:
            parts = split(State(arrays, kept["members"]))
            self._learned = int(kept["learned"])
        except (KeyError, TypeError):
            raise StateError("this is not the state of a bagged learner") from None
        self.ensemble = [self._make() for _ in self._purposes]
        for k, member in enumerate(self.ensemble):
            member.restore(parts.get(str(k), state))
