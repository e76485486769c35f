"""A predicting pipeline on one partition: predict on every event, learn from every label.

Tasks classify, regress and choose read an event's `features`, task text its `text`.

What happens to each input, in order of the stream:

    event                 predicted; observed; with a label in it: judged, learned, closed; else it waits
    event seen before     predicted again, not observed (counted); a label in it is a label record
    label, event waiting  judged with the prediction made at the time, learned, closed
    label, event expired  the same, counted as late
    label, labelled       the same label: repeated, no effect; another one: corrected in the learner, not judged
    label, event unknown  parked until the event comes; in the end a dead letter (unknown)
    label with `skip`     the event stops waiting as if expired; nothing is learned
    label, event asked for  what the query stage makes of it: see `streamd.querying.asker`
    tick                  event time moves on; what is due expires

`take` decides and applies; `replay` applies what was decided. They run the same code; in a replay a prediction is
the memo that the journal kept, and what was refused is refused again without being tried.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from msgspec.structs import replace

from streamd.errors import Refused, StateError
from streamd.journal import Refusal
from streamd.learners import Decides, KeepsGroups, KeepsVocabulary, Learner, Repairs
from streamd.learners.drift import Adwin
from streamd.operating.commanded import Apply
from streamd.ports import Record
from streamd.questions import Question
from streamd.snapshot import State, merge, split
from streamd.stages.again import predict_again
from streamd.stages.alerting import Alerting
from streamd.stages.answers import Answers
from streamd.stages.asked import answer
from streamd.stages.batch import Batch
from streamd.stages.pending import PendingLabels
from streamd.stages.quality import LabelDelay, ValueQuality, quality_of
from streamd.stages.querying import Querying
from streamd.stages.run import Journalled, Taken
from streamd.stages.settings import Settings
from streamd.stages.shadows import Model, Shadows, catch_up
from streamd.views import QualityView, TaskView

COUNTS = {
    "events": "events applied",
    "repeated_events": "events whose id was still remembered: predicted again, not learned again",
    "learned": "labels learned, in events or as records; each is judged",
    "late_labels": "labels learned after their event had expired",
    "repeated_labels": "labels that said again what was learned: no effect",
    "corrected_labels": "labels that contradicted the one learned: corrected",
    "early_labels": "labels that came before their event and were parked",
    "unknown_labels": "parked labels given up: dead letters",
    "skipped_labels": "answers that gave no label",
    "expired_events": "events that waited too long, or for too many others, for their label",
    "refused_labels": "labels the learner refused: dead letters",
    "dead_letters": "records refused as a whole",
    "ticks": "moments at which event time moved on without a record",
}

NO_SHADOWS: Mapping[str, Model] = {}


class Predicting:
    """The stages of one shard.

    learner: a fresh learner for each call; partition: given to every output, None lets the log choose by key;
    key: signs the pickled parts of the state; querying: the query stage, if there is one.
    """

    def __init__(
        self,
        settings: Settings,
        learner: Callable[[], Learner],
        partition: int | None,
        key: bytes | None = None,
        shadows: Mapping[str, Model] = NO_SHADOWS,
        model: str = "",
        querying: Querying | None = None,
    ) -> None:
        self.settings = settings
        self.partition = partition
        self.querying = querying
        self.learner = learner()
        self.pending = PendingLabels(settings.bounds)
        self.several = isinstance(self.learner, Decides) and self.learner.multilabel
        quality = partial(quality_of, settings.task, settings.fading, several=self.several)
        self.quality = quality(self.learner)
        self.shadows = Shadows(Model(settings.model, learner, model), shadows, quality)
        self.delay = LabelDelay()
        self._key = key
        self.drift = self._fresh_drift()
        self.drifts = 0
        self.now = 0  # event time, milliseconds since 1970
        self.past: Mapping[str, int] = {}  # topic -> the offset before which a record is history
        self.look = 0  # nothing is due before; a look at every record would cost more than most of them
        self.counts = dict.fromkeys(COUNTS, 0)
        self.answers = self._fresh_answers()
        early = settings.early
        self.alerting = None if early is None else Alerting(early, partition)
        self.reads_text = settings.task == "text"

    def take(self, records: Sequence[Record], refused: Mapping[int, Refusal] = {}) -> Taken:
        """Decide and apply a batch. refused: decided beforehand."""
        return Batch(self, None).apply(records, refused)

    def replay(
        self,
        records: Sequence[Record],
        refused: Mapping[int, Refusal],
        memos: Sequence[bytes],
        turns: bytes = b"",
        decisions: Sequence[bytes] = (),
    ) -> None:
        """Apply a batch as it was decided. Raises StateError where the journal does not fit the records.

        Decisions that a pipeline without a query stage finds are left alone, and what was journalled before there
        was one has none.
        """
        left = Journalled(iter(memos), iter(turns), iter(decisions))
        Batch(self, left).apply(records, refused)
        if next(left.memos, None) is not None:
            raise StateError("the journal holds more predictions than events")

    def answer(self, question: Question) -> bytes:
        """See `stages.asked`."""
        return answer(question, self.learner, self.answers, self.settings, self.now)

    def prepare(self, command: str, payload: bytes, memos: Sequence[bytes] | None = None) -> Apply:
        """What carries a command out: `promote`, whose payload is a shadow's name. Raises Refused."""
        if command == "promote":
            return self._promotion(payload.decode(errors="replace"))
        raise Refused(f"there is no command {command} for task {self.settings.task}")

    def adopt(self, state: State, whole: bool) -> Apply:
        """What makes a state of before, or of another place, this one's. whole: else what was learned only; what
        was predicted of the events that are remembered is predicted anew."""

        _, name = split(state)["stage"].document.get("live", (self.shadows.live.key, self.model))
        if not whole and name != self.model:
            raise Refused(f"its live model is {name}, and {self.model} is live here; promote that one first")

        def apply() -> Sequence[bytes]:
            now, parts = self.now, split(state)
            if whole:
                self.restore(state)
                self.now = max(self.now, now)
                return ()
            self.learner.restore(parts["learner"])
            if self.drift is not None and "drift" in parts:
                self.drift.restore(parts["drift"])
            predict_again(self.learner, self.pending, self.reads_text)
            return ()

        return apply

    def promised(self) -> State:
        """The query stage's state: its queries, budget and annotators."""
        return State({}, {}) if self.querying is None else merge({"querying": self.querying.freeze()})

    def take_over(self, promised: State) -> None:
        """See `Task`; there may have been no query stage then, or is none now."""
        parts = split(promised)
        if self.querying is not None and "querying" in parts:
            self.querying.restore(parts["querying"])

    def deadline(self) -> int | None:
        """The next moment of event time at which something happens without a record."""
        alerts = None if self.alerting is None else self.alerting.deadline()
        asked = None if self.querying is None else self.querying.deadline()
        return min((due for due in (self.pending.deadline(), alerts, asked) if due is not None), default=None)

    # --- commands

    @property
    def model(self) -> str:
        """Of the live learner: its kind and the digest of what gives its state a meaning."""
        return self.shadows.live.name

    def _promotion(self, name: str) -> Apply:
        """What makes a shadow the live learner, and the live one that shadow."""
        shadow = self.shadows.of.get(name)
        if shadow is None:
            known = ", ".join(sorted(self.shadows.of)) or "none"
            raise Refused(f"there is no shadow {name}; there are: {known}")
        if not shadow.judged:
            raise Refused(f"the shadow {name} has seen nothing it could be judged by; wait until labels came")
        return lambda: self._exchange(name)

    def _exchange(self, name: str) -> Sequence[bytes]:
        former = self.shadows.live
        self.counts["expired_events"] += catch_up(self.shadows.of[name], self.pending, self.reads_text)
        promoted = self.shadows.exchange(name, self.learner, self.quality)
        self.learner, self.quality = promoted.learner, promoted.quality
        self.pending.exchange(former.key, self.shadows.live.key)
        self._take_role()
        return ()

    def _take_role(self) -> None:
        """What depends on which model is live."""
        self.drift = self._fresh_drift()
        self.answers = self._fresh_answers()

    def _fresh_answers(self) -> Answers:
        decides = self.learner if isinstance(self.learner, Decides) else None
        return Answers(replace(self.settings, model=self.model), self.partition, decides)

    def _fresh_drift(self) -> Adwin | None:
        delta = self.settings.drift_delta
        return None if delta is None else Adwin(delta, self._key)

    # --- what it shows, what it keeps

    def show(self) -> TaskView:
        labels, total, fading = self.quality.measures()
        return TaskView(
            counts=dict(self.counts) | self._repaired(),
            pending=len(self.pending.waiting),
            pending_bytes=self.pending.bytes,
            early=len(self.pending.early),
            classes=len(self.learner.classes),
            delay=self.delay.view(),
            quality=QualityView(labels, total, fading, self.drifts),
            groups=self.learner.groups_view() if isinstance(self.learner, KeepsGroups) else None,
            shadows=self.shadows.view(),
            alerts=None if self.alerting is None else self.alerting.show(),
            vocabulary=self.learner.vocabulary_view() if isinstance(self.learner, KeepsVocabulary) else None,
            querying=None if self.querying is None else self.querying.show(),
        )

    def _repaired(self) -> dict[str, int]:
        """What is shown where there is any. Repairs are no part of the state: a replay takes what was repaired."""
        repaired = self.learner.repaired if isinstance(self.learner, Repairs) else 0
        strange = self.quality.non_finite if isinstance(self.quality, ValueQuality) else 0
        counts = {"repaired_predictions": repaired, "non_finite_predictions": strange}
        return {name: count for name, count in counts.items() if count}

    def freeze(self) -> Callable[[], State]:
        """A cheap copy now, to be called between two batches; the function makes the state, in any thread."""
        learner = self.learner.state()
        copied = State({name: array.copy() for name, array in learner.arrays.items()}, learner.document)
        parts = {"learner": copied, "quality": self.quality.state()}
        if self.drift is not None:
            parts["drift"] = self.drift.state()
        if self.shadows.of:
            parts["shadows"] = self.shadows.state()
        if self.querying is not None:
            parts["querying"] = self.querying.freeze()
        document = {
            "live": [self.shadows.live.key, self.model],
            "now": self.now,
            "counts": dict(self.counts),
            "delay": self.delay.document(),
            "drifts": self.drifts,
        }
        later = {"pending": self.pending.freeze()}
        if self.alerting is not None:
            later["alerting"] = self.alerting.freeze()
        stage = State({}, document)
        return lambda: merge({**parts, "stage": stage, **{name: thaw() for name, thaw in later.items()}})

    def restore(self, state: State) -> None:
        parts = split(state)
        document = parts["stage"].document
        keys = self.shadows.restore(document.get("live"), parts.get("shadows"))
        self.learner = self.shadows.live.fresh()
        self._take_role()
        self.learner.restore(parts["learner"])
        self.quality.restore(parts["quality"])
        self.pending.restore(parts["pending"], keys)
        if self.drift is not None:
            self.drift.restore(parts["drift"])
        if self.alerting is not None and "alerting" in parts:
            self.alerting.restore(parts["alerting"])
        if self.querying is not None and "querying" in parts:  # there may have been no query stage then
            self.querying.restore(parts["querying"])
        self.now, self.drifts = document["now"], document["drifts"]
        self.look = 0
        self.counts = dict.fromkeys(COUNTS, 0) | document["counts"]
        self.delay.restore(document["delay"])
