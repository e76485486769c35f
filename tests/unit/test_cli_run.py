"""`run` and `status`: the daemon as a process, its log lines, its exit codes, and what is seen of it."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Terminal, spawn

from streamd.errors import EXIT_CONFIG, EXIT_STATE, EXIT_TRY_AGAIN
from tests.servers.process import free_port


@pytest.fixture
def streamd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STREAMD_CONFIG", raising=False)
    return Terminal(tmp_path, capsys)


def lines(text: str) -> list[Any]:
    """Every line is a JSON object with a time, a level and an event."""
    found = [json.loads(line) for line in text.splitlines()]
    assert all({"ts", "level", "event"} <= line.keys() for line in found)
    return found


def serving(streamd: Terminal) -> None:
    """The configuration with HTTP on a free port."""
    text = (streamd.folder / "streamd.toml").read_text().replace("enabled = false", f"port = {free_port()}")
    (streamd.folder / "streamd.toml").write_text(text)


@pytest.fixture
def running(streamd: Terminal) -> Iterator[tuple[subprocess.Popen[str], list[Any]]]:
    """A daemon that has restored its shard, and the lines it has written."""
    serving(streamd)
    process = spawn(streamd.folder, "run")
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen += lines(line)
        if seen[-1]["event"] == "shard restored":
            break
    try:
        yield process, seen
    finally:
        process.kill()
        process.communicate()


def test_until_idle_processes_everything_and_ends(streamd: Terminal) -> None:
    streamd.file(
        "in.jsonl", "".join(f'{{"id": "{i}", "features": {{"x": {i}}}, "label": "y"}}\n' for i in range(20))
    )
    streamd("send", "events", "in.jsonl")
    process = spawn(streamd.folder, "run", "--until-idle")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, "")
    assert [line["event"] for line in lines(err)][-2:] == ["draining", "stopped"]
    assert len(streamd("tail", "events-predictions", "--json").lines) == 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(running: tuple[subprocess.Popen[str], list[Any]], number: signal.Signals) -> None:
    process, seen = running
    assert {line["event"] for line in seen} >= {"started", "shard restored"}
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert [line["event"] for line in lines(err)][-2:] == ["draining", "stopped"]
    assert lines(err)[-1]["exit"] == 0


def test_status_asks_the_running_daemon_and_later_the_store(
    streamd: Terminal, running: tuple[subprocess.Popen[str], list[Any]]
) -> None:
    process, _ = running
    # given a daemon that runs
    told = streamd("status", "--json").json
    assert (told["source"], told["group"], told["worker"]) == ("daemon", "test", "w")
    assert "worker w" in streamd("status").out
    # when it has processed something and was drained
    streamd.file("in.jsonl", '{"id": "a", "features": {"x": 1}}\n')
    streamd("send", "events", "in.jsonl")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    streamd("send", "events", "in.jsonl")
    done = spawn(streamd.folder, "run", "--until-idle")
    done.communicate(timeout=120)
    streamd("send", "events", "in.jsonl")
    # then the store tells where it is, and the log what waits
    told = streamd("status", "--json").json
    (shard,) = told["pipelines"][0]["shards"]
    assert told["source"] == "store"
    assert shard["positions"] == {"events": 2, "labels": 0}
    assert shard["waiting"] == {"events": 1, "labels": 0}
    assert shard["sequence"] == shard["snapshot"]["sequence"] >= 1
    assert "not running" in streamd("status").out


def test_status_of_a_log_that_nobody_processed(streamd: Terminal) -> None:
    assert streamd("status").code == 1
    streamd.file("in.jsonl", "{}\n")
    streamd("send", "events", "in.jsonl")
    (shard,) = streamd("status", "--json").json["pipelines"][0]["shards"]
    assert (shard["sequence"], shard["snapshot"], shard["waiting"]) == (0, None, {"events": 1})


def test_a_port_in_use_is_try_again(streamd: Terminal, running: tuple[subprocess.Popen[str], list[Any]]) -> None:
    process = spawn(streamd.folder, "run")
    _, err = process.communicate(timeout=60)
    assert process.returncode == EXIT_TRY_AGAIN
    line = lines(err)[-1]
    assert line["event"] == "stopped"
    assert re.search(r"http\.port: 127\.0\.0\.1:\d+ is in use", line["reason"])


def test_a_second_daemon_of_one_group_is_refused(
    streamd: Terminal, running: tuple[subprocess.Popen[str], list[Any]]
) -> None:
    serving(streamd)
    text = (streamd.folder / "streamd.toml").read_text()
    (streamd.folder / "streamd.toml").write_text(re.sub(r"port = \d+", f"port = {free_port()}", text))
    process = spawn(streamd.folder, "run")
    _, err = process.communicate(timeout=60)
    assert process.returncode == EXIT_CONFIG
    assert "another process works for" in lines(err)[-1]["reason"]


def test_a_file_that_is_no_log_ends_with_its_own_code(streamd: Terminal) -> None:
    streamd.file("streamd.db", b"this is not a database" * 100)
    process = spawn(streamd.folder, "run")
    _, err = process.communicate(timeout=60)
    assert process.returncode == EXIT_STATE
    assert "not a SQLite file" in lines(err)[-1]["reason"]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to look into another process")
def test_river_runs_with_a_fixed_hash_seed(streamd: Terminal) -> None:
    learner = 'learner = {kind = "river", model = "river.tree.HoeffdingTreeClassifier"}'
    text = (streamd.folder / "streamd.toml").read_text().replace('learner = {kind = "linear"}', learner)
    (streamd.folder / "streamd.toml").write_text(text)
    process = spawn(streamd.folder, "run")
    assert process.stderr is not None
    assert [lines(process.stderr.readline())[0]["event"] for _ in range(2)] == ["kernels ready", "started"]
    environment = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert b"PYTHONHASHSEED=0" in environment
    assert process.returncode == 0
