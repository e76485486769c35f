"""The laws of the port `Log`."""

import random
from collections.abc import Callable, Iterator, Sequence

import pytest
from harness import (
    World,
    after,
    assign,
    contents,
    epoch,
    numbered,
    poll_until,
    quiet,
    unique,
    until,
)

from streamd.errors import ConfigError, Fenced, OffsetGap, StateError, Transient
from streamd.ports import Committed, Epoch, JournalEntry, Log, Output, ShardEpoch

# Java's murmur2 of these keys, made non-negative: from the unit tests of Apache Kafka's clients.
MURMUR2 = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}

LATER = 4_000_000_000_000  # milliseconds since 1970: after every test


def journal(
    log: Log, after: int, through: int | None, start: int = 0, partition: int = 0
) -> list[tuple[int, bytes]]:
    return [(entry.sequence, entry.entry) for entry in log.journal(partition, start, after, through)]


def commit_each(log: Log, topic: str, entries: Sequence[bytes], first: int = 1) -> list[int]:
    """One epoch per entry: the journal offsets at which the next entries are found."""
    shards = [ShardEpoch(0, i, {topic: 0}, entry) for i, entry in enumerate(entries, first)]
    return [log.commit(Epoch((), (shard,)))[0] for shard in shards]


# delivery


def test_a_new_assignment_delivers_nothing_before_seek(world: World) -> None:
    topic = world.topic(partitions=2)
    world.fill(topic, 3)
    log = world.joined(topic)
    assert quiet(log)


def test_seek_delivers_exactly_the_records_from_there_on_in_offset_order(world: World) -> None:
    topic = world.topic()
    records = world.fill(topic, 10)
    log = world.joined(topic)
    log.seek(0, {topic: records[4].offset})
    assert poll_until(log, 6) == records[4:]
    assert quiet(log)


def test_seek_to_the_end_delivers_what_is_appended_afterwards(world: World) -> None:
    topic = world.topic()
    records = world.fill(topic, 3)
    log = world.joined(topic)
    log.seek(0, {topic: records[-1].offset + 1})
    assert quiet(log)
    world.client.append(topic, [numbered(3), numbered(4)])
    assert poll_until(log, 2) == world.records(topic, 5)[3:]


def test_seek_can_go_back(world: World) -> None:
    topic = world.topic()
    records = world.fill(topic, 5)
    log = world.started(topic)
    assert poll_until(log, 5) == records
    log.seek(0, {topic: records[1].offset})
    assert poll_until(log, 4) == records[1:]


def test_topics_not_named_in_seek_start_at_their_beginning(world: World) -> None:
    events, labels = world.topic(word="events"), world.topic(word="labels")
    skipped, wanted = world.fill(events, 3), world.fill(labels, 3)
    log = world.joined(events, labels)
    log.seek(0, {events: skipped[-1].offset + 1})
    assert poll_until(log, 3) == wanted


def test_seek_tells_where_every_topic_starts_the_oldest_kept_if_it_was_not_named(world: World) -> None:
    events, labels = world.topic(word="events"), world.topic(word="labels")
    world.fill(events, 3), world.fill(labels, 3)
    world.harness.truncate(labels, 0, 2)
    log = world.joined(events, labels)
    assert log.seek(0, {events: 1}) == {events: 1, labels: 2}


def test_every_input_topic_is_delivered_in_its_own_order(world: World) -> None:
    events, labels = world.topic(word="events"), world.topic(word="labels")
    wanted = {events: world.fill(events, 20), labels: world.fill(labels, 7)}
    log = world.started(events, labels)
    got = poll_until(log, 27, max_records=4)
    for topic, records in wanted.items():
        assert [record for record in got if record.topic == topic] == records


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        (None, b"no key", ()),
        (b"", b"", ()),
        (b"tombstone", None, ()),
        (bytes(range(256)), bytes(range(256)) * 100, (("id", b"\x00\xff"), ("empty", b""), ("id", b"again"))),
        (b"large", random.Random(1).randbytes(900_000), (("größe", b"900000"),)),
    ],
)
def test_a_record_comes_back_as_it_was_given(
    world: World, key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes], ...]
) -> None:
    topic = world.topic()
    given = Output(topic, key, value, 1_234_567_890_123, 0, headers)  # type: ignore[arg-type]
    log = world.started(topic)
    world.client.append(topic, [given])
    (record,) = poll_until(log, 1)
    assert contents(record) == (key, value, 1_234_567_890_123, headers)


