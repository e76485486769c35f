"""`streamd run --workers`: processes that share the partitions, and somebody who starts the dead ones again."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from streamd import config as configuration
from streamd import wiring
from streamd.cli import team
from streamd.cli.topics import create
from streamd.config import Config
from streamd.errors import EXIT_CONFIG
from streamd.ports import Output
from tests.servers.fixtures import kafka_broker, valkey_url  # noqa: F401
from tests.servers.process import free_port

SETTINGS = """
group = "{group}"
[worker]
name = "w"
[log]
kind = "kafka"
brokers = ["{broker}"]
session_timeout = "3s"
[store]
kind = "redis"
url = "{redis}"
[http]
port = {port}
[pipeline.p]
task = "classify"
events = "{group}-events"
learner = {{ kind = "linear" }}
"""
PATIENCE = 60.0  # seconds


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.05)


def ask(port: int, path: str) -> dict[str, object] | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        found: dict[str, object] = json.loads(connection.getresponse().read())
    except (OSError, json.JSONDecodeError):
        return None
    finally:
        connection.close()
    return found


def assigned(port: int) -> list[int]:
    """The partitions that a worker has restored."""
    found = ask(port, "/readyz")
    return [] if found is None else found["pipelines"]["p"]["restored"]  # type: ignore[index, return-value]


def says_owner(port: int, path: str, worker: object) -> bool:
    return (ask(port, path) or {}).get("owner") == worker


def said(folder: Path, event: str) -> list[dict[str, Any]]:
    """The log lines of one kind so far."""
    lines = [line for line in (folder / "said").read_text().splitlines() if f'"event":"{event}"' in line]
    return [json.loads(line) for line in lines]


def started(folder: Path, index: int) -> list[int]:
    """The processes that worker `index` has been, in order."""
    return [line["pid"] for line in said(folder, "worker started") if line["worker"] == index]


def start(folder: Path, *more: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "streamd.cli", "run", "--config", str(folder / "streamd.toml"), *more]
    return subprocess.Popen(command, stderr=(folder / "said").open("wb"), start_new_session=True)


@pytest.fixture
def settings(tmp_path: Path, kafka_broker: str, valkey_url: str) -> Config:  # noqa: F811
    group = f"team-{os.getpid()}-{time.time_ns() % 10**9}"
    text = SETTINGS.format(group=group, broker=kafka_broker, redis=valkey_url, port=free_port(2))
    (tmp_path / "streamd.toml").write_text(text)
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


def send(settings: Config, first: int, last: int) -> None:
    client = wiring.client(settings)
    values = [
        b'{"id":"e%d","features":{"x":%d},"label":"%s"}' % (i, i % 7, b"ab"[i % 2 :][:1])
        for i in range(first, last)
    ]
    client.append(
        settings.pipeline["p"].events,
        [Output("", b"k%d" % (first + i), value, int(time.time() * 1000)) for i, value in enumerate(values)],
    )
    client.close()


def predicted(settings: Config) -> list[str]:
    client = wiring.client(settings)
    topic = settings.pipeline["p"].predictions_topic
    partitions = range(client.topics()[topic].partitions)
    found = [json.loads(r.value or b"")["id"] for p in partitions for r in client.read(topic, p, 0, 10**6)]
    client.close()
    return sorted(found)


@pytest.mark.kafka
@pytest.mark.redis
def test_two_workers_share_the_partitions_and_a_killed_one_comes_back(
    settings: Config, running: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    ports = (settings.http.port, settings.http.port + 1)
    until(lambda: sorted(p for port in ports for p in assigned(port)) == [0, 1], "both partitions are restored")
    until(lambda: all(len(assigned(port)) == 1 for port in ports), "each worker has one")
    names = [(ask(port, "/v1/pipelines") or {})["worker"] for port in ports]
    for port, other, name in ((*ports, names[1]), (*ports[::-1], names[0])):
        path = f"/v1/pipelines/p/partitions/{assigned(other)[0]}"
        until(partial(says_owner, port, path, name), "a worker knows who has the other partition")
    send(settings, 0, 200)
    (child,) = started(tmp_path, 1)
    had = assigned(ports[1])
    os.kill(child, signal.SIGKILL)
    send(settings, 200, 400)
    until(lambda: len(predicted(settings)) >= 400, "everything is predicted")
    until(lambda: assigned(ports[1]) == had, "the killed worker is back with its partition")
    # then its successor is a fork of the same process, and no new interpreter
    _, successor = started(tmp_path, 1)
    assert successor in _children(running.pid)
    assert _command(successor) == _command(running.pid)
    # and the signals reach the workers still
    (tmp_path / "streamd.toml").write_text((tmp_path / "streamd.toml").read_text() + 'echo = ["note"]\n')
    running.send_signal(signal.SIGHUP)
    until(lambda: len(said(tmp_path, "reloaded")) == 2, "both have reloaded")
    # and one from the terminal, which tells everybody in a process group, drains them once
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait(PATIENCE) == 0
    assert [line["exit"] for line in said(tmp_path, "stopped")] == [0, 0]
    assert predicted(settings) == sorted(f"e{i}" for i in range(400))


@pytest.mark.kafka
@pytest.mark.redis
def test_workers_drain_when_nobody_looks_after_them_any_more(
    settings: Config, running: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    until(lambda: len(_children(running.pid)) == 2, "both workers are started")
    workers = _children(running.pid)
    until(lambda: any(assigned(settings.http.port + i) for i in range(2)), "one serves")
    running.kill()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "they have ended")
    assert [line["exit"] for line in said(tmp_path, "stopped")] == [0, 0]


@pytest.mark.kafka
@pytest.mark.redis
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_refused_configuration_ends_the_team_with_its_code(
    settings: Config, tmp_path: Path, workers: str
) -> None:
    process = start(tmp_path, "--workers", workers)  # the topics do not exist
    assert process.wait(PATIENCE) == EXIT_CONFIG


@pytest.mark.kafka
@pytest.mark.redis
def test_a_team_of_one_with_a_river_model_works_with_a_fixed_hash_seed(settings: Config, tmp_path: Path) -> None:
    text = (tmp_path / "streamd.toml").read_text()
    river = 'kind = "river", model = "river.tree.HoeffdingTreeClassifier"'
    (tmp_path / "streamd.toml").write_text(text.replace('kind = "linear"', river))
    client = wiring.client(settings)
    create(settings, client, partitions=1)
    client.close()
    send(settings, 0, 10)
    process = start(tmp_path, "--workers", "1", "--until-idle")
    until(lambda: len(said(tmp_path, "worker started")) == 1, "the worker is started")
    (worker,) = started(tmp_path, 0)
    assert b"PYTHONHASHSEED=0" in Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
    assert process.wait(PATIENCE) == 0
    assert len(predicted(settings)) == 10


def test_the_embedded_log_has_one_worker(tmp_path: Path) -> None:
    text = '[pipeline.p]\ntask = "classify"\nevents = "e"\nlearner = { kind = "linear" }\n'
    (tmp_path / "streamd.toml").write_text(text)
    process = start(tmp_path, "--workers", "2")
    assert process.wait(PATIENCE) == EXIT_CONFIG
    assert "--workers needs Kafka" in (tmp_path / "said").read_text()


def test_each_worker_has_its_own_name_and_port() -> None:
    text = '[http]\nport = 9000\n[pipeline.p]\ntask = "classify"\nevents = "e"\nlearner = { kind = "linear" }\n'
    named = configuration.resolve(configuration.parse('[worker]\nname = "w"\n' + text), Path("/"))
    assert [(team.member(named, i).worker.name, team.member(named, i).http.port) for i in (0, 1)] == [
        ("w-0", 9000),
        ("w-1", 9001),
    ]
    unnamed = configuration.resolve(configuration.parse(text), Path("/"))
    assert team.member(unnamed, 2).worker.name == unnamed.worker.name.removesuffix("-0") + "-2"


def _children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def test_a_worker_is_started_again_at_once_unless_it_ends_again_and_again() -> None:
    patience, short, long = team.Patience(), team.SOON / 2, team.SOON * 2
    assert [patience.wait(lived) for lived in (short, short, short, short)] == [0.0, 0.5, 1.0, 2.0]
    assert max(patience.wait(short) for _ in range(20)) == team.WAIT[1]
    assert [patience.wait(lived) for lived in (long, long, short, short)] == [0.0, 0.0, 0.5, 1.0]
