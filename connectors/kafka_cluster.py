"""The cluster as an administrator sees it: topics, group members, journal trimming. Both Kafka logs use it."""

import ssl
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import MemberToRemove
from kafka.protocol.consumer.offsets import IsolationLevel

from connectors.kafka_admin import MECHANISM, UNKNOWN, Admin, TlsRefused
from connectors.kafka_protocol import JOURNAL_CONFIGS
from connectors.kafka_settings import Security, python_connection
from connectors.kafka_settlement import Settlement
from connectors.refusals import subject
from streamd.errors import ConfigError, Fenced, StateError, StreamdError, Transient
from streamd.ports import TopicInfo

LATEST, EARLIEST = -1, -2  # a partition's end and beginning, where an offset is asked for by time
MOVED = tuple(  # what a group's description says where it is asked of a broker that cannot know
    str(error(""))
    for error in (
        kafka_errors.NotCoordinatorError,
        kafka_errors.CoordinatorNotAvailableError,
        kafka_errors.CoordinatorLoadInProgressError,
    )
)
HOPELESS = (
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.RecordListTooLargeError,
    kafka_errors.InvalidTimestampError,
)


@contextmanager
def translated(doing: str, opening: bool = False) -> Iterator[None]:
    """kafka-python's errors as ours. opening: what the cluster refuses is then the configuration's fault."""
    try:
        yield
    except kafka_errors.KafkaError as error:
        raise _ours(doing, error, opening) from error
    except (FileNotFoundError, PermissionError, ssl.SSLError) as error:
        raise ConfigError("log", f"{doing}: {error}") from error


def _ours(doing: str, error: Exception, opening: bool) -> StreamdError:
    cause = next((part for part in error.args if isinstance(part, kafka_errors.KafkaError)), error)
    if isinstance(cause, kafka_errors.FencedInstanceIdError):
        return Fenced(f"{doing}: another worker has this name ({cause})")
    if isinstance(cause, HOPELESS):
        return StateError(f"{doing}: Kafka will never take it ({cause})")
    if opening and (key := _refused(cause)):
        return ConfigError(key, f"{doing}: {cause}")
    return Transient(f"{doing}: {cause}")


def _refused(cause: Exception) -> str:
    """The key that the cluster refuses; empty if it does not."""
    if isinstance(cause, TlsRefused):
        return f"log.security.{subject(cause.args[0])}"
    if isinstance(cause, UNKNOWN):
        return "log.security.username"
    if isinstance(cause, MECHANISM):
        return "log.security.mechanism"
    if isinstance(cause, kafka_errors.UnsupportedVersionError):
        return "log.brokers"
    return "log" if isinstance(cause, kafka_errors.KafkaConfigurationError) else ""


