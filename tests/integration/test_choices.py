"""What only the operator may decide: nothing goes on by default, and what was chosen once need not be again."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from connectors import sqlite_topics
from connectors.kafka_cluster import Cluster
from connectors.kafka_settings import Security
from connectors.sqlite_file import SqliteFile
from streamd import config as configuration
from streamd import wiring
from streamd.cli.topics import create
from streamd.config import Config
from streamd.errors import StateError
from streamd.operating.choices import CAUTIOUS, Choices
from streamd.ports import Committed, Log, Output
from streamd.sight import Sight
from streamd.views import EngineView
from tests.integration.engines import run_engine
from tests.servers.fixtures import kafka_broker  # noqa: F401

LATER = 4_000_000_000_000
KEYS = """
group = "{group}"
[epoch]
interval = "20ms"
max_records = 40
[snapshot]
interval = "20ms"
work = 1
[pipeline.p]
task = "classify"
events = "{group}-events"
labels = "{group}-labels"
learner = {{ kind = "linear" }}
"""
SQLITE = '[log]\npath = "log.db"\nsynchronous = "normal"\n'
KAFKA = '[log]\nkind = "kafka"\nclient = "{client}"\nbrokers = ["{broker}"]\n'
FRESH = 'client_settings = {{ "consumer.{setting}" = 300 }}\n'
METADATA = {"kafka-python": "metadata_max_age_ms", "confluent": "topic.metadata.refresh.interval.ms"}


class Place:
    """A pipeline's topics, on one log or another."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.events, self.labels = config.pipeline["p"].inputs
        client = wiring.client(config)
        create(config, client, partitions=1)
        client.close()

    def fill(self, first: int, last: int) -> None:
        client = wiring.client(self.config)
        events = [json.dumps({"id": str(i), "features": {"x": i % 7}}).encode() for i in range(first, last)]
        labels = [json.dumps({"id": str(i), "label": "ab"[i % 2]}).encode() for i in range(first, last)]
        for topic, values in ((self.events, events), (self.labels, labels)):
            client.append(topic, [Output("", b"%d" % (first + i), v, 1000 + i, 0) for i, v in enumerate(values)])
        client.close()

    def run(self, choices: Choices = CAUTIOUS, log: Log | None = None) -> EngineView:
        return run_engine(self.config, choices=choices, log=log)

    def paused(self, choices: Choices = CAUTIOUS) -> str:
        """Why the first shard is paused."""
        view = run_engine(self.config, choices=choices, until=all_paused)
        return view.shards[0].reason

    def predicted(self) -> list[int]:
        client = wiring.client(self.config)
        found = client.read(self.config.pipeline["p"].predictions_topic, 0, 0, 10_000)
        client.close()
        return sorted(int(json.loads(record.value or b"")["id"]) for record in found)

    def lose(self, topic: str, below: int) -> None:
        """Delete records as retention does."""
        keys = self.config.log
        if isinstance(keys, configuration.KafkaLog):
            cluster = Cluster(keys.brokers, Security(), 10.0)
            cluster.trim(topic, 0, below)
            return cluster.close()
        file = SqliteFile(keys.path)
        with file.write() as db:
            number = sqlite_topics.need(db, topic).streams[0]
            (end,) = db.execute("SELECT next FROM stream WHERE number = ?", (number,)).fetchone()
        sqlite_topics.keep(file, topic, sqlite_topics.Retention(records=end - below, wait=False))
        with file.write() as db:
            sqlite_topics.trim(db, number, 0, 0)
        sqlite_topics.keep(file, topic, sqlite_topics.Retention())
        file.close()

    def forget_snapshots(self, above: int = 0) -> int:
        """Delete those above a sequence number; the newest that stays, 0 if none."""
        store = wiring.store(self.config)
        name = f"{self.config.group}.p.0"
        for info in store.list(name):
            if info.sequence > above:
                store.delete(name, info.sequence)
        left = store.list(name)
        store.close()
        return left[0].sequence if left else 0

    def newest(self) -> int:
        return self.forget_snapshots(above=10**9)

    def forget_journal(self) -> int:
        """Delete all of it; how many epochs it had."""
        log = wiring.log(self.config, "p")
        log.open()
        log.trim_journal(0, log.journal_end(0), LATER)
        sequence = log.committed(0).sequence
        log.close(leave=False)
        return sequence

    def grow(self, *topics: str) -> None:
        assert isinstance(self.config.log, configuration.KafkaLog)
        admin = KafkaAdminClient(bootstrap_servers=list(self.config.log.brokers))
        for topic in topics:
            admin.create_partitions({topic: 2})
        admin.close()


def all_paused(sight: Sight) -> bool:
    return bool(sight.view.shards) and all(shard.phase == "paused" for shard in sight.view.shards)


Make = Callable[..., Place]


@pytest.fixture
def make(tmp_path: Path, request: pytest.FixtureRequest) -> Make:
    def place(kind: str) -> Place:
        keys = KEYS.format(group=f"choices-{os.getpid()}-{time.time_ns() % 10**9}")
        if kind == "sqlite":
            return Place(configuration.resolve(configuration.parse(keys + SQLITE), tmp_path))
        log = KAFKA.format(client=kind, broker=request.getfixturevalue("kafka_broker"))
        log += FRESH.format(setting=METADATA[kind])
        return Place(configuration.resolve(configuration.parse(keys + log), tmp_path))

    return place


KINDS = ["sqlite", pytest.param("kafka-python", marks=pytest.mark.kafka)]
KAFKAS = [pytest.param(kind, marks=pytest.mark.kafka) for kind in METADATA]


