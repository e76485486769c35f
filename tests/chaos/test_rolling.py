"""The short form of `tests.chaos.rolling`: of three brokers the one that leads it all dies, under load."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import rolling
from tests.servers import Unavailable, kafka
from tests.servers.fixtures import missing

pytestmark = pytest.mark.kafka
EVENTS = 600


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[list[kafka.Broker]]:
    try:
        started = kafka.start_cluster(tmp_path, rolling.BROKERS, rolling.REPLICATED)
    except Unavailable as reason:
        missing(reason)
    yield started
    for broker in started:
        broker.stop()


def test_the_leader_dies_under_load_and_the_outputs_are_exact(brokers: list[kafka.Broker], tmp_path: Path) -> None:
    with rolling.played(brokers, tmp_path, rolling.PATIENCE) as (feeding, workers):
        feeding.send(EVENTS // 3)
        assert all(worker.under_way.wait(rolling.PATIENCE / 2) for worker in workers)
        feeding.send(EVENTS // 6)
        brokers[0].process.kill()
        feeding.send(EVENTS // 2)
        feeding.close()
        for worker in workers:
            worker.finish(EVENTS)
    for worker in workers:
        assert worker.predicted() == list(range(EVENTS)), worker.config.group