class Cluster:
    """kafka-python's admin client, bounded in time. Raises Transient where the cluster is away."""

    def __init__(self, brokers: Sequence[str], security: Security, timeout: float) -> None:
        self._timeout = int(timeout * 1000)
        with translated(f"connecting to {', '.join(brokers)}", opening=True):
            self._admin = Admin(
                **python_connection(brokers, security),
                request_timeout_ms=self._timeout,
                bootstrap_timeout_ms=self._timeout,
                reconnect_backoff_max_ms=1000,
            )

    def topics(self, names: Sequence[str] | None = None, opening: bool = False) -> dict[str, TopicInfo]:
        """Those of these topics that exist; without names, all but internal ones. opening: as in `translated`."""
        with self._asking("asking for topics", opening):
            found: list[dict[str, Any]] = self._admin.describe_topics(None if names is None else list(names))
            for topic in found:
                if topic["error_code"] == kafka_errors.TopicAuthorizationFailedError.errno:
                    raise kafka_errors.TopicAuthorizationFailedError(topic["name"])
        return {
            topic["name"]: TopicInfo(str(topic["topic_id"]), len(topic["partitions"]))
            for topic in found
            if not topic["error_code"] and not topic.get("is_internal")
        }

    def create(self, topic: str, partitions: int, configs: Mapping[str, str] | None = None) -> None:
        """Make a topic unless it exists. Raises ConfigError if it has another number of partitions."""
        if topic not in self.topics([topic]):
            wanted = {topic: {"num_partitions": partitions, "configs": dict(configs or {})}}
            try:
                with self._asking(f"making topic {topic}", opening=True):
                    self._admin.create_topics(wanted, timeout_ms=self._timeout, wait_for_metadata=True)
            except Transient as error:
                if not isinstance(error.__cause__, kafka_errors.TopicAlreadyExistsError):
                    raise
        there = self.topics([topic]).get(topic)
        if there is None:
            raise Transient(f"topic {topic} was made, and is not visible yet")
        if there.partitions != partitions:
            raise ConfigError("", f"topic {topic} has {there.partitions} partitions, {partitions} are needed")

    def create_journal(self, topic: str, partitions: int) -> None:
        """Make the journal, or give it the partitions that were added to the inputs meanwhile."""
        there = self.topics([topic]).get(topic)
        if there is not None and there.partitions < partitions:
            with self._asking(f"adding partitions to {topic}", opening=True):
                self._admin.create_partitions({topic: partitions}, timeout_ms=self._timeout)
                self._admin.wait_for_topics([topic], timeout_ms=self._timeout)
        elif there is None:
            self.create(topic, partitions, JOURNAL_CONFIGS)

    def check_inputs(self, inputs: Sequence[str], journal: str) -> int:
        """The number of partitions that all inputs have; the least where they differ. Raises ConfigError if one is
        missing, or if they differ and there is no journal: those that once fitted are the engine's to pause."""
        there = self.topics([*inputs, journal], opening=True)
        if missing := [topic for topic in inputs if topic not in there]:
            raise ConfigError("", f"topic {missing[0]} does not exist (`streamd topics create` makes it)")
        counts = {topic: there[topic].partitions for topic in inputs}
        if len(set(counts.values())) > 1 and journal not in there:
            raise ConfigError("", f"the input topics of a pipeline must have as many partitions each: {counts}")
        return min(counts.values())

    def check_rights(self, needed: Mapping[str, Set[str]]) -> None:
        """Raises ConfigError for a right to one of these topics, if it exists, that this user lacks, if brokers of
        this kind tell."""
        with self._asking("asking for the rights to topics", opening=True):
            found: list[dict[str, Any]] = self._admin.describe_topics(list(needed))
        for topic in found:
            rights = topic["authorized_operations"]
            if topic["error_code"] or rights is None:
                continue
            if lacking := needed[topic["name"]] - set(rights):
                told = f"the right to {' and '.join(sorted(lacking))} topic {topic['name']}"
                raise ConfigError("log.security.username", f"this user lacks {told}")

    def seats(self, group: str, inputs: Sequence[str]) -> "Seats":
        """Who holds the workers' seats in the group, and the partitions; whether some have been added since."""
        there = self.topics(inputs)
        with self._asking(f"asking for group {group}"):
            described = self._admin.describe_groups([group])[group]
            if str(described.get("error")).startswith(MOVED):
                raise kafka_errors.CoordinatorNotAvailableError(described["error"])
        holders: dict[str, str] = {}
        owners: dict[int, str] = {}
        for member in () if described.get("error") else described["members"]:
            worker = str(member["group_instance_id"] or member["member_id"])
            holders[worker] = str(member["member_id"])
            assignment = member["member_assignment"]
            if isinstance(assignment, dict):
                for topic in assignment["assigned_partitions"]:
                    owners.update(dict.fromkeys(topic["partitions"], worker))
        stable = described.get("group_state") == "Stable"
        count = max((topic.partitions for topic in there.values()), default=0)
        return Seats(holders, owners, stable and bool(owners) and max(owners) + 1 < count)

    def end(self, topic: str, partition: int) -> int:
        """The next offset to be written."""
        where = TopicPartition(topic, partition)
        with self._asking(f"looking up the end of {topic}[{partition}]"):
            found = self._admin.list_partition_offsets({where: LATEST}, timeout_ms=self._timeout)
        return int(found[where].offset)

    def kept(self, topics: Sequence[str], partition: int) -> dict[str, tuple[int, int]]:
        """(oldest offset kept, end of what is committed) of a partition of each topic, from whoever leads it now:
        librdkafka asks the leader it knew, and goes on to ask it after its death."""
        wheres = [TopicPartition(topic, partition) for topic in topics]
        with self._asking(f"looking up the offsets of partition {partition}"):
            oldest, end = (
                self._admin.list_partition_offsets(
                    dict.fromkeys(wheres, at), IsolationLevel.READ_COMMITTED, timeout_ms=self._timeout
                )
                for at in (EARLIEST, LATEST)
            )
        return {where.topic: (int(oldest[where].offset), int(end[where].offset)) for where in wheres}

    def settle(self, settlement: Settlement, written: Sequence[str], opening: bool = False) -> None:
        """Have a former producer fenced, and all that it left open ended, also in those of the topics written to
        that exist. opening: as in `translated`."""
        there = {topic: info.partitions for topic, info in self.topics(written, opening).items()}
        with self._asking("settling what a former producer left", opening):
            self._admin._manager.run(settlement.reach, self._admin, there, self._timeout)

    def check_ended(self, settlement: Settlement, topics: Mapping[str, Collection[int]]) -> None:
        """Raises Transient unless the last transaction has its marker in these partitions."""
        places = {TopicPartition(topic, partition) for topic, found in topics.items() for partition in found}
        with self._asking("looking for the end of the last transaction"):
            self._admin._manager.run(settlement.ended, places)

    def leave(self, group: str, worker: str) -> None:
        """Give this worker's seat in the group up, so that its partitions move at once."""
        with self._asking(f"leaving group {group}"):
            self._admin.remove_group_members(group, [MemberToRemove(group_instance_id=worker)])

    def trim(self, topic: str, partition: int, below: int, before: int | None = None) -> None:
        """Delete the records below an offset; before: of those, only the ones older than this (milliseconds)."""
        where = TopicPartition(topic, partition)
        with self._asking(f"trimming {topic}[{partition}]"):
            if before is not None:
                younger = self._admin.list_partition_offsets({where: before}, timeout_ms=self._timeout)[
                    where
                ].offset
                below = below if younger is None or younger < 0 else min(below, younger)
            self._admin.delete_records({where: below}, timeout_ms=self._timeout)

    @contextmanager
    def _asking(self, doing: str, opening: bool = False) -> Iterator[None]:
        try:
            with translated(doing, opening):
                yield
        except StreamdError:
            self._admin.forget()
            raise

    def close(self) -> None:
        with translated("closing"):
            self._admin.close()