def test_a_poll_never_delivers_more_than_asked_for(world: World) -> None:
    topic = world.topic(partitions=2)
    records = [*world.fill(topic, 9, partition=0), *world.fill(topic, 8, partition=1)]
    log = world.started(topic)
    got = poll_until(log, 17, max_records=5)
    assert sorted(got, key=lambda r: (r.partition, r.offset)) == records


def test_partitions_are_independent(world: World) -> None:
    topic = world.topic(partitions=3)
    records = [world.fill(topic, 4, partition=partition) for partition in range(3)]
    log = world.joined(topic)
    log.seek(1, {})
    assert poll_until(log, 4) == records[1]
    log.commit(epoch(1, after(records[1]), partition=1))
    log.seek(2, {topic: records[2][2].offset})
    assert poll_until(log, 2) == records[2][2:]
    assert log.committed(1) == Committed(1, after(records[1]))
    assert log.committed(0) == log.committed(2) == Committed(0, {})


def test_pause_stops_delivery_until_seek(world: World) -> None:
    topic = world.topic(partitions=2)
    log = world.started(topic)
    log.pause(0)
    held, passed = world.fill(topic, 3, partition=0), world.fill(topic, 3, partition=1)
    assert poll_until(log, 3) == passed
    assert quiet(log)
    log.seek(0, {topic: held[1].offset})
    assert poll_until(log, 2) == held[1:]


def test_pause_holds_back_what_a_poll_left_over(world: World) -> None:
    topic = world.topic()
    records = world.fill(topic, 6)
    log = world.started(topic)
    assert poll_until(log, 1, max_records=1) == records[:1]
    log.pause(0)
    assert quiet(log)
    log.seek(0, {topic: records[1].offset})
    assert poll_until(log, 5) == records[1:]


def test_what_a_pause_held_back_comes_though_nothing_else_does(world: World) -> None:
    topic = world.topic(partitions=2)
    held = world.fill(topic, 6)
    log = world.started(topic)
    assert poll_until(log, 1, max_records=1) == held[:1]
    log.pause(0)
    passed = world.fill(topic, 3, partition=1)
    assert poll_until(log, 3) == passed
    log.seek(0, {topic: held[1].offset})
    assert poll_until(log, 5) == held[1:]


def test_seek_outside_of_what_is_kept_is_an_offset_gap_with_both_offsets_and_the_nearest(
    world: World,
) -> None:
    topic = world.topic()
    records = world.fill(topic, 10)
    oldest, end = records[7].offset, records[-1].offset + 1
    world.harness.truncate(topic, 0, oldest)
    log = world.joined(topic)
    for wanted, nearest in ((records[2].offset, oldest), (1000, end)):
        with pytest.raises(OffsetGap) as found:
            log.seek(0, {topic: wanted})
        gap = found.value
        assert (gap.topic, gap.partition, gap.position, gap.oldest, gap.end) == (topic, 0, wanted, oldest, end)
        assert gap.nearest == nearest
        assert str(wanted) in str(gap)
        assert str(nearest) in str(gap)
    log.seek(0, {topic: oldest})
    assert poll_until(log, 3) == records[7:]


def test_of_several_gaps_each_is_told_until_all_positions_are_kept(world: World) -> None:
    events, labels = world.topic(word="events"), world.topic(word="labels")
    world.fill(events, 4), world.fill(labels, 4)
    world.harness.truncate(events, 0, 2), world.harness.truncate(labels, 0, 3)
    log = world.joined(events, labels)
    wanted = {events: 0, labels: 1}
    for _ in range(2):
        with pytest.raises(OffsetGap) as found:
            log.seek(0, wanted)
        wanted[found.value.topic] = found.value.nearest
    assert log.seek(0, wanted) == {events: 2, labels: 3}