@pytest.mark.parametrize("kind", [*KINDS, pytest.param("confluent", marks=pytest.mark.kafka)])
def test_an_offset_gap_stops_and_is_passed_at_the_operators_choice(make: Make, kind: str) -> None:
    place = make(kind)
    place.fill(0, 20)
    place.run()
    place.fill(20, 40)
    place.lose(place.events, below=33)
    with pytest.raises(StateError, match="--on-offset-gap nearest"):
        place.run()
    view = place.run(Choices(on_offset_gap="nearest"))
    assert (view.gaps, view.missed) == (1, 13)
    assert place.predicted() == [*range(20), *range(33, 40)]
    place.fill(40, 45)
    assert place.run().gaps == 0
    assert place.predicted() == [*range(20), *range(33, 45)]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_chosen_at_a_gap_is_kept_although_no_record_came(make: Make, kind: str) -> None:
    place = make(kind)
    place.fill(0, 20)
    place.run()
    place.fill(20, 40)
    for topic in (place.events, place.labels):
        place.lose(topic, below=40)
    assert place.run(Choices(on_offset_gap="nearest")).gaps == 2
    assert place.run().gaps == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_state_stops_and_is_begun_afresh_at_the_operators_choice(make: Make, kind: str) -> None:
    place = make(kind)
    place.fill(0, 100)
    place.run()
    epochs = place.forget_journal()
    assert place.forget_snapshots() == 0
    for choices in (CAUTIOUS, Choices(on_lost_state="older")):
        with pytest.raises(StateError, match="afresh") as stopped:
            place.run(choices)
        assert "`older`" not in str(stopped.value)
    place.fill(100, 120)
    view = place.run(Choices(on_lost_state="afresh"))
    assert view.lost_epochs == epochs
    assert view.shards[0].counts["events"] == 20
    place.fill(120, 130)
    assert place.run().lost_epochs == 0
    assert place.predicted() == list(range(130))


@pytest.mark.parametrize("kind", KINDS)
def test_an_older_state_is_gone_on_from_at_the_operators_choice(make: Make, kind: str) -> None:
    place = make(kind)
    place.fill(0, 60)
    place.run()
    older = place.newest()
    place.fill(60, 100)
    place.run()
    epochs = place.forget_journal()
    assert place.forget_snapshots(above=older) == older
    with pytest.raises(StateError, match="`older` goes on from the state at"):
        place.run()
    place.fill(100, 120)
    view = place.run(Choices(on_lost_state="older"))
    assert view.lost_epochs == epochs - older
    assert view.shards[0].counts["events"] == 80
    assert place.run().lost_epochs == 0
    assert place.predicted() == list(range(120))


class Forgetful:
    """A real log whose committed offsets have expired."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    def committed(self, partition: int) -> Committed:
        return Committed(0, {})


@pytest.mark.parametrize("kind", KINDS)
def test_where_the_positions_are_forgotten_too_what_is_left_of_the_journal_tells_them(
    make: Make, kind: str
) -> None:
    place = make(kind)
    place.fill(0, 60)
    place.run()
    log = wiring.log(place.config, "p")
    log.open()
    entries = list(log.journal(0, 0, None, None))
    log.trim_journal(0, entries[-1].offset, LATER)
    log.close(leave=False)
    assert place.forget_snapshots() == 0
    place.fill(60, 80)
    forgetful: Log = Forgetful(wiring.log(place.config, "p"))  # type: ignore[assignment]
    view = place.run(Choices(on_lost_state="afresh"), log=forgetful)
    assert view.lost_epochs == entries[-1].sequence
    assert place.predicted() == list(range(80))
    place.fill(80, 90)
    place.run()
    assert place.predicted() == list(range(90))


@pytest.mark.parametrize("kind", KAFKAS)
@pytest.mark.parametrize("known_by", ["snapshot", "journal"])
def test_a_grown_topic_pauses_its_shards_until_the_operator_accepts_it(
    make: Make, kind: str, known_by: str
) -> None:
    place = make(kind)
    place.fill(0, 20)
    place.run()
    if known_by == "journal":
        place.forget_snapshots()
    place.grow(place.events, place.labels)
    place.fill(20, 30)
    assert "had 1 partitions and has 2" in (reason := view_reason(place))
    assert "--on-grown-topic accept" in reason
    assert place.predicted() == list(range(20))
    place.run(Choices(on_grown_topic="accept"))
    assert place.predicted() == list(range(30))
    place.fill(30, 40)
    assert len(place.run().shards) == 2
    assert place.predicted() == list(range(40))


def view_reason(place: Place) -> str:
    """Why the shard with a state is paused; the new one runs."""
    view = run_engine(place.config, until=lambda sight: any(s.phase == "paused" for s in sight.view.shards))
    return next(shard.reason for shard in view.shards if shard.partition == 0)


@pytest.mark.parametrize("kind", KAFKAS)
def test_inputs_that_grow_unevenly_pause_their_shards_and_go_on_when_they_are_even(make: Make, kind: str) -> None:
    place = make(kind)
    place.fill(0, 20)
    place.run()
    place.grow(place.events)
    assert "must have as many partitions each" in place.paused()
    seen: list[str] = []

    def over(sight: Sight) -> bool:
        if not seen and all_paused(sight):
            seen.append(sight.view.shards[0].reason)
            place.grow(place.labels)
            place.fill(20, 30)
        return bool(seen) and sight.idle

    view = run_engine(place.config, choices=Choices(on_grown_topic="accept"), until=over, patience=60)
    assert view.ready is False or len(view.shards) == 2
    assert place.predicted() == list(range(30))
