"""A matching pipeline in its engine, on the embedded log and on Kafka: restarts, replay, foreign pools."""

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from streamd import config as configuration
from streamd import wiring
from streamd.cli.topics import create
from streamd.config import Config
from streamd.ports import Output, Record, murmur2
from streamd.records import DEAD_LETTER_HEADER
from streamd.sight import Sight
from streamd.views import EngineView, PoolView
from tests.servers.fixtures import kafka_broker  # noqa: F401

SETTINGS = """
group = "{group}"
{log}
[store]
kind = "sqlite"
path = "store.db"
[epoch]
interval = "10ms"
max_records = 50
[snapshot]
interval = "20ms"
work = 1
[http]
enabled = false
[pipeline.desk]
task = "match"
events = "{group}-queries"
resources = "{group}-annotators"
outcomes = "{group}-outcomes"
matches = "{group}-assignments"
timeout = "1h"
attempts = 2
hindsight = {{ every = 3, shadows = ["gu", "random"] }}
{rule}
"""
PATIENCE = 60.0  # seconds
HOUR = 3600  # seconds
POOLS = ("north", "south", "east")


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> "World":
    return World(request, tmp_path)


class World:
    """A log with the topics of one matching pipeline, two partitions each."""

    def __init__(self, request: pytest.FixtureRequest, folder: Path) -> None:
        self.folder = folder
        self.group = f"m-{os.getpid()}-{time.time_ns() % 10**9}"
        self.log = '[log]\nkind = "sqlite"\nsynchronous = "normal"\npartitions = 2'
        if request.param == "kafka":
            self.log = f'[log]\nkind = "kafka"\nbrokers = ["{request.getfixturevalue("kafka_broker")}"]'
        client = wiring.client(self.config())
        create(self.config(), client, 2)
        client.close()
        self.now = int(time.time() - 3 * HOUR) * 1000

    def config(self, rule: str = "") -> Config:
        text = SETTINGS.format(group=self.group, log=self.log, rule=rule)
        return configuration.resolve(configuration.parse(text), self.folder)

    def send(
        self, topic: str, told: Mapping[str, Any], *, key: str | None = None, partition: int | None = None
    ) -> None:
        """One record, a millisecond after the last."""
        self.now += 1
        raw = (told["pool"] if key is None else key).encode()
        if partition is None:
            partition = murmur2(raw) % 2
        client = wiring.client(self.config())
        client.append(f"{self.group}-{topic}", [Output("", raw, json.dumps(told).encode(), self.now, partition)])
        client.close()

    def read(self, topic: str) -> list[Record]:
        client = wiring.client(self.config())
        try:
            if f"{self.group}-{topic}" not in client.topics():
                return []
            return [record for p in (0, 1) for record in client.read(f"{self.group}-{topic}", p, 0, 10_000)]
        finally:
            client.close()

    def matches(self) -> list[dict[str, Any]]:
        return [json.loads(record.value or b"") for record in self.read("assignments")]

    def run(self, until: Callable[[EngineView], bool], rule: str = "") -> EngineView:
        """Run the pipeline until a condition holds, then drain it."""
        config = self.config(rule)
        sight = Sight("desk", "match", "", "", "")
        engine = wiring.engine(config, "desk", sight)
        died: list[BaseException] = []

        def live() -> None:
            try:
                engine.run()
            except BaseException as error:  # noqa: BLE001  told to the test
                died.append(error)

        thread = threading.Thread(target=live, daemon=True)
        thread.start()
        deadline = time.monotonic() + PATIENCE
        while not until(sight.view) and not died:
            assert time.monotonic() < deadline, sight.view
            time.sleep(0.01)
        engine.stop(leave=True)
        thread.join()
        assert not died, died
        return sight.view


def counted(view: EngineView, name: str) -> int:
    return sum(shard.counts.get(name, 0) for shard in view.shards)


def pools(view: EngineView) -> dict[str, PoolView]:
    return {pool.pool: pool for shard in view.shards if shard.matching for pool in shard.matching.pools}


def counts_and_pools(view: EngineView) -> list[Any]:
    return [(shard.partition, shard.counts, shard.matching) for shard in view.shards]


def refusals(world: World) -> list[str]:
    headers = [dict(record.headers)[DEAD_LETTER_HEADER] for record in world.read("queries-dead-letters")]
    return [json.loads(header)["reason"] for header in headers]


