"""A recorded stream judged in hindsight: per group, regret of the single model and of the groupwise one.

The comparator of a group is the least-squares fit to all its events, in the learner's own features, made after the
fact; both regrets are to it, as in Acharya et al. 2023. An event counts for the groups it was awake in when it was
predicted: the first event of a group per value, at which it is born, is not among them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamd.errors import ConfigError
from streamd.learners.groupwise.groups import EVERYONE, identity
from streamd.learners.groupwise.regress import GroupwiseRegressor
from streamd.learners.rows import Rows

RUN = 5000  # events of one run, rows of one block
POINTS = 100  # of a curve


class Recorded(NamedTuple):
    """One event of a recorded stream and its label."""

    x: Mapping[str, Any]
    y: float
    tags: Sequence[str] = ()


class Judged(Struct, frozen=True):
    """One group. Losses are sums, in the label's units squared.

    single: everyone's model; groupwise: what was played; expected: of the experts by their weights; own: the
    group's own oracle; hindsight: its best fit. curve: (events so far, regret of single, regret of groupwise).
    """

    name: str
    n: int
    single: float
    groupwise: float
    expected: float
    own: float
    hindsight: float
    single_regret: float
    groupwise_regret: float
    curve: Sequence[tuple[int, float, float]]


class _Lost(NamedTuple):
    """A group's events, by number, and the losses on them."""

    events: list[int]
    own: list[float]


def judge(learner: GroupwiseRegressor, stream: Iterable[Recorded]) -> list[Judged]:
    """Let the learner live through the stream, each label right after its event; then judge every group.

    Raises ConfigError unless the learner has squared loss and everyone.
    """
    if learner.loss != "squared" or not learner.groups.everyone:
        raise ConfigError("loss", "least squares in hindsight is for squared loss, with everyone")
    rows, y, memos = _live(learner, stream)
    played, expected = np.empty(len(y)), np.empty(len(y))
    groups: dict[int, _Lost] = {}
    for i, memo in enumerate(memos):
        read = learner.read(memo)
        losses = (read.z[:, 0] - y[i]) ** 2
        played[i] = (read.numbers[0] - y[i]) ** 2
        expected[i] = float(learner.shares(read)[:, 0] @ losses)
        for group, loss in zip(read.groups, losses.tolist(), strict=True):
            lost = groups.setdefault(group, _Lost([], []))
            lost.events.append(i)
            lost.own.append(loss)
    single = np.array(groups[identity(EVERYONE)].own) if groups else np.zeros(0)
    names = {identity(name): name for name in learner.groups.names}
    design = _Design(learner, rows)
    told = (played, expected, single)
    return [
        _judged(names[group], lost, design, y, told, learner.unit())
        for group, lost in groups.items()
        if group in names
    ]


def _live(
    learner: GroupwiseRegressor, stream: Iterable[Recorded]
) -> tuple[list[Mapping[str, Any]], NDArray[np.float64], list[bytes]]:
    """(features, scaled labels, memos)."""
    rows: list[Mapping[str, Any]] = []
    labels: list[float] = []
    memos: list[bytes] = []
    steps, first = learner.steps(), 0
    for event in stream:
        row = steps.row(event.x, event.tags)
        steps.predict(row)
        steps.observe(row)
        steps.learn(row, event.y, len(labels) - first)
        rows.append(event.x)
        labels.append(learner.number(event.y, False))
        if len(labels) - first == RUN:
            memos += steps.execute().memos()
            steps, first = learner.steps(), len(labels)
    memos += steps.execute().memos()
    return rows, np.array(labels), memos


class _Design:
    """The features of all events as the learner has them by now, made block by block."""

    def __init__(self, learner: GroupwiseRegressor, rows: Sequence[Mapping[str, Any]]) -> None:
        self._index, self._rows, self._intercept = learner.index, rows, learner.intercept
        self.columns = learner.index.size - 1 + learner.intercept

    def blocks(self, events: Sequence[int]) -> Iterable[tuple[slice, NDArray[np.float64]]]:
        """(which of `events`, their matrix), in order. Numbers are not standardised: the fit is the same."""
        for start in range(0, len(events), RUN):
            which = slice(start, min(start + RUN, len(events)))
            taken = Rows(self._index)
            for i in events[which]:
                taken.take(self._rows[i])
            starts, codes, values = taken.arrays()
            X = np.zeros((len(starts) - 1, self.columns))
            slots = np.where(codes >= 0, codes, ~codes)
            owners = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
            known = slots > 0
            np.add.at(X, (owners[known], slots[known] - 1 + self._intercept), values[known])
            if self._intercept:
                X[:, 0] = 1.0
            yield which, X

    def best(self, events: Sequence[int], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) squared errors of the least-squares fit."""
        scale = np.zeros(self.columns)
        for _, X in self.blocks(events):
            scale = np.maximum(scale, np.abs(X).max(axis=0))
        scale[scale == 0.0] = 1.0
        gram, moment = np.zeros((self.columns, self.columns)), np.zeros(self.columns)
        for which, X in self.blocks(events):
            X = X / scale
            gram += X.T @ X
            moment += X.T @ y[events[which]]
        theta = np.linalg.pinv(gram, hermitian=True) @ moment
        errors = np.empty(len(events))
        for which, X in self.blocks(events):
            errors[which] = (X / scale @ theta - y[events[which]]) ** 2
        return errors


def _judged(
    name: str,
    lost: _Lost,
    design: _Design,
    y: NDArray[np.float64],
    told: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    unit: float,
) -> Judged:
    events, own = lost
    best = design.best(events, y)
    played, expected, single = (losses[events] for losses in told)
    single_regret, groupwise_regret = np.cumsum(single - best), np.cumsum(played - best)
    at = np.unique(np.linspace(0, len(events) - 1, POINTS).astype(int)).tolist()
    return Judged(
        name=name,
        n=len(events),
        single=unit * float(single.sum()),
        groupwise=unit * float(played.sum()),
        expected=unit * float(expected.sum()),
        own=unit * sum(own),
        hindsight=unit * float(best.sum()),
        single_regret=unit * float(single_regret[-1]),
        groupwise_regret=unit * float(groupwise_regret[-1]),
        curve=[(i + 1, unit * float(single_regret[i]), unit * float(groupwise_regret[i])) for i in at],
    )
