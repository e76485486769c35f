"""Groupwise pipelines through an engine, embedded and on Kafka: late labels, a restart, what is seen."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamd import config as configuration
from streamd import wiring
from streamd.cli.topics import create
from streamd.config import Config
from streamd.ports import Output
from streamd.sight import Sight
from streamd.views import EngineView, GroupsView
from tests.servers.fixtures import kafka_broker  # noqa: F401

EMBEDDED = 'path = "log.db"\nsynchronous = "normal"'
REGRESS = """
[pipeline.p]
task = "regress"
events = "{topic}"
labels = "{topic}-labels"
[pipeline.p.learner]
kind = "groupwise"
range = [0, 10]
groups = ["member=*", "member=true & age<30", "#vip"]
experts = "pairs"
"""
CHOOSE = """
[pipeline.p]
task = "choose"
events = "{topic}"
labels = "{topic}-labels"
[pipeline.p.learner]
kind = "groupwise"
source = "home"
sink = "work"
highest = 10
groups = ["member=*"]
edges = {{ bus = ["home", "work"], walk = ["home", "park"], path = ["park", "work"] }}
"""
LATE = 7  # events between one and its label
N = 120


def settings(folder: Path, log: str, pipeline: str, topic: str) -> Config:
    text = f'group = "{topic}"\n[log]\n{log}\n[store]\npath = "store.db"\n[epoch]\ninterval = "10ms"\n'
    return configuration.resolve(configuration.parse(text + pipeline.format(topic=topic)), folder)


def event(i: int) -> dict[str, Any]:
    features = {"member": i % 2 == 0, "age": 20 + i * 7 % 30}
    return {"id": f"e{i}", "features": features, "groups": ["vip"] if i % 5 == 0 else []}


def value(i: int) -> float:
    return (8.0 if i % 2 == 0 else 1.0) + (i * 7 % 30) / 30


def costs(i: int) -> dict[str, float]:
    return {"bus": 4.0, "walk": 8.0 if i % 2 else 1.0, "path": 1.0}


def send(config: Config, first: int, last: int, truth: Callable[[int], Any]) -> None:
    """Events, and the labels that are due."""
    pipeline = config.pipeline["p"]
    client = wiring.client(config)
    create(config, client, partitions=1)
    for i in range(first, last):
        key = f"k{i}".encode()
        client.append(pipeline.events, [Output("", key, json.dumps(event(i)).encode(), 1000 + i)])
        if (past := i - LATE) >= 0:
            label = {"id": f"e{past}", "label": truth(past)}
            client.append(str(pipeline.labels), [Output("", key, json.dumps(label).encode(), 1000 + i)])
    client.close()


def run(config: Config) -> EngineView:
    """Until nothing waits; then drain."""
    pipeline = config.pipeline["p"]
    sight = Sight("p", pipeline.task, "", pipeline.events, pipeline.predictions_topic)
    engine = wiring.engine(config, "p", sight)
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
    return sight.view


def told(config: Config) -> list[dict[str, Any]]:
    client = wiring.client(config)
    topic = config.pipeline["p"].predictions_topic
    found = [json.loads(record.value or b"") for record in client.read(topic, 0, 0, 10**6)]
    client.close()
    return found


def groups(view: EngineView) -> GroupsView:
    (shard,) = view.shards
    assert shard.counts["dead_letters"] == shard.counts["refused_labels"] == 0
    assert shard.groups is not None
    return shard.groups


def lived(config: Config, truth: Callable[[int], Any]) -> tuple[list[dict[str, Any]], GroupsView]:
    """Half of the stream, a restart, the other half."""
    send(config, 0, N // 2, truth)
    run(config)
    send(config, N // 2, N, truth)
    view = run(config)
    return told(config), groups(view)


def check_regression(predictions: list[dict[str, Any]], seen: GroupsView) -> None:
    assert [one["id"] for one in predictions] == [f"e{i}" for i in range(N)]
    last = predictions[-2]
    assert last["value"] == pytest.approx(value(N - 2), abs=1.5)
    assert last["interval"][0] <= last["value"] <= last["interval"][1]
    assert {"everyone", "member=true"} <= {name for name, _, _ in last["why"]}
    assert sum(weight for _, weight, _ in last["why"]) == pytest.approx(1.0)
    labels = {group.name: group.labels for group in seen.groups}
    assert labels["everyone"] == N - LATE
    assert set(labels) == {"everyone", "member=true & age<30", "#vip", "member=true", "member=false"}
    assert not [group for group in seen.groups if group.bound < group.R]


def test_a_groupwise_pipeline_embedded_with_late_labels_and_a_restart(tmp_path: Path) -> None:
    check_regression(*lived(settings(tmp_path, EMBEDDED, REGRESS, "visits"), value))


def test_paths_are_chosen_embedded_with_late_costs_and_a_restart(tmp_path: Path) -> None:
    predictions, seen = lived(settings(tmp_path, EMBEDDED, CHOOSE, "trips"), costs)

    assert [one["id"] for one in predictions] == [f"e{i}" for i in range(N)]
    assert all(one["path"] in (["bus"], ["walk", "path"]) for one in predictions)
    walked = [one["path"] != ["bus"] for one in predictions[N // 2 :]]
    assert sum(walked[::2]) > sum(walked[1::2])  # members have the short walk
    assert [group.name for group in seen.groups] == ["everyone", "member=true", "member=false"]
    assert all(group.regret_best is not None and group.best_bound is not None for group in seen.groups)
    assert not [group for group in seen.groups if (group.regret_best or 0.0) > (group.best_bound or 0.0)]


@pytest.mark.kafka
def test_a_groupwise_pipeline_on_kafka_with_late_labels_and_a_restart(
    tmp_path: Path,
    kafka_broker: str,  # noqa: F811
) -> None:
    topic = f"visits-{os.getpid()}-{time.time_ns() % 10**9}"
    log = f'kind = "kafka"\nbrokers = ["{kafka_broker}"]'
    check_regression(*lived(settings(tmp_path, log, REGRESS, topic), value))
