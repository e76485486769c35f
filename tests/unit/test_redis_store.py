"""What the laws of the port do not say of the Redis store: servers that are away or full, zombies, addresses."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as library

from connectors.redis_store import RedisStore
from streamd.errors import ConfigError, StateError, Transient
from tests.servers import Unavailable, redis
from tests.servers.fixtures import missing

pytestmark = pytest.mark.redis
MEGABYTE = b"x" * (1 << 20)
SHARD = "group.pipeline/0"


def start(directory: Path, kind: str | None = None, **settings: Any) -> redis.Server:
    kind = kind or next(iter(redis.binaries()), "valkey")
    try:
        return redis.start(kind, directory, {key.replace("_", "-"): str(value) for key, value in settings.items()})
    except Unavailable as reason:
        missing(reason)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[redis.Server]:
    server = start(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def store(server: redis.Server) -> Iterator[RedisStore]:
    store = RedisStore(server.url, timeout=2.0)
    yield store
    store.close()


def keys(server: redis.Server) -> list[bytes]:
    with library.Redis.from_url(server.url) as client:
        return sorted(client.keys("*"))


def exhaust(store: RedisStore, sequence: int) -> list[bytes]:
    return list(store.load(SHARD, sequence)[1])


def test_every_call_on_a_stopped_server_is_transient_and_it_goes_on_when_the_server_is_back(
    tmp_path: Path, server: redis.Server, store: RedisStore
) -> None:
    store.put(SHARD, 1, b"m", [b"c"])
    _, chunks = store.load(SHARD, 1)
    server.stop()
    calls = [
        lambda: store.put(SHARD, 2, b"m", [b"c"]),
        lambda: store.list(SHARD),
        lambda: store.load(SHARD, 1),
        lambda: store.delete(SHARD, 1),
        lambda: store.shards(),
        lambda: list(chunks),
    ]
    for call in calls:
        with pytest.raises(Transient):
            call()
    back = redis.start(next(iter(redis.binaries())), tmp_path, port=server.port)
    try:
        store.put(SHARD, 2, b"m", [b"c"])
        assert [info.sequence for info in store.list(SHARD)] == [2]
    finally:
        back.stop()


def test_a_full_server_is_transient_and_shows_and_keeps_nothing_of_the_attempt(tmp_path: Path) -> None:
    server = start(tmp_path, maxmemory="8mb")
    try:
        store = RedisStore(server.url)
        store.put(SHARD, 1, b"m", [b"small"])
        before = keys(server)
        with pytest.raises(Transient, match="OutOfMemory"):
            store.put(SHARD, 2, b"m", (MEGABYTE for _ in range(40)))
        assert [info.sequence for info in store.list(SHARD)] == [1]
        assert keys(server) == before
        assert exhaust(store, 1) == [b"small"]
        store.close()
    finally:
        server.stop()


def test_a_put_that_dies_half_way_leaves_no_key_behind(server: redis.Server, store: RedisStore) -> None:
    def dying() -> Iterator[bytes]:
        yield from (MEGABYTE for _ in range(20))
        raise KeyboardInterrupt  # what no handler in between sees

    with pytest.raises(KeyboardInterrupt):
        store.put(SHARD, 1, b"m", dying())
    with library.Redis.from_url(server.url) as client:
        left = [key for key in keys(server) if not key.endswith(b":attempts")]
        assert left
        assert all(client.ttl(key) > 0 for key in left)
    assert store.list(SHARD) == []
    store.put(SHARD, 2, b"m", [b"c"])
    store.delete(SHARD, 2)
    assert keys(server) == []


def test_putting_again_replaces_the_whole_snapshot_and_drops_the_former_chunks(
    server: redis.Server, store: RedisStore
) -> None:
    store.put(SHARD, 1, b"old", [b"1"] * 100)
    store.put(SHARD, 1, b"new", [b"2"] * 3)
    manifest, chunks = store.load(SHARD, 1)
    assert (manifest, list(chunks)) == (b"new", [b"2"] * 3)
    assert len(keys(server)) == 1 + 1 + 3


def test_what_is_published_does_not_expire(server: redis.Server, store: RedisStore) -> None:
    store.put(SHARD, 1, b"m", [b"c"] * 3)
    with library.Redis.from_url(server.url) as client:
        assert {client.ttl(key) for key in keys(server)} == {-1}


def test_a_writer_that_slept_while_another_took_over_publishes_nothing(server: redis.Server) -> None:
    zombie, owner = RedisStore(server.url), RedisStore(server.url)

    def chunks() -> Iterator[bytes]:
        yield from (MEGABYTE for _ in range(9))
        owner.put(SHARD, 6, b"of the owner", [b"true"])
        yield from (MEGABYTE for _ in range(9))

    with pytest.raises(Transient, match="swept"):
        zombie.put(SHARD, 5, b"of the zombie", chunks())
    assert [info.sequence for info in owner.list(SHARD)] == [6]
    assert exhaust(owner, 6) == [b"true"]
    assert len(keys(server)) == 3
    zombie.close()
    owner.close()


def test_a_chunk_that_the_server_lost_is_a_state_error(server: redis.Server, store: RedisStore) -> None:
    store.put(SHARD, 1, b"m", [b"a", b"b", b"c"])
    with library.Redis.from_url(server.url) as client:
        (third,) = [key for key in keys(server) if key.endswith(b":2")]
        client.delete(third)
    with pytest.raises(StateError, match="chunk 2"):
        exhaust(store, 1)


def test_all_keys_of_a_shard_share_one_hash_tag(server: redis.Server, store: RedisStore) -> None:
    store.put(SHARD, 1, b"m", [b"c"])
    assert {key.split(b"}")[0] for key in keys(server)} == {b"{streamd:group.pipeline/0"}


def test_the_documented_rights_suffice_for_an_acl_user(server: redis.Server) -> None:
    with library.Redis.from_url(server.url) as client:
        client.execute_command(
            *[
                "ACL",
                "SETUSER",
                "learner",
                "on",
                ">secret",
                "~{own:*",
                "+@read",
                "+@write",
                "+@scripting",
                "+@connection",
            ]
        )
    store = RedisStore(server.url, prefix="own", username="learner", password="secret")
    store.put(SHARD, 1, b"m", [b"c"])
    store.put(SHARD, 1, b"m", [b"d"])
    assert exhaust(store, 1) == [b"d"]
    assert store.shards() == [SHARD]
    store.delete(SHARD, 1)
    store.close()
    other = RedisStore(server.url, prefix="others", username="learner", password="secret")
    with pytest.raises(ConfigError, match=r"store\.username.*permission"):
        other.put(SHARD, 1, b"m", [b"c"])
    other.close()


def test_a_unix_socket(tmp_path: Path) -> None:
    server = start(tmp_path, unixsocket=tmp_path / "s")
    store = RedisStore(f"unix://{tmp_path / 's'}")
    store.put(SHARD, 1, b"m", [b"c"])
    assert exhaust(store, 1) == [b"c"]
    store.close()
    server.stop()


def test_a_cluster(tmp_path: Path) -> None:
    server = start(tmp_path, cluster_enabled="yes", cluster_port=redis.free_port())
    with library.Redis.from_url(server.url) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        ready = lambda: client.cluster("info")["cluster_state"] == "ok"  # noqa: E731
        redis.wait_until(ready, server.process, next(tmp_path.glob("*.log")), 20)
    store = RedisStore(f"redis+cluster://127.0.0.1:{server.port}")
    for partition in range(5):
        store.put(f"g.p/{partition}", 1, b"m", [b"%d" % partition] * 3)
    assert store.shards() == [f"g.p/{partition}" for partition in range(5)]
    assert list(store.load("g.p/3", 1)[1]) == [b"3"] * 3
    store.delete("g.p/3", 1)
    assert store.list("g.p/3") == []
    store.close()
    server.stop()


def test_a_master_found_through_a_sentinel(tmp_path: Path, server: redis.Server) -> None:
    binary = redis.binaries()[next(iter(redis.binaries()))]
    directory = tmp_path / "sentinel"
    directory.mkdir()
    port = redis.free_port()
    config = directory / "sentinel.conf"
    config.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {server.port} 1\n")
    log = directory / "log"
    process = redis.spawn([str(binary), str(config), "--sentinel"], log)
    redis.wait_until(lambda: redis.answers_ping("127.0.0.1", port), process, log, 20)
    store = RedisStore(f"redis+sentinel://127.0.0.1:{port}/0?service=main")
    store.put(SHARD, 1, b"m", [b"c"])
    assert exhaust(store, 1) == [b"c"]
    store.close()
    redis.kill(process)
    with pytest.raises(Transient):
        RedisStore(f"redis+sentinel://127.0.0.1:{port}/0?service=main").list(SHARD)


@pytest.mark.parametrize(
    "url",
    ["http://host", "redis+other://host", "redis+sentinel://host:1/0", "unix+cluster:///x", "redis://host/?db=x"],
)
def test_an_address_that_means_nothing_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError, match=r"store\.url"):
        RedisStore(url)


@pytest.mark.parametrize("prefix", ["", "a b", "{a}", "a*"])
def test_a_prefix_that_would_break_the_keys_is_a_config_error(prefix: str) -> None:
    with pytest.raises(ConfigError, match=r"store\.prefix"):
        RedisStore("redis://localhost", prefix=prefix)