def fill(world: World, first: int, last: int) -> None:
    for i in range(first, last):
        pool = POOLS[i % 3]
        edges = [[f"{pool}-{u}", 0.2 + 0.1 * ((i + u) % 5)] for u in range(3)]
        world.send("queries", {"id": f"q{i}", "pool": pool, "edges": edges})


def test_arrivals_are_matched_once_over_restarts_a_reoffer_and_a_change_of_rule(world: World) -> None:
    # given pools over two partitions, and arrivals
    for pool in POOLS:
        for u in range(3):
            world.send("annotators", {"id": f"{pool}-{u}", "pool": pool, "capacity": 4})
    fill(world, 0, 12)
    first = world.run(lambda view: counted(view, "arrivals") == 12)
    assert counted(first, "matched") == 12
    # when the engine starts again, under another rule, and outcomes and more arrivals come
    before = world.matches()
    for match in before[:6]:
        world.send("outcomes", {"id": match["id"], "pool": match["pool"], "success": True})
    fill(world, 12, 24)
    fill(world, 0, 3)  # asked again: the same answers
    assert all(pool.expected == 0.0 for pool in pools(first).values())
    settled = lambda view: counted(view, "repeated_arrivals") == 3 and counted(view, "successes") == 6  # noqa: E731
    second = world.run(settled, '[pipeline.desk.rule]\nf = "gu"')
    # then nothing was decided anew
    after = world.matches()
    answers: dict[str, set[str]] = {}
    for match in after:
        answers.setdefault(match["id"], set()).add(json.dumps([match.get("resource"), match["open_until"]]))
    assert all(len(said) == 1 for said in answers.values())
    assert [match for match in before if match not in after] == []
    assert counted(second, "arrivals") == 24
    assert {pool.resources for pool in pools(second).values()} == {3}
    # and who let an arrival wait is not offered it again
    world.now += 2 * HOUR * 1000
    world.send("annotators", {"id": "late", "pool": "north", "capacity": 1})
    world.send("annotators", {"id": "late", "pool": "south", "capacity": 1})
    world.run(lambda view: counted(view, "timeouts") >= 18 and counted(view, "reoffered") >= 12)
    world.run(lambda view: counted(view, "arrivals") >= 36)
    told = {match["id"]: match.get("resource") for match in world.matches()}
    fill(world, 24, 36)
    judged = world.run(lambda view: any(pool.hindsight for pool in pools(view).values()))
    (found, *_) = [pool.hindsight for pool in pools(judged).values() if pool.hindsight]
    assert [rule.rule for rule in found.rules] == ["acting", "gu", "random"]
    assert found.arrivals >= 12  # those before the restart are among them
    assert 0.0 < found.reward <= found.bound
    last = world.run(lambda view: counted(view, "arrivals") >= 48)
    # and the journal alone, without a snapshot, gives the same state
    (world.folder / "store.db").unlink()
    replayed = world.run(lambda view: view.ready)
    assert replayed.restores == 2
    assert counts_and_pools(replayed) == counts_and_pools(last)
    again = [(name, resource) for name, resource in told.items() if name.endswith("/2")]
    assert len(again) >= 12
    assert all(resource is None or resource != told[f"{name[:-1]}1"] for name, resource in again)


def test_a_pool_on_a_foreign_partition_is_refused_and_no_bad_record_stops_the_rest(world: World) -> None:
    world.send("annotators", {"id": "ann", "pool": "north", "capacity": 1})
    home = murmur2(b"north") % 2
    world.send("queries", {"id": "q1", "pool": "north", "edges": [["ann", 0.5]]}, partition=1 - home)
    world.send("queries", {"id": "q2", "pool": "north", "edges": [["ann", 0.5]]}, key="q2")
    world.send("queries", {"id": "q3", "pool": "north", "edges": [["ann", 1.5]]})
    world.send("outcomes", {"id": "q9", "pool": "north", "success": True})
    world.send("annotators", {"id": "ben", "pool": "north", "capacity": -1})
    world.send("queries", {"id": "q4", "pool": "north", "edges": [["ann", 0.5]]})

    world.run(lambda view: counted(view, "arrivals") == 1 and counted(view, "dead_letters") == 5)

    (match,) = world.matches()
    assert (match["id"], match["resource"]) == ("q4/1", "ann")
    assert sorted(reason.partition(":")[0] for reason in refusals(world)) == [
        "capacity",
        "edges",
        "outcome",
        "the key is not the pool's name",
        "the pool belongs on another partition",
    ]
