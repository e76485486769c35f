"""The pytest side of the servers: session fixtures that start, share and stop them."""

import os
from collections.abc import Iterator

import pytest

from tests.servers import Unavailable, kafka, redis
from tests.servers.keeper import SharedBroker


def missing(reason: Unavailable) -> None:
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


@pytest.fixture(scope="session", params=["redis", "valkey"])
def redis_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of each kind that is there. Only this worker uses it, but prefixes should differ by test."""
    if given := redis.running():
        if request.param == "redis":
            yield given
        else:
            pytest.skip("STREAMD_TEST_REDIS names the one server to use")
        return
    if request.param == "redis" and "redis" not in redis.binaries() and "valkey" in redis.binaries():
        pytest.skip("no redis-server on the PATH; Valkey is tested")
    try:
        server = redis.start(request.param, tmp_path_factory.mktemp(request.param))
    except Unavailable as reason:
        missing(reason)
    try:
        yield server.url
    finally:
        server.stop()
