"""Labels asked for by one pipeline, routed to annotators by another, answered, learned: through the log."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamd import config as configuration
from streamd import wiring
from streamd.cli.topics import create
from streamd.daemon import Daemon
from streamd.ports import LogClient, Output, Record
from streamd.views import EngineView
from tests.servers.fixtures import kafka_broker  # noqa: F401

SETTINGS = """
group = "{group}"
{log}
[store]
kind = "sqlite"
path = "store.db"
[epoch]
interval = "20ms"
[http]
enabled = false
[pipeline.tickets]
task = "classify"
events = "{group}-tickets"
labels = "{group}-labels"
queries = "{group}-queries"
outcomes = "{group}-outcomes"
pool = "desk"
learner = {{ kind = "linear" }}
query = {{ budget = 1.0, rho = 0.0, discount = 0.0, deadline = "3h" }}
pending = {{ max_age = "6h" }}
[pipeline.desk]
task = "match"
events = "{group}-queries"
resources = "{group}-annotators"
outcomes = "{group}-outcomes"
matches = "{group}-assignments"
timeout = "1h"
attempts = 2
probabilities = {{ kind = "beta", prior = [1.0, 1.0] }}
rule = {{ f = "k_b" }}
"""
PATIENCE = 90.0  # seconds
HOUR = 3_600_000  # milliseconds
EVENTS = 48


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> "Desk":
    return Desk(request, tmp_path)


class Desk:
    """Two pipelines in one daemon, and a crowd of three: ann is right, abe never answers, cyd is wrong."""

    def __init__(self, request: pytest.FixtureRequest, folder: Path) -> None:
        self.group = f"r-{os.getpid()}-{time.time_ns() % 10**9}"
        log = '[log]\nkind = "sqlite"\nsynchronous = "normal"\npartitions = 2'
        if request.param == "kafka":
            log = f'[log]\nkind = "kafka"\nbrokers = ["{request.getfixturevalue("kafka_broker")}"]'
        text = SETTINGS.format(group=self.group, log=log)
        self.config = configuration.resolve(configuration.parse(text), folder)
        self.client: LogClient = wiring.client(self.config)
        create(self.config, self.client, 2)
        self.now = int(time.time() * 1000) - 12 * HOUR
        self.read: dict[int, int] = {0: 0, 1: 0}
        self.assigned: list[dict[str, Any]] = []

    def send(self, topic: str, key: str, told: dict[str, Any]) -> None:
        self.now += 1000
        self.client.append(
            f"{self.group}-{topic}", [Output("", key.encode(), json.dumps(told).encode(), self.now)]
        )

    def ticket(self, i: int) -> None:
        self.send("tickets", f"t{i}", {"id": f"t{i}", "features": {"x": float(i % 2)}})

    def answer(self) -> None:
        """The crowd reads what it was assigned, and answers."""
        for partition, offset in self.read.items():
            found = self.client.read(f"{self.group}-assignments", partition, offset, 1000)
            for record in found:
                self.read[partition] = record.offset + 1  # on Kafka, transactions take offsets, too
                self._answer(record)

    def settled(self, views: dict[str, EngineView], silent: str) -> bool:
        """All that is asked or offered again was assigned and read, and only what this one leaves is open."""
        if not self.told(views["tickets"]):
            return False
        waiting = sum(
            pool.open for shard in views["desk"].shards if shard.matching for pool in shard.matching.pools
        )
        queries = sum(len(self.client.read(f"{self.group}-queries", p, 0, 1000)) for p in self.read)
        read = len(self.assigned) == counted(views["desk"], "arrivals") == queries
        return read and waiting == sum(match.get("resource") == silent for match in self.assigned)

    def told(self, asker: EngineView) -> bool:
        """All answers were read: what one pipeline shows may be older than what another shows of its outcomes."""
        answered = sum(match.get("resource") not in (None, "abe") for match in self.assigned)
        return counted(asker, "learned") + counted(asker, "skipped_labels") == answered

    def _answer(self, record: Record) -> None:
        match = json.loads(record.value or b"")
        self.assigned.append(match)
        if match.get("resource") in (None, "abe"):
            return
        query, reply = match["query"], match["query"]["reply"]
        right = ("no", "yes")[int(query["features"]["x"])]
        label = right if match["resource"] == "ann" else None
        told = {"id": query["event"], "query": query["id"], "annotator": match["resource"]}
        told |= {"label": label} if label else {"skip": True}
        self.now += 1
        output = Output("", reply["key"].encode(), json.dumps(told).encode(), self.now, reply["partition"])
        self.client.append(reply["topic"], [output])


def until(daemon: Daemon, holds: Callable[[dict[str, EngineView]], bool], do: Callable[[], None]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        assert daemon.failure() is None
        do()
        views = {view.pipeline: view for view in daemon.views()}
        if holds(views):
            return
        assert time.monotonic() < deadline, views
        time.sleep(0.02)


def counted(view: EngineView, name: str) -> int:
    return sum(shard.counts.get(name, 0) for shard in view.shards)


def test_labels_are_asked_routed_answered_and_learned(desk: Desk) -> None:
    for name in ("abe", "ann", "cyd"):
        desk.send("annotators", "desk", {"id": name, "pool": "desk", "capacity": EVENTS, "concurrent": 5})
    daemon = wiring.build(desk.config)
    daemon.start()
    try:
        # given tickets, a few at a time, each asked for and each query routed
        for i in range(EVENTS):
            desk.ticket(i)
            if i % 4 == 3:
                until(daemon, lambda views, n=i: len(desk.assigned) > n, desk.answer)
        until(daemon, lambda views: desk.settled(views, "abe"), desk.answer)
        # when the time of those that abe let lie is over, they go to somebody else
        desk.now += 2 * HOUR
        desk.send("annotators", "desk", {"id": "abe", "pool": "desk", "op": "leave"})
        silent = sum(match.get("resource") == "abe" for match in desk.assigned)
        until(daemon, lambda views: counted(views["desk"], "reoffered") == silent, desk.answer)
        until(daemon, lambda views: desk.settled(views, "nobody"), desk.answer)
        views = {view.pipeline: view for view in daemon.views()}
    finally:
        daemon.stop(leave=True)
        desk.client.close()
    # then every query got one answer per attempt, abe lost his to the others, and ann was preferred
    told = {match["id"]: match.get("resource") for match in desk.assigned}
    assert len(told) == len(desk.assigned)
    assert {match["query"]["event"] for match in desk.assigned} == {f"t{i}" for i in range(EVENTS)}
    again = {name: resource for name, resource in told.items() if name.endswith("/2")}
    assert len(again) == silent == counted(views["desk"], "timeouts") > 0
    assert "abe" not in again.values()
    first = [match.get("resource") for match in desk.assigned if match["id"].endswith("/1")]
    assert first.count("ann") > first.count("cyd") > 0
    # what came back was learned by the asker, and judged by it for the pool
    (pool,) = [pool for shard in views["desk"].shards if shard.matching for pool in shard.matching.pools]
    assert counted(views["tickets"], "learned") == pool.succeeded > EVENTS / 3
    assert counted(views["desk"], "dead_letters") == counted(views["tickets"], "dead_letters") == 0
    assert counted(views["desk"], "skipped") == sum(match.get("resource") == "cyd" for match in desk.assigned)
