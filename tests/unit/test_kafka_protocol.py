"""The parts of the Kafka logs that need no broker: metadata, journal chunks, assignments, settings, lag."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.kafka_lag import LagWatch
from connectors.kafka_order import in_order
from connectors.kafka_protocol import (
    CHUNK,
    Assembler,
    Chunk,
    check_names,
    check_positions,
    to_chunk,
    to_chunks,
    to_committed,
    to_metadata,
    transactional_id,
    whole_partitions,
)
from connectors.kafka_settings import Security, librdkafka_connection, own_settings, python_connection
from streamd.errors import ConfigError, StateError
from streamd.ports import Committed, Record

laws = settings(derandomize=True, deadline=None)


def chunks(sequence: int, entry: bytes) -> list[Chunk]:
    return [to_chunk(headers, value, "j[0]") for headers, value in to_chunks(sequence, entry)]


def test_a_sequence_number_survives_the_offset_metadata() -> None:
    there = {"events": (7, to_metadata(2**40)), "labels": (0, to_metadata(2**40))}
    assert to_committed(there, "g", 0) == Committed(2**40, {"events": 7, "labels": 0})
    assert to_committed({}, "g", 0) == Committed(0, {})


@pytest.mark.parametrize("metadata", ["", "streamd/2:7", "other program", "streamd/1:"])
def test_offsets_that_another_program_committed_are_refused(metadata: str) -> None:
    with pytest.raises(StateError, match=r"events\[3\].*another program"):
        to_committed({"events": (7, metadata)}, "g", 3)


def test_offsets_of_different_epochs_are_refused() -> None:
    with pytest.raises(StateError, match="different epochs"):
        to_committed({"events": (7, to_metadata(4)), "labels": (7, to_metadata(5))}, "g", 3)


@laws
@given(st.integers(0, 3 * CHUNK + 2))
def test_an_entry_survives_its_chunks_each_small_enough(size: int) -> None:
    entry = bytes(size)
    parts = chunks(5, entry)
    assert all(len(part.data) <= CHUNK for part in parts)
    assembler = Assembler("j[0]", 4, 5)
    found = [done for offset, part in enumerate(parts, 10) if (done := assembler.add(part, offset))]
    assert [(one.sequence, one.entry, one.offset) for one in found] == [(5, entry, 10)]
    assert assembler.complete


@laws
@given(st.lists(st.integers(0, 2 * CHUNK), min_size=1, max_size=6), st.data())
def test_any_lost_repeated_or_swapped_chunk_is_noticed(sizes: list[int], data: st.DataObject) -> None:
    parts = [part for number, size in enumerate(sizes, 1) for part in chunks(number, bytes(size))]
    at = data.draw(st.integers(0, len(parts) - 1))
    broken = {
        "lost": parts[:at] + parts[at + 1 :],
        "repeated": parts[:at] + parts[at : at + 1] + parts[at:],
        "swapped": parts[: max(0, at - 1)] + parts[max(0, at - 1) : at + 1][::-1] + parts[at + 1 :],
    }[data.draw(st.sampled_from(["lost", "repeated", "swapped"]))]
    assembler = Assembler("j[0]", 0, len(sizes))
    entries = []
    try:
        for offset, part in enumerate(broken):
            if (done := assembler.add(part, offset)) is not None:
                entries.append((done.sequence, len(done.entry)))
    except StateError:
        return
    whole = list(enumerate(sizes, 1))
    assert entries == whole if assembler.complete else entries == whole[: len(entries)]


def test_entries_before_the_wanted_ones_are_skipped() -> None:
    assembler = Assembler("j[0]", 2, 3)
    parts = [part for number in (1, 2, 3) for part in chunks(number, bytes(CHUNK + 1))]
    assert [done.sequence for i, part in enumerate(parts) if (done := assembler.add(part, i))] == [3]


def test_a_journal_that_begins_anew_is_refused() -> None:
    assembler = Assembler("j[0]", 5, 9)
    assembler.add(chunks(4, b"")[0], 0)
    with pytest.raises(StateError, match="anew"):
        assembler.add(chunks(1, b"")[0], 1)


def test_a_foreign_record_in_the_journal_is_a_state_error() -> None:
    with pytest.raises(StateError, match="not a part"):
        to_chunk([("other", b"header")], b"value", "j[0]")


def test_an_assignment_gives_a_partition_of_every_input_or_is_refused() -> None:
    both = [("a", 0), ("b", 0), ("a", 2), ("b", 2)]
    assert whole_partitions(both, ["a", "b"]) == {0, 2}
    assert whole_partitions([], ["a", "b"]) == frozenset()
    with pytest.raises(StateError, match=r"partition 1 was assigned without b"):
        whole_partitions([*both, ("a", 1)], ["a", "b"])


def test_a_position_at_either_end_is_fine_and_one_beyond_is_not() -> None:
    check_positions(0, {"a": 3}, {"a": (3, 9)})
    check_positions(0, {"a": 9}, {"a": (3, 9)})
    with pytest.raises(StateError, match=r"a\[0\].* 2 .* 3.*1 records"):
        check_positions(0, {"a": 2}, {"a": (3, 9)})
    with pytest.raises(StateError, match=r"a\[0\].* 10 .* 9"):
        check_positions(0, {"a": 10}, {"a": (3, 9)})


@pytest.mark.parametrize("name", ["", "a b", "a/b", "..", "x" * 250])
def test_names_that_kafka_refuses_are_refused_first(name: str) -> None:
    for names in ((name, "w", "j"), ("g", name, "j"), ("g", "w", name)):
        with pytest.raises(ConfigError):
            check_names(names[0], names[1], ["t"], names[2])


def test_two_workers_never_share_a_transactional_id() -> None:
    assert transactional_id("a.b", "c") != transactional_id("a", "b.c")


def test_client_settings_reach_the_role_they_are_for() -> None:
    given_settings = {"consumer.x": 1, "producer.y": 2, "z": 3, "queue.buffering.max.ms": 4}
    assert own_settings(given_settings, "consumer", {}) == {"x": 1, "z": 3, "queue.buffering.max.ms": 4}
    assert own_settings(given_settings, "producer", {}) == {"y": 2, "z": 3, "queue.buffering.max.ms": 4}


@pytest.mark.parametrize("key", ["acks", "producer.acks"])
def test_what_the_guarantee_rests_on_cannot_be_set(key: str) -> None:
    with pytest.raises(ConfigError, match="exactly once"):
        own_settings({key: 0}, "producer", {"acks": -1})


def test_security_means_the_same_to_both_clients() -> None:
    security = Security(tls=True, ca_file="/ca", mechanism="SCRAM-SHA-512", username="u", password="p")
    python, native = python_connection(["a:1", "b:2"], security), librdkafka_connection(["a:1", "b:2"], security)
    assert python["security_protocol"] == native["security.protocol"] == "SASL_SSL"
    assert python["ssl_cafile"] == native["ssl.ca.location"] == "/ca"
    assert python["sasl_mechanism"] == native["sasl.mechanism"] == "SCRAM-SHA-512"
    assert python["sasl_plain_password"] == native["sasl.password"] == "p"
    assert python_connection(["a:1"], Security())["security_protocol"] == "PLAINTEXT"


def record(topic: str, partition: int, offset: int, timestamp: int) -> Record:
    return Record(topic, partition, offset, timestamp, None, b"")


@laws
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 1), st.integers(0, 9)), max_size=30))
def test_the_merged_order_keeps_each_topics_own_order_whatever_the_timestamps(
    drawn: list[tuple[str, int, int]],
) -> None:
    runs: dict[tuple[str, int], list[Record]] = {}
    for offset, (topic, partition, timestamp) in enumerate(drawn):
        runs.setdefault((topic, partition), []).append(record(topic, partition, offset, timestamp))
    merged = in_order(list(runs.values()))
    assert len(merged) == len(drawn)
    for (topic, partition), run in runs.items():
        assert [r for r in merged if (r.topic, r.partition) == (topic, partition)] == run


def test_records_of_two_topics_in_time_order_are_merged_by_time() -> None:
    events = [record("e", 0, i, 10 * i) for i in range(3)]
    labels = [record("l", 0, i, 10 * i + 5) for i in range(3)]
    assert [r.timestamp for r in in_order([labels, events])] == [0, 5, 10, 15, 20, 25]


def test_lag_ages_from_the_last_moment_without_any() -> None:
    watch = LagWatch()
    watch.starts("t", 0, end=0)
    assert watch.lag("t", 0, 0, None, now=100.0).seconds == 0.0
    assert watch.lag("t", 0, 0, 5, now=103.0).records == 5
    assert watch.lag("t", 0, 0, 5, now=103.0).seconds == 3.0


def test_lag_is_no_older_than_what_was_delivered_last() -> None:
    watch = LagWatch()
    watch.starts("t", 0, end=9)
    watch.delivered(record("t", 0, 3, 40_000))
    assert watch.lag("t", 0, 4, 9, now=50.0).seconds == 10.0
    watch.delivered(record("t", 0, 4, 47_000))
    assert watch.lag("t", 0, 5, 9, now=50.0).seconds == 3.0
