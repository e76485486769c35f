"""Runs of plain arrivals: read at once, decided in one call, so that little is left to do for each of them.

A run ends before whatever else there is to think of: another topic or pool, something due, an arrival that was
answered before or cannot be read. That is done the long way, which also says what is wrong.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from streamd import records as codec
from streamd.errors import BadRecord
from streamd.matching.pool import Pool
from streamd.matching.run import Listed, runs
from streamd.ports import Record
from streamd.stages.match_records import NO_REPLY, ResourceRecord, of_pipeline
from streamd.stages.match_settings import Settings

LONGEST = 500  # arrivals


class ListedArrival(Struct, frozen=True, gc=False):
    """An arrival as `ArrivalRecord` has it; the edges stay JSON, and so does what no plain one has."""

    id: codec.Id
    pool: codec.Id
    edges: Raw
    ts: int | str | None = None
    deadline: int | str | None = None
    attempt: int = 1
    kind: str | None = None
    pipeline: str | None = None
    reply: Raw = NO_REPLY
    exclude: Raw = NO_REPLY
    needs: Raw = NO_REPLY
    distinct: Raw = NO_REPLY
    event: Raw = NO_REPLY
    segment: Raw = NO_REPLY
    features: Raw = NO_REPLY

    @property
    def plain(self) -> bool:
        none = NO_REPLY
        return (
            self.exclude is none
            and self.needs is none
            and self.distinct is none
            and self.event is none
            and self.segment is none
            and self.features is none
            and self.attempt >= 1
        )


class Plain(NamedTuple):
    told: ListedArrival
    record: Record
    listed: Listed


class Join(NamedTuple):
    """now: event time."""

    told: ResourceRecord
    now: int


class Runs:
    """Of one shard. owned: raises BadRecord for a record that is not on its pool's partition."""

    def __init__(self, settings: Settings, owned: Callable[[str, Record], None]) -> None:
        self.possible = runs(settings.rule, settings.source)
        self._settings = settings
        self._owned = owned
        self._decode = msgspec.json.Decoder(ListedArrival).decode
        self._decode_resource = msgspec.json.Decoder(ResourceRecord).decode

    def gather(
        self, records: Sequence[Record], first: int, decided: Collection[int], pools: Mapping[str, Pool], now: int,
        due: int,
    ) -> list[Plain]:  # fmt: skip
        """The plain arrivals from records[first] on. now: event time; due: when the next thing happens by it.

        pools: those known here; decided: indices of records that are refused.
        """
        run: list[Plain] = []
        if not self.possible or records[first].topic != self._settings.arrivals:
            return run
        head, last = records[first], min(len(records), first + LONGEST)
        matches = set[str]()
        pool: Pool | None = None
        for i in range(first, last):
            record = records[i]
            if record.topic != self._settings.arrivals or record.key != head.key or i in decided:
                break
            plain = self._plain(record, now)
            if plain is None or plain.listed.now >= due:
                break
            if pool is None:
                pool = self._pool(plain, pools)
                if pool is None:
                    break
                last = min(last, first + self._settings.limits.open - len(pool.attempts.open))
            match = plain.listed.match
            if match in matches or match in pool.attempts.open or match in pool.attempts.closed or i >= last:
                break
            matches.add(match)
            now, due = plain.listed.now, min(due, plain.listed.until)
            run.append(plain)
        return run

    def joins(
        self, records: Sequence[Record], first: int, decided: Collection[int], pools: Mapping[str, Pool], now: int,
        due: int,
    ) -> list[Join]:  # fmt: skip
        """From records[first] on the resources of one pool that join with one offer. The rest as in `gather`."""
        head, run = records[first], list[Join]()
        for i in range(first, min(len(records), first + LONGEST)):
            record = records[i]
            if record.topic != self._settings.resources or record.key != head.key or i in decided:
                break
            join = self._join(record, now)
            if join is None or join.now >= due or (run and not _alike(join.told, run[0].told)):
                break
            if not run and not self._known(join.told.pool, record, pools):
                break
            now = join.now
            run.append(join)
        return run

    def _known(self, pool: str, record: Record, pools: Mapping[str, Pool]) -> bool:
        try:
            self._owned(pool, record)
        except BadRecord:
            return False
        return pool in pools

    def _join(self, record: Record, now: int) -> Join | None:
        """A resource that joins and does not change with time."""
        value, settings = record.value, self._settings
        if value is None or len(value) > settings.record_bytes:
            return None
        try:
            told = self._decode_resource(value)
            ts = record.timestamp if told.ts is None else codec.milliseconds(told.ts)
        except (*codec.UNREADABLE, BadRecord):
            return None
        plain = told.op == "put" and told.refill is None and told.rate is None and told.pace == "asap"
        if not plain or told.edges is not None or told.capacity is None or record.key != told.pool.encode():
            return None
        return None if ts > record.timestamp + settings.ahead else Join(told, max(ts, now))

    def _pool(self, plain: Plain, pools: Mapping[str, Pool]) -> Pool | None:
        return pools[plain.told.pool] if self._known(plain.told.pool, plain.record, pools) else None

    def _plain(self, record: Record, now: int) -> Plain | None:
        """An arrival, if it is plain."""
        value, settings = record.value, self._settings
        if value is None or len(value) > settings.record_bytes:
            return None
        try:
            told = self._decode(value)
            ts = record.timestamp if told.ts is None else codec.milliseconds(told.ts)
            deadline = None if told.deadline is None else codec.milliseconds(told.deadline)
        except (*codec.UNREADABLE, BadRecord):
            return None
        if not told.plain or ts > record.timestamp + settings.ahead or record.key != told.pool.encode():
            return None
        if ts > now:
            now = ts
        until = now + settings.timeout
        if deadline is not None:
            if deadline <= now:
                return None
            until = min(until, deadline)
        arrival = of_pipeline(told.pipeline, told.id)
        kind = None if told.kind is None else of_pipeline(told.pipeline, told.kind)
        match = f"{arrival}/{told.attempt}"
        waits = settings.keeps(told.reply is not NO_REPLY)
        listed = Listed(match, arrival, told.attempt, kind, now, until, told.edges, waits)
        return Plain(told, record, listed)


def _alike(one: ResourceRecord, other: ResourceRecord) -> bool:
    """Whether two offer the same."""
    return (
        one.capacity == other.capacity
        and one.weight == other.weight
        and one.cost == other.cost
        and one.concurrent == other.concurrent
        and one.groups == other.groups
        and one.needs == other.needs
        and one.pool == other.pool
    )
