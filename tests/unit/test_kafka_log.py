"""What the laws of the port do not say of the Kafka logs, each with both clients on a real broker."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    InvalidTxnStateError,
    KafkaConnectionError,
    KafkaTimeoutError,
    OutOfOrderSequenceNumberError,
)
from kafka.producer.transaction_manager import TransactionalRequestResult
from kafka.structs import OffsetAndMetadata

from connectors.confluent_log import ConfluentLog
from connectors.kafka_client import KafkaLogClient
from connectors.kafka_log import BoundedProducer, KafkaLog
from connectors.kafka_member import Member
from connectors.kafka_protocol import transactional_id
from connectors.kafka_settings import Membership
from connectors.kafka_settlement import Settlement
from streamd.errors import ConfigError, Fenced, StateError, Transient
from streamd.ports import Committed, Epoch, Log, Output, Record, ShardEpoch, murmur2
from tests.servers import Unavailable, kafka
from tests.servers.fixtures import kafka_broker, missing  # noqa: F401
from tests.servers.process import free_port

pytestmark = pytest.mark.kafka
DEADLINE = 60.0
CLIENTS = [pytest.param(KafkaLog, id="kafka"), pytest.param(ConfluentLog, id="confluent")]
with_kafka_python = pytest.mark.parametrize("cluster", CLIENTS[:1], indirect=True)


class Cluster:
    """A broker, one client library, and names of this test's own; closes what it opened."""

    def __init__(self, broker: str, make: Callable[..., Log], name: str) -> None:
        self.broker = broker
        self.client = KafkaLogClient([broker])
        self.group = f"{name}.{os.getpid()}.{time.time_ns()}"
        self.make = make
        self._logs: list[Log] = []
        self._topics = 0

    def topic(self, partitions: int = 1) -> str:
        self._topics += 1
        name = f"{self.group}.{self._topics}"
        self.client.create(name, partitions)
        return name

    def fill(self, topic: str, count: int, partition: int = 0) -> None:
        self.client.append(topic, [Output(topic, b"%d" % i, b"%d" % i, 1 + i, partition) for i in range(count)])

    def log(self, *inputs: str, worker: str = "w0", **settings: Any) -> Log:
        settings = {"probe_interval": 0.05, "session_timeout": 10.0} | settings
        names = {"group": self.group, "worker": worker, "journal": f"{self.group}.journal"}
        log = self.make(Membership(brokers=[self.broker], inputs=inputs, **names, **settings))
        self._logs.append(log)
        return log

    def started(self, *inputs: str, worker: str = "w0", **settings: Any) -> Log:
        """A log that has been given partition 0 and reads it."""
        log = self.log(*inputs, worker=worker, **settings)
        gained: set[int] = set()
        until(lambda: joins(log, gained))
        log.seek(0, log.committed(0).positions)
        return log

    def close(self) -> None:
        for log in self._logs:
            log.close(leave=True)
        self.client.close()


def joins(log: Log, gained: set[int]) -> bool:
    """Whether it has partition 0 now. As the engine does it: a broker that has just started may be slow."""
    try:
        gained.update(log.poll(1, 0.1).assigned)
    except Transient:
        try:
            log.recover()
        except Transient:
            return False
    return 0 in gained


@pytest.fixture(params=CLIENTS)
def cluster(request: pytest.FixtureRequest, kafka_broker: str) -> Iterator[Cluster]:  # noqa: F811
    cluster = Cluster(kafka_broker, request.param, request.node.originalname[:100])
    yield cluster
    cluster.close()


def until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not done():
        assert time.monotonic() < deadline, "it did not happen before the deadline"


def take(log: Log, count: int) -> list[Record]:
    found: list[Record] = []
    until(lambda: found.extend(log.poll(1000, 0.1).records) or len(found) >= count)
    return found


def epoch(sequence: int, topic: str, position: int, outputs: Sequence[Output] = ()) -> Epoch:
    return Epoch(outputs, (ShardEpoch(0, sequence, {topic: position}, b"%d" % sequence),))


def test_keys_of_every_length_go_where_the_port_says(cluster: Cluster) -> None:
    topic, results = cluster.topic(), cluster.topic(partitions=7)
    keys = [bytes((7 * i + j) % 256 for j in range(i % 40)) for i in range(300)]
    cluster.started(topic).commit(epoch(1, topic, 0, [Output(results, key, b"", 1) for key in keys]))
    until(lambda: sum(len(cluster.client.read(results, p, 0, 1000)) for p in range(7)) == len(keys))
    for partition in range(7):
        found = [record.key for record in cluster.client.read(results, partition, 0, 1000)]
        assert found == [key for key in keys if murmur2(key) % 7 == partition]


