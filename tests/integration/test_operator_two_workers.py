"""The operator's commands against two workers that share the partitions, on Kafka with Redis."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamd import config as configuration
from streamd import wiring
from streamd.cli.topics import create
from streamd.config import Config
from tests.integration.test_operator import Operator
from tests.integration.test_team import SETTINGS, assigned, predicted, send, start, until
from tests.servers.fixtures import kafka_broker, valkey_url  # noqa: F401
from tests.servers.process import free_port

MORE = """
[pipeline.p.shadow.slow]
kind = "linear"
optimizer = "sgd"
[snapshot]
interval = "20ms"
work = 1
[epoch]
interval = "20ms"
"""
EXCHANGE = "exchange [pipeline.p.learner] and [pipeline.p.shadow.slow]"
PROMOTED = "the shadow slow of pipeline p was promoted"


@pytest.fixture
def settings(tmp_path: Path, kafka_broker: str, valkey_url: str) -> Config:  # noqa: F811
    group = f"two-{os.getpid()}-{time.time_ns() % 10**9}"
    text = SETTINGS.format(group=group, broker=kafka_broker, redis=valkey_url, port=free_port(3))
    (tmp_path / "streamd.toml").write_text(text + MORE)
    return configuration.load(tmp_path / "streamd.toml")


@pytest.fixture
def running(settings: Config, tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    client = wiring.client(settings)
    create(settings, client, partitions=2)
    client.close()
    process = start(tmp_path, "--workers", "2")
    yield process
    process.kill()
    process.wait()


@pytest.mark.kafka
@pytest.mark.redis
def test_all_commands_reach_both_workers(
    settings: Config, running: "subprocess.Popen[bytes]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    operator, both = Operator(settings, tmp_path), ("--workers", "2")
    ports = (settings.http.port, settings.http.port + 1)
    until(lambda: all(len(assigned(port)) == 1 for port in ports), "each worker has one partition")
    send(settings, 0, 100)
    until(lambda: len(predicted(settings)) == 100, "all is predicted")

    # one status of both; who does not answer is named, and so is a partition that nobody has who was asked
    def snapshots() -> list[int]:
        shards = operator.json("status", *both)["pipelines"][0]["shards"]
        return [shard["partition"] for shard in shards if shard["snapshot"] is not None]

    until(lambda: snapshots() == [0, 1], "both have a snapshot")
    told = operator.json("status", *both)
    assert [worker["worker"] for worker in told["workers"]] == ["w-0", "w-1"]
    assert sum(shard["labels"] for shard in told["pipelines"][0]["shards"]) == 100
    code, text = operator.run("status", "--workers", "3")
    assert (code, f"nobody answers at http://127.0.0.1:{ports[1] + 1}" in text) == (1, True), text
    urls = [option for port in (ports[0], ports[1] + 1) for option in ("--url", f"http://127.0.0.1:{port}")]
    code, text = operator.run("status", *urls)
    assert (code, f"nobody that was asked has partitions {assigned(ports[1])[0]} of p" in text) == (1, True), text

    # a question finds the shard that is asked
    for partition in ("0", "1"):
        assert operator.json("predict", "p", '{"features": {"x": 1}}', "-p", partition, *both)["model"]
    other = str(assigned(ports[1])[0])
    asked = ("predict", "p", '{"features": {"x": 1}}', "-p", other)
    until(lambda: "w-1 has it" in operator.run(*asked)[1], "the first one knows who has the other's")

    # what a reload would do, and does
    operator.edit('events = "', 'top = 1\nevents = "')
    line = "w-0, w-1: {}: pipeline.p.top\n"
    assert operator.run("check", "--against-live", *both) == (0, line.format("a reload would change"))
    assert operator.run("reload", *both) == (0, line.format("changed"))
    assert operator.run("reload", *both) == (0, "w-0, w-1: nothing differs\n")
    code, text = operator.run("check", "--against-live", "--workers", "3")
    assert (code, "nobody answers there" in text) == (1, True), text

    # commands are carried out in all shards, wherever they are, but by nobody who has not the shard
    code, text = operator.run("snapshot", "rollback", "p", "-p", other, "--before", "0s")
    assert (code, f"no worker answered for partitions {other}" in text) == (1, True), text
    rolled = operator.json("snapshot", "rollback", "p", "--before", "0s", *both)
    assert [(one["partition"], one["done"]) for one in rolled["outcomes"]] == [(0, True), (1, True)]
    promoted = operator.json("promote", "p", "slow", *both)
    assert [(one["partition"], one["done"]) for one in promoted["outcomes"]] == [(0, True), (1, True)]
    live = ("check", "--against-live", *both)
    until(lambda: ", partitions 0, 1); " in operator.run(*live)[1], "the promotion is seen")
    assert EXCHANGE in operator.run(*live)[1]
    assert [fact["what"] for fact in operator.json("trace", "e7")] == ["events", "predictions"]

    # a plain check knows of it when nobody runs, from the store
    running.send_signal(signal.SIGTERM)
    assert running.wait(60.0) == 0
    text = operator.run("check")[1]
    assert PROMOTED in text
    assert EXCHANGE in text
    assert sum(shard["labels"] for shard in operator.json("status")["pipelines"][0]["shards"]) == 100
