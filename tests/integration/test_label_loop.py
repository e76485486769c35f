"""The label loop whole: a worker asks, a crowd answers late, wrongly, with skips or never; the worker is killed.

Worker and crowd are the shipped commands, each in a process of its own. What is left in the end is checked twice:
as the daemon left it, and as its journal tells it to one that has nothing else.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from test_groupwise import run

from streamd import config as configuration
from streamd import wiring
from streamd.cli.topics import create
from streamd.config import Config, SqliteStore
from streamd.crowd import Crowd, Habits
from streamd.ports import LogClient, Output
from streamd.views import EngineView
from tests.servers.fixtures import kafka_broker  # noqa: F401

SETTINGS = """
group = "{topic}"
[worker]
name = "w"
[log]
{log}
[store]
path = "store.db"
[epoch]
interval = "20ms"
[http]
enabled = false
[pipeline.p]
task = "classify"
events = "{topic}"
labels = "{topic}-labels"
queries = "{topic}-queries"
outcomes = "{topic}-outcomes"
learner = {{ kind = "linear" }}
[pipeline.p.query]
budget = 0.25
rho = 0.2
deadline = "1h"
utility = "mean_kl"
committee = 3
"""
N = 160
BUDGET, CAPACITY = 0.25, 10
HABITS = {"accuracy": 0.9, "skip": 0.1, "silent": 0.1, "delay": 0.2}
TEAM = [f"annotator-{i}" for i in range(1, 6)]


def truth(i: int) -> str:
    return "yes" if i * 37 % 101 > 50 else "no"


class World:
    """A folder with the configuration, its topics, and the processes started in it."""

    def __init__(self, folder: Path, log: str, topic: str) -> None:
        self.folder, self.topic = folder, topic
        text = SETTINGS.format(log=log, topic=topic)
        (folder / "streamd.toml").write_text(text)
        lines = [json.dumps({"id": f"e{i}", "label": truth(i)}) for i in range(N)]
        (folder / "truth.jsonl").write_text("\n".join(lines) + "\n")
        self.config: Config = configuration.load(folder / "streamd.toml")
        self.client: LogClient = wiring.client(self.config)
        create(self.config, self.client, partitions=1)
        for name in ("queries", "outcomes"):
            self.client.create(f"{topic}-{name}", 1)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / "out").open("ab") as out:
            command = [sys.executable, "-m", "streamd.cli", *arguments]
            self.processes.append(subprocess.Popen(command, cwd=self.folder, stdout=out, stderr=out))
        return self.processes[-1]

    def send(self, first: int, last: int) -> None:
        now = int(time.time() * 1000)
        events = [
            {"id": f"e{i}", "features": {"x": i * 37 % 101 / 10, "y": float(i % 7)}} for i in range(first, last)
        ]
        outputs = [Output("", str(event["id"]).encode(), json.dumps(event).encode(), now) for event in events]
        self.client.append(self.topic, outputs)

    def read(self, suffix: str) -> list[dict[str, Any]]:
        topic = f"{self.topic}-{suffix}"
        if topic not in self.client.topics():
            return []
        return [json.loads(record.value or b"") for record in self.client.read(topic, 0, 0, 10**6)]

    def until(self, holds: Callable[[], bool]) -> None:
        tick = threading.Event()
        for _ in range(900):
            if holds():
                return
            tick.wait(0.1)
        raise AssertionError((self.folder / "out").read_text()[-4000:])

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.client.close()


def live(world: World) -> None:
    """Half of the stream, the worker killed while labels come, the other half, until everybody has answered."""
    crowd = ["crowd", f"{world.topic}-queries", "truth.jsonl", "--follow"]
    crowd += [f"--{name}={value}" for name, value in HABITS.items()]
    worker = world.start("run")
    world.start(*crowd)
    world.send(0, N // 2)
    world.until(lambda: len(world.read("labels")) >= 5)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    world.send(N // 2, N)
    worker = world.start("run")
    world.until(lambda: len(world.read("predictions")) >= N)
    world.until(lambda: len(world.read("labels")) >= len(expected(world)))
    worker.terminate()
    assert worker.wait(60) == 0


def expected(world: World) -> list[dict[str, Any]]:
    """What the crowd answers to the queries there are."""
    crowd = Crowd({f"e{i}": truth(i) for i in range(N)}, {name: Habits(**HABITS) for name in TEAM})
    return [answer.fields for query in world.read("queries") for answer in crowd.ask(json.dumps(query).encode())]


def check(world: World) -> None:
    queries, labels, outcomes = (world.read(name) for name in ("queries", "labels", "outcomes"))
    assert [one["id"] for one in world.read("predictions")] == [f"e{i}" for i in range(N)]
    assert len({query["event"] for query in queries}) == len(queries)
    assert [int(query["id"].partition("#")[2]) for query in queries] == list(range(1, len(queries) + 1))
    assert key(labels) == key(expected(world))

    view = run(world.config)
    (shard,) = view.shards
    assert shard.querying is not None
    counts, answers = shard.querying.counts, [label for label in labels if "label" in label]
    assert counts["asked"] == len(queries) <= BUDGET * N + CAPACITY
    assert counts["answered"] == shard.counts["learned"] == len(answers) > 10
    assert counts["skipped"] == len(labels) - len(answers)
    assert counts["asked"] == counts["answered"] + shard.querying.pending
    assert counts["unasked"] == counts["repeated"] == counts["expired"] == shard.counts["dead_letters"] == 0
    outcomes = world.read("outcomes")
    assert sorted(one["id"] for one in outcomes) == sorted(label["query"] for label in labels)
    assert {one["reason"] for one in outcomes} <= {"label", "skip"}

    assert seen(again(world)) == seen(view)


def again(world: World) -> EngineView:
    """The same from the journal alone: a store that holds nothing."""
    return run(replace(world.config, store=SqliteStore(str(world.folder / "empty.db"))))


def seen(view: EngineView) -> tuple[Any, ...]:
    (shard,) = view.shards
    return shard.querying, shard.counts, shard.quality, shard.pending


def key(records: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(record, sort_keys=True) for record in records)


def whole(folder: Path, log: str, topic: str) -> None:
    world = World(folder, log, topic)
    try:
        live(world)
        check(world)
    finally:
        world.close()


def test_queries_go_out_and_labels_come_back_through_a_kill(tmp_path: Path) -> None:
    whole(tmp_path, 'path = "log.db"\nsynchronous = "normal"', "tickets")


@pytest.mark.kafka
def test_queries_go_out_and_labels_come_back_on_kafka_through_a_kill(
    tmp_path: Path,
    kafka_broker: str,  # noqa: F811
) -> None:
    topic = f"tickets-{os.getpid()}-{time.time_ns() % 10**9}"
    whole(tmp_path, f'kind = "kafka"\nbrokers = ["{kafka_broker}"]', topic)