def test_outputs_without_key_go_to_the_first_partition(cluster: Cluster) -> None:
    topic, results = cluster.topic(), cluster.topic(partitions=3)
    cluster.started(topic).commit(epoch(1, topic, 0, [Output(results, None, b"v", 1) for _ in range(20)]))
    until(lambda: len(cluster.client.read(results, 0, 0, 100)) == 20)


def goes_on_with_the_second(cluster: Cluster, log: Log, topic: str, results: str) -> None:
    """After a first epoch and a void one, the second is committed, and they are all there is."""
    log.recover()
    assert log.committed(0) == Committed(1, {topic: 0})
    log.commit(epoch(2, topic, 0, [Output(results, b"k", b"second", 1)]))
    until(lambda: len(cluster.client.read(results, 0, 0, 10)) >= 2)
    assert [record.value for record in cluster.client.read(results, 0, 0, 10)] == [b"first", b"second"]
    assert [entry.entry for entry in log.journal(0, 0, 0, 2)] == [b"1", b"2"]


def test_after_a_second_producer_took_the_name_a_commit_is_void_and_invisible(cluster: Cluster) -> None:
    topic, results = cluster.topic(), cluster.topic()
    log = cluster.started(topic)
    log.commit(epoch(1, topic, 0, [Output(results, b"k", b"first", 1)]))
    usurper = KafkaProducer(
        bootstrap_servers=cluster.broker,
        transactional_id=transactional_id(cluster.group, "w0"),
        max_block_ms=20_000,
    )
    usurper.init_transactions()
    with pytest.raises(Transient):
        log.commit(epoch(2, topic, 0, [Output(results, b"k", b"void", 1)]))
    goes_on_with_the_second(cluster, log, topic, results)
    usurper.close(timeout=0)


@with_kafka_python
@pytest.mark.parametrize("reason", [OutOfOrderSequenceNumberError, KafkaTimeoutError])
def test_an_epoch_is_void_if_one_of_its_batches_failed(
    cluster: Cluster,
    reason: type[Exception],
) -> None:
    """kafka-python alone would say that it is committed."""
    topic, results = cluster.topic(), cluster.topic()
    log = cluster.started(topic)
    log.commit(epoch(1, topic, 0, [Output(results, b"k", b"first", 1)]))
    sender = log._producer._sender  # type: ignore[attr-defined]
    drain = sender._accumulator.drain

    def failing(*args: Any, **kwargs: Any) -> Any:
        """What leaves for the broker, without the batches of results: those have failed."""
        leaving = drain(*args, **kwargs)
        for node, batches in leaving.items():
            leaving[node] = [batch for batch in batches if batch.topic_partition.topic != results]
            for batch in batches:
                if batch.topic_partition.topic == results:
                    batch.created = 0.0  # too long ago to be tried again
                    sender._complete_batch_with_exception(batch, reason("failed"))
        return leaving

    sender._accumulator.drain = failing
    with pytest.raises(Transient):
        log.commit(epoch(2, topic, 0, [Output(results, b"k", b"second", 1)]))
    goes_on_with_the_second(cluster, log, topic, results)


