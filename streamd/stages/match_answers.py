"""Arrivals of a matching pipeline and their answers: decided, booked, told; or kept until somebody comes free."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from streamd import records as codec
from streamd.errors import BadRecord, StateError
from streamd.journal import Refusal
from streamd.matching.arrivals import Arrival, Edges
from streamd.matching.attempts import Decision
from streamd.matching.pool import TOO_LATE, Pool
from streamd.ports import Output, Record
from streamd.stages.match_again import Offered
from streamd.stages.match_records import NO_REPLY, ArrivalRecord, Match, asked
from streamd.stages.match_runs import ListedArrival, Plain
from streamd.stages.match_settings import Settings
from streamd.stages.match_waiting import IN_VAIN, RETRY, TRIES, WAITS, WITHDRAWN, Line, Waits

COUNTS = {
    "waited": "arrivals that nobody was free for and that were kept",
    "waited_matched": "of those, matched when somebody came free",
    "waited_in_vain": "of those, left unmatched at their deadline",
    "withdrawn": "of those, ended by an outcome from elsewhere",
}
NEVER = 1 << 62

_decision = msgspec.msgpack.Decoder(Decision)
_woken = msgspec.msgpack.Decoder(dict[str, Decision])
_pack = msgspec.msgpack.Encoder(order="sorted").encode


class Taken(NamedTuple):
    """What a batch decided: its outputs in order, the refusals by index, the decisions."""

    outputs: list[Output]
    refused: dict[int, Refusal]
    memos: list[bytes]
    turns: bytes = b""
    decisions: Sequence[bytes] = ()


class Turn(NamedTuple):
    """A record that is applied. memos: what the journal says was decided, in order; None: it is to be decided."""

    record: Record
    memos: Iterator[bytes] | None
    taken: Taken

    def decided(self) -> bytes:
        """The next decision of the journal."""
        assert self.memos is not None
        memo = next(self.memos, None)
        if memo is None:
            record = self.record
            raise StateError(f"the journal holds no decision for {record.topic} offset {record.offset}")
        return memo


class Answers:
    """Of one shard. next: no attempt ends, nobody has waited too long before this event time."""

    def __init__(self, settings: Settings, partition: int | None) -> None:
        self.settings = settings
        self.partition = partition
        self.counts = dict.fromkeys(COUNTS, 0)
        self.next = NEVER
        self.offered = Offered()
        self.line = Line()

    def run(self, pool: Pool, run: Sequence[Plain], taken: Taken) -> int:
        """Decide plain arrivals together. Returns how many were, from the first on."""
        decisions = pool.run([plain.listed for plain in run])
        for (told, record, listed), decision in zip(run, decisions, strict=False):
            assert record.value is not None
            taken.memos.append(_pack(decision))
            self._tell(told, listed.attempt, decision, record.value, listed.now, record, taken)
            if decision.resource is not None:
                self._promised(told.pool, listed.match, listed.attempt, decision, record.value)
        return len(decisions)

    def arrive(self, pool: Pool, told: ArrivalRecord, now: int, turn: Turn) -> None:
        """Raises BadRecord."""
        value = turn.record.value
        assert value is not None
        arrival = asked(told)
        edges = pool.edges(arrival)
        match = f"{arrival.id}/{arrival.attempt}"
        if self.line.find(told.pool, match) is not None:
            pool.counts["repeated_arrivals"] += 1
            return
        if turn.memos is None:
            decision = pool.decide(arrival, now, edges)
            memo = WAITS if self._may_wait(pool, told, arrival, decision) else _pack(decision)
            turn.taken.memos.append(memo)
        else:
            memo = turn.decided()
        if memo == WAITS:
            self._keep(told, match, now, value)
        else:
            self._decided(pool, told, arrival, _decision.decode(memo), edges, value, now, turn)

    # --- who waits

    def wake(self, pools: Mapping[str, Pool], stirred: Iterable[str], now: int, turn: Turn) -> None:
        """Try who waits. stirred: pools in which somebody may have come free."""
        for name in stirred:
            line = self.line.all(name)
            if not line:
                continue
            told = None if turn.memos is None else _woken.decode(turn.decided())
            decided = self._round(pools[name], line, told, now, turn)
            if turn.memos is None:
                turn.taken.memos.append(_pack(decided))

    def _round(
        self, pool: Pool, line: Sequence[Waits], told: Mapping[str, Decision] | None, now: int, turn: Turn
    ) -> dict[str, Decision]:
        """Decide, or apply what was decided. Returns the decisions by match."""
        decided: dict[str, Decision] = {}
        hopeless: set[tuple[str, ...]] = set()  # needs for which there is nobody
        tries = 0
        for waits in line:
            if tuple(waits.arrival.needs) in hopeless:
                continue
            if tries == TRIES:
                break
            tries += 1
            edges = _edges(pool, waits.arrival)
            found = pool.decide(waits.arrival, now, edges) if told is None else told.get(waits.match)
            if found is not None and found.resource is not None:
                decided[waits.match] = found
                self.line.leave(waits)
                self.counts["waited_matched"] += 1
                self._decided(pool, waits.told, waits.arrival, found, edges, waits.value, now, turn)
            elif pool.choosy(waits.arrival):
                self.line.to_the_end(waits)
            elif waits.arrival.needs:
                hopeless.add(tuple(waits.arrival.needs))
            else:
                break
        return decided

    def rounds(self, now: int) -> list[str]:
        """The pools whose line is to be tried because time has passed."""
        if not self.line or now < self.line.again:
            return []
        self.line.again = now + RETRY
        return list(self.line)

    def in_vain(self, pools: Mapping[str, Pool], now: int, turn: Turn) -> None:
        """Whose time is over is left unmatched."""
        while (waits := self.line.over(now)) is not None:
            self._end(pools[waits.pool], waits, IN_VAIN, now, turn)
            self.counts["waited_in_vain"] += 1

    def withdraw(self, pool: Pool, waits: Waits, now: int, turn: Turn) -> None:
        self._end(pool, waits, WITHDRAWN, now, turn)
        self.counts["withdrawn"] += 1

    def _end(self, pool: Pool, waits: Waits, reason: str, now: int, turn: Turn) -> None:
        self.line.leave(waits)
        edges, decision = _edges(pool, waits.arrival), Decision(None, reason)
        self._decided(pool, waits.told, waits.arrival, decision, edges, waits.value, now, turn)

    def _may_wait(self, pool: Pool, told: ArrivalRecord, arrival: Arrival, decision: Decision) -> bool:
        """Whether an arrival is kept that nobody is free for."""
        return (
            decision.resource is None
            and decision.reason != TOO_LATE
            and self.settings.keeps(told.reply is not NO_REPLY)
            and self.line.size(told.pool) < self.settings.waiting
            and pool.attempts.answer(arrival.id, arrival.attempt) is None
        )

    def _keep(self, told: ArrivalRecord, match: str, now: int, value: bytes) -> None:
        self.counts["waited"] += 1
        deadline = told.deadline
        until = now + self.settings.timeout if deadline is None else codec.milliseconds(deadline)
        if not self.line:
            self.line.again = now + RETRY
        self.line.add(told.pool, match, value, until)
        self.next = min(self.next, until)

    # --- what is decided

    def _decided(
        self,
        pool: Pool,
        told: ArrivalRecord,
        arrival: Arrival,
        decision: Decision,
        edges: Edges | str,
        value: bytes,
        now: int,
        turn: Turn,
    ) -> None:
        """Make a decision true and tell it. value: of the arrival."""
        new = pool.apply(arrival, decision, now, edges)
        if turn.memos is None:
            self._tell(told, arrival.attempt, decision, value, now, turn.record, turn.taken)
        if new and decision.resource is not None:
            self._promised(told.pool, f"{arrival.id}/{arrival.attempt}", arrival.attempt, decision, value)

    def _tell(
        self,
        told: ArrivalRecord | ListedArrival,
        attempt: int,
        decision: Decision,
        value: bytes,
        now: int,
        record: Record,
        taken: Taken,
    ) -> None:
        match = codec.encode(self.match(told, attempt, decision, now, value))
        key, topic = told.pool.encode(), self.settings.matches
        taken.outputs.append(Output(topic, key, match, record.timestamp, self.partition))

    def _promised(self, pool: str, match: str, attempt: int, decision: Decision, value: bytes) -> None:
        """An attempt is open: until when, and what is offered again then."""
        if decision.open_until < self.next:
            self.next = decision.open_until
        if attempt < self.settings.attempts:
            self.offered.add(pool, match, value)

    def match(
        self, told: ArrivalRecord | ListedArrival, attempt: int, decision: Decision, now: int, value: bytes
    ) -> Match:
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
            now,
            UNSET if told.reply is NO_REPLY else msgspec.Raw(value),
        )


def _edges(pool: Pool, arrival: Arrival) -> Edges | str:
    """Its edges, or why there are none now."""
    try:
        return pool.edges(arrival)
    except BadRecord as refusal:  # the limits were changed while it waited
        return refusal.reason