class Seats(NamedTuple):
    """holders: worker -> member id. owners: partition -> worker. short: a settled group divided fewer partitions
    than there are."""

    holders: Mapping[str, str]
    owners: Mapping[int, str]
    short: bool


class Seat:
    """Watches who holds a worker's seat in its group, off the caller's path: a fenced static member whose
    client library says nothing of it, and a cluster that has gone away, are both seen here.

    member_id: this process's own id, empty while it is not a stable member.
    """

    def __init__(
        self,
        cluster: Cluster,
        group: str,
        worker: str,
        inputs: Sequence[str],
        member_id: Callable[[], str],
        interval: float,
        timeout: float,
    ) -> None:
        self._cluster = cluster
        self._group = group
        self._worker = worker
        self._inputs = inputs
        self._member_id = member_id
        self._interval = interval
        self._timeout = timeout
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="streamd-seat")
        self._heard = time.monotonic()
        self._asked: tuple[float, str, Future[Seats]] | None = None
        self._owners: Mapping[int, str] = {}
        self._short = False

    def check(self) -> None:
        """Never blocks. Fenced by the last answer; Transient after `timeout` seconds without one. A coordinator
        that moves or starts refuses a question or two, which is nothing to stop for."""
        now = time.monotonic()
        if self._asked is not None and self._asked[2].done():
            self._hear(*self._asked)
            if now - self._asked[0] >= self._interval:
                self._asked = None
        if self._asked is None:
            answer = self._thread.submit(self._cluster.seats, self._group, self._inputs)
            self._asked = (now, self._member_id(), answer)
        if now - self._heard > self._timeout:
            raise Transient(
                f"group {self._group}: no answer from Kafka for {now - self._heard:.0f} s{self._reason()}"
            )

    def _hear(self, since: float, own: str, answer: "Future[Seats]") -> None:
        if answer.exception() is None:
            self._heard = max(self._heard, since)
            self._judge(own, answer.result())
        elif not isinstance(answer.exception(), Transient):
            answer.result()

    def _reason(self) -> str:
        if self._asked is None or not self._asked[2].done():
            return ""
        return f" ({self._asked[2].exception()})"

    def check_now(self) -> None:
        """The same, asking now and waiting for the answer."""
        own = self._member_id()
        self._judge(own, self._cluster.seats(self._group, self._inputs))
        self._heard = time.monotonic()

    def owner(self, partition: int) -> str | None:
        """The worker that has a partition, by the last answer."""
        return self._owners.get(partition)

    def short(self) -> bool:
        """Whether the last answer, told once, showed partitions that the group has not divided."""
        short, self._short = self._short, False
        return short

    def _judge(self, own: str, seats: Seats) -> None:
        self._short = seats.short
        self._owners, holder = seats.owners, seats.holders.get(self._worker)
        # A member that was joining while the question was under way proves nothing.
        if own and holder and holder != own and self._member_id() == own:
            raise Fenced(f"group {self._group}: another worker runs under the name {self._worker}")

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