def test_records_deleted_ahead_of_the_reader_are_an_offset_gap_and_seek_goes_on(
    world: World,
) -> None:
    topic, other = world.topic(word="events"), world.topic(word="labels")
    records = world.fill(topic, 10)
    log = world.started(topic, other)
    poll_until(log, 10)
    log.seek(0, {topic: records[1].offset})
    world.harness.truncate(topic, 0, records[7].offset)
    gaps: list[OffsetGap] = []

    def told() -> bool:
        try:
            assert not log.poll(10, 0.1).records
        except OffsetGap as gap:
            gaps.append(gap)
        return bool(gaps)

    until(told)
    assert (gaps[0].topic, gaps[0].partition, gaps[0].nearest) == (topic, 0, records[7].offset)
    log.pause(0)
    assert quiet(log)
    log.seek(0, {topic: gaps[0].nearest})
    assert poll_until(log, 3) == records[7:]


def test_a_new_group_starts_at_the_oldest_kept(world: World) -> None:
    topic = world.topic()
    records = world.fill(topic, 6)
    world.harness.truncate(topic, 0, records[4].offset)
    assert poll_until(world.started(topic), 2) == records[4:]


# commit


def test_nothing_is_committed_before_the_first_commit(world: World) -> None:
    topic = world.topic()
    world.fill(topic, 3)
    log = world.started(topic)
    poll_until(log, 3)
    assert log.committed(0) == Committed(0, {})


def test_a_commit_is_visible_at_once_to_a_reader(world: World) -> None:
    topic, results = world.topic(), world.topic(word="results")
    log = world.started(topic)
    records = world.fill(topic, 3)
    poll_until(log, 3)
    outputs = [Output(results, b"k", b"v%d" % i, 1 + i, 0, (("h", b"%d" % i),)) for i in range(5)]
    log.commit(epoch(1, after(records), outputs))
    assert [contents(r) for r in world.records(results, 5)] == [contents(o) for o in outputs]  # type: ignore[arg-type]
    assert log.committed(0) == Committed(1, after(records))


def test_positions_and_sequence_come_back_from_a_fresh_instance(world: World) -> None:
    events, labels = world.topic(word="events"), world.topic(word="labels")
    log = world.started(events, labels)
    records = world.fill(events, 5)
    poll_until(log, 5)
    positions = {events: records[2].offset, labels: 0}
    log.commit(epoch(1, {events: 0, labels: 0}))
    log.commit(epoch(2, positions))
    world.crash(log)
    again = world.joined(events, labels)
    assert again.committed(0) == Committed(2, positions)
    again.seek(0, positions)
    assert poll_until(again, 3) == records[2:]


def test_an_epoch_never_committed_leaves_nothing(world: World) -> None:
    topic, results = world.topic(), world.topic(word="results")
    log = world.started(topic)
    records = world.fill(topic, 4)
    log.commit(epoch(1, after(poll_until(log, 4)), [numbered(0, 0, results)]))
    world.fill(topic, 2, first=4)
    poll_until(log, 2)
    world.crash(log)
    again = world.joined(topic)
    assert again.committed(0) == Committed(1, after(records))
    assert len(world.records(results, 1)) == 1


def test_an_epoch_without_outputs_commits_its_positions(world: World) -> None:
    topic = world.topic()
    log = world.started(topic)
    records = world.fill(topic, 2)
    for sequence in (1, 2, 3):
        log.commit(epoch(sequence, after(records)))
    assert log.committed(0) == Committed(3, after(records))


def test_one_epoch_moves_several_shards_together(world: World) -> None:
    topic, results = world.topic(partitions=3), world.topic(partitions=3, word="results")
    log = world.started(topic)
    shards = [ShardEpoch(p, 1, {topic: 0}, b"entry of %d" % p) for p in (0, 2)]
    found = log.commit(Epoch([numbered(p, p, results) for p in (0, 2)], shards))
    assert set(found) == {0, 2}
    assert [log.committed(p).sequence for p in range(3)] == [1, 0, 1]
    for p in (0, 2):
        assert journal(log, 0, 1, partition=p) == [(1, b"entry of %d" % p)]
        assert len(world.records(results, 1, partition=p)) == 1


