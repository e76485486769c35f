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

from msgspec import UNSET
from msgspec.structs import replace

from streamd import records as codec
from streamd.errors import BadRecord, Refused, StateError
from streamd.journal import Refusal
from streamd.learners import Decides, KeepsGroups, KeepsVocabulary, Label, Learner, Predictions, Repairs
from streamd.learners.drift import Adwin
from streamd.operating.commanded import Apply
from streamd.ports import Output, Record
from streamd.questions import Question
from streamd.snapshot import State, merge, split
from streamd.stages.again import predict_again
from streamd.stages.alerting import Alerting, Post
from streamd.stages.answers import Answers
from streamd.stages.asked import answer
from streamd.stages.pending import PendingLabels, Remembered
from streamd.stages.quality import LabelDelay, quality_of
from streamd.stages.querying import TEACH, Decided, Querying
from streamd.stages.run import ONCE, Journalled, Run, Taken, Weights
from streamd.stages.settings import Settings
from streamd.stages.shadows import Model, Shadows, catch_up, judge
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

READ_LABEL: Mapping[str, Callable[[object], Label]] = {
    "classify": codec.class_label,
    "regress": codec.value_label,
    "text": codec.class_label,
    "choose": codec.cost_label,
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
        several = isinstance(self.learner, Decides) and self.learner.multilabel
        quality = partial(quality_of, settings.task, settings.fading, several=several)
        self.quality = quality(self.learner)
        self.shadows = Shadows(Model(settings.model, learner, model), shadows, quality)
        self.delay = LabelDelay()
        self._key = key
        self.drift = self._fresh_drift()
        self.drifts = 0
        self.now = 0  # event time, milliseconds since 1970
        self.past: Mapping[str, int] = {}  # topic -> the offset before which a record is history
        self._look = 0  # nothing is due before; a look at every record would cost more than most of them
        self.counts = dict.fromkeys(COUNTS, 0)
        self._read_label = codec.class_labels if several else READ_LABEL[settings.task]
        self._answers = self._fresh_answers()
        early = settings.early
        self._alerting = None if early is None else Alerting(early, partition)
        self._reads_text = settings.task == "text"
        # What a label sets off must be seen by the next event: a learner that starts anew, an alarm.
        self._one_by_one = self.drift is not None and (settings.drift_reset or querying is not None)
        self._alone = querying is not None and querying.learns_alone

    def take(self, records: Sequence[Record], refused: Mapping[int, Refusal] = {}) -> Taken:
        """Decide and apply a batch. refused: decided beforehand."""
        return self._apply(records, refused, None)

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
        self._apply(records, refused, left)
        if next(left.memos, None) is not None:
            raise StateError("the journal holds more predictions than events")

    def answer(self, question: Question) -> bytes:
        """See `stages.asked`."""
        return answer(question, self.learner, self._answers, self.settings, self.now)

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
            predict_again(self.learner, self.pending, self._reads_text)
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
        alerts = None if self._alerting is None else self._alerting.deadline()
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
        self.counts["expired_events"] += catch_up(self.shadows.of[name], self.pending, self._reads_text)
        promoted = self.shadows.exchange(name, self.learner, self.quality)
        self.learner, self.quality = promoted.learner, promoted.quality
        self.pending.exchange(former.key, self.shadows.live.key)
        self._take_role()
        return ()

    def _take_role(self) -> None:
        """What depends on which model is live."""
        self.drift = self._fresh_drift()
        self._answers = self._fresh_answers()

    def _fresh_answers(self) -> Answers:
        decides = self.learner if isinstance(self.learner, Decides) else None
        return Answers(replace(self.settings, model=self.model), self.partition, decides)

    def _fresh_drift(self) -> Adwin | None:
        delta = self.settings.drift_delta
        return None if delta is None else Adwin(delta, self._key)

    # --- one batch

    def _apply(
        self, records: Sequence[Record], decided: Mapping[int, Refusal], journalled: Journalled | None
    ) -> Taken:
        taken = Taken([], {}, [], bytearray(), [])
        showing = isinstance(self.learner, KeepsGroups)
        run = Run(self.learner.steps(), self.shadows.runs(), journalled, showing)
        for i, record in enumerate(records):
            refusal = decided.get(i)
            if refusal is None or not refusal.whole:
                refusal = self._one(run, record, refusal, journalled is not None, taken)
            if refusal is not None:
                taken.refused[i] = refusal
                if refusal.whole:
                    self.counts["dead_letters"] += 1
                    taken.outputs.append(self._dead_letter(record, refusal.reason))
            if (self._one_by_one and run.judged) or (self._alone and run.undecided):
                self._flush(run, taken)
        self._execute(run, taken)
        if self.querying is not None:
            self.querying.advance(self.now)
        return taken

    def _one(
        self, run: Run, record: Record, decided: Refusal | None, replaying: bool, taken: Taken
    ) -> Refusal | None:
        """Apply one record. Returns why it, or its label, was refused."""
        try:
            if record.topic == self.settings.events:
                return self._event(run, record, decided, taken)
            if record.topic == self.settings.labels:
                return self._label(run, record, decided, taken)
        except BadRecord as refusal:
            if replaying:
                raise StateError(
                    f"{record.topic} partition {record.partition} offset {record.offset} was applied when it was "
                    f"journalled, and is refused now: {refusal.reason}"
                ) from None
            return Refusal(True, refusal.reason)
        self.counts["ticks"] += 1
        self._advance(record.timestamp, taken)
        return None

    def _event(self, run: Run, record: Record, decided: Refusal | None, taken: Taken) -> Refusal | None:
        event = codec.decode_event(self._bounded(record))
        given = event.text if self._reads_text else event.features
        if given is None:
            raise BadRecord(f"Object missing required field `{'text' if self._reads_text else 'features'}`")
        ts = record.timestamp if event.ts is None else self._time(event.ts, record)
        label = None if event.label is UNSET or event.label is None else self._read_label(event.label)
        subject = None if self._alerting is None else self._alerting.subject(event)
        row = run.steps.row(given, event.groups)
        self._advance(ts, taken)  # nothing is refused as a whole from here on
        seen = run.predict(row, event, record, ts)
        if (known := self.pending.find(event.id)) is not None:
            self.counts["repeated_events"] += 1
            return None if label is None else self._answer(run, record, event.id, known, label, decided, taken)
        run.steps.observe(row)
        self.counts["events"] += 1
        assert record.value is not None
        entry = Remembered(record.value, seen, self.now, self.now + self.settings.bounds.max_age)
        if isinstance(seen, int):
            run.filling.append(entry)
        if subject is not None:
            run.posts.append(Post(subject, event.id, record, seen, self.now, self.now))
        for shadow in run.shadows:
            shadow.row(row, given, event.groups)
            shadow.event(row, entry)
        weights, asking = ONCE, self._asking(record)
        if label is None and (early := self.pending.early.pop(event.id, None)) is not None:
            record = early.record
            parked = codec.decode_label(record.value)
            label, weights = self._read_label(parked.label), Weights(parked.confidence)
        refusal = None
        if label is not None:
            refusal = self._learn(run, record, event, entry, row, label, decided, taken, weights)
            if asking is not None and asking.asks.gold and isinstance(label, str | float):
                run.propose(event, record, seen, self.now, label)
        elif asking is not None:
            run.propose(event, record, seen, self.now)
        if label is None or refusal is not None:
            self.counts["expired_events"] += self.pending.wait(event.id, entry)
        return refusal

    def _label(self, run: Run, record: Record, decided: Refusal | None, taken: Taken) -> Refusal | None:
        label = codec.decode_label(self._bounded(record))
        value = None if label.skip else self._read_label(label.label)
        self._advance(record.timestamp if label.ts is None else self._time(label.ts, record), taken)
        entry = self.pending.find(label.id)
        if value is None:
            self.counts["skipped_labels"] += 1
        if entry is None and value is not None:
            self.counts["early_labels"] += 1
            self._give_up(self.pending.park(label.id, record, self.now), taken)
            return None
        if entry is not None and self._asked_for(run, record, label, value, taken):
            return self._asked(run, record, label, value, entry, decided, taken)
        if entry is None or value is None:
            self.counts["expired_events"] += self.pending.give_up(label.id)
            return None
        return self._answer(run, record, label.id, entry, value, decided, taken, Weights(label.confidence))

    def _asked_for(self, run: Run, record: Record, label: codec.Label, value: Label | None, taken: Taken) -> bool:
        """Whether the query stage is concerned; then all events before were decided on."""
        asking = self._asking(record)
        if asking is None:
            return False
        knows = asking.asker.knows
        if knows(label.id) or any(one.event.id == label.id for one in run.undecided):
            self._flush(run, taken)
        if knows(label.id):
            return True
        asking.asker.unasked(value is None)
        return False

    def _asked(
        self,
        run: Run,
        record: Record,
        label: codec.Label,
        value: Label | None,
        entry: Remembered,
        decided: Refusal | None,
        taken: Taken,
    ) -> Refusal | None:
        """A label, or a skip, of an event that was asked for: learned is what the query stage makes of it."""
        assert self.querying is not None
        assert not isinstance(value, list | dict)  # the configuration refuses a query stage for such labels
        answer, judged = self.querying.answer(label, value, self.now, self.learner.classes)
        refusal = None
        if answer.kind in TEACH and answer.label is not None:
            weights = Weights.asked(answer.weight, 1.0 if answer.query is None else answer.query.p_ask)
            refusal = self._answer(run, record, label.id, entry, answer.label, decided, taken, weights)
        elif answer.kind == "closed":
            self.counts["expired_events"] += self.pending.give_up(label.id)
        elif answer.kind == "repeated" and value is not None:
            self.counts["repeated_labels"] += 1
        skipped = value is None
        refused = refusal is not None
        taken.outputs.extend(self.querying.outcomes(answer, judged, skipped, refused, record, self.now))
        taken.outputs.extend(self.querying.reask(answer, entry.value, skipped, record))
        return refusal

    def _answer(
        self,
        run: Run,
        record: Record,
        event: str,
        entry: Remembered,
        label: Label,
        decided: Refusal | None,
        taken: Taken,
        weights: Weights = ONCE,
    ) -> Refusal | None:
        """A label for an event that is remembered: waiting, expired, or labelled before."""
        if entry.label == label:
            self.counts["repeated_labels"] += 1
            return None
        then = codec.decode_event(entry.value)
        given = then.text if self._reads_text else then.features
        row = run.steps.row(given, then.groups)
        for shadow in run.shadows:
            shadow.row(row, given, then.groups)
        return self._learn(run, record, then, entry, row, label, decided, taken, weights)

    def _learn(
        self,
        run: Run,
        record: Record,
        event: codec.Event,
        entry: Remembered,
        row: int,
        label: Label,
        decided: Refusal | None,
        taken: Taken,
        weights: Weights = ONCE,
    ) -> Refusal | None:
        """Learn a label and close its event, or refuse the label as `record`'s."""
        if decided is None:
            try:
                run.teach(row, entry, label, weights)
            except BadRecord as refusal:
                decided = Refusal(False, refusal.reason)
        if decided is not None:
            self.counts["refused_labels"] += 1
            taken.outputs.append(self._dead_letter(record, decided.reason))
            return decided
        if entry.label is not None:
            self.counts["corrected_labels"] += 1
        else:  # only the first label of an event is judged
            self.counts["learned"] += 1
            self.counts["late_labels"] += entry.expired
            self.delay.add(self.now - entry.at)
            run.judged.append((entry.memo, label))
        if self._alerting is not None and (subject := self._alerting.subject(event)) is not None:
            post = Post(subject, event.id, record, entry.memo, entry.at, self.now, label, entry.label)
            run.posts.append(post)
        beside = entry.beside
        for shadow in run.shadows:
            beside = shadow.learn(row, beside, label, weights.learned)
        self.pending.close(event.id, entry, label, beside)
        return None

    # --- pieces

    def _asking(self, record: Record) -> Querying | None:
        """The query stage, unless the record is history."""
        if self.past and self.querying is not None and record.offset < self.past.get(record.topic, 0):
            return None
        return self.querying

    def _bounded(self, record: Record) -> bytes | None:
        if record.value is not None and len(record.value) > self.settings.record_bytes:
            raise BadRecord(f"the record has {len(record.value)} bytes, more than {self.settings.record_bytes}")
        return record.value

    def _time(self, ts: int | str, record: Record) -> int:
        moment = codec.milliseconds(ts)
        if moment > record.timestamp + self.settings.ahead:
            raise BadRecord("ts: lies further ahead of the log's timestamp than limits.ahead allows")
        return moment

    def _advance(self, ts: int, taken: Taken) -> None:
        """Event time never goes back; what is due by now expires."""
        if ts > self.now:
            self.now = ts
        if self.now >= self._look:
            self.counts["expired_events"] += self.pending.expire(self.now)
            self._give_up(self.pending.expire_early(self.now), taken)
            self._look = self.pending.nothing_before(self.now)

    def _give_up(self, labels: Sequence[Record], taken: Taken) -> None:
        for record in labels:
            self.counts["unknown_labels"] += 1
            taken.outputs.append(self._dead_letter(record, "label: its event is not known"))

    def _dead_letter(self, record: Record, reason: str) -> Output:
        return codec.dead_letter(self.settings.dead_letters, record, reason, record.timestamp, self.partition)

    # --- the end of a run

    def _flush(self, run: Run, taken: Taken) -> None:
        """Execute what was collected and begin anew."""
        own = self._execute(run, taken).own
        run.renew(self.learner.steps(), self.shadows.runs())
        for one in own:
            row = run.steps.row(
                one.of.event.text if self._reads_text else one.of.event.features, one.of.event.groups
            )
            run.steps.learn(row, self.learner.classes[one.number], one.memo, one.weight)

    def _execute(self, run: Run, taken: Taken) -> Decided:
        """Predict and learn all that was collected, write the predictions down, decide on queries, and judge."""
        predictions = run.steps.execute()
        memos = predictions.memos()
        for entry in run.filling:
            assert isinstance(entry.memo, int)
            entry.memo = memos[entry.memo]
        for shadow in run.shadows:
            shadow.execute()
        taken.memos.extend(memos)
        decided = self._decide(run, predictions, memos, taken)
        classes = self.learner.classes
        taken.outputs.extend(self._answers.write(run.predicted, predictions, classes, decided.asked))
        if self._alerting is not None:
            turns_left = None if run.journalled is None else run.journalled.turns
            alerts, turns = self._alerting.take(run.posts, memos, turns_left, self.learner)
            self._alerting.advance(self.now)
            taken.outputs.extend(alerts)
            taken.turns.extend(turns)
        taken.outputs.extend(decided.outputs)
        self._judge(run.judged, predictions, memos)
        return decided

    def _decide(self, run: Run, predictions: Predictions, memos: Sequence[bytes], taken: Taken) -> Decided:
        if self.querying is None:
            return Decided([], [], [], {})
        decided = self.querying.decide(run.undecided, predictions, memos, self.learner)
        if run.journalled is None:
            of = {one.seen: packed for one, packed in zip(run.undecided, decided.decisions, strict=True)}
            taken.decisions.extend(of.get(i, b"") for i in range(len(memos)))
        return decided

    def _judge(
        self, judged: Sequence[tuple[int | bytes, Label]], predictions: Predictions, memos: Sequence[bytes]
    ) -> None:
        """Judge the predictions whose labels came, of this run or of earlier ones, in the order of the labels."""
        if not judged:
            return
        losses = judge(self.learner, self.quality, judged, predictions, memos)
        if self.drift is None:
            return
        for loss in losses.tolist():
            if self.drift.update(loss):
                self.drifts += 1
                if self.querying is not None:
                    self.querying.asker.alarm()
                if self.settings.drift_reset:
                    self.learner.reset()

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
            alerts=None if self._alerting is None else self._alerting.show(),
            vocabulary=self.learner.vocabulary_view() if isinstance(self.learner, KeepsVocabulary) else None,
            querying=None if self.querying is None else self.querying.show(),
        )

    def _repaired(self) -> dict[str, int]:
        """Not part of the state: a replay takes the predictions as they were repaired."""
        repaired = self.learner.repaired if isinstance(self.learner, Repairs) else 0
        return {"repaired_predictions": repaired} if repaired else {}

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
        if self._alerting is not None:
            later["alerting"] = self._alerting.freeze()
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
        if self._alerting is not None and "alerting" in parts:
            self._alerting.restore(parts["alerting"])
        if self.querying is not None and "querying" in parts:  # there may have been no query stage then
            self.querying.restore(parts["querying"])
        self.now, self.drifts = document["now"], document["drifts"]
        self._look = 0
        self.counts = dict.fromkeys(COUNTS, 0) | document["counts"]
        self.delay.restore(document["delay"])
