"""The laws of the port `LogClient`."""

import pytest
from harness import World, contents, epoch, numbered, unique

from streamd.errors import ConfigError
from streamd.ports import Output


def test_a_created_topic_is_listed_with_its_partitions_and_an_id_of_its_own(world: World) -> None:
    one, three = world.topic(1), world.topic(3)
    topics = world.client.topics()
    assert (topics[one].partitions, topics[three].partitions) == (1, 3)
    assert topics[one].id
    assert topics[one].id != topics[three].id


def test_creating_a_topic_again_changes_nothing(world: World) -> None:
    topic = world.topic(2)
    before = world.client.topics()[topic]
    records = world.fill(topic, 3)
    world.client.create(topic, 2)
    assert world.client.topics()[topic] == before
    assert world.records(topic, 3) == records


def test_creating_a_topic_with_other_partitions_is_a_config_error(world: World) -> None:
    topic = world.topic(2)
    with pytest.raises(ConfigError, match=topic):
        world.client.create(topic, 3)
    assert world.client.topics()[topic].partitions == 2


@pytest.mark.parametrize("verb", ["append", "read", "ends"])
def test_a_topic_that_does_not_exist_is_a_config_error(world: World, verb: str) -> None:
    topic = unique("missing")
    verbs = {
        "append": lambda: world.client.append(topic, [numbered(0)]),
        "read": lambda: world.client.read(topic, 0, 0, 1),
        "ends": lambda: world.client.ends(topic),
    }
    with pytest.raises(ConfigError, match=topic):
        verbs[verb]()


def test_append_keeps_the_order_and_says_how_many(world: World) -> None:
    topic = world.topic()
    given = [Output("ignored", b"k%d" % i, b"v%d" % i, i + 1, 0, (("n", b"%d" % i),)) for i in range(2500)]
    assert world.client.append(topic, iter(given)) == 2500
    assert [contents(r) for r in world.records(topic, 2500)] == [contents(o) for o in given]  # type: ignore[arg-type]
    assert world.client.append(topic, []) == 0


def test_append_is_seen_by_another_client_at_once(world: World) -> None:
    topic = world.topic()
    other = world.harness.make_client()
    world.client.append(topic, [numbered(0), numbered(1)])
    assert [r.key for r in other.read(topic, 0, 0, 10)] == [b"key-0", b"key-1"]
    other.close()


def test_records_without_a_partition_go_by_key_and_stay_together(world: World) -> None:
    topic = world.topic(3)
    world.client.append(topic, [numbered(i % 6, None) for i in range(60)])
    found = [world.client.read(topic, partition, 0, 100) for partition in range(3)]
    assert sum(map(len, found)) == 60
    homes = [{r.key for r in records} for records in found]
    assert sum(map(len, homes)) == 6


def test_read_starts_at_the_offset_and_respects_the_limit(world: World) -> None:
    topic = world.topic()
    records = world.fill(topic, 10)
    assert world.client.read(topic, 0, records[6].offset, 2) == records[6:8]
    assert world.client.read(topic, 0, records[8].offset, 100) == records[8:]
    assert world.client.read(topic, 0, records[9].offset + 1, 100) == []


def test_read_below_the_oldest_kept_starts_there(world: World) -> None:
    topic = world.topic()
    records = world.fill(topic, 10)
    world.harness.truncate(topic, 0, records[7].offset)
    assert world.client.read(topic, 0, 0, 100) == records[7:]


def test_ends_are_the_oldest_kept_and_the_next_offset(world: World) -> None:
    topic = world.topic(2)
    assert list(world.client.ends(topic)) == [(0, 0), (0, 0)]
    records = world.fill(topic, 5, partition=1)
    assert world.client.ends(topic)[0] == (0, 0)
    first, following = world.client.ends(topic)[1]
    assert first == records[0].offset
    assert following > records[-1].offset
    world.harness.truncate(topic, 1, records[3].offset)
    assert world.client.ends(topic)[1] == (records[3].offset, following)


def test_offsets_go_on_after_everything_was_removed(world: World) -> None:
    topic = world.topic()
    world.fill(topic, 4)
    ((_, end),) = world.client.ends(topic)
    world.harness.truncate(topic, 0, end)
    assert world.client.read(topic, 0, 0, 10) == []
    world.client.append(topic, [numbered(9)])
    (record,) = world.client.read(topic, 0, 0, 10)
    assert record.offset >= end


def test_outputs_and_appended_records_share_a_topic(world: World) -> None:
    topic = world.topic()
    log = world.started(topic)
    world.client.append(topic, [numbered(0)])
    log.commit(epoch(1, {topic: 0}, [numbered(1, 0, topic)]))
    world.client.append(topic, [numbered(2)])
    assert [r.key for r in world.records(topic, 3)] == [b"key-0", b"key-1", b"key-2"]


def test_since_is_the_first_offset_that_is_not_older(world: World) -> None:
    topic = world.topic()
    world.client.append(topic, [Output("", b"k", b"v", at, 0) for at in (1000, 2000, 1500, 3000)])
    first, second, _, last = world.records(topic, 4)
    found = [world.client.since(topic, 0, moment) for moment in (0, 1000, 1001, 2500)]
    assert found == [first.offset, first.offset, second.offset, last.offset]
    assert world.client.since(topic, 0, 3001) == world.client.ends(topic)[0][1]


def test_the_journal_is_found_by_time(world: World) -> None:
    topic = world.topic()
    log, journal = world.started(topic), f"{world.group}.journal"
    assert list(world.client.journal(journal, 0, world.client.journal_since(journal, 0, 0), None)) == []
    for sequence in (1, 2, 3):
        log.commit(epoch(sequence, {topic: 0}))
    for moment, wanted in ((0, [1, 2, 3]), (4_000_000_000_000, [])):
        start = world.client.journal_since(journal, 0, moment)
        assert [entry.sequence for entry in world.client.journal(journal, 0, start, None)] == wanted
    second = list(world.client.journal(journal, 0, 0, None))[1]
    assert [entry.sequence for entry in world.client.journal(journal, 0, second.offset, None)] == [2, 3]
