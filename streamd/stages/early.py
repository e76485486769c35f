"""Early decisions: the posts of a subject (a user) add up, and a policy says when enough was seen for an alert.

Of every post the stage takes how much it speaks for the categories watched and how much for the others (the sums
of SS3's confidences). It keeps the totals by subject, and alerts at most once about each. A pure state machine:
`add`, `revise` and `advance` are its only mutators, time is event time. Policies:

above      total for > total against (SS3, Burdisso et al. 2019)
slope      above, or over the last `window` posts the total for grew by `delta` more than that against (SS3-delta)
threshold  share = for / (for + against) >= theta
history    the same, and the shares after the last `window` posts were, too
global     for - against > median + gamma MAD over all subjects (UNSL at eRisk 2021 and 2022; of an even number the
           upper middle, for both)

All of them wait for `min_posts` posts. In a replay `decided` says what was decided, and the policy is not asked.

>>> early = EarlyDecisions(Policy("above", min_posts=2))
>>> early.add("ann", 0.5, 0.1, ts=1), early.add("ann", 0.4, 0.2, ts=2).posts, early.add("ann", 0.9, 0.0, ts=3)
(None, 2, None)
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import msgspec
import numpy as np

from streamd.errors import BadRecord, ConfigError, StateError
from streamd.snapshot import State

KINDS = ("above", "slope", "threshold", "history", "global")
KEPT = ("now", "posts", "alerts", "corrected", "forgotten")
REASONS = 3  # posts remembered for the reason of an alert
LONGEST = 256  # characters of a subject's name


class Policy(msgspec.Struct, frozen=True):
    """See above. Raises ConfigError for what is out of range."""

    kind: str = "above"
    min_posts: int = 1
    theta: float = 0.5
    window: int = 10
    delta: float = 0.0
    gamma: float = 2.0

    def __post_init__(self) -> None:
        _require(self.kind in KINDS, "kind", f"must be one of {', '.join(KINDS)}")
        _require(self.min_posts >= 1, "min_posts", "must be 1 or more")
        _require(0.0 <= self.theta <= 1.0, "theta", "must be within 0 and 1")
        _require(1 <= self.window <= 1000, "window", "must be within 1 and 1000")
        _require(abs(self.delta) < 1e9 and abs(self.gamma) < 1e9, "delta", "delta and gamma must be finite")

    @property
    def memory(self) -> int:
        """How many posts back it looks."""
        return self.window if self.kind in ("slope", "history") else 0


class Alert(msgspec.Struct, frozen=True):
    """score: for - against.  posts: how many had been seen.  why: the strongest posts, [id, for - against].

    stands: False in the correction of an alert that no longer holds.
    """

    subject: str
    score: float
    posts: int
    policy: str
    why: list[list[Any]]
    ts: int
    stands: bool = True


class Subject(msgspec.Struct):
    """What is kept of one; every change makes a new one, so that a copy of the table is a copy of the state.

    totals: (for, against) before each of the last posts, as far as the policy looks.  first, last: when the first
    and the last post came.
    """

    positive: float = 0.0
    negative: float = 0.0
    posts: int = 0
    first: int = 0
    last: int = 0
    alerted: bool = False
    totals: list[tuple[float, float]] = []
    why: list[tuple[float, str]] = []

    @property
    def score(self) -> float:
        return self.positive - self.negative

    @property
    def share(self) -> float:
        return share(self.positive, self.negative)


def share(positive: float, negative: float) -> float:
    total = positive + negative
    return positive / total if total > 0.0 else 0.0


class EarlyDecisions:
    """max_subjects: above it the one silent for longest is forgotten.  max_age: milliseconds of silence after
    which a subject is forgotten; one that comes back starts anew, and may be alerted about again.
    """

    def __init__(self, policy: Policy, max_subjects: int = 100_000, max_age: int = 90 * 86_400_000) -> None:
        _require(max_subjects >= 1, "max_subjects", "must be 1 or more")
        _require(max_age >= 1, "max_age", "must be 1 millisecond or more")
        self.policy = policy
        self.max_subjects = max_subjects
        self.max_age = max_age
        self.subjects: OrderedDict[str, Subject] = OrderedDict()  # the one silent for longest first
        self.now = 0
        self.posts = 0
        self.alerts = 0
        self.corrected = 0
        self.forgotten = 0
        self._scores: list[float] = []  # sorted; only for `global`

    def add(
        self, subject: str, positive: float, negative: float, ts: int, post: str = "", decided: bool | None = None
    ) -> Alert | None:
        """Take a post in. Returns the alert if this is the moment. BadRecord changes nothing."""
        check_subject(subject)
        _check_confidences(positive, negative)
        self.advance(ts)
        known = self.subjects.pop(subject, None)
        state = Subject(first=self.now) if known is None else copy(known)
        self._drop_score(known)
        if self.policy.memory:
            state.totals = [*state.totals, (state.positive, state.negative)][-self.policy.memory :]
        state.positive += positive
        state.negative += negative
        state.posts += 1
        state.last = self.now
        state.why = sorted([*state.why, (positive - negative, post)], key=lambda reason: -reason[0])[:REASONS]
        self.subjects[subject] = state
        self._add_score(state)
        self._make_room()
        self.posts += 1
        alert = not state.alerted and self.holds(state) if decided is None else decided
        return self._turn(subject, state) if alert else None

    def revise(
        self,
        subject: str,
        positive: float,
        negative: float,
        ts: int,
        post: str = "",
        came: int | None = None,
        decided: bool | None = None,
    ) -> Alert | None:
        """Change a subject's totals by what was judged wrongly of a post that came then. Returns what becomes of
        the alert: a new one, or the correction of one that no longer holds, after which there may be another.
        Nothing becomes of a subject that was forgotten, even if it has come back since."""
        if not (abs(positive) < 1e100 and abs(negative) < 1e100):
            raise BadRecord("revision: not finite numbers")
        self.advance(ts)
        known = self.subjects.get(subject)
        if known is None or (came is not None and came < known.first):
            return None
        self._drop_score(known)
        state = self.subjects[subject] = copy(known)
        state.positive, state.negative = max(state.positive + positive, 0.0), max(state.negative + negative, 0.0)
        by = positive - negative
        state.why = [(score + by if name == post else score, name) for score, name in state.why]
        self._add_score(state)
        turns = self.holds(state) != state.alerted if decided is None else decided
        return self._turn(subject, state) if turns else None

    def advance(self, ts: int) -> int:
        """Let event time pass. Returns how many subjects were forgotten."""
        self.now = max(self.now, ts)
        before = self.forgotten
        while self.subjects and next(iter(self.subjects.values())).last <= self.now - self.max_age:
            self._forget_first()
        return self.forgotten - before

    def holds(self, subject: Subject) -> bool:
        """Whether the policy would alert, were it not for earlier alerts."""
        policy = self.policy
        if subject.posts < policy.min_posts:
            return False
        if policy.kind == "above":
            return subject.positive > subject.negative
        if policy.kind == "slope":
            return subject.positive > subject.negative or self._rises(subject)
        if policy.kind == "global":
            return subject.score > self.limit()
        if subject.share < policy.theta or subject.positive <= 0.0:
            return False
        if policy.kind == "threshold":
            return True
        recent = subject.totals[1:] if len(subject.totals) == policy.window else []
        return bool(recent or policy.window == 1) and all(share(*totals) >= policy.theta for totals in recent)

    def limit(self) -> float:
        """What a score must exceed under `global`: median + gamma MAD."""
        scores = self._scores
        n = len(scores)
        if not n:
            return 0.0
        median = scores[n // 2]
        return median + self.policy.gamma * deviation(scores, median, n // 2)

    def deadline(self) -> int | None:
        """When the next subject is forgotten, if nothing comes."""
        for subject in self.subjects.values():
            return subject.last + self.max_age
        return None

    def freeze(self) -> Callable[[], State]:
        """A cheap copy now; the function makes the state, in any thread."""
        subjects, document = list(self.subjects.items()), {name: getattr(self, name) for name in KEPT}
        return lambda: State({"subjects": np.frombuffer(msgspec.msgpack.encode(subjects), np.uint8)}, document)

    def state(self) -> State:
        return self.freeze()()

    def restore(self, state: State) -> None:
        try:
            kept = msgspec.msgpack.decode(state.arrays["subjects"].tobytes(), type=list[tuple[str, Subject]])
            document = {name: int(state.document[name]) for name in KEPT}
        except (KeyError, msgspec.MsgspecError) as error:
            raise StateError(f"not the state of early decisions: {error}") from None
        for name, value in document.items():
            setattr(self, name, value)
        self.subjects = OrderedDict(kept)
        ranked = self.subjects.values() if self.policy.kind == "global" else []
        self._scores = sorted(subject.score for subject in ranked)

    def _rises(self, subject: Subject) -> bool:
        if len(subject.totals) < self.policy.window:
            return False
        positive, negative = subject.totals[0]
        return (subject.positive - positive) - (subject.negative - negative) > self.policy.delta

    def _turn(self, subject: str, state: Subject) -> Alert:
        """An alert, or its end."""
        state.alerted = not state.alerted
        self.alerts += state.alerted
        self.corrected += not state.alerted
        why = [[post, score] for score, post in state.why]
        return Alert(subject, state.score, state.posts, self.policy.kind, why, self.now, state.alerted)

    def _make_room(self) -> None:
        while len(self.subjects) > self.max_subjects:
            self._forget_first()

    def _forget_first(self) -> None:
        self._drop_score(self.subjects.pop(next(iter(self.subjects))))
        self.forgotten += 1

    def _add_score(self, subject: Subject) -> None:
        if self.policy.kind == "global":
            insort(self._scores, subject.score)

    def _drop_score(self, subject: Subject | None) -> None:
        if subject is not None and self.policy.kind == "global":
            del self._scores[bisect_left(self._scores, subject.score)]


def deviation(ordered: Sequence[float], centre: float, k: int) -> float:
    """The k-th smallest |x - centre|, from 0, of ordered numbers; in steps of the logarithm of their number."""
    n = len(ordered)
    low, high = 0, n - k - 1  # the k + 1 nearest are a stretch of the order; find where it starts
    while low < high:
        middle = (low + high) // 2
        if centre - ordered[middle] > ordered[middle + k + 1] - centre:
            low = middle + 1
        else:
            high = middle
    return max(abs(ordered[low] - centre), abs(ordered[low + k] - centre))


def for_and_against(confidences: Sequence[float], watched: Sequence[int]) -> tuple[float, float]:
    """What a prediction says for the categories watched, by their number, and for all others."""
    positive = sum(confidences[c] for c in watched if c < len(confidences))
    return positive, sum(confidences) - positive


def check_subject(subject: Any) -> str:
    """A subject's name. Raises BadRecord for what is none."""
    if not isinstance(subject, str) or not subject:
        raise BadRecord("subject: missing, or not a string")
    if len(subject) > LONGEST:
        raise BadRecord(f"subject: a name of more than {LONGEST} characters")
    return subject


def _check_confidences(positive: float, negative: float) -> None:
    if not (0.0 <= positive < 1e100 and 0.0 <= negative < 1e100):
        raise BadRecord("post: confidences must be finite and 0 or more")


def _require(holds: bool, key: str, expected: str) -> None:
    if not holds:
        raise ConfigError(key, expected)
