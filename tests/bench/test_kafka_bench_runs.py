"""The benchmarks on Kafka run, with tiny sizes. What they measure is never asserted."""

from collections.abc import Iterator

import pytest

from tests.bench import kafka_journal, kafka_latency, kafka_recovery, kafka_throughput
from tests.bench.kafka_running import Servers, adult, daemon, fill, make_topic, servers
from tests.servers import Unavailable
from tests.servers.fixtures import missing

pytestmark = [pytest.mark.kafka, pytest.mark.redis]


@pytest.fixture(scope="module")
def own() -> Iterator[Servers]:
    try:
        with servers() as found:
            yield found
    except Unavailable as reason:
        missing(reason)


def test_every_contestant_makes_predictions(own: Servers) -> None:
    fill(own, kafka_throughput.EVENTS, kafka_throughput.PARTITIONS, adult(60_000))
    for start in (daemon, kafka_throughput.peer("codec"), kafka_throughput.peer("hand")):
        timed = kafka_throughput.contestant(own, "confluent", start, 1, 60_000, 0.1)()
        assert timed.seconds > 0


def test_latencies_are_read(own: Servers) -> None:
    measured = kafka_latency.measure(own, "confluent", 50, 200.0, 0.5, 1)
    assert kafka_latency.row("confluent", 50, 200.0, 0.5, measured)[0] == "confluent, 50 ms"


def test_a_killed_worker_comes_back(own: Servers) -> None:
    (forked,) = kafka_recovery.measure(own, "confluent", 1, 1, ["forked"])
    assert kafka_recovery.row("confluent", "1", "forked", forked)[0] == "confluent, 1 MB, forked"


def test_the_journal_is_produced(own: Servers) -> None:
    make_topic(own, kafka_journal.EVENTS, 1)
    entries = kafka_journal.encoded(kafka_journal.records(1))
    assert isinstance(kafka_journal.produced(own, "confluent", entries, 1), float)
