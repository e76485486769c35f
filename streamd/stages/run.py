"""A run of a predicting stage under construction: the learner's steps, and what becomes of their result."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

from streamd import records as codec
from streamd.errors import StateError
from streamd.journal import Refusal
from streamd.learners import Label, ShowingSteps, Steps
from streamd.learners.features import HEAVIEST
from streamd.ports import Output, Record
from streamd.stages.alerting import Post
from streamd.stages.answers import Predicted
from streamd.stages.pending import Remembered
from streamd.stages.querying import Undecided
from streamd.stages.shadows import ShadowRun


class Taken(NamedTuple):
    """What a batch decided: its outputs in order, the refusals by index, the memos of its predictions, the turns
    of its alerts; with a query stage, a packed decision for each prediction, empty where there was none to take.
    """

    outputs: list[Output]
    refused: dict[int, Refusal]
    memos: list[bytes]
    turns: bytearray
    decisions: list[bytes]

    def extend(self, more: "Taken", start: int) -> None:
        """Add what a part of the batch decided, which begins at record `start`."""
        self.outputs.extend(more.outputs)
        self.refused.update({start + i: refusal for i, refusal in more.refused.items()})
        self.memos.extend(more.memos)
        self.turns.extend(more.turns)
        self.decisions.extend(more.decisions)


class Journalled(NamedTuple):
    """What a replay takes instead of predicting and deciding."""

    memos: Iterator[bytes]
    turns: Iterator[int]
    decisions: Iterator[bytes]


class Weights(NamedTuple):
    """Of a label. learned: for the learner; shown: of its losses in what a groupwise learner shows."""

    learned: float = 1.0
    shown: float = 1.0

    @classmethod
    def asked(cls, learned: float, p_ask: float) -> "Weights":
        """Of a label that was asked for with probability p_ask."""
        return cls(learned, min(1.0 / p_ask, HEAVIEST) if p_ask > 0.0 else 1.0)


ONCE = Weights()


class Run:
    """journalled: in a replay. showing: the learner shows losses."""

    def __init__(
        self, steps: Steps, shadows: Sequence[ShadowRun], journalled: Journalled | None, showing: bool
    ) -> None:
        self.journalled = journalled
        self._showing = showing  # found out once a run: to ask a protocol takes longer than to learn
        self.renew(steps, shadows)

    def renew(self, steps: Steps, shadows: Sequence[ShadowRun]) -> None:
        """Begin anew: what was collected has been executed."""
        self.steps = steps
        self.shadows = shadows
        self.predicted: list[Predicted] = []
        self.filling: list[Remembered] = []  # entries whose memo is still a number of this run
        self.judged: list[tuple[int | bytes, Label]] = []
        self.delays: list[int] = []  # of the labels in `judged`, in milliseconds of event time
        self.undecided: list[Undecided] = []
        self.posts: list[Post] = []
        self._decided = b""

    def predict(self, row: int, event: str, record: Record, ts: int) -> int | bytes:
        """Predict, or in a replay take the prediction that was made."""
        if self.journalled is not None:
            memo = next(self.journalled.memos, None)
            if memo is None:
                raise StateError(f"the journal holds no prediction for {record.topic} offset {record.offset}")
            self._decided = next(self.journalled.decisions, b"")
            return memo
        self.steps.predict(row)
        self.predicted.append(Predicted(event, record, ts))
        return len(self.predicted) - 1

    def propose(
        self, event: codec.Event, record: Record, seen: int | bytes, now: int, truth: str | float | None = None
    ) -> None:
        """The event just predicted is a candidate for a query, or with its `truth` for a gold question; in a
        replay if it was one."""
        if self.journalled is None or self._decided:
            self.undecided.append(Undecided(event, record, seen, now, self._decided, truth))

    def teach(self, row: int, entry: Remembered, label: Label, weights: Weights) -> None:
        """Learn an event's label, or correct the one learned. Raises BadRecord."""
        if self._showing:
            steps = cast(ShowingSteps, self.steps)
            if entry.label is None:
                steps.learn(row, label, entry.memo, weights.learned, weights.shown)
            else:
                steps.correct(row, entry.label, label, entry.memo, weights.shown)
        elif entry.label is None:
            self.steps.learn(row, label, entry.memo, weights.learned)
        else:
            self.steps.correct(row, entry.label, label, entry.memo)
