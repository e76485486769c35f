"""A matching pipeline on one partition: every arrival is answered at once, by a match or the reason for none.

    arrival             decided, booked, answered; an (arrival, attempt) answered before gets the same answer again
    resource, segment   joins, leaves, changes; an edge set is kept
    outcome             settles its attempt; late, repeated, contradicting: see `streamd.matching.pool`
    tick                event time moves on; attempts over their time fail, and may be offered again

Pools live side by side, each with its own resources; a pool's records have its name as their key, so it has one
partition and one writer. A record that cannot be read at all changes nothing. One that can moves event time on,
even if what it says is refused (an outcome of an unknown match); both end as dead letters. `take` decides and
applies; `replay` applies the decisions of the journal and never decides.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET

from streamd import records as codec
from streamd.errors import BadRecord, NotFound, Refused, StateError
from streamd.journal import Refusal
from streamd.matching.arrivals import Outcome
from streamd.matching.attempts import Attempt, Decision
from streamd.matching.pool import COUNTS as POOL_COUNTS
from streamd.matching.pool import Pool
from streamd.matching.resources import Offer
from streamd.matching.window import Window
from streamd.operating.commanded import Apply
from streamd.ports import Output, Record, murmur2
from streamd.questions import Question
from streamd.snapshot import State, merge, split
from streamd.stages.hindsight import Watch
from streamd.stages.match_records import (
    NO_REPLY,
    ArrivalRecord,
    Match,
    OutcomeRecord,
    ResourceRecord,
    Told,
    asked,
    of_pipeline,
)
from streamd.stages.match_runs import ListedArrival, Runs
from streamd.stages.match_settings import Settings
from streamd.stages.match_view import shown
from streamd.views import DelayView, MatchingView, QualityView, TaskView

COUNTS = {
    **POOL_COUNTS,
    "reoffered": "attempts over their time that were offered again",
    "resources": "resource records applied",
    "segments": "segment records applied",
    "dead_letters": "records refused",
    "ticks": "moments at which event time moved on without a record",
}
NEVER = 1 << 62

_arrival = msgspec.json.Decoder(ArrivalRecord)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_decision = msgspec.msgpack.Decoder(Decision)
_pack = msgspec.msgpack.Encoder(order="sorted").encode


class Taken(NamedTuple):
    """What a batch decided: its outputs in order, the refusals by index, the decisions."""

    outputs: list[Output]
    refused: dict[int, Refusal]
    memos: list[bytes]
    turns: bytes = b""
    decisions: Sequence[bytes] = ()


class Matching:
    """The stage of one shard. partition: given to dead letters and matches, None lets the log choose by key."""

    model = ""  # as the configuration says

    def __init__(self, settings: Settings, partition: int | None) -> None:
        self.settings = settings
        self.partition = partition
        self.pools: dict[str, Pool] = {}
        self.now = 0  # event time, milliseconds since 1970
        self.past: Mapping[str, int] = {}
        self.counts = {name: 0 for name in COUNTS if name not in POOL_COUNTS}
        self._decoders: dict[str, msgspec.json.Decoder[Told]] = {
            settings.arrivals: msgspec.json.Decoder(ArrivalRecord),
            settings.resources: msgspec.json.Decoder(ResourceRecord),
            settings.outcomes: msgspec.json.Decoder(OutcomeRecord),
        }
        self._runs = Runs(settings, self._owned)
        self._watch = Watch(settings.rule, settings.shadows, settings.every)
        self._next = NEVER  # no attempt of any pool is over its time before
        self._offered: dict[
            str, dict[str, bytes]
        ] = {}  # pool -> match -> its arrival, while it may be offered again

    def take(self, records: Sequence[Record], refused: Mapping[int, Refusal] = {}) -> Taken:
        """Decide and apply a batch. refused: decided beforehand."""
        taken = self._apply(records, refused, None)
        self._watch.look(self.pools, self.now)
        return taken

    def replay(
        self,
        records: Sequence[Record],
        refused: Mapping[int, Refusal],
        memos: Sequence[bytes],
        turns: bytes = b"",
        decisions: Sequence[bytes] = (),
    ) -> None:
        """Apply a batch as it was decided. Raises StateError where the journal does not fit the records."""
        left = iter(memos)
        self._apply(records, refused, left)
        if next(left, None) is not None:
            raise StateError("the journal holds more decisions than arrivals")

    def prepare(self, command: str, payload: bytes, memos: Sequence[bytes] | None = None) -> Apply:
        """What carries a command of the operator out. Raises Refused."""
        raise Refused(f"there is no command {command} for task match")

    def adopt(self, state: State, whole: bool) -> Apply:
        """What makes a state of before, or of another place, this one's, always all of it: loads, promises and
        what was learned of a pool mean nothing apart."""

        def apply() -> Sequence[bytes]:
            now = self.now
            self.restore(state)
            self.now = max(self.now, now)
            return ()

        return apply

    def promised(self) -> State:
        """Nothing: a match pipeline's state is never begun anew."""
        return State({}, {})

    def take_over(self, promised: State) -> None:
        pass

    def deadline(self) -> int | None:
        """The next moment of event time at which an attempt is over its time."""
        return min((due for pool in self.pools.values() if (due := pool.deadline()) is not None), default=None)

    def answer(self, question: Question) -> bytes:
        """`predict`: the match that an arrival would get now."""
        if question.kind != "predict":
            raise NotFound(f"a matching pipeline does not answer {question.kind}")
        told = codec.decode(_arrival, question.body)
        pool = self.pools.get(told.pool)
        if pool is None:
            raise BadRecord("pool: not known here")
        arrival = asked(told)
        return codec.encode(self._match(told, arrival.attempt, pool.decide(arrival, self.now), question.body))

    # --- one batch

    def _apply(
        self, records: Sequence[Record], decided: Mapping[int, Refusal], memos: Iterator[bytes] | None
    ) -> Taken:
        taken = Taken([], {}, [])
        done = 0  # by runs
        for i, record in enumerate(records):
            if i < done:
                continue
            if memos is None and (n := self._run(records, i, decided, taken)):
                done = i + n
                continue
            refusal = decided.get(i)
            if refusal is None or not refusal.whole:
                refusal = self._one(record, refusal, memos, taken)
            if refusal is not None:
                taken.refused[i] = refusal
                self.counts["dead_letters"] += 1
                topic = self.settings.dead_letters
                taken.outputs.append(
                    codec.dead_letter(topic, record, refusal.reason, record.timestamp, self.partition)
                )
        return taken

    def _run(self, records: Sequence[Record], first: int, decided: Mapping[int, Refusal], taken: Taken) -> int:
        """Decide and apply the plain arrivals from records[first] on together. Returns how many."""
        run = self._runs.gather(records, first, decided, self.pools, self.now, self._next)
        if not run:
            return 0
        name = run[0].told.pool
        decisions = self.pools[name].run([plain.listed for plain in run])
        for (told, record, listed), decision in zip(run, decisions, strict=False):
            self.now = listed.now
            self._answer(told, listed.attempt, decision, record, taken)
            if decision.resource is not None:
                self._promised(told, listed.attempt, decision, record)
        return len(decisions)

    def _one(
        self, record: Record, decided: Refusal | None, memos: Iterator[bytes] | None, taken: Taken
    ) -> Refusal | None:
        """Apply one record. Returns why it, or what it says, was refused."""
        if not record.topic:
            self.counts["ticks"] += 1
            self._advance(record.timestamp, record, taken)
            return None
        try:
            told, ts = self._read(record)
        except BadRecord as refusal:
            if memos is not None:
                raise self._foreign(record, refusal.reason) from None
            return Refusal(True, refusal.reason)
        self._advance(ts, record, taken)
        reason = self._act(told, record, decided, memos, taken)
        if memos is not None and (reason is None) != (decided is None):
            raise self._foreign(record, reason or "nothing against it")
        return None if reason is None else Refusal(False, reason)

    def _read(self, record: Record) -> tuple[Told, int]:
        """A record and its event time. Raises BadRecord."""
        settings = self.settings
        if record.value is not None and len(record.value) > settings.record_bytes:
            raise BadRecord(f"the record has {len(record.value)} bytes, more than {settings.record_bytes}")
        told = codec.decode(self._decoders[record.topic], record.value)
        self._owned(told.pool, record)
        ts = record.timestamp if told.ts is None else codec.milliseconds(told.ts)
        if ts > record.timestamp + settings.ahead:
            raise BadRecord("ts: lies further ahead of the log's timestamp than limits.ahead allows")
        return told, ts

    def _owned(self, pool: str, record: Record) -> None:
        """A pool on two partitions would promise its capacity twice."""
        if record.key is None or record.key != pool.encode():
            raise BadRecord("the key is not the pool's name: a pool must be on one partition")
        partitions = self.settings.partitions
        if partitions and murmur2(record.key) % partitions != record.partition:
            raise BadRecord(
                "the pool belongs on another partition: producers must partition by murmur2 of the key"
            )
        if pool not in self.pools and len(self.pools) >= self.settings.pools:
            raise BadRecord(f"pool: there are {len(self.pools)} already")

    def _act(
        self,
        told: Told,
        record: Record,
        decided: Refusal | None,
        memos: Iterator[bytes] | None,
        taken: Taken,
    ) -> str | None:
        """Do what a record says. Returns why not."""
        pool = self._pool(told.pool)
        try:
            if isinstance(told, ArrivalRecord):
                self._arrive(pool, told, record, memos, taken)
            elif isinstance(told, ResourceRecord):
                self._offer(pool, told)
            else:
                self._settle(pool, told)
        except BadRecord as refusal:
            return refusal.reason
        return None

    def _arrive(
        self, pool: Pool, told: ArrivalRecord, record: Record, memos: Iterator[bytes] | None, taken: Taken
    ) -> None:
        arrival = asked(told)
        edges = pool.edges(arrival)
        if memos is None:
            decision = pool.decide(arrival, self.now, edges)
        else:
            memo = next(memos, None)
            if memo is None:
                raise StateError(f"the journal holds no decision for {record.topic} offset {record.offset}")
            decision = _decision.decode(memo)
        new = pool.apply(arrival, decision, self.now, edges)
        if memos is None:
            self._answer(told, arrival.attempt, decision, record, taken)
        if new and decision.resource is not None:
            self._promised(told, arrival.attempt, decision, record)

    def _answer(
        self, told: ArrivalRecord | ListedArrival, attempt: int, decision: Decision, record: Record, taken: Taken
    ) -> None:
        """Tell a decision, to the world and to the journal."""
        assert record.value is not None
        taken.memos.append(_pack(decision))
        match = codec.encode(self._match(told, attempt, decision, record.value))
        taken.outputs.append(Output(self.settings.matches, record.key, match, record.timestamp, self.partition))

    def _promised(
        self, told: ArrivalRecord | ListedArrival, attempt: int, decision: Decision, record: Record
    ) -> None:
        """An attempt is open: until when, and what is offered again then."""
        self._next = min(self._next, decision.open_until)
        if attempt < self.settings.attempts:
            assert record.value is not None
            match = f"{of_pipeline(told.pipeline, told.id)}/{attempt}"
            self._offered.setdefault(told.pool, {})[match] = record.value

    def _offer(self, pool: Pool, told: ResourceRecord) -> None:
        if told.edges is not None:
            pool.put_segment(told.id, told.edges)
            self.counts["segments"] += 1
            return
        if told.op == "leave":
            pool.leave(told.id)
        elif told.capacity is None:
            raise BadRecord("Object missing required field `capacity`")
        else:
            terms = (told.groups, told.needs, told.refill, told.pace, told.rate)
            pool.put(told.id, Offer(told.capacity, told.weight, told.cost, told.concurrent, *terms), self.now)
        self.counts["resources"] += 1

    def _settle(self, pool: Pool, told: OutcomeRecord) -> None:
        id = of_pipeline(told.pipeline, told.id)
        kept = pool.attempts.find(id, told.resource)
        pool.settle(Outcome(id, told.success, told.resource, told.reason == "skip"), self.now)
        if kept is not None:
            self._offered.get(told.pool, {}).pop(kept.id, None)

    # --- time

    def _advance(self, ts: int, record: Record, taken: Taken) -> None:
        """Event time never goes back; attempts that are over their time fail."""
        self.now = max(self.now, ts)
        if self.now < self._next:
            return
        for name, pool in self.pools.items():
            for kept in pool.advance(self.now):
                self._again(name, kept, record, taken)
        self._next = self.deadline() or NEVER

    def _again(self, pool: str, kept: Attempt, record: Record, taken: Taken) -> None:
        """Offer an arrival again, without who failed, while there are attempts and time."""
        value = self._offered.get(pool, {}).pop(kept.id, None)
        if value is None:
            return
        fields = _fields.decode(value)
        told = _arrival.decode(value)
        deadline = None if told.deadline is None else codec.milliseconds(told.deadline)
        if deadline is not None and deadline <= self.now:
            return
        fields.pop("ts", None)
        fields["attempt"] = msgspec.Raw(codec.encode(told.attempt + 1))
        fields["exclude"] = msgspec.Raw(codec.encode([*told.exclude, kept.decision.resource]))
        self.counts["reoffered"] += 1
        taken.outputs.append(
            Output(self.settings.arrivals, pool.encode(), codec.encode(fields), record.timestamp, self.partition)
        )

    # --- pieces

    def _pool(self, name: str) -> Pool:
        if name not in self.pools:
            self.pools[name] = self._new()
        return self.pools[name]

    def _new(self) -> Pool:
        given = self.settings
        return Pool(
            given.rule,
            given.source,
            timeout=given.timeout,
            late=given.late,
            shares=given.shares,
            limits=given.limits,
            window=Window(given.window, given.window_edges) if given.window else None,
        )

    def _match(self, told: ArrivalRecord | ListedArrival, attempt: int, decision: Decision, value: bytes) -> Match:
        """The answer to an arrival. value: as it came."""
        return Match(
            f"{told.id}/{attempt}",
            told.id,
            told.pool,
            UNSET if decision.resource is None else decision.resource,
            decision.reason or UNSET,
            decision.p,
            decision.score,
            decision.k,
            decision.load,
            decision.open_until,
            decision.best,
            self.settings.model,
            self.now,
            UNSET if told.reply is NO_REPLY else msgspec.Raw(value),
        )

    @staticmethod
    def _foreign(record: Record, reason: str) -> StateError:
        where = f"{record.topic} partition {record.partition} offset {record.offset}"
        return StateError(f"{where} was taken otherwise when it was journalled; now: {reason}")

    # --- what it shows, what it keeps

    def show(self) -> TaskView:
        counts = {name: sum(pool.counts[name] for pool in self.pools.values()) for name in POOL_COUNTS}
        counts |= self.counts
        settled = counts["successes"] + counts["failures"] + counts["timeouts"]
        total = {"success": counts["successes"] / settled if settled else 0.0}
        return TaskView(
            counts=counts,
            pending=sum(len(pool.attempts.open) for pool in self.pools.values()),
            pending_bytes=0,
            early=0,
            classes=0,
            delay=DelayView((), (0,), 0.0),
            quality=QualityView(settled, total, {}, 0),
            matching=MatchingView(
                tuple(shown(name, pool, self._watch.found(name)) for name, pool in self.pools.items())
            ),
        )

    def freeze(self) -> Callable[[], State]:
        """A cheap copy now, to be called between two batches; the function makes the state, in any thread."""
        pools = {f"pool{i}": pool.freeze() for i, pool in enumerate(self.pools.values())}
        offered = {name: dict(kept) for name, kept in self._offered.items() if kept}
        document = {"now": self.now, "counts": dict(self.counts), "pools": list(self.pools)}

        def thaw() -> State:
            stage = State({"offered": np.frombuffer(_pack(offered), np.uint8)}, document)
            return merge({**{name: pool() for name, pool in pools.items()}, "stage": stage})

        return thaw

    def restore(self, state: State) -> None:
        parts = split(state)
        stage = parts["stage"]
        self.now = stage.document["now"]
        self.counts |= stage.document["counts"]
        self.pools = {}
        for i, name in enumerate(stage.document["pools"]):
            self._pool(name).restore(parts[f"pool{i}"])
        self._offered = msgspec.msgpack.decode(stage.arrays["offered"].tobytes(), type=dict[str, dict[str, bytes]])
        self._next = self.deadline() or NEVER
