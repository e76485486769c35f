"""Alerts about subjects, as a predicting pipeline drives its early decisions.

An event that names a `subject` is a post: what its prediction says for the categories watched, and against them,
is added to the subject's. A label of a post says for certain: from then on all of what the post said counts for
the label's side, which may call for an alert, or correct one that no longer holds. See `stages.early`.

An alert is about (subject, name of what is watched); it is emitted when the policy calls for it, and again, with
`stands` false, when it no longer holds. What was decided is journalled, one byte for each post and each label of a
post, so that a replay decides nothing, whatever the policy is by then.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from msgspec import Struct

from streamd import records as codec
from streamd.errors import StateError
from streamd.learners import Decides, Label, Learner
from streamd.ports import Output, Record
from streamd.snapshot import State, merge, split
from streamd.stages.early import Alert, EarlyDecisions, Policy, check_subject, for_and_against
from streamd.views import AlertsView


class Settings(Struct, frozen=True):
    """topic: of the alerts.  watch: the categories whose confidence counts for one.  name: of what is watched.

    max_age: milliseconds.
    """

    topic: str
    watch: frozenset[str]
    name: str
    policy: Policy
    max_subjects: int
    max_age: int


class Post(NamedTuple):
    """A post, or what is known of one since: to be taken in when its run has been executed.

    seen: its prediction, by number in the run or as a memo.  came, now: event times of the post and of this.
    label, former: what was learned of it, now and before; None for the post itself, and if nothing was.
    """

    subject: str
    event: str
    record: Record
    seen: int | bytes
    came: int
    now: int
    label: Label | None = None
    former: Label | None = None


class Alerting:
    """The early decisions of one shard. partition: given to every alert, None lets the log choose by key."""

    def __init__(self, settings: Settings, partition: int | None) -> None:
        self.settings = settings
        self._partition = partition
        self._early = self._fresh()

    def subject(self, event: codec.Event | codec.Plain) -> str | None:
        """Whose post an event is. Raises BadRecord if that is no name."""
        return None if event.subject is None else check_subject(event.subject)

    def deadline(self) -> int | None:
        return self._early.deadline()

    def advance(self, now: int) -> None:
        self._early.advance(now)

    def take(
        self, posts: Sequence[Post], memos: Sequence[bytes], decided: Iterator[int] | None, learner: Learner
    ) -> tuple[list[Output], bytes]:
        """Take posts and their labels in, in order. Returns the alerts, and what was decided.

        memos: of the run's predictions.  decided: in a replay, what was; None: decide.  learner: the live one.
        """
        says = learner.confidences if isinstance(learner, Decides) else learner.probabilities
        watched = [c for c, name in enumerate(learner.classes) if name in self.settings.watch]
        alerts, turns = [], bytearray()
        for post in posts:
            memo = memos[post.seen] if isinstance(post.seen, int) else post.seen
            said = for_and_against(says(memo).tolist(), watched)
            alert = self._one(post, said, None if decided is None else _next(decided, post))
            turns.append(alert is not None)
            if alert is not None:
                alerts.append(self._output(alert, post.record))
        return alerts, bytes(turns)

    def _one(self, post: Post, said: tuple[float, float], decided: bool | None) -> Alert | None:
        if post.label is None:
            return self._early.add(post.subject, *said, post.now, post.event, decided)
        before, after = self._counted(said, post.former), self._counted(said, post.label)
        positive, negative = after[0] - before[0], after[1] - before[1]
        return self._early.revise(
            post.subject, positive, negative, post.now, post.event, came=post.came, decided=decided
        )

    def _counted(self, said: tuple[float, float], label: Label | None) -> tuple[float, float]:
        """How a post counts once its label is known: all it said for the label's side."""
        if label is None:
            return said
        names = label if isinstance(label, list) else [label]
        total = said[0] + said[1]
        return (total, 0.0) if self.settings.watch & set(names) else (0.0, total)

    def _output(self, alert: Alert, record: Record) -> Output:
        name = self.settings.name
        told = codec.Alert(
            f"{alert.subject}/{name}", alert.subject, name, alert.score, alert.posts, alert.policy, alert.why,
            alert.ts, alert.stands,
        )  # fmt: skip
        key = alert.subject.encode()
        return Output(self.settings.topic, key, codec.encode(told), record.timestamp, self._partition)

    def show(self) -> AlertsView:
        early = self._early
        return AlertsView(len(early.subjects), early.posts, early.alerts, early.corrected, early.forgotten)

    def freeze(self) -> Callable[[], State]:
        early, watch = self._early.freeze(), sorted(self.settings.watch)
        return lambda: merge({"early": early(), "watch": State({}, {"watch": watch})})

    def restore(self, state: State) -> None:
        """Totals of other categories say nothing about these: where `watch` was another, subjects start anew."""
        parts = split(state)
        self._early = self._fresh()
        if parts["watch"].document["watch"] == sorted(self.settings.watch):
            self._early.restore(parts["early"])

    def _fresh(self) -> EarlyDecisions:
        settings = self.settings
        return EarlyDecisions(settings.policy, settings.max_subjects, settings.max_age)


def _next(decided: Iterator[int], post: Post) -> bool:
    turn = next(decided, None)
    if turn is None:
        raise StateError(f"the journal holds no decision on {post.record.topic} offset {post.record.offset}")
    return bool(turn)