class Torn(Sequence[Output]):
    """Outputs of which the third cannot be had."""

    def __init__(self, outputs: Sequence[Output]) -> None:
        self._outputs = outputs

    def __len__(self) -> int:
        return len(self._outputs)

    def __getitem__(self, i: object) -> Output:  # type: ignore[override]
        raise NotImplementedError

    def __iter__(self) -> Iterator[Output]:
        yield from self._outputs[:2]
        raise InterruptedError("torn")


def test_after_a_failed_commit_committed_tells_the_truth_and_the_log_goes_on(world: World) -> None:
    topic, results = world.topic(), world.topic(word="results")
    log = world.started(topic)
    records = world.fill(topic, 4)
    log.commit(epoch(1, after(poll_until(log, 4)[:2]), [numbered(0, 0, results)]))
    outputs = [numbered(i, 0, results) for i in (1, 2, 3)]
    with pytest.raises(InterruptedError):
        log.commit(epoch(2, after(records), Torn(outputs)))
    log.recover()
    committed = log.committed(0)
    assert committed == Committed(1, after(records[:2]))
    log.seek(0, committed.positions)
    assert poll_until(log, 2) == records[2:]
    log.commit(epoch(2, after(records), outputs))
    assert [r.key for r in world.records(results, 4)] == [b"key-0", b"key-1", b"key-2", b"key-3"]
    assert journal(log, 0, 2) == [(1, b"entry-1"), (2, b"entry-2")]


def test_recover_with_nothing_open_changes_nothing(world: World) -> None:
    topic = world.topic()
    log = world.started(topic)
    log.commit(epoch(1, {topic: 0}))
    log.recover()
    assert log.committed(0) == Committed(1, {topic: 0})
    log.commit(epoch(2, {topic: 0}))
    assert log.committed(0).sequence == 2


def test_an_output_without_partition_goes_where_java_puts_it(world: World) -> None:
    topic, results = world.topic(partitions=3), world.topic(partitions=3, word="results")
    log = world.started(topic)
    log.commit(epoch(1, {topic: 0}, [Output(results, key, key, 0) for key in MURMUR2]))
    for partition in range(3):
        wanted = [key for key, hash in MURMUR2.items() if (hash & 0x7FFFFFFF) % 3 == partition]
        assert [r.key for r in world.records(results, len(wanted), partition)] == wanted


def test_a_named_partition_is_obeyed(world: World) -> None:
    topic, results = world.topic(partitions=3), world.topic(partitions=3, word="results")
    log = world.started(topic)
    log.commit(epoch(1, {topic: 0}, [Output(results, key, key, 0, 2) for key in MURMUR2]))
    assert [r.key for r in world.records(results, len(MURMUR2), 2)] == list(MURMUR2)


# journal


def test_journal_entries_come_back_in_order_within_after_and_through(world: World) -> None:
    topic = world.topic()
    log = world.started(topic)
    commit_each(log, topic, [b"one", b"", b"three", b"four", b"five"])
    assert journal(log, 0, 5) == [(1, b"one"), (2, b""), (3, b"three"), (4, b"four"), (5, b"five")]
    assert journal(log, 2, 4) == [(3, b"three"), (4, b"four")]
    assert journal(log, 4, 4) == []


def test_the_journal_is_found_from_every_offset_that_was_given(world: World) -> None:
    topic = world.topic()
    log = world.started(topic)
    found = commit_each(log, topic, [b"one", b"two", b"three", b"four"])
    for sequence in (1, 2, 3):
        wanted = [(s, e) for s, e in enumerate([b"one", b"two", b"three", b"four"], 1) if s > sequence]
        assert journal(log, sequence, 4, start=found[sequence - 1]) == wanted
    for entry in list(log.journal(0, 0, 0, 4)):
        assert next(iter(log.journal(0, entry.offset, entry.sequence - 1, 4))) == entry


