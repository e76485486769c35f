"""What both Kafka logs do alike: a worker's membership in its group, whichever client carries its records.

Administration, the journal's reading and the watch over the seat go through kafka-python in both.
"""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import TypeVar

from connectors.kafka_cluster import Cluster, Seat
from connectors.kafka_journal import read_journal
from connectors.kafka_lag import LagWatch
from connectors.kafka_protocol import (
    check_names,
    check_output_partition,
    check_positions,
    to_committed,
    transactional_id,
    whole_partitions,
)
from connectors.kafka_settings import Membership, python_connection
from connectors.kafka_settlement import Settlement
from streamd.errors import ConfigError, Fenced, StateError, Transient
from streamd.ports import Committed, Epoch, JournalEntry, Output, Polled, Record, ShardEpoch, TopicInfo

T = TypeVar("T")
LOST: Sequence[tuple[str, int]] = ()  # is noted where the group takes all partitions back


class Member(ABC):
    """The part of the port `Log` that does not depend on the client, and the order of opening and closing."""

    def __init__(self, membership: Membership) -> None:
        check_names(membership.group, membership.worker, membership.inputs, membership.journal)
        self._given = membership
        self._inputs = membership.inputs
        self._timeout = membership.request_timeout
        self._cluster: Cluster | None = None
        self._seat: Seat | None = None
        self._settlement = self._unsettled()
        self._lag = LagWatch()
        self._partitions = 0  # that all inputs have
        self._owned: set[int] = set()
        self._rival: tuple[float, Fenced] | None = None  # since when somebody else has the seat
        self._noted: deque[Sequence[tuple[str, int]]] = deque()  # by the library's callbacks, on whatever thread
        self._counts: dict[str, int] = {}  # partitions of the topics written to since the last `recover`
        self._last: Sequence[ShardEpoch] = ()  # of the last epoch since then

    # --- the client's part

    @abstractmethod
    def _join(self) -> None:
        """Make the consumer and subscribe."""

    @abstractmethod
    def _leave(self) -> None:
        """Let go of the consumer, if there is one; the seat in the group stays."""

    @abstractmethod
    def _member_id(self) -> str:
        """Empty while this is not a stable member."""

    @abstractmethod
    def _make_producer(self, opening: bool = False) -> None:
        """Initialise transactions: that settles what a former producer of this name left open."""

    @abstractmethod
    def _discard_producer(self) -> None:
        """Let go of it, if there is one, without finishing anything."""

    @abstractmethod
    def _start(self, partition: int, starts: Mapping[str, int]) -> None:
        """Deliver a partition from these offsets on, one of each input."""

    @abstractmethod
    def _read(self, max_records: int, timeout: float) -> Sequence[Record]:
        """What `poll` delivers unless, on the way, the group decides something: that is noted."""

    @abstractmethod
    def _write(self, epoch: Epoch) -> Mapping[int, int]:
        """Commit an epoch of owned partitions: what `commit` returns."""

    @abstractmethod
    def _fetch_committed(self, partition: int) -> Mapping[str, tuple[int, str]]:
        """The stable (offset, metadata) of each input that has one."""

    # --- opening, recovering, closing

    def open(self) -> Sequence[str]:
        given = self._given
        try:
            cluster = self._cluster = Cluster(given.brokers, given.security, self._timeout)
            self._partitions = cluster.check_inputs(self._inputs, given.journal)
            cluster.create_journal(given.journal, self._partitions)
            cluster.check_rights(self._needed())
            self._noted.clear()
            self._join()
            self._seat = Seat(
                cluster,
                given.group,
                given.worker,
                self._inputs,
                self._member_id,
                given.probe_interval,
                self._timeout,
            )
            self._settle(opening=True)
            self._make_producer(opening=True)
        except BaseException:
            self._release()
            raise
        return self._settlement.finished()

    def _needed(self) -> Mapping[str, Set[str]]:
        """The rights to each topic. To read outputs: what a former producer has left open there is asked for."""
        needed = {topic: {"READ"} for topic in self._inputs}
        for topic in self._given.outputs:
            needed[topic] = {"READ", "WRITE"}
        return needed | {self._given.journal: {"READ", "WRITE", "DELETE"}}

    def recover(self) -> Sequence[str]:
        if self._cluster is None:
            return self.open()
        if self._rival is not None:
            self._sit_down(*self._rival)
        with self._seated():
            opened(self._seat).check_now()
        self._discard_producer()
        self._settle()
        self._make_producer()
        return self._settlement.finished()

    @contextmanager
    def _seated(self) -> Iterator[None]:
        """Who has the seat of this name instead of us may be another worker; or our own request to join the group,
        whose answer was lost with a broker, and which nobody lives for. `recover` waits to see which."""
        try:
            yield
        except Fenced as error:
            self._rival = time.monotonic(), error
            self._discard_producer()
            self._leave()
            raise Transient(f"{error}, if it lives") from error

    def _sit_down(self, since: float, error: Fenced) -> None:
        """Join the group anew once nobody has the seat. Raises Fenced if somebody keeps it for longer than the
        group takes to forget a member who is silent: its session, after a rebalance that waits for another's."""
        given = self._given
        if given.worker in opened(self._cluster).seats(given.group, self._inputs).holders:
            if time.monotonic() - since > 2 * given.session_timeout:
                raise error
            raise Transient(f"{error}, if it lives")
        self._noted.append(LOST)
        self._join()
        self._rival = None

    def _unsettled(self) -> Settlement:
        """It outlives an `open` that fails: what Kafka has told once it does not tell again."""
        given = self._given
        return Settlement(transactional_id(given.group, given.worker), given.group, given.transaction_timeout)

    def _settle(self, opening: bool = False) -> None:
        """What a former producer of this name left open is over when the next one asks; librdkafka's, which would
        find it being aborted, waits for half a second before it asks again."""
        written = [*self._given.outputs, self._given.journal]
        opened(self._cluster).settle(self._settlement, written, opening)
        self._counts.clear()
        self._last = ()

    def close(self, leave: bool) -> None:
        cluster, self._cluster = self._cluster, None
        ours = self._rival is None
        self._release()
        self._settlement = self._unsettled()
        if cluster is None:
            return
        try:
            if leave and ours:
                cluster.leave(self._given.group, self._given.worker)
        finally:
            cluster.close()

    def _release(self) -> None:
        """Let go of whatever is open, in this order: no more transactions, then no more heartbeats."""
        seat, cluster = self._seat, self._cluster
        self._seat = self._cluster = self._rival = None
        self._discard_producer()
        if seat is not None:
            seat.close()
        self._leave()
        if cluster is not None:
            cluster.close()

    # --- epochs

    def poll(self, max_records: int, timeout: float) -> Polled:
        with self._seated():
            self._watch()
            records = self._read(max_records, timeout)
            assigned, revoked = self._decided()
            return Polled(() if assigned or revoked else records, assigned, revoked)

    def commit(self, epoch: Epoch) -> Mapping[int, int]:
        for shard in epoch.shards:
            self._check_owned(shard.partition)
        with self._seated():
            self._check_ended()
            ends = self._write(epoch)
        self._last = epoch.shards
        return ends

    def _check_ended(self) -> None:
        """Raises Transient unless the last commit has reached every place that it was for: what a broker has left
        open of it can be told, and ended, only as long as nothing new has begun."""
        places: dict[str, Collection[int]] = {topic: range(count) for topic, count in self._counts.items()}
        if self._last:
            places[self._given.journal] = [shard.partition for shard in self._last]
            if self.committed(self._last[0].partition).sequence < self._last[0].sequence:
                raise Transient(f"group {self._given.group}: the offsets of the last epoch are not there")
        if places:
            opened(self._cluster).check_ended(self._settlement, places)

    # --- topics and partitions

    def topics(self) -> Mapping[str, TopicInfo]:
        return opened(self._cluster).topics([*self._inputs, *(t for t in self._counts if t not in self._inputs)])

    def owner(self, partition: int) -> str | None:
        return None if self._seat is None else self._seat.owner(partition)

    def _decided(self) -> tuple[frozenset[int], frozenset[int]]:
        """What the group decided since the last call, as (assigned, revoked). It stays noted where this fails."""
        noted = tuple(self._noted)
        if not noted:
            return frozenset(), frozenset()
        revoked = frozenset(self._owned) if LOST in noted else frozenset()
        assigned = self._whole(list(noted[-1]))
        if assigned and max(assigned) >= self._partitions:
            self._grow()
        self._owned = set(assigned)
        for _ in noted:
            self._noted.popleft()
        return assigned, revoked

    def _whole(self, gained: list[tuple[str, int]]) -> frozenset[int]:
        """The partitions of an assignment; all that are in it where the inputs have grown apart."""
        try:
            return whole_partitions(gained, self._inputs)
        except StateError:
            there = opened(self._cluster).topics(self._inputs)
            if len({topic.partitions for topic in there.values()}) == 1:
                raise
            return frozenset(partition for _, partition in gained)

    def _watch(self) -> None:
        """Who holds the seat, and whether partitions were added that the group knows nothing of: after the restart
        of a static member the broker takes it for the leader still, which neither client library knows, and what
        was added before its start is no news to it. So every member watches, and gives its seat up to take it
        anew: the client hears of it at its next heartbeat, and the group divides all there is."""
        seat = opened(self._seat)
        seat.check()
        if seat.short() and self._owned:
            opened(self._cluster).leave(self._given.group, self._given.worker)

    def _grow(self) -> None:
        """The inputs were given more partitions since `open`; the journal needs as many."""
        cluster, journal = opened(self._cluster), self._given.journal
        self._partitions = cluster.check_inputs(self._inputs, journal)
        cluster.create_journal(journal, self._partitions)

    def seek(self, partition: int, positions: Mapping[str, int]) -> Mapping[str, int]:
        self._check_owned(partition)
        kept = self._kept(partition)
        check_positions(partition, positions, kept)
        starts = {topic: positions.get(topic, oldest) for topic, (oldest, _) in kept.items()}
        for topic, (_, end) in kept.items():
            self._lag.starts(topic, partition, end)
        self._start(partition, starts)
        return starts

    def committed(self, partition: int) -> Committed:
        with self._seated():
            return to_committed(self._fetch_committed(partition), self._given.group, partition)

    def _check_owned(self, partition: int) -> None:
        if partition not in self._owned:
            raise Transient(f"partition {partition} is not assigned to {self._given.worker}")

    def _kept(self, partition: int) -> dict[str, tuple[int, int]]:
        return opened(self._cluster).kept(self._inputs, partition)

    def _checked(self, output: Output) -> int:
        """The partitions of an output's topic. Raises ConfigError where it names one that is not there."""
        partitions = self._known(output)
        check_output_partition(output.topic, output.partition, partitions)
        return partitions

    def _known(self, output: Output) -> int:
        """The partitions of an output's topic; asked for again where the topic must have grown since."""
        known = self._counts.get(output.topic, 0)
        return known if (output.partition or 0) < known else self._count(output.topic)

    def _count(self, topic: str) -> int:
        found = opened(self._cluster).topics([topic]).get(topic)
        if found is None:
            raise ConfigError("", f"output topic {topic} does not exist (`streamd topics create` makes it)")
        self._counts[topic] = found.partitions
        return found.partitions

    # --- the journal

    def journal(
        self, partition: int, start: int, after: int | None, through: int | None
    ) -> Iterator[JournalEntry]:
        connection = python_connection(self._given.brokers, self._given.security)
        return read_journal(connection, self._given.journal, partition, start, after, through, self._timeout)

    def journal_end(self, partition: int) -> int:
        return opened(self._cluster).end(self._given.journal, partition)

    def trim_journal(self, partition: int, below: int, before: int) -> None:
        opened(self._cluster).trim(self._given.journal, partition, below, before)


def opened(part: T | None) -> T:
    """What is there between `open` and `close`."""
    if part is None:
        raise Transient("the log is not open")
    return part
