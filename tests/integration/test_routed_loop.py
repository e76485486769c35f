"""The label loop with a pool: a match pipeline assigns each query, the crowd answers, outcomes go back to it."""

import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from streamd import config as configuration
from streamd import wiring
from streamd.cli.crowd import Attendance, Clock
from streamd.cli.topics import create
from streamd.crowd import Crowd, Habits
from streamd.ports import Output
from streamd.sight import Sight
from streamd.views import ShardView

SETTINGS = """
[log]
path = "log.db"
synchronous = "normal"
partitions = 2
[store]
path = "store.db"
[epoch]
interval = "10ms"
[http]
enabled = false
[pipeline.tickets]
task = "classify"
events = "tickets"
labels = "ticket-labels"
queries = "ticket-queries"
outcomes = "ticket-outcomes"
pool = "desk"
learner = { kind = "linear" }
query = { budget = 0.2, rho = 0.2, answers = 2, deadline = "2h" }
[pipeline.desk]
task = "match"
events = "ticket-queries"
resources = "annotators"
outcomes = "ticket-outcomes"
matches = "assignments"
probabilities = { kind = "beta" }
"""
N = 120
TEAM = {"ann": Habits(0.95, 0.1), "bob": Habits(0.9, 0.1), "cyd": Habits(0.6), "dan": Habits(0.9)}


def truth(i: int) -> str:
    return "yes" if i * 37 % 101 > 50 else "no"


class World:
    def __init__(self, folder: Path) -> None:
        self.config = configuration.resolve(configuration.parse(SETTINGS), folder)
        self.client = wiring.client(self.config)
        create(self.config, self.client, partitions=2)
        self.client.create("ticket-queries", 2)
        self.client.create("ticket-outcomes", 2)

    def send(self, topic: str, key: str, told: dict[str, Any], ts: int) -> None:
        self.client.append(topic, [Output("", key.encode(), json.dumps(told).encode(), ts)])

    def read(self, topic: str) -> list[dict[str, Any]]:
        return [json.loads(r.value or b"") for p in (0, 1) for r in self.client.read(topic, p, 0, 10**6)]

    def run(self, name: str) -> list[ShardView]:
        """Until nothing waits; then drain."""
        pipeline = self.config.pipeline[name]
        sight = Sight(name, pipeline.task, "", pipeline.events, pipeline.answers)
        engine = wiring.engine(self.config, name, sight)
        tick = threading.Event()

        def watch() -> None:
            for _ in range(12_000):
                if sight.idle:
                    break
                tick.wait(0.005)
            engine.stop()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        engine.run()
        watcher.join()
        return list(sight.view.shards)


def test_queries_are_routed_answered_and_judged(tmp_path: Path) -> None:
    world = World(tmp_path)
    for name in TEAM:
        world.send("annotators", "desk", {"id": name, "pool": "desk", "op": "put", "capacity": 1000}, 1)
    for i in range(N):
        world.send("tickets", f"e{i}", {"id": f"e{i}", "features": {"x": i * 37 % 101 / 10}}, 1000 + i)
    crowd = Crowd({f"e{i}": truth(i) for i in range(N)}, TEAM)
    world.run("tickets")
    world.run("desk")
    attendance = Attendance(world.client, "assignments", crowd, Clock.event)

    for _ in range(3):  # the second and third round are for what was passed over
        while attendance.step():
            pass
        attendance.finish()
        world.run("tickets")
        world.run("desk")

    queries, matches, labels = (world.read(name) for name in ("ticket-queries", "assignments", "ticket-labels"))
    outcomes, shards = world.read("ticket-outcomes"), world.run("tickets")
    assert {query["pool"] for query in queries} == {"desk"}
    assert sorted(match["arrival"] for match in matches) == sorted(query["id"] for query in queries)
    assert all("resource" in match for match in matches)
    answered = Counter(label["id"] for label in labels if "label" in label)
    by = {(label["id"], label["annotator"]) for label in labels}
    assert len(by) == len(labels)  # nobody was asked twice about one event
    assert max(answered.values()) == 2

    counts = sum((Counter(shard.querying.counts) for shard in shards if shard.querying), Counter[str]())
    complete = [event for event, n in answered.items() if n == 2]
    assert counts["answered"] == len(complete) > 10
    assert counts["skipped"] == sum("skip" in label for label in labels) > 0
    judged = {outcome["id"] for outcome in outcomes}
    assert judged == {label["query"] for label in labels if label["id"] in complete or "skip" in label}
    assert {outcome["reason"] for outcome in outcomes} == {"label", "wrong", "skip"}

    (pool,) = [pool for shard in world.run("desk") if shard.matching for pool in shard.matching.pools]
    assert pool.matched == len(matches)
    assert pool.settled == sum(outcome["reason"] != "skip" for outcome in outcomes)
    assert pool.succeeded == sum(outcome["success"] for outcome in outcomes)
    skills = {one.name for shard in shards if shard.querying for one in shard.querying.annotators}
    assert skills == set(TEAM)
    world.client.close()