def test_the_journal_comes_back_from_a_fresh_instance_and_goes_on(world: World) -> None:
    topic = world.topic()
    log = world.started(topic)
    found = commit_each(log, topic, [b"one", b"two"])
    world.crash(log)
    again = world.started(topic)
    commit_each(again, topic, [b"three"], first=3)
    assert journal(again, 0, 3) == [(1, b"one"), (2, b"two"), (3, b"three")]
    assert journal(again, 2, 3, start=found[-1]) == [(3, b"three")]


def test_journal_entries_of_several_megabytes_are_intact(world: World) -> None:
    topic = world.topic()
    log = world.started(topic)
    entries = [random.Random(seed).randbytes(3_000_000 + seed) for seed in range(3)]
    commit_each(log, topic, [entries[0], b"small", entries[1], entries[2]])
    assert [entry for _, entry in journal(log, 0, 4)] == [entries[0], b"small", entries[1], entries[2]]


def test_a_missing_journal_entry_is_a_state_error(world: World) -> None:
    topic = world.topic()
    log = world.started(topic)
    commit_each(log, topic, [b"one", b"two"])
    with pytest.raises(StateError, match=r"\b3\b"):
        journal(log, 0, 3)
    with pytest.raises(StateError):
        journal(log, 5, 6)


def test_a_journal_without_a_last_entry_named_is_read_to_its_end(world: World) -> None:
    topic = world.topic()
    log = world.started(topic)
    assert journal(log, 0, None) == []
    found = commit_each(log, topic, [b"one", b"two", b"three"])
    assert journal(log, 0, None) == [(1, b"one"), (2, b"two"), (3, b"three")]
    assert journal(log, 2, None, start=found[1]) == [(3, b"three")]
    assert journal(log, 3, None, start=found[2]) == []
    log.trim_journal(0, found[1], before=LATER)
    assert journal(log, 2, None) == [(3, b"three")]
    with pytest.raises(StateError):
        journal(log, 0, None)


def test_a_journal_without_a_first_entry_named_is_read_from_the_first_that_is_there(world: World) -> None:
    topic = world.topic()
    log = world.started(topic)
    assert list(log.journal(0, 0, None, None)) == []
    found = commit_each(log, topic, [b"one", b"two", random.Random(1).randbytes(2_000_000), b"four"])
    assert [entry.sequence for entry in log.journal(0, 0, None, None)] == [1, 2, 3, 4]
    log.trim_journal(0, found[1], before=LATER)
    assert [entry.sequence for entry in log.journal(0, 0, None, None)] == [3, 4]
    assert [entry.sequence for entry in log.journal(0, 0, None, 3)] == [3]


def test_the_journals_end_is_where_the_next_entry_is_found(world: World) -> None:
    topic = world.topic()
    log = world.started(topic)
    commit_each(log, topic, [b"one", b"two"])
    end = log.journal_end(0)
    commit_each(log, topic, [b"three"], first=3)
    assert journal(log, 2, 3, start=end) == [(3, b"three")]
    log.trim_journal(0, log.journal_end(0), before=LATER)
    assert list(log.journal(0, 0, None, None)) == []


def test_nobody_else_is_said_to_have_a_partition_of_ours(world: World) -> None:
    log = world.started(world.topic())
    assert log.owner(0) in (None, "w0")
    assert log.owner(7) is None


def test_an_iterator_of_the_journal_may_be_left_half_way(world: World) -> None:
    topic = world.topic()
    log = world.started(topic)
    commit_each(log, topic, [b"one", b"two", b"three"])
    first: JournalEntry = next(iter(log.journal(0, 0, 0, 3)))
    assert first[:2] == (1, b"one")
    commit_each(log, topic, [b"four"], first=4)
    assert journal(log, 2, 4) == [(3, b"three"), (4, b"four")]


def test_trimming_keeps_the_journal_from_there_on(world: World) -> None:
    topic = world.topic()
    log = world.started(topic)
    found = commit_each(log, topic, [b"%d" % i for i in range(1, 101)])
    log.trim_journal(0, found[89], before=LATER)
    assert journal(log, 90, 100, start=found[89]) == [(i, b"%d" % i) for i in range(91, 101)]
    assert journal(log, 90, 100) == [(i, b"%d" % i) for i in range(91, 101)]
    log.trim_journal(0, found[89], before=LATER)
    commit_each(log, topic, [b"more"], first=101)
    assert journal(log, 100, 101) == [(101, b"more")]


