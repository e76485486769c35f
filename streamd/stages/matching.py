"""A matching pipeline on one partition: every arrival is answered at once, by a match or the reason for none.

    arrival             decided, booked, answered; an (arrival, attempt) answered before gets the same answer again
    resource, segment   joins, leaves, changes; an edge set is kept
    outcome             settles its attempt; late, repeated, contradicting: see `streamd.matching.pool`
    tick                event time moves on; attempts over their time fail, and may be offered again

A query that nobody is free for is kept, see `streamd.stages.match_waiting`, and answered when somebody comes free,
or at its deadline. Pools live side by side, each with its own resources; a pool's records have its name as their
key, so it has one partition and one writer. A record that cannot be read at all changes nothing. One that can
moves event time on, even if what it says is refused (an outcome of an unknown match); both end as dead letters.
`take` decides and applies; `replay` applies the decisions of the journal and never decides.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from streamd import records as codec
from streamd.errors import BadRecord, NotFound, Refused, StateError
from streamd.journal import Refusal
from streamd.matching.arrivals import Outcome
from streamd.matching.pool import COUNTS as POOL_COUNTS
from streamd.matching.pool import Pool
from streamd.operating.commanded import Apply
from streamd.ports import Output, Record
from streamd.questions import Question
from streamd.snapshot import State, merge, split
from streamd.stages.hindsight import Watch
from streamd.stages.match_answers import COUNTS as ANSWER_COUNTS
from streamd.stages.match_answers import NEVER, Answers, Taken, Turn
from streamd.stages.match_reading import Reader
from streamd.stages.match_records import (
    ArrivalRecord,
    OutcomeRecord,
    ResourceRecord,
    Told,
    asked,
    of_pipeline,
    offer,
)
from streamd.stages.match_runs import Runs
from streamd.stages.match_settings import Settings
from streamd.stages.match_view import task_view
from streamd.views import TaskView

COUNTS = {
    **POOL_COUNTS,
    **ANSWER_COUNTS,
    "reoffered": "attempts over their time that were offered again",
    "resources": "resource records applied",
    "segments": "segment records applied",
    "dead_letters": "records refused",
    "ticks": "moments at which event time moved on without a record",
}

_arrival = msgspec.json.Decoder(ArrivalRecord)


class Matching:
    """The stage of one shard. partition: given to dead letters and matches, None lets the log choose by key."""

    model = ""  # as the configuration says

    def __init__(self, settings: Settings, partition: int | None) -> None:
        self.settings = settings
        self.partition = partition
        self.pools: dict[str, Pool] = {}
        self.now = 0  # event time, milliseconds since 1970
        self.history = False
        self.counts = {name: 0 for name in COUNTS if name not in POOL_COUNTS and name not in ANSWER_COUNTS}
        self._reader = Reader(settings)
        self._runs = Runs(settings, self._reader.owned)
        self._answers = Answers(settings, partition)
        self._watch = Watch(settings.rule, settings.shadows, settings.every)
        self._stirred: dict[str, None] = {}  # pools in which somebody may have come free

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

    def deadline(self) -> int | None:
        """The next moment of event time at which an attempt or a wait is over its time, or who waits is tried."""
        line = self._answers.line
        moments = [*(pool.deadline() for pool in self.pools.values()), line.deadline()]
        if any(self.pools[name].resources.timed for name in line):
            moments.append(line.again)
        return min((due for due in moments if due is not None), default=None)

    def answer(self, question: Question) -> bytes:
        """`predict`: the match that an arrival would get now."""
        if question.kind != "predict":
            raise NotFound(f"a matching pipeline does not answer {question.kind}")
        told = codec.decode(_arrival, question.body)
        pool = self.pools.get(told.pool)
        if pool is None:
            raise BadRecord("pool: not known here")
        arrival = asked(told)
        decision = pool.decide(arrival, self.now)
        return codec.encode(self._answers.match(told, arrival.attempt, decision, self.now, question.body))

    # --- one batch

    def _apply(
        self, records: Sequence[Record], decided: Mapping[int, Refusal], memos: Iterator[bytes] | None
    ) -> Taken:
        taken = Taken([], {}, [])
        done = 0  # by runs
        for i, record in enumerate(records):
            if i < done:
                continue
            n = self._run(records, i, decided, taken) if memos is None else 0
            if n := n or self._join(records, i, decided):
                done = i + n
                continue
            refusal = decided.get(i)
            if refusal is None or not refusal.whole:
                refusal = self._one(Turn(record, memos, taken), refusal)
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
        answers = self._answers
        due = min(answers.next, answers.line.again) if answers.line else answers.next
        run = self._runs.gather(records, first, decided, self.pools, self.now, due)
        if not run:
            return 0
        done = answers.run(self.pools[run[0].told.pool], run, taken)
        if done:
            self.now = run[done - 1].listed.now
        return done

    def _join(self, records: Sequence[Record], first: int, decided: Mapping[int, Refusal]) -> int:
        """Let resources join together from records[first] on, if nobody waits for them. Returns how many."""
        if records[first].topic != self.settings.resources or self._answers.line:
            return 0
        run = self._runs.joins(records, first, decided, self.pools, self.now, self._answers.next)
        if len(run) < 2:
            return 0
        pool = self.pools[run[0].told.pool]
        try:
            done = pool.join([join.told.id for join in run], offer(run[0].told))
        except BadRecord:
            return 0
        if done:
            self.now = run[done - 1].now
            self.counts["resources"] += done
        return done

    def _one(self, turn: Turn, decided: Refusal | None) -> Refusal | None:
        """Apply one record. Returns why it, or what it says, was refused."""
        record = turn.record
        if not record.topic:
            self.counts["ticks"] += 1
            self._advance(record.timestamp, turn)
            return None
        try:
            told, ts = self._reader.read(record, self.pools)
        except BadRecord as refusal:
            if turn.memos is not None:
                raise self._foreign(record, refusal.reason) from None
            return Refusal(True, refusal.reason)
        self._advance(ts, turn)
        reason = self._act(told, turn)
        self._wake(turn)
        if turn.memos is not None and (reason is None) != (decided is None):
            raise self._foreign(record, reason or "nothing against it")
        return None if reason is None else Refusal(False, reason)

    def _act(self, told: Told, turn: Turn) -> str | None:
        """Do what a record says. Returns why not."""
        pool = self._pool(told.pool)
        try:
            if isinstance(told, ArrivalRecord):
                self._answers.arrive(pool, told, self.now, turn)
            elif isinstance(told, ResourceRecord):
                self._offer(pool, told)
            else:
                self._settle(pool, told, turn)
        except BadRecord as refusal:
            return refusal.reason
        return None

    def _offer(self, pool: Pool, told: ResourceRecord) -> None:
        self._stirred[told.pool] = None
        if told.edges is not None:
            pool.put_segment(told.id, told.edges)
            self.counts["segments"] += 1
            return
        if told.op == "leave":
            pool.leave(told.id)
        else:
            pool.put(told.id, offer(told), self.now)
        self.counts["resources"] += 1

    def _settle(self, pool: Pool, told: OutcomeRecord, turn: Turn) -> None:
        id, skip = of_pipeline(told.pipeline, told.id), told.reason == "skip"
        kept = pool.attempts.find(id, told.resource)
        waits = self._answers.line.of(told.pool, id)
        if waits is not None and (kept is None or not skip):
            self._answers.withdraw(pool, waits, self.now, turn)
            if kept is None:
                return
        pool.settle(Outcome(id, told.success, told.resource, skip), self.now)
        self._stirred[told.pool] = None
        if kept is not None:
            self._answers.offered.drop(told.pool, kept.id)

    # --- time

    def _advance(self, ts: int, turn: Turn) -> None:
        """Event time never goes back; attempts and waits that are over their time end."""
        self.now = max(self.now, ts)
        answers = self._answers
        if self.now >= answers.next:
            for name, pool in self.pools.items():
                for kept in pool.advance(self.now):
                    self._stirred[name] = None
                    again = answers.offered.again(name, kept, self.now)
                    if again is not None:
                        self.counts["reoffered"] += 1
                        arrivals, moment = self.settings.arrivals, turn.record.timestamp
                        turn.taken.outputs.append(Output(arrivals, name.encode(), again, moment, self.partition))
            answers.in_vain(self.pools, self.now, turn)
            answers.next = self.deadline() or NEVER
        self._stirred |= dict.fromkeys(answers.rounds(self.now))
        self._wake(turn)

    def _wake(self, turn: Turn) -> None:
        if self._stirred:
            stirred, self._stirred = self._stirred, {}
            self._answers.wake(self.pools, stirred, self.now, turn)

    # --- pieces

    def _pool(self, name: str) -> Pool:
        if name not in self.pools:
            self.pools[name] = self.settings.pool()
        return self.pools[name]

    @staticmethod
    def _foreign(record: Record, reason: str) -> StateError:
        where = f"{record.topic} partition {record.partition} offset {record.offset}"
        return StateError(f"{where} was taken otherwise when it was journalled; now: {reason}")

    # --- what it shows, what it keeps

    def show(self) -> TaskView:
        return task_view(self.pools, self.counts | self._answers.counts, self._answers.line, self._watch)

    def freeze(self) -> Callable[[], State]:
        """A cheap copy now, to be called between two batches; the function makes the state, in any thread."""
        pools = {f"pool{i}": pool.freeze() for i, pool in enumerate(self.pools.values())}
        answers = self._answers
        document = {"now": self.now, "counts": self.counts | answers.counts, "pools": list(self.pools)}
        parts = {"stage": State(answers.offered.state().arrays, document), "line": answers.line.state()}
        return lambda: merge({**{name: pool() for name, pool in pools.items()}, **parts})

    def restore(self, state: State) -> None:
        parts = split(state)
        stage = parts["stage"]
        self.now = stage.document["now"]
        kept = stage.document["counts"]
        self.counts |= {name: kept[name] for name in self.counts if name in kept}
        self.pools = {}
        for i, name in enumerate(stage.document["pools"]):
            self._pool(name).restore(parts[f"pool{i}"])
        answers = self._answers = Answers(self.settings, self.partition)
        answers.counts |= {name: kept[name] for name in answers.counts if name in kept}
        answers.offered.restore(stage.arrays["offered"].tobytes())
        if "line" in parts:  # snapshots of before have none
            answers.line.restore(parts["line"])
        self._stirred = {}
        answers.next = self.deadline() or NEVER
