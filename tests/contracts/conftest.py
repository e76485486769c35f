"""The implementations that the suites of laws run over. Another one is a fixture and an entry.

A fixture `<name>_log` returns a `LogHarness`, `<name>_store` a `StoreHarness`.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from harness import LogHarness, StoreHarness, World
from kafka_harness import KafkaHarness
from redis_harness import RedisHarness

from connectors import sqlite_topics
from connectors.confluent_log import ConfluentLog
from connectors.kafka_log import KafkaLog
from connectors.sqlite_client import SqliteLogClient
from connectors.sqlite_file import SqliteFile
from connectors.sqlite_log import SqliteLog
from connectors.sqlite_store import SqliteStore
from connectors.sqlite_topics import Retention
from streamd.ports import Log, LogClient, Store
from tests.servers.fixtures import kafka_broker, redis_url, valkey_url  # noqa: F401

LOGS = [
    pytest.param("sqlite"),
    pytest.param("kafka", marks=pytest.mark.kafka),
    pytest.param("confluent", marks=pytest.mark.kafka),
]
STORES = [
    pytest.param("sqlite"),
    pytest.param("redis", marks=pytest.mark.redis),
    pytest.param("valkey", marks=pytest.mark.redis),
]


@pytest.fixture(params=LOGS)
def log_harness(request: pytest.FixtureRequest) -> LogHarness:
    harness: LogHarness = request.getfixturevalue(f"{request.param}_log")
    return harness


@pytest.fixture
def world(log_harness: LogHarness) -> Iterator[World]:
    world = World(log_harness)
    yield world
    world.close()


@pytest.fixture(params=STORES)
def store_harness(request: pytest.FixtureRequest) -> StoreHarness:
    harness: StoreHarness = request.getfixturevalue(f"{request.param}_store")
    return harness


@pytest.fixture
def store(store_harness: StoreHarness) -> Iterator[Store]:
    store = store_harness.make_store()
    yield store
    store.close()


class SqliteHarness:
    def __init__(self, path: Path) -> None:
        self._path = path

    def make_log(self, group: str, inputs: Sequence[str]) -> Log:
        return SqliteLog(self._path, group=group, inputs=inputs, journal=f"{group}.journal")

    def make_client(self) -> LogClient:
        return SqliteLogClient(self._path)

    def make_store(self) -> Store:
        return SqliteStore(self._path)

    def truncate(self, topic: str, partition: int, below: int) -> None:
        file = SqliteFile(self._path)
        with file.write() as db:
            number = sqlite_topics.need(db, topic).streams[partition]
            (end,) = db.execute("SELECT next FROM stream WHERE number = ?", (number,)).fetchone()
        sqlite_topics.keep(file, topic, Retention(records=end - below, wait=False))
        with file.write() as db:
            sqlite_topics.trim(db, number, 0, int(time.time() * 1000))
        sqlite_topics.keep(file, topic, Retention())
        file.close()


@pytest.fixture
def sqlite_log(tmp_path: Path) -> SqliteHarness:
    return SqliteHarness(tmp_path / "log.db")


@pytest.fixture
def sqlite_store(tmp_path: Path) -> SqliteHarness:
    return SqliteHarness(tmp_path / "store.db")


@pytest.fixture
def kafka_log(kafka_broker: str) -> KafkaHarness:  # noqa: F811
    return KafkaHarness(kafka_broker, KafkaLog)


@pytest.fixture
def confluent_log(kafka_broker: str) -> KafkaHarness:  # noqa: F811
    return KafkaHarness(kafka_broker, ConfluentLog)


@pytest.fixture
def redis_store(redis_url: str) -> RedisHarness:  # noqa: F811
    return RedisHarness(redis_url)


@pytest.fixture
def valkey_store(valkey_url: str) -> RedisHarness:  # noqa: F811
    return RedisHarness(valkey_url)