def test_trimming_keeps_what_was_written_since(world: World) -> None:
    topic = world.topic()
    log = world.started(topic)
    found = commit_each(log, topic, [b"one", b"two", b"three"])
    log.trim_journal(0, found[2], before=1)
    assert journal(log, 0, 3) == [(1, b"one"), (2, b"two"), (3, b"three")]


# opening and closing


def test_a_missing_input_topic_is_a_config_error(world: World) -> None:
    there, missing = world.topic(), unique("missing")
    log = world.make(there, missing)
    with pytest.raises(ConfigError, match=missing):
        log.open()


def test_input_topics_of_different_partition_counts_are_a_config_error(world: World) -> None:
    one, two = world.topic(partitions=1), world.topic(partitions=2)
    log = world.make(one, two)
    with pytest.raises(ConfigError, match=one):
        log.open()


def test_topics_tells_ids_and_partitions_of_inputs_and_outputs(world: World) -> None:
    events, labels, results = (world.topic(2, word) for word in ("events", "labels", "results"))
    log = world.started(events, labels)
    log.commit(epoch(1, {events: 0, labels: 0}, [numbered(0, 1, results)]))
    told = log.topics()
    assert {name: told[name] for name in (events, labels, results)} == {
        name: world.client.topics()[name] for name in (events, labels, results)
    }
    assert len({info.id for info in told.values()}) == len(told)
    assert {info.partitions for info in told.values()} == {2}


def test_a_closed_instance_makes_room_for_the_next(world: World) -> None:
    topic = world.topic()
    for sequence in (1, 2, 3):
        log = world.joined(topic)
        assert log.committed(0).sequence == sequence - 1
        log.commit(epoch(sequence, {topic: 0}))
        world.crash(log)


def test_of_two_live_instances_of_one_worker_one_is_fenced_and_one_goes_on(world: World) -> None:
    topic = world.topic()
    logs = [world.started(topic), world.make(topic)]
    fenced: list[Log] = []
    away: set[Log] = set()

    def attempt(log: Log, act: Callable[[], object]) -> None:
        try:
            act()
        except Fenced:
            fenced.append(log)
        except Transient:
            away.add(log)
        else:
            away.discard(log)

    def done() -> bool:
        for log in logs:
            if not fenced:
                attempt(log, log.recover if log in away else lambda log=log: log.poll(100, 0.05))  # type: ignore[misc]
        return bool(fenced)

    attempt(logs[1], logs[1].open)
    if not fenced:
        until(done)
    (loser,) = fenced
    winner = next(log for log in logs if log is not loser)
    winner.recover()
    winner.commit(epoch(1, {topic: 0}))
    assert winner.committed(0).sequence == 1


def test_two_groups_read_one_topic_from_positions_of_their_own(world: World) -> None:
    topic = world.topic()
    records = world.fill(topic, 4)
    first = world.started(topic)
    first.commit(epoch(1, after(poll_until(first, 4))))
    world.group = unique("group")
    second = world.started(topic)
    assert second.committed(0) == Committed(0, {})
    assert poll_until(second, 4) == records


def test_lag_counts_what_was_not_polled(world: World) -> None:
    topic = world.topic(partitions=2)
    log = world.started(topic)
    world.fill(topic, 5)
    for polled in range(1, 6):
        poll_until(log, 1, max_records=1)
        until(lambda left=5 - polled: log.lag()[topic, 0].records == left)  # type: ignore[misc]
        assert log.lag()[topic, 0].seconds >= 0
    assert log.lag()[topic, 1].records == 0


def test_a_poll_of_an_idle_log_returns(world: World) -> None:
    topic = world.topic()
    log = world.started(topic)
    polled = log.poll(10, 0.0)
    assert not polled.records
    assert not polled.revoked


def test_assign_is_told_once(world: World) -> None:
    topic = world.topic(partitions=2)
    log = world.make(topic)
    log.open()
    assign(log, {0, 1})
    assert not log.poll(10, 0.0).assigned
