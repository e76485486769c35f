"""Snapshots in a Redis Cluster, with and without replicas, and behind a Sentinel that fails over."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import redis as library

from connectors.redis_store import AT_ONCE, RedisStore
from streamd import config as configuration
from streamd import wiring
from streamd.config import Config
from streamd.errors import Transient
from streamd.ports import Output, Store
from streamd.sight import Sight
from streamd.views import ShardView
from tests.integration.engines import run_engine
from tests.servers import Unavailable, redis
from tests.servers.fixtures import missing

pytestmark = pytest.mark.redis
SHARDS = [f"g.p/{partition}" for partition in range(8)]
CHUNKS = [b"x" * (AT_ONCE // 2)] * 3  # more than one pipeline of them
PATIENCE = 30.0  # seconds


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Sequence[redis.Server]]:
    with ExitStack() as stack:
        try:
            yield stack.enter_context(redis.cluster(tmp_path))
        except Unavailable as reason:
            missing(reason)


def shards_at(server: redis.Server) -> set[str]:
    """The shards of which this node has a key."""
    with library.Redis.from_url(server.url) as client:
        return {key.decode().split("}")[0].removeprefix("{streamd:") for key in client.keys("*")}


def put_in_the_end(store: Store, shard: str, sequence: int) -> None:
    """Put as the daemon does: what is Transient is tried again."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(Transient):
            store.put(shard, sequence, b"after", [b"c"])
            return
        time.sleep(0.05)
    pytest.fail(f"the store did not come back within {PATIENCE:g} s")


def refused_while_away(calls: Sequence[Callable[[], object]]) -> None:
    for call in calls:
        with pytest.raises(Transient):
            call()


def test_a_cluster_of_three_keeps_each_shard_on_one_node_and_goes_on_when_a_lost_node_is_back(
    tmp_path: Path, nodes: Sequence[redis.Server]
) -> None:
    url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)
    store = RedisStore(url)
    put_in_the_end(store, SHARDS[0], 1)
    for shard in SHARDS[:-1]:
        for sequence in (1, 2):
            store.put(shard, sequence, b"m%d" % sequence, [b"%d" % sequence] * 3)
    store.put(SHARDS[-1], 2, b"m2", CHUNKS)
    assert store.shards() == SHARDS
    where = [shards_at(node) for node in nodes]
    assert all(where)
    assert sum(map(len, where)) == len(SHARDS)
    manifest, chunks = store.load(SHARDS[-1], 2)
    assert (manifest, list(chunks)) == (b"m2", CHUNKS)
    store.delete(SHARDS[0], 2)
    assert [info.sequence for info in store.list(SHARDS[0])] == [1]

    nodes[0].stop()
    lost, kept = min(where[0]), min(where[1])
    refused_while_away(
        [
            lambda: store.list(lost),
            lambda: store.load(lost, 2),
            lambda: store.delete(lost, 2),
            lambda: store.put(lost, 3, b"m", [b"c"]),
        ]
    )
    store.put(kept, 3, b"m", [b"c"])
    back = redis.start("redis", tmp_path / "node0", redis.cluster_settings(), nodes[0].port)
    try:
        put_in_the_end(store, lost, 4)
        assert [info.sequence for info in store.list(lost)] == [4]
        assert next(info.sequence for info in store.list(kept)) == 3
    finally:
        back.stop()
    for node in nodes:
        node.stop()
    refused_while_away([lambda: store.list(kept), store.shards, lambda: RedisStore(url).list(kept)])
    store.close()


