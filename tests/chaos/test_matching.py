"""The short form of `tests.chaos.matching`; `make chaos` plays the long one."""

from pathlib import Path

import pytest

from tests.chaos import matching
from tests.servers.fixtures import kafka_broker  # noqa: F401


@pytest.mark.kafka
def test_a_matching_pipeline_survives_kills(kafka_broker: str, tmp_path: Path) -> None:  # noqa: F811
    report = matching.run(kafka_broker, "kafka-python", kills=1, seed=1, folder=tmp_path)
    assert report["wrong"] == []
    assert report["matched"] > 20
