"""One batch of records, applied in order to a predicting stage: the table in `streamd.stages.predicting`.

Records are taken in one by one, and what the learner is to do about them is collected in a run; the run is
executed at the batch's end, or before it where a later record must see what an earlier one set off.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from streamd import records as codec
from streamd.errors import BadRecord, StateError
from streamd.journal import Refusal
from streamd.learners import KeepsGroups, Label, Predictions, ReadsPlain, TakesColumns
from streamd.ports import Record
from streamd.stages.ahead import NOTHING, Read, read
from streamd.stages.alerting import Post
from streamd.stages.columns import apply, columns
from streamd.stages.pending import Remembered
from streamd.stages.querying import TEACH, Decided, Querying
from streamd.stages.run import ONCE, Journalled, Run, Taken, Weights
from streamd.stages.shadows import judge

if TYPE_CHECKING:
    from streamd.stages.predicting import Predicting

FEW = 12  # records: to read so many at once takes longer than one after the other
RARE = 100  # records: what lies between two odd ones, in the mean, is worth a batch of its own


class Batch:
    """journalled: in a replay, what was predicted and decided then."""

    def __init__(self, stage: "Predicting", journalled: Journalled | None) -> None:
        self._stage = stage
        self._settings = stage.settings
        self._counts = stage.counts
        self._pending = stage.pending
        self._alerting = stage.alerting
        self._reads_text = stage.reads_text
        self._replaying = journalled is not None
        self._read_label = codec.class_labels if stage.several else codec.LABEL_OF[stage.settings.task]
        self._taken = Taken([], {}, [], bytearray(), [])
        showing = isinstance(stage.learner, KeepsGroups)
        self._run = Run(stage.learner.steps(), stage.shadows.runs(), journalled, showing)
        # What a label sets off must be seen by the next event: a learner that starts anew, an alarm.
        asking = stage.querying
        self._one_by_one = stage.drift is not None and (stage.settings.drift_reset or asking is not None)
        self._alone = asking is not None and asking.learns_alone
        # Where one run takes the whole batch, and nobody else looks at the features.
        others = asking is not None or self._one_by_one or self._reads_text
        self._reads_ahead = not others and all(shadow.reads_plain for shadow in self._run.shadows)
        self._ahead = NOTHING

    def apply(self, records: Sequence[Record], decided: Mapping[int, Refusal]) -> Taken:
        """decided: refused beforehand, by index."""
        run, stage = self._run, self._stage
        if self._reads_ahead and len(records) >= FEW and isinstance(steps := run.steps, ReadsPlain):
            found = read(records, self._settings, self._pending, steps, run.shadows)
            alone = not (decided or run.shadows) and self._alerting is None
            if alone and isinstance(steps, TakesColumns) and self._at_once(records, found, steps):
                return self._taken
            self._ahead = found.ahead()
        for i, record in enumerate(records):
            refusal = decided.get(i) if decided else None
            if refusal is None or not refusal.whole:
                refusal = self._one(record, refusal)
            if refusal is not None:
                self._taken.refused[i] = refusal
                if refusal.whole:
                    self._counts["dead_letters"] += 1
                    self._dead_letter(record, refusal.reason)
            if (self._one_by_one and run.judged) or (self._alone and run.undecided):
                self._flush()
        self._execute()
        if stage.querying is not None:
            stage.querying.advance(stage.now)
        return self._taken

    def _at_once(self, records: Sequence[Record], found: Read, steps: TakesColumns) -> bool:
        return self._by_columns(records, found, steps) or self._in_pieces(records, found)

    def _by_columns(self, records: Sequence[Record], found: Read, steps: TakesColumns) -> bool:
        """Apply all of it at once, if it is nothing but plain events and their labels."""
        planned = columns(self._stage, records, found, steps, self._read_label, self._time)
        if planned is None:
            return False
        self._end(*apply(self._stage, planned, found, self._run, steps, self._advance))
        return True

    def _in_pieces(self, records: Sequence[Record], found: Read) -> bool:
        """Where only few records are not plain: these, and what lies between them, as batches of their own."""
        odd = found.odd(records, self._settings)
        if len(records) == 1 or not 0 < len(odd) * RARE <= len(records):
            return False
        cuts = sorted({0, *odd, *(place + 1 for place in odd), len(records)})
        for start, end in pairwise(cuts):
            self._taken.extend(Batch(self._stage, self._run.journalled).apply(records[start:end], {}), start)
        return True

    def _one(self, record: Record, decided: Refusal | None) -> Refusal | None:
        """Apply one record. Returns why it, or its label, was refused."""
        try:
            if record.topic == self._settings.events:
                return self._event(record, decided)
            if record.topic == self._settings.labels:
                return self._label(record, decided)
        except BadRecord as refusal:
            if self._replaying:
                raise StateError(
                    f"{record.topic} partition {record.partition} offset {record.offset} was applied when it was "
                    f"journalled, and is refused now: {refusal.reason}"
                ) from None
            return Refusal(True, refusal.reason)
        self._counts["ticks"] += 1
        self._advance(record.timestamp)
        return None

    def _event(self, record: Record, decided: Refusal | None) -> Refusal | None:
        run, stage, pending = self._run, self._stage, self._pending
        event: codec.Event | codec.Plain
        if (ahead := self._ahead.get(id(record.value))) is not None:
            event, given = ahead.event, None
        else:
            event = codec.decode_event(self._bounded(record))
            given = self._given(event)
        ts = record.timestamp if event.ts is None else self._time(event.ts, record)
        label = None if event.label is UNSET or event.label is None else self._read_label(event.label)
        subject = None if self._alerting is None else self._alerting.subject(event)
        row = run.steps.row(given, event.groups) if ahead is None else ahead.row
        self._advance(ts)  # nothing is refused as a whole from here on
        seen = run.predict(row, event.id, record, ts)
        if (known := pending.find(event.id)) is not None:
            self._counts["repeated_events"] += 1
            return None if label is None else self._answer(record, event.id, known, label, decided)
        run.steps.observe(row)
        self._counts["events"] += 1
        assert record.value is not None
        now = stage.now
        entry = Remembered(record.value, seen, now, now + self._settings.bounds.max_age)
        if isinstance(seen, int):
            run.filling.append(entry)
        if subject is not None:
            run.posts.append(Post(subject, event.id, record, seen, now, now))
        for shadow in run.shadows:
            if ahead is None:
                shadow.row(row, given, event.groups)
            shadow.event(row, entry)
        weights, asking = ONCE, self._asking(record)
        if label is None and (early := pending.early.pop(event.id, None)) is not None:
            record = early.record
            parked = codec.decode_label(record.value)
            label, weights = self._read_label(parked.label), Weights(parked.confidence)
        refusal = None
        if label is not None:
            refusal = self._learn(record, event, entry, row, label, decided, weights)
            if asking is not None and asking.asks.gold and isinstance(label, str | float):
                run.propose(_whole(event), record, seen, now, label)
        elif asking is not None:
            run.propose(_whole(event), record, seen, now)
        if label is None or refusal is not None:
            self._counts["expired_events"] += pending.wait(event.id, entry)
        return refusal

    def _label(self, record: Record, decided: Refusal | None) -> Refusal | None:
        label = codec.decode_label(self._bounded(record))
        value = None if label.skip else self._read_label(label.label)
        self._advance(record.timestamp if label.ts is None else self._time(label.ts, record))
        entry = self._pending.find(label.id)
        if value is None:
            self._counts["skipped_labels"] += 1
        if entry is None and value is not None:
            self._counts["early_labels"] += 1
            self._give_up(self._pending.park(label.id, record, self._stage.now))
            return None
        if entry is not None and self._asked_for(record, label, value):
            return self._asked(record, label, value, entry, decided)
        if entry is None or value is None:
            self._counts["expired_events"] += self._pending.give_up(label.id)
            return None
        return self._answer(record, label.id, entry, value, decided, Weights(label.confidence))

    def _asked_for(self, record: Record, label: codec.Label, value: Label | None) -> bool:
        """Whether the query stage is concerned; then all events before were decided on."""
        asking = self._asking(record)
        if asking is None:
            return False
        knows = asking.asker.knows
        if knows(label.id) or any(one.event.id == label.id for one in self._run.undecided):
            self._flush()
        if knows(label.id):
            return True
        asking.asker.unasked(value is None)
        return False

    def _asked(
        self,
        record: Record,
        label: codec.Label,
        value: Label | None,
        entry: Remembered,
        decided: Refusal | None,
    ) -> Refusal | None:
        """A label, or a skip, of an event that was asked for: learned is what the query stage makes of it."""
        stage, outputs = self._stage, self._taken.outputs
        assert stage.querying is not None
        assert not isinstance(value, dict)  # the configuration refuses a query stage for such labels
        answer, judged = stage.querying.answer(label, value, stage.now, stage.learner.classes)
        refusal = None
        if answer.kind in TEACH and answer.label is not None:
            weights = Weights.asked(answer.weight, 1.0 if answer.query is None else answer.query.p_ask)
            refusal = self._answer(record, label.id, entry, answer.label, decided, weights)
        elif answer.kind == "closed":
            self._counts["expired_events"] += self._pending.give_up(label.id)
        elif answer.kind == "repeated" and value is not None:
            self._counts["repeated_labels"] += 1
        skipped = value is None
        refused = refusal is not None
        outputs.extend(stage.querying.outcomes(answer, judged, skipped, refused, record, stage.now))
        outputs.extend(stage.querying.reask(answer, entry.value, skipped, record))
        return refusal

    def _answer(
        self,
        record: Record,
        event: str,
        entry: Remembered,
        label: Label,
        decided: Refusal | None,
        weights: Weights = ONCE,
    ) -> Refusal | None:
        """A label for an event that is remembered: waiting, expired, or labelled before."""
        if entry.label == label:
            self._counts["repeated_labels"] += 1
            return None
        if (ahead := self._ahead.get(id(entry.value))) is not None:
            return self._learn(record, ahead.event, entry, ahead.row, label, decided, weights)
        then = codec.decode_event(entry.value)
        given = self._given(then)
        row = self._run.steps.row(given, then.groups)
        for shadow in self._run.shadows:
            shadow.row(row, given, then.groups)
        return self._learn(record, then, entry, row, label, decided, weights)

    def _learn(
        self,
        record: Record,
        event: codec.Event | codec.Plain,
        entry: Remembered,
        row: int,
        label: Label,
        decided: Refusal | None,
        weights: Weights = ONCE,
    ) -> Refusal | None:
        """Learn a label and close its event, or refuse the label as `record`'s."""
        run = self._run
        if decided is None:
            try:
                run.teach(row, entry, label, weights)
            except BadRecord as refusal:
                decided = Refusal(False, refusal.reason)
        if decided is not None:
            self._counts["refused_labels"] += 1
            self._dead_letter(record, decided.reason)
            return decided
        if entry.label is not None:
            self._counts["corrected_labels"] += 1
        else:  # only the first label of an event is judged
            self._counts["learned"] += 1
            self._counts["late_labels"] += entry.expired
            run.delays.append(self._stage.now - entry.at)
            run.judged.append((entry.memo, label))
        if self._alerting is not None and (subject := self._alerting.subject(event)) is not None:
            post = Post(subject, event.id, record, entry.memo, entry.at, self._stage.now, label, entry.label)
            run.posts.append(post)
        beside = entry.beside
        for shadow in run.shadows:
            beside = shadow.learn(row, beside, label, weights.learned)
        self._pending.close(event.id, entry, label, beside)
        return None

    # --- pieces

    def _given(self, event: codec.Event) -> Any:
        """What the learner takes in. Raises BadRecord if the event has none."""
        given = event.text if self._reads_text else event.features
        if given is None:
            raise BadRecord(f"Object missing required field `{'text' if self._reads_text else 'features'}`")
        return given

    def _asking(self, record: Record) -> Querying | None:
        """The query stage, unless the record is history."""
        past = self._stage.past
        return None if past and record.offset < past.get(record.topic, 0) else self._stage.querying

    def _bounded(self, record: Record) -> bytes | None:
        if record.value is not None and len(record.value) > self._settings.record_bytes:
            raise BadRecord(f"the record has {len(record.value)} bytes, more than {self._settings.record_bytes}")
        return record.value

    def _time(self, ts: int | str, record: Record) -> int:
        moment = codec.milliseconds(ts)
        if moment > record.timestamp + self._settings.ahead:
            raise BadRecord("ts: lies further ahead of the log's timestamp than limits.ahead allows")
        return moment

    def _advance(self, ts: int) -> None:
        """Event time never goes back; what is due by now expires."""
        stage = self._stage
        if ts > stage.now:
            stage.now = ts
        if stage.now >= stage.look:
            self._counts["expired_events"] += self._pending.expire(stage.now)
            self._give_up(self._pending.expire_early(stage.now))
            stage.look = self._pending.nothing_before(stage.now)

    def _give_up(self, labels: Sequence[Record]) -> None:
        for record in labels:
            self._counts["unknown_labels"] += 1
            self._dead_letter(record, "label: its event is not known")

    def _dead_letter(self, record: Record, reason: str) -> None:
        topic, partition = self._settings.dead_letters, self._stage.partition
        self._taken.outputs.append(codec.dead_letter(topic, record, reason, record.timestamp, partition))

    # --- the end of a run

    def _flush(self) -> None:
        """Execute what was collected and begin anew."""
        own = self._execute().own
        run, learner = self._run, self._stage.learner
        run.renew(learner.steps(), self._stage.shadows.runs())
        for one in own:
            event = one.of.event
            row = run.steps.row(event.text if self._reads_text else event.features, event.groups)
            run.steps.learn(row, learner.classes[one.number], one.memo, one.weight)

    def _execute(self) -> Decided:
        """Predict and learn all that was collected, write the predictions down, decide on queries, and judge."""
        run = self._run
        predictions = run.steps.execute()
        memos = predictions.memos()
        for entry in run.filling:
            assert isinstance(entry.memo, int)
            entry.memo = memos[entry.memo]
        for shadow in run.shadows:
            shadow.execute()
        return self._end(predictions, memos)

    def _end(self, predictions: Predictions, memos: Sequence[bytes]) -> Decided:
        """Of a run that has been executed."""
        run, taken, stage = self._run, self._taken, self._stage
        taken.memos.extend(memos)
        decided = self._decide(predictions, memos)
        classes = stage.learner.classes
        taken.outputs.extend(stage.answers.write(run.predicted, predictions, classes, decided.asked))
        if self._alerting is not None:
            turns_left = None if run.journalled is None else run.journalled.turns
            alerts, turns = self._alerting.take(run.posts, memos, turns_left, stage.learner)
            self._alerting.advance(stage.now)
            taken.outputs.extend(alerts)
            taken.turns.extend(turns)
        taken.outputs.extend(decided.outputs)
        stage.delay.add(run.delays)
        self._judge(predictions, memos)
        return decided

    def _decide(self, predictions: Predictions, memos: Sequence[bytes]) -> Decided:
        run, stage = self._run, self._stage
        if stage.querying is None:
            return Decided([], [], [], {})
        decided = stage.querying.decide(run.undecided, predictions, memos, stage.learner)
        if run.journalled is None:
            of = {one.seen: packed for one, packed in zip(run.undecided, decided.decisions, strict=True)}
            self._taken.decisions.extend(of.get(i, b"") for i in range(len(memos)))
        return decided

    def _judge(self, predictions: Predictions, memos: Sequence[bytes]) -> None:
        """Judge the predictions whose labels came, of this run or of earlier ones, in the order of the labels."""
        judged, stage = self._run.judged, self._stage
        if not judged:
            return
        losses = judge(stage.learner, stage.quality, judged, predictions, memos)
        if stage.drift is None:
            return
        for loss in losses.tolist():
            if stage.drift.update(loss):
                stage.drifts += 1
                if stage.querying is not None:
                    stage.querying.asker.alarm()
                if self._settings.drift_reset:
                    stage.learner.reset()


def _whole(event: codec.Event | codec.Plain) -> codec.Event:
    assert isinstance(event, codec.Event)  # beside a query stage nothing is read ahead
    return event