@with_kafka_python
def test_a_record_that_is_refused_is_the_reason_although_more_was_asked_for_since(
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """kafka-python says then that it is in a state of error."""
    topic = cluster.topic()
    log, add = cluster.started(topic), BoundedProducer.send_offsets_to_transaction

    def late(producer: BoundedProducer, *given: Any) -> None:
        until(producer._transaction_manager.has_error)
        add(producer, *given)

    monkeypatch.setattr(BoundedProducer, "send_offsets_to_transaction", late)
    with pytest.raises(StateError, match="never"):
        log.commit(epoch(1, topic, 0, [Output(topic, b"k", bytes(3 << 20), 1)]))


@with_kafka_python
def test_a_sender_that_went_to_sleep_on_a_request_is_woken(cluster: Cluster) -> None:
    """kafka-python's does, on what is left when it drops a request after an error."""
    producer = cluster.started(cluster.topic())._producer  # type: ignore[attr-defined]
    result, wake, woken = TransactionalRequestResult(), producer._sender.wakeup, []

    def wakeup() -> None:
        woken.append(wake())
        if len(woken) == 2:
            result.done()

    producer._sender.wakeup = wakeup
    producer._settle(result)
    assert len(woken) == 2


@pytest.mark.parametrize("decided", ["committed", "aborted"])
def test_what_a_broker_left_open_is_ended_as_it_had_decided(cluster: Cluster, decided: str) -> None:
    """A Kafka that shuts down may take a transaction for committed, or aborted, whose marker is missing in some of
    its partitions. Here the coordinator never knew of them."""
    topic, results = cluster.topic(), cluster.topic(partitions=2)
    with unverified(cluster.broker):
        until(lambda: leaves(cluster, results, decided))
    log = cluster.started(topic, outputs=(results, "no.such.topic"))
    log.commit(epoch(1, topic, 0, [Output(results, b"k", b"ours", 1, partition) for partition in (0, 1)]))
    expected = [b"left", b"ours"] if decided == "committed" else [b"ours"]
    for partition in (0, 1):
        until(lambda partition=partition: cluster.client.read(results, partition, 0, 10))  # type: ignore[misc]
        assert [record.value for record in cluster.client.read(results, partition, 0, 10)] == expected


@with_kafka_python
@pytest.mark.parametrize("request_type", ["InitProducerIdRequest", "AddPartitionsToTxnRequest", "EndTxnRequest"])
def test_what_a_broker_left_open_is_ended_so_although_an_answer_is_lost(
    cluster: Cluster,
    request_type: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    topic, results = cluster.topic(), cluster.topic(partitions=2)
    with unverified(cluster.broker):
        until(lambda: leaves(cluster, results, "committed"))
    answered, lost = Settlement._answered, [request_type]

    async def losing(settlement: Settlement, request: Any) -> Any:
        answer = await answered(settlement, request)
        if lost and type(request).__name__ == lost[0]:
            lost.pop()
            raise KafkaConnectionError("lost")
        return answer

    monkeypatch.setattr(Settlement, "_answered", losing)
    cluster.started(topic, outputs=(results,))
    assert not lost
    for partition in (0, 1):
        assert [record.value for record in cluster.client.read(results, partition, 0, 10)] == [b"left"]


def test_what_a_broker_left_open_is_ended_and_told_although_the_first_open_fails_half_way(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, results = cluster.topic(), cluster.topic(partitions=2)
    with unverified(cluster.broker):
        until(lambda: leaves(cluster, results, "committed"))
    log = cluster.log(topic, outputs=(results,), request_timeout=1.0)

    async def unreachable(*_: object) -> None:
        raise KafkaConnectionError("away")

    with monkeypatch.context() as away:
        away.setattr(Settlement, "_end", unreachable)
        with pytest.raises(Transient):
            log.open()
    (told,) = log.open()
    assert f"(CompleteCommit) in {results}[0], {results}[1]" in told
    assert not log.recover()
    for partition in (0, 1):
        assert [record.value for record in cluster.client.read(results, partition, 0, 10)] == [b"left"]


def test_what_a_broker_left_open_and_forgot_is_for_the_operator(cluster: Cluster) -> None:
    topic, results = cluster.topic(), cluster.topic(partitions=2)
    with unverified(cluster.broker):
        until(lambda: leaves(cluster, results, "forgotten"))
    log = cluster.log(topic, outputs=(results,))
    with pytest.raises(Transient, match=r"forgotten whether.*kafka-transactions"):
        log.open()


@with_kafka_python
def test_no_epoch_begins_before_the_last_has_its_end_everywhere(cluster: Cluster) -> None:
    topic, results = cluster.topic(), cluster.topic()
    log = cluster.started(topic, outputs=(results,))
    log.commit(epoch(1, topic, 0, [Output(results, b"k", b"first", 1)]))

    def open_again() -> bool:
        """Whether the broker took another record of the transaction that has ended."""
        log._check_ended()  # type: ignore[attr-defined]
        producer = log._producer  # type: ignore[attr-defined]
        producer.begin_transaction()
        producer._transaction_manager._partitions_in_transaction.add(TopicPartition(results, 0))
        try:
            producer.send(results, b"left").get(timeout=20)
        except InvalidTxnStateError:
            log.recover()
            log.commit(epoch(log.committed(0).sequence + 1, topic, 0, [Output(results, b"k", b"first", 1)]))
            return False
        return True

    with unverified(cluster.broker):
        until(open_again)
    done = log.committed(0).sequence
    with pytest.raises(Transient, match="no end of the last transaction"):
        log.commit(epoch(done + 1, topic, 0, [Output(results, b"k", b"next", 1)]))
    log.recover()
    assert log.committed(0).sequence == done
    log.commit(epoch(done + 1, topic, 0, [Output(results, b"k", b"next", 1)]))
    until(lambda: len(cluster.client.read(results, 0, 0, 100)) >= done + 2)
    found = [record.value for record in cluster.client.read(results, 0, 0, 100)]
    assert found == [b"first"] * done + [b"left", b"next"]


def leaves(cluster: Cluster, results: str, decided: str) -> bool:
    """Whether a former producer could leave a record in each of two partitions that its coordinator does not take
    for part of the transaction which it is told to end."""
    known = cluster.topic()
    former = KafkaProducer(
        bootstrap_servers=cluster.broker,
        transactional_id=transactional_id(cluster.group, "w0"),
        max_block_ms=20_000,
    )
    former.init_transactions()
    former.begin_transaction()
    former._transaction_manager._partitions_in_transaction |= {TopicPartition(results, p) for p in (0, 1)}
    sent = [former.send(results, b"left", partition=partition) for partition in (0, 1)]
    try:
        for future in sent:
            future.get(timeout=20)
        if decided != "forgotten":
            former.send(known, b"known").get(timeout=20)
            former.commit_transaction() if decided == "committed" else former.abort_transaction()
    except InvalidTxnStateError:
        return False  # the broker has not heard of it yet that it is to take them
    finally:
        former.close(timeout=0)
    return True


@contextmanager
def unverified(broker: str) -> Iterator[None]:
    """A broker takes records of a transaction that its coordinator knows nothing of."""
    admin = KafkaAdminClient(bootstrap_servers=broker)

    def verify(value: str) -> None:
        wanted = {"transaction.partition.verification.enable": value}
        admin.alter_configs([ConfigResource(ConfigResourceType.BROKER, "1", configs=wanted)])

    verify("false")
    try:
        yield
    finally:
        verify("true")
        admin.close()


def test_what_the_group_gave_is_told_although_the_first_look_at_it_fails(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = cluster.topic()
    log, whole, failures = cluster.log(topic), Member._whole, [Transient("away")]

    def looked_at(member: Member, gained: list[tuple[str, int]]) -> frozenset[int]:
        if failures:
            raise failures.pop()
        return whole(member, gained)

    monkeypatch.setattr(Member, "_whole", looked_at)
    log.open()
    gained: set[int] = set()
    until(lambda: joins(log, gained))
    assert not failures
    cluster.fill(topic, 1)
    log.seek(0, {})
    assert len(take(log, 1)) == 1


def goes_on(log: Log) -> frozenset[int]:
    """What a worker is given by its next poll, which recovers as the engine does. Raises Fenced."""
    try:
        return log.poll(1, 0.05).assigned
    except Transient:
        with suppress(Transient):
            log.recover()
        return frozenset()


def test_an_idle_worker_whose_seat_another_keeps_is_fenced(cluster: Cluster) -> None:
    topic = cluster.topic()
    first = cluster.started(topic, session_timeout=2.0)
    second = cluster.started(topic, session_timeout=2.0)
    with pytest.raises(Fenced):
        until(lambda: goes_on(first))
    with pytest.raises((Fenced, Transient)):
        first.commit(epoch(1, topic, 0))
    second.commit(epoch(1, topic, 0))
    assert second.committed(0).sequence == 1


def test_a_worker_whose_seat_nobody_lives_for_takes_it_back(cluster: Cluster) -> None:
    """As after a request to join whose answer was lost: the broker has given the seat to a member of which this
    worker knows nothing."""
    topic = cluster.topic()
    first = cluster.started(topic, session_timeout=2.0)
    cluster.started(topic, session_timeout=2.0).close(leave=False)
    until(lambda: first._rival is not None or goes_on(first))  # type: ignore[attr-defined]
    until(lambda: goes_on(first))
    first.commit(epoch(1, topic, 0))
    assert first.committed(0).sequence == 1


def test_a_fenced_worker_does_not_take_the_producer_back(cluster: Cluster) -> None:
    topic = cluster.topic()
    first = cluster.started(topic)
    second = cluster.started(topic)
    with pytest.raises(Transient):
        first.recover()
    second.commit(epoch(1, topic, 0))
    assert second.committed(0).sequence == 1


def test_a_restart_under_the_same_name_has_its_partitions_before_any_time_out(cluster: Cluster) -> None:
    topic = cluster.topic()
    log = cluster.started(topic, session_timeout=50.0, transaction_timeout=50.0)
    log.commit(epoch(1, topic, 0))
    log.close(leave=False)
    began = time.monotonic()
    again = cluster.started(topic, session_timeout=50.0, transaction_timeout=50.0)
    assert time.monotonic() - began < 25.0
    assert again.committed(0).sequence == 1


def test_leaving_frees_the_partitions_for_others_before_any_time_out(cluster: Cluster) -> None:
    topic = cluster.topic()
    log = cluster.started(topic, session_timeout=50.0)
    log.commit(epoch(1, topic, 0))
    log.close(leave=True)
    assert cluster.started(topic, worker="w1").committed(0).sequence == 1


def shared(first: Log, second: Log) -> int:
    """Open the second, and poll until each has one of the two partitions; returns the second's."""
    second.open()
    held: dict[Log, set[int]] = {first: {0, 1}, second: set()}

    def balanced() -> bool:
        for log, has in held.items():
            polled = log.poll(1, 0.05)
            has.difference_update(polled.revoked)
            has.update(polled.assigned)
        return all(len(has) == 1 for has in held.values())

    until(balanced)
    return held[second].pop()


def test_a_second_worker_takes_its_share_and_the_first_one_can_no_longer_commit_it(cluster: Cluster) -> None:
    topic = cluster.topic(partitions=2)
    first, second = cluster.started(topic), cluster.log(topic, worker="w1")
    moved = shared(first, second)
    shard = ShardEpoch(moved, 1, {topic: 0}, b"")
    with pytest.raises(Transient):
        first.commit(Epoch((), (shard,)))
    second.commit(Epoch((), (shard,)))
    assert second.committed(moved).sequence == 1


@with_kafka_python
def test_a_join_that_is_done_between_two_polls_is_not_begun_again(cluster: Cluster) -> None:
    """kafka-python alone joins anew, which drives the others out: with bad luck each time, for ever."""
    topic = cluster.topic(partitions=2)
    first, second = cluster.started(topic), cluster.log(topic, worker="w1")
    shared(first, second)
    coordinator = first._consumer._coordinator  # type: ignore[attr-defined]
    coordinator.request_rejoin()
    until(lambda: first.poll(1, 0).revoked)
    join = coordinator._join_task  # which waits for the second to join, too
    until(lambda: second.poll(1, 0.05) and join.is_done)
    joined = coordinator.group_metadata().generation_id
    until(lambda: first.poll(1, 0.05).assigned)
    assert coordinator.group_metadata().generation_id == joined


def test_committed_tells_nothing_of_a_transaction_still_open(cluster: Cluster) -> None:
    topic = cluster.topic()
    log = cluster.started(topic, request_timeout=2.0)
    log.commit(epoch(1, topic, 0))
    other = KafkaProducer(bootstrap_servers=cluster.broker, transactional_id=f"{cluster.group}/other")
    other.init_transactions()
    other.begin_transaction()
    where = TopicPartition(topic, 0)
    other.send_offsets_to_transaction({where: OffsetAndMetadata(9, "streamd/1:2", -1)}, cluster.group)
    with pytest.raises(Transient):
        log.committed(0)
    other.abort_transaction()
    assert log.committed(0) == Committed(1, {topic: 0})
    other.close()


def test_aborted_transactions_leave_no_trace_in_input_journal_and_lag(cluster: Cluster) -> None:
    topic = cluster.topic()
    log = cluster.started(topic)
    log.commit(epoch(1, topic, 0))
    cluster.fill(topic, 3)
    other = KafkaProducer(bootstrap_servers=cluster.broker, transactional_id=f"{cluster.group}/other")
    other.init_transactions()
    for _ in range(2):
        other.begin_transaction()
        other.send(topic, value=b"aborted", partition=0)
        other.send(f"{cluster.group}.journal", value=b"aborted", partition=0)
        other.flush()
        other.abort_transaction()
    other.close()
    log.commit(epoch(2, topic, 3))
    assert [record.value for record in take(log, 3)] == [b"0", b"1", b"2"]
    until(lambda: not log.poll(10, 0.1).records and log.lag()[topic, 0].records == 0)
    assert [entry.sequence for entry in log.journal(0, 0, 0, 2)] == [1, 2]


@pytest.mark.parametrize("codec", ["lz4", "zstd", "snappy", "gzip"])
def test_compressed_inputs_are_read(cluster: Cluster, codec: str) -> None:
    topic = cluster.topic()
    producer = Producer({"bootstrap.servers": cluster.broker, "compression.type": codec, "linger.ms": 50})
    for i in range(500):
        producer.produce(topic, value=b"%d" % i * 20, key=b"k")
    producer.flush(20)
    assert [record.value for record in take(cluster.started(topic), 500)] == [b"%d" % i * 20 for i in range(500)]


def test_offsets_set_by_another_program_stop_the_worker(cluster: Cluster) -> None:
    topic = cluster.topic()
    log = cluster.started(topic)
    log.commit(epoch(1, topic, 0))
    log.close(leave=True)
    admin = KafkaAdminClient(bootstrap_servers=cluster.broker)
    admin.alter_group_offsets(cluster.group, {TopicPartition(topic, 0): OffsetAndMetadata(0, "", -1)})
    admin.close()
    again = cluster.log(topic, worker="w1")
    again.open()
    with pytest.raises(StateError, match="another program"):
        again.committed(0)


def test_the_worker_that_has_a_partition_is_known_to_the_others(cluster: Cluster) -> None:
    topic = cluster.topic()
    cluster.started(topic)
    second = cluster.log(topic, worker="w1")
    second.open()
    until(lambda: second.poll(1, 0.05) and second.owner(0) == "w0")
    assert second.owner(1) is None


def test_an_output_to_a_missing_topic_or_partition_is_a_config_error(cluster: Cluster) -> None:
    topic = cluster.topic()
    log = cluster.started(topic)
    with pytest.raises(ConfigError, match="does not exist"):
        log.commit(epoch(1, topic, 0, [Output(f"{topic}.missing", b"k", b"v", 1)]))
    log.recover()
    with pytest.raises(ConfigError, match="names partition 4"):
        log.commit(epoch(1, topic, 0, [Output(topic, b"k", b"v", 1, 4)]))
    log.recover()
    log.commit(epoch(1, topic, 0))
    assert log.committed(0).sequence == 1


def test_an_output_that_the_topic_can_never_take_is_a_state_error(cluster: Cluster) -> None:
    topic = cluster.topic()
    log = cluster.started(topic)
    with pytest.raises(StateError, match="never"):
        log.commit(epoch(1, topic, 0, [Output(topic, b"k", bytes(3 << 20), 1)]))
    log.recover()
    assert log.committed(0).sequence == 0


def test_the_journal_has_as_many_partitions_as_the_inputs_and_is_kept(cluster: Cluster) -> None:
    cluster.log(cluster.topic(partitions=3)).open()
    journal = f"{cluster.group}.journal"
    assert cluster.client.topics()[journal].partitions == 3
    admin = KafkaAdminClient(bootstrap_servers=cluster.broker)
    configs = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, journal)])["topic"][journal]
    assert {key: configs[key]["value"] for key in ("cleanup.policy", "retention.ms", "retention.bytes")} == {
        "cleanup.policy": "delete",
        "retention.ms": "-1",
        "retention.bytes": "-1",
    }
    admin.close()


def test_partitions_added_while_running_are_assigned_and_can_be_committed(cluster: Cluster) -> None:
    topic, results = cluster.topic(), cluster.topic()
    setting = {KafkaLog: "metadata_max_age_ms", ConfluentLog: "topic.metadata.refresh.interval.ms"}[cluster.make]
    log = cluster.started(topic, client_settings={f"consumer.{setting}": 300})
    log.commit(epoch(1, topic, 0, [Output(results, b"k", b"old", 1, partition=0)]))
    admin = KafkaAdminClient(bootstrap_servers=cluster.broker)
    for grown in (results, topic):
        admin.create_partitions({grown: 2})
    admin.close()
    held = {0}

    def both() -> bool:
        polled = log.poll(1, 0.1)
        held.difference_update(polled.revoked)
        held.update(polled.assigned)
        return held == {0, 1}

    until(both)
    shards = (ShardEpoch(0, 2, {topic: 0}, b""), ShardEpoch(1, 1, {topic: 0}, b"new"))

    output = Output(results, b"k", b"new", 1, partition=1)

    def committed() -> bool:
        try:
            log.commit(Epoch((output,), shards))
        except Transient:
            log.recover()
            return False
        return True

    until(committed)
    assert (log.committed(0).sequence, log.committed(1).sequence) == (2, 1)
    assert [entry.entry for entry in log.journal(1, 0, 0, 1)] == [b"new"]
    assert [record.value for record in cluster.client.read(results, 1, 0, 10)] == [b"new"]


def test_a_topic_made_again_has_another_id(cluster: Cluster) -> None:
    topic = cluster.topic()
    before = cluster.client.topics()[topic].id
    admin = KafkaAdminClient(bootstrap_servers=cluster.broker)
    admin.delete_topics([topic])
    until(lambda: topic not in cluster.client.topics())
    cluster.client.create(topic, 1)
    assert cluster.client.topics()[topic].id != before
    admin.close()


def test_settings_of_the_client_library_are_checked(cluster: Cluster) -> None:
    topic = cluster.topic()
    with pytest.raises(ConfigError, match="no_such"):
        cluster.log(topic, client_settings={"no_such": 1}).open()


@pytest.mark.parametrize("make", CLIENTS)
def test_a_broker_that_is_not_there_is_transient_soon(make: Callable[..., Log]) -> None:
    nowhere = [f"127.0.0.1:{free_port()}"]
    log = make(Membership(brokers=nowhere, group="g", worker="w", inputs=("t",), journal="j", request_timeout=1.0))
    for _ in range(2):
        with pytest.raises(Transient):
            log.recover()
    with pytest.raises(Transient):
        log.poll(1, 0.0)
    log.close(leave=True)


@pytest.mark.parametrize("make", CLIENTS)
def test_a_broker_that_falls_silent_makes_poll_and_commit_transient_and_the_log_goes_on_when_it_is_back(
    make: Callable[..., Log], tmp_path: Path
) -> None:
    try:
        broker = kafka.start(tmp_path / "broker")
    except Unavailable as reason:
        missing(reason)
    cluster = Cluster(broker.address, make, "silence")
    topic = cluster.topic()
    cluster.fill(topic, 2)
    log = cluster.started(topic, request_timeout=1.5)
    take(log, 2)
    log.commit(epoch(1, topic, 1))
    os.kill(broker.process.pid, signal.SIGSTOP)

    def transient(act: Callable[[], object]) -> bool:
        try:
            act()
        except Transient:
            return True
        return False

    assert transient(lambda: log.commit(epoch(2, topic, 2)))
    assert transient(log.recover)
    assert transient(lambda: log.committed(0))
    until(lambda: transient(lambda: log.poll(1, 0.1)))
    os.kill(broker.process.pid, signal.SIGCONT)
    until(lambda: not transient(log.recover))
    found: list[Committed] = []
    until(lambda: not transient(lambda: found.append(log.committed(0))))
    assert found[0] in (Committed(1, {topic: 1}), Committed(2, {topic: 2}))
    wanted = found[0].sequence + 1

    def committed() -> bool:
        """As the engine does: look, try the next epoch, settle; a lost seat is taken again by polling."""
        acts = [lambda: log.poll(1, 0.1), lambda: log.commit(epoch(wanted, topic, 2)), log.recover]
        for act in acts:
            transient(act)
        return not transient(lambda: found.append(log.committed(0))) and found[-1].sequence == wanted

    until(committed)
    cluster.close()
    broker.stop()


def test_trimming_spares_what_is_younger_than_asked(cluster: Cluster) -> None:
    topic = cluster.topic()
    log = cluster.started(topic)
    found = [log.commit(epoch(sequence, topic, 0))[0] for sequence in (1, 2, 3)]
    oldest, _ = cluster.client.ends(f"{cluster.group}.journal")[0]
    written = cluster.client.read(f"{cluster.group}.journal", 0, 0, 10)
    log.trim_journal(0, found[1], before=written[0].timestamp)
    assert cluster.client.ends(f"{cluster.group}.journal")[0][0] == oldest
    log.trim_journal(0, found[1], before=written[-1].timestamp + 3_600_000)
    assert cluster.client.ends(f"{cluster.group}.journal")[0][0] == found[1]
    assert [entry.sequence for entry in log.journal(0, found[1], 2, 3)] == [3]