def test_behind_a_sentinel_the_store_goes_on_at_the_new_master(tmp_path: Path) -> None:
    with ExitStack() as stack:
        try:
            master = redis.start("redis", tmp_path / "master")
        except Unavailable as reason:
            missing(reason)
        stack.callback(master.stop)
        following = {"replicaof": f"127.0.0.1 {master.port}", "repl-diskless-sync-delay": "0"}
        replica = redis.start("redis", tmp_path / "replica", following)
        stack.callback(replica.stop)
        first = stack.enter_context(library.Redis.from_url(master.url))
        second = stack.enter_context(library.Redis.from_url(replica.url))
        linked = lambda: second.info("replication")["master_link_status"] == "up"  # noqa: E731
        redis.wait_until(linked, replica.process, tmp_path / "replica" / "redis.log", 20)
        watching = redis.sentinel(tmp_path / "sentinel", master.port, "main")
        stack.callback(watching.stop)
        store = RedisStore(watching.url)
        stack.callback(store.close)
        for sequence in (1, 2):
            store.put(SHARDS[0], sequence, b"m%d" % sequence, CHUNKS[:sequence])
        assert first.wait(1, 20_000) == 1
        first.shutdown(nosave=True)
        refused_while_away([lambda: store.put(SHARDS[0], 3, b"m", [b"c"]), lambda: store.list(SHARDS[0])])
        put_in_the_end(store, SHARDS[0], 4)
        assert second.info("replication")["role"] == "master"
        assert [info.sequence for info in store.list(SHARDS[0])] == [4, 2, 1]
        manifest, chunks = store.load(SHARDS[0], 2)
        assert (manifest, list(chunks)) == (b"m2", CHUNKS[:2])
        store.delete(SHARDS[0], 2)
        assert [info.sequence for info in store.list(SHARDS[0])] == [4, 1]


KEYS = """
group = "g"
[log]
path = "log.db"
synchronous = "normal"
[epoch]
interval = "10ms"
[snapshot]
interval = "20ms"
work = 1
[store]
kind = "redis"
url = "{url}"
[pipeline.p]
task = "classify"
events = "events"
learner = {{ kind = "linear" }}
"""


class Fed:
    """A daemon's events, and what it shows."""

    def __init__(self, config: Config) -> None:
        self.count = 0
        self._client = wiring.client(config)
        self._client.create("events", 1)
        self._sight: Sight | None = None
        self._closed = False

    def add(self, events: int = 20) -> None:
        numbers = range(self.count, self.count + events)
        values = [json.dumps({"id": str(i), "features": {"x": i % 7}, "label": "ab"[i % 2]}) for i in numbers]
        self._client.append("events", [Output("", b"k", value.encode(), 1000) for value in values])
        self.count += events

    def over(self, sight: Sight) -> bool:
        self._sight = sight
        return self._closed and sight.idle

    def close(self) -> None:
        self._client.close()
        self._closed = True

    def until_written(self) -> None:
        """Until a snapshot is written of an epoch that ended with events added from now on."""
        before = self.count
        learned = self._until(lambda shard: shard.counts["events"] > before).sequence
        self._until(lambda shard: shard.snapshot is not None and shard.snapshot.sequence >= learned)

    def _until(self, seen: Callable[[ShardView], bool]) -> ShardView:
        """Add events until this is to be seen of the shard."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for shard in () if self._sight is None else self._sight.view.shards:
                if shard.counts and seen(shard):
                    return shard
            assert time.monotonic() < deadline
            self.add()
            time.sleep(0.05)


def test_a_daemon_goes_on_when_its_shards_master_dies_and_a_replica_takes_over(tmp_path: Path) -> None:
    with ExitStack() as stack:
        try:
            nodes = stack.enter_context(redis.cluster(tmp_path, 6, replicas=1))
        except Unavailable as reason:
            missing(reason)
        url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        config = configuration.resolve(configuration.parse(KEYS.format(url=url)), tmp_path)
        fed = Fed(config)
        pool = stack.enter_context(ThreadPoolExecutor(1))
        running = pool.submit(run_engine, config, until=fed.over, patience=2 * PATIENCE)
        fed.until_written()
        with library.RedisCluster.from_url(nodes[0].url) as cluster:
            master = cluster.get_node_from_key("{streamd:g.p.0}:index")
        next(node for node in nodes if node.port == master.port).stop()
        fed.until_written()
        fed.close()
        first = running.result().shards[0]
        again = run_engine(config).shards[0]
    assert first.counts["events"] == again.counts["events"] == fed.count
    assert first.snapshot is not None
    assert again.snapshot is not None
    assert first.snapshot.sequence == again.snapshot.sequence == first.sequence == again.sequence
