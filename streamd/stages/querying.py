"""The query stage of a predicting pipeline: which labels to ask for, the query records, what an answer came to.

Every event that came without its label is a candidate, once: decided on in the order of the stream, when its
prediction is known. Events that bring their label, or whose id was seen before, are none: they neither cost nor
earn. A run of events is executed first and decided on afterwards; a label whose event was asked for, or may have
been, waits for that, so decisions do not depend on how the stream was cut into batches.

    decide    the candidates of an executed run -> a packed decision for each, the query records, labels of its own
    answer    a label or a skip of an event asked for -> what the asker made of it
    outcomes  one record for each answer once it is judged, for the pool that routes
    advance   event time moves on; what is due expires. Expiry writes nothing: only the pool times attempts out

Where a pool is named, its queries and outcomes go to the pool's partition under its name; otherwise a query goes
where its event is. A query says under which key (and on which partition) its label is to come back.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from msgspec import UNSET, Struct
from numpy.typing import NDArray

from streamd import records as codec
from streamd.learners import Decides, Learner, Predictions, members_of
from streamd.ports import Output, Record
from streamd.querying import Answer, Asker, Candidate, pack, unpack
from streamd.querying.measures import Measure
from streamd.querying.queries import Query, Said
from streamd.querying.sketch import Sketch
from streamd.snapshot import State, merge, split
from streamd.stages.query_records import OutcomeRecord, QueryRecord, Reply
from streamd.views import AnnotatorView, EstimateView, QueryingView

WORDS = 256  # of a text, that its sketch is made of
MANY = 8  # candidates from which on they are decided on at once
TEACH = ("learn", "late", "correct", "unasked")
"""Kinds of answers whose label goes to the learner."""


class Asks(Struct, frozen=True):
    """What the configuration says of a query stage. reply: the topic of the labels.

    kept: what gives the strategy's and the budget's state its form; where it changes, both start anew.
    """

    pipeline: str
    strategy: str
    queries: str
    reply: str
    outcomes: str | None = None
    pool: str | None = None
    kind: str = "label"
    answers: int = 1
    needs: tuple[str, ...] = ()
    gold: float = 0.0
    kept: str = ""


class Undecided(NamedTuple):
    """An event that was predicted. seen: the number of the prediction in its run; in a replay its memo, and
    `decided` what the journal kept. now: event time when it came. truth: its label, if it brought one."""

    event: codec.Event
    record: Record
    seen: int | bytes
    now: int
    decided: bytes = b""
    truth: Said | None = None


class Own(NamedTuple):
    """A label to be learned without asking, of the class with this number."""

    of: Undecided
    memo: bytes
    number: int
    weight: float


class Decided(NamedTuple):
    """decisions: packed, one for each candidate. asked: why, by the number of the prediction in its run."""

    decisions: list[bytes]
    outputs: list[Output]
    own: list[Own]
    asked: dict[int, codec.Asked]


class Querying:
    """The query stage of one shard. sketch: where events are compared; None where they are not."""

    def __init__(
        self, asks: Asks, asker: Asker, measure: Measure, sketch: Sketch | None, partition: int | None
    ) -> None:
        self.asks = asks
        self.asker = asker
        self.partition = partition
        self._measure = measure
        self._sketch = sketch
        self.learns_alone = asks.strategy == "self_labelling"
        """Whether labels of its own may follow every event: then runs are of one event."""

    # --- events

    def decide(
        self, candidates: Sequence[Undecided], predictions: Predictions, memos: Sequence[bytes], learner: Learner
    ) -> Decided:
        """Decide on a run, in order, and apply; in a replay only apply.

        predictions, memos: the run's; in a replay there are none, and a candidate brings its memo.
        """
        if len(candidates) >= MANY and (at_once := self._at_once(candidates, predictions, learner)) is not None:
            return at_once
        rows, known = predictions.values, predictions.known
        decided = Decided([], [], [], {})
        for one in candidates:
            self.advance(one.now)
            if one.truth is not None:
                self._gold(one, one.truth, decided)
                continue
            if isinstance(one.seen, int):
                p = rows[one.seen, : known[one.seen]].tolist()
                memo = memos[one.seen]
            else:
                p, memo = learner.probabilities(one.seen).tolist(), one.seen
            self._one(one, p, memo, predictions, learner, decided)
        return decided

    def _at_once(
        self, candidates: Sequence[Undecided], predictions: Predictions, learner: Learner
    ) -> Decided | None:
        """The same for a whole run, where nothing but what was predicted matters; else None."""
        seen = [one.seen for one in candidates if isinstance(one.seen, int) and one.truth is None]
        if self._sketch is not None or self.learns_alone or len(seen) < len(candidates):
            return None
        known = predictions.known[seen].tolist()
        rows: NDArray[np.float64] = predictions.values[seen]
        several = isinstance(learner, Decides) and learner.multilabel
        utilities = None if several else self._measure.of_run(rows, known)
        if utilities is None:
            return None
        run = self.asker.decide_run(
            [one.event.id for one in candidates], utilities, [one.now for one in candidates]
        )
        if run is None:
            return None
        decided = Decided(run.packed(), [], [], {})
        for i, decision in run.asked():
            one, p = candidates[i], rows[i, : known[i]].tolist()
            candidate = Candidate(one.event.id, decision.utility, one.now, p, None, (), one.event.groups)
            query = self.asker.ask(candidate, decision, self._proposed(p, learner))
            self._told(one, query, decided)
        self.advance(candidates[-1].now)
        return decided

    def _proposed(self, p: Sequence[float], learner: Learner) -> str:
        """The label to be confirmed; "" to ask for the label itself."""
        return learner.classes[p.index(max(p))] if self.asks.kind == "confirm" and len(p) > 1 else ""

    def _told(self, one: Undecided, query: Query, decided: Decided) -> None:
        """The records of a query, and why."""
        decided.outputs.extend(self._first(query, one.event, one.record))
        if isinstance(one.seen, int):
            decided.asked[one.seen] = codec.Asked(query.utility, query.threshold, query.p_ask)

    def _one(
        self,
        one: Undecided,
        p: list[float],
        memo: bytes,
        predictions: Predictions,
        learner: Learner,
        decided: Decided,
    ) -> None:
        event, asker, sketch = one.event, self.asker, self._sketch
        x: NDArray[np.float64] | None = None
        near: tuple[int, ...] = ()
        if sketch is not None:
            x = sketch.vector(_features(event))
            near = sketch.near(x)
            sketch.observe(_features(event))
        if one.decided:
            decision = unpack(one.decided)
            candidate = Candidate(event.id, decision.utility, one.now, p, x, near, event.groups)
        else:
            members = members_of(learner, predictions, one.seen, memo) if self._measure.polls else None
            chosen = learner.decision(memo) if isinstance(learner, Decides) and learner.multilabel else None
            utility = self._measure.of(p, x, near, members, chosen)
            candidate = Candidate(event.id, utility, one.now, p, x, near, event.groups)
            decision = asker.decide(candidate)
            decided.decisions.append(pack(decision))
        if self.learns_alone and (own := asker.own_label(candidate, decision)) is not None:
            decided.own.append(Own(one, memo, *own))
        query = asker.apply(candidate, decision, self._proposed(p, learner) if decision.ask else "")
        self._measure.passed(x, near, decision.ask)
        if query is not None:
            self._told(one, query, decided)

    def _gold(self, one: Undecided, truth: Said, decided: Decided) -> None:
        """An event that brought its label: perhaps asked about all the same, to judge who answers."""
        asker, event = self.asker, one.event
        decision = unpack(one.decided) if one.decided else asker.decide_gold(event.id, self.asks.gold)
        if not one.decided:
            decided.decisions.append(pack(decision) if decision.ask else b"")
        if decision.ask:
            query = asker.ask_gold(Candidate(event.id, 0.0, one.now, groups=event.groups), truth)
            decided.outputs.extend(self._first(query, event, one.record))

    # --- answers

    def advance(self, now: int) -> None:
        """Event time: what is due expires."""
        self.asker.expire(now)

    def deadline(self) -> int | None:
        return self.asker.deadline()

    def answer(
        self, label: codec.Label, value: Said | None, now: int, classes: Sequence[str]
    ) -> tuple[Answer, list[str]]:
        """A label, None for a skip. Returns what it came to, and the annotators whose answers it judged."""
        self.advance(now)
        name = label.annotator
        query = self.asker.queries.find(label.id)
        before = frozenset() if query is None else frozenset((*query.said, *query.refused))
        if query is not None and label.query is not None:
            query.via = query.via | {name: label.query}
        answer = self.asker.answer(label.id, value, now, name, classes, label.confidence)
        query = answer.query
        if query is None or (answer.kind == "waiting" and value is not None):
            return answer, []
        if answer.kind in ("learn", "late"):
            return answer, list(query.said)
        return answer, [] if name in before else [name]

    def outcomes(
        self, answer: Answer, judged: Sequence[str], skipped: bool, refused: bool, record: Record, now: int
    ) -> Iterator[Output]:
        """One for each answer that was judged. refused: by the learner."""
        query = answer.query
        if self.asks.outcomes is None or query is None:
            return
        for name in judged:
            said = query.said.get(name, query.label)  # who refuted a proposal has said nothing else
            truth = query.label if query.truth is None else query.truth
            right = not skipped and not refused and (said == truth or not isinstance(said, str | list))
            told = OutcomeRecord(
                query.via.get(name, query.id),
                right,
                "label" if right else "skip" if skipped else "wrong",
                now,
                self.asks.pipeline,
                self.asks.pool or UNSET,
                name or UNSET,
            )
            yield self._output(self.asks.outcomes, record, query.event, codec.encode(told))

    def reask(self, answer: Answer, value: bytes, skipped: bool, record: Record) -> Iterator[Output]:
        """One more query record for an event, `value` as it was read: somebody refuted the proposal, or passed and
        there is somebody else, or a pool that may know one."""
        query = answer.query
        if query is None or answer.kind != "reask" or (skipped and not (answer.next or self.asks.pool)):
            return
        yield self._query(query, self.asker.issue(query), codec.decode_event(value), record, answer.next)

    # --- records

    def _first(self, query: Query, event: codec.Event, record: Record) -> Iterator[Output]:
        """One for each annotator asked; one for each answer wanted, where a pool finds the annotators."""
        asked = query.open or [""] * (self.asks.answers if self.asks.pool else 1)
        for i, name in enumerate(asked):
            id = query.id if i == 0 else self.asker.issue(query)
            if name:
                query.via = query.via | {name: id}
            yield self._query(query, id, event, record, name)

    def _query(self, query: Query, id: str, event: codec.Event, record: Record, annotator: str) -> Output:
        asks = self.asks
        reply = Reply(asks.reply, _key(record, event.id).decode("utf-8", "replace"), record.partition)
        told = QueryRecord(
            id=id,
            event=event.id,
            pipeline=asks.pipeline,
            kind=query.kind,
            ts=query.at,
            deadline=query.deadline,
            answers=asks.answers,
            utility=query.utility,
            threshold=query.threshold,
            p_ask=query.p_ask,
            reply=reply,
            pool=asks.pool or UNSET,
            needs=asks.needs,
            proposed=query.proposed if query.kind == "confirm" else UNSET,
            annotator=annotator or UNSET,
            exclude=tuple(query.refused),
            text=UNSET if event.text is None else event.text,
            features=UNSET if event.features is None else event.features,
        )
        return self._output(asks.queries, record, event.id, codec.encode(told))

    def _output(self, topic: str, record: Record, event: str, value: bytes) -> Output:
        pool = self.asks.pool
        if pool is not None:
            return Output(topic, pool.encode(), value, record.timestamp)
        return Output(topic, _key(record, event), value, record.timestamp, self.partition)

    # --- what it shows, what it keeps

    def show(self) -> QueryingView:
        shown = self.asker.show()
        quality = shown.quality
        estimates = EstimateView(
            _number(quality.raw),
            _number(quality.weighted),
            _number(quality.effective),
            _number(quality.holdout),
            _number(quality.error),
            quality.answers,
            quality.drawn,
        )
        team = tuple(
            AnnotatorView(one.name, one.accuracy, _number(one.agreement), _number(one.seconds), *one[4:])
            for one in shown.annotators
        )
        return QueryingView(
            strategy=self.asks.strategy,
            counts=shown.counts,
            pending=shown.pending,
            level=_number(shown.level),
            share=shown.share,
            estimates=estimates,
            annotators=team,
            lost=_number(shown.lost),
        )

    def freeze(self) -> State:
        """A copy."""
        parts = {"asker": self.asker.state(), "measure": self._measure.state()}
        if self._sketch is not None:
            parts["sketch"] = self._sketch.state()
        state = merge({**parts, "stage": State({}, {"kept": self.asks.kept})})
        return State({name: array.copy() for name, array in state.arrays.items()}, state.document)

    def restore(self, state: State) -> None:
        """Strategy, budget and measure start anew where their form was another one; the queries stay."""
        parts = split(state)
        if parts["stage"].document["kept"] != self.asks.kept:
            self.asker.restore(parts["asker"], anew=True)
            return
        self.asker.restore(parts["asker"])
        self._measure.restore(parts["measure"])
        if self._sketch is not None and "sketch" in parts:
            self._sketch.restore(parts["sketch"])


def _features(event: codec.Event) -> dict[str, codec.Scalar]:
    if event.features is not None:
        return event.features
    return dict.fromkeys((event.text or "").lower().split()[:WORDS], True)


def _key(record: Record, event: str) -> bytes:
    return record.key if record.key is not None else event.encode()


def _number(value: float) -> float | None:
    return value if value == value else None
