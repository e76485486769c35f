"""The operator's commands, one after another, against a running daemon: embedded, and on Kafka with Redis."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from streamd import config as configuration
from streamd import wiring
from streamd.cli import main
from streamd.cli.topics import create
from streamd.config import Config
from streamd.ports import Output
from tests.integration.test_team import ask
from tests.servers.fixtures import kafka_broker, valkey_url  # noqa: F401
from tests.servers.process import free_port

SETTINGS = """
group = "{group}"
{log}
[http]
port = {port}
[snapshot]
keep = 20
interval = "20ms"
work = 1
[epoch]
interval = "10ms"
[pipeline.p]
task = "classify"
events = "{group}-events"
learner = {{ kind = "river", model = "river.linear_model.LogisticRegression" }}
"""
KAFKA = """
[log]
kind = "kafka"
brokers = ["{broker}"]
session_timeout = "6s"
[store]
kind = "redis"
url = "{redis}"
"""
EMBEDDED = """
[log]
path = "log.db"
"""


PATIENCE = 180.0  # seconds; a daemon's start takes long on a busy machine


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.05)


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.redis])])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    group = f"operator-{os.getpid()}-{time.time_ns() % 10**9}"
    log = EMBEDDED
    if request.param == "kafka":
        broker, redis = request.getfixturevalue("kafka_broker"), request.getfixturevalue("valkey_url")
        log = KAFKA.format(broker=broker, redis=redis)
    (tmp_path / "streamd.toml").write_text(SETTINGS.format(group=group, log=log, port=free_port()))
    loaded = configuration.load(tmp_path / "streamd.toml")
    client = wiring.client(loaded)
    create(loaded, client, partitions=1)
    client.close()
    return loaded


class Operator:
    """The command line and the daemon, in a folder."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.config = config
        self._folder = folder
        self._file = folder / "streamd.toml"
        self.sent = 0
        self.daemon: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: str) -> tuple[int, str]:
        told = io.StringIO()
        with redirect_stdout(told), redirect_stderr(told), pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code is None or isinstance(ended.value.code, int)
        return ended.value.code or 0, told.getvalue()

    def json(self, *arguments: str) -> Any:
        code, told = self.run(*arguments, "--json")
        assert code == 0, told
        return json.loads(told)

    def start(self) -> None:
        command = [sys.executable, "-m", "streamd.cli", "run"]
        self.daemon = subprocess.Popen(command, cwd=self._folder, stderr=(self._folder / "said").open("ab"))

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.daemon is not None
        self.daemon.send_signal(number)
        return self.daemon.wait(60)

    def send(self, *features: dict[str, object]) -> None:
        client = wiring.client(self.config)
        values = [
            {"id": str(self.sent + i), "features": x, "label": (self.sent + i) % 2 == 0}
            for i, x in enumerate(features)
        ]
        self.sent += len(values)
        now = int(time.time() * 1000)
        topic = self.config.pipeline["p"].events
        client.append(topic, [Output("", b"k", json.dumps(value).encode(), now) for value in values])
        client.close()

    def shard(self) -> dict[str, Any]:
        found = ask(self.config.http.port, "/v1/pipelines/p/partitions/0")
        return found or {}

    def digest(self) -> str:
        """Of the configuration, as the metrics have it."""
        with urlopen(f"http://127.0.0.1:{self.config.http.port}/metrics") as answer:
            found = re.search(r'streamd_config_info{digest="(\w+)"}', answer.read().decode())
        assert found is not None
        return found[1]

    def caught_up(self) -> None:
        topic = self.config.pipeline["p"].events

        def done() -> bool:
            return self._ended() or self.shard().get("positions", {}).get(topic) == self.sent

        until(done, "all is processed")
        assert not self._ended(), (self._folder / "said").read_text()[-2000:]

    def has_snapshot(self) -> None:
        while self.shard().get("snapshot") is None:  # one is made after an epoch, if it is time
            self.send({"x": 1.0})
            self.caught_up()

    def _ended(self) -> bool:
        return self.daemon is not None and self.daemon.poll() is not None

    def counted(self, commands: dict[str, int]) -> None:
        until(lambda: self.shard().get("commands") == commands, f"{commands} were carried out")

    def edit(self, old: str, new: str) -> None:
        text = self._file.read_text()
        assert old in text
        self._file.write_text(text.replace(old, new))

    def said(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (self._folder / "said").read_text().splitlines()]
        return [line for line in lines if line["event"] == event]


@pytest.fixture
def operator(settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    monkeypatch.chdir(tmp_path)
    found = Operator(settings, tmp_path)
    yield found
    if found.daemon is not None and found.daemon.poll() is None:
        found.daemon.kill()
        found.daemon.wait()


def numbers(values: Sequence[float]) -> list[dict[str, object]]:
    return [{"x": value} for value in values]


def test_an_operators_day(operator: Operator) -> None:
    topic = operator.config.pipeline["p"].events
    operator.send(*numbers(range(10)))
    operator.start()
    operator.caught_up()
    operator.has_snapshot()

    # what is there
    first = operator.json("snapshot", "list")[-1]["epoch"]
    assert operator.json("snapshot", "show", "p")["inside"]["learner"]["kind"] == "RiverClassifier"
    (shard,) = operator.json("status")["pipelines"][0]["shards"]
    assert (shard["positions"], shard["memory"] > 0) == ({topic: operator.sent}, True)
    assert [fact["what"] for fact in operator.json("trace", "3")] == ["events", "predictions"]

    # the live model is asked
    for verb in ("predict", "explain"):
        assert operator.json(verb, "p", '{"features": {"x": 1.0}}')["model"].startswith("river/")

    # a reload: what can change does, the rest is named; a broken file changes nothing; SIGHUP is the same
    operator.edit("[pipeline.p]\n", "[pipeline.p]\ntop = 1\n")
    assert "a reload would change: pipeline.p.top" in operator.run("check", "--against-live")[1]
    former = operator.digest()
    assert operator.run("reload") == (0, f"{operator.config.worker.name}: changed: pipeline.p.top\n")
    assert former != operator.digest() == operator.json("check")["digest"]
    operator.counted({"reload": 1})
    operator.edit("LogisticRegression", "Perceptron")
    code, told = operator.run("check", "--against-live")
    assert (code, "would pause pipeline p, partitions 0: " in told) == (0, True), told
    assert "pipeline p would pause on partitions 0: its state was learned" in operator.run("check")[1]
    operator.edit("Perceptron", "LogisticRegression")
    operator.edit('keep = 20\ninterval = "20ms"', 'keep = 20\nnonsense = 1\ninterval = "20ms"')
    code, told = operator.run("reload")
    assert (code, "snapshot.nonsense: no such key" in told) == (78, True)
    assert operator.daemon is not None
    operator.daemon.send_signal(signal.SIGHUP)
    until(lambda: len(operator.said("reload refused")) == 1, "the broken file is refused")
    operator.edit("nonsense = 1\n", "")
    operator.edit("[epoch]", '[limits]\nrecord = "64KB"\n[epoch]')
    operator.daemon.send_signal(signal.SIGHUP)
    operator.counted({"reload": 2})

    # back to a snapshot, and to an exported one
    assert operator.run("snapshot", "export", "p", "p.snapshot")[0] == 0
    (done,) = operator.json("snapshot", "rollback", "p", "-p", "0", "--epoch", str(first))["outcomes"]
    assert done["done"]
    assert operator.json("snapshot", "import", "p", "p.snapshot")["outcomes"][0]["done"]
    operator.counted({"reload": 2, "rollback": 1, "import": 1})
    code, told = operator.run("snapshot", "import", "p", "p.snapshot", "-p", "7")
    assert (code, "no worker answered for partitions 7" in told) == (1, True)

    # a record that ends the process, again and again, until it is skipped
    bad = str(operator.sent + 1)
    operator.send({"x": 1.0}, {"x": 2.0, "word": "poison"}, {"x": 3.0})
    until(lambda: operator.daemon is not None and operator.daemon.poll() == 70, "the record ends the process")
    assert f"`streamd skip {topic} 0 {bad}`" in operator.said("stopped")[-1]["reason"]
    assert operator.json("skip", topic, "0", bad)["at_rest"]
    operator.start()
    operator.caught_up()
    operator.counted({"reload": 2, "rollback": 1, "import": 1, "skip": 1})

    # its dead letter, once more through the input: refused at the door now, for it is a type that does not fit
    (kind,) = operator.json("dead-letters", "list")
    assert (kind["reason"], kind["open"]) == ("skipped by the operator", 1)
    assert operator.json("dead-letters", "drop", "--reason", "skipped")["letters"] == 1
    operator.send({"x": "one"})
    operator.caught_up()
    assert operator.json("dead-letters", "retry", "--topic", topic)["letters"] == 1
    operator.sent += 1
    operator.caught_up()
    assert operator.json("dead-letters", "retry", "--at", "0/1")["letters"] == 0
    assert [one["tries"] for one in operator.json("dead-letters", "show")] == [1]
    assert operator.end() == 0

    # another cluster, or here another group: a new shard from the exported state, at positions that mean something
    operator.edit(f'group = "{operator.config.group}"', f'group = "{operator.config.group}-2"')
    imported = ("snapshot", "import", "p", "p.snapshot", "--at-offsets", f"{topic}={operator.sent}")
    assert operator.json(*imported)["outcomes"][0]["done"]
    (verified,) = operator.json("replay", "--verify")
    assert [(one["problem"], one["through"]) for one in verified["partitions"]] == [("", 1)]


SHADOW = """
[pipeline.p.shadow.slow]
kind = "river"
model = { path = "river.linear_model.LogisticRegression", params = { l2 = 0.5 } }
"""


def test_a_shadow_is_promoted_and_the_stream_replayed_and_verified(operator: Operator) -> None:
    topic = operator.config.pipeline["p"].events
    Path("plain.toml").write_text(Path("streamd.toml").read_text())
    Path("streamd.toml").write_text(Path("streamd.toml").read_text() + SHADOW)
    operator.send(*numbers(range(20)))
    operator.start()
    operator.caught_up()
    operator.has_snapshot()
    first = operator.json("snapshot", "list")[-1]["epoch"]
    assert operator.run("check", "--against-live")[1].endswith(": nothing differs\n")

    # the shadow becomes the live model; the file is said to lag behind, until the two are exchanged in it
    old = operator.shard()["shadows"]
    (done,) = operator.json("promote", "p", "slow")["outcomes"]
    assert done["done"]
    operator.counted({"promote": 1})
    operator.send(*numbers(range(20)))
    operator.caught_up()
    new = operator.shard()["shadows"]
    assert (new["live"], new["shadows"][0]["model"]) == (old["shadows"][0]["model"], old["live"])
    assert (
        "exchange [pipeline.p.learner] and [pipeline.p.shadow.slow]" in operator.run("check", "--against-live")[1]
    )
    made = operator.json("trace", str(operator.sent - 1))[-1]
    assert (made["what"], new["live"] in json.dumps(made)) == ("predictions", True)

    # what the topic holds through two configurations, while the daemon runs; then all of the journal once more
    report = operator.json("replay", topic, "--from", "5", "-c", "streamd.toml", "-c", "plain.toml")
    assert [run["events"] for run in report["runs"]] == [operator.sent - 5] * 2
    assert report["differences"][0]["mean"] == 0  # a shadow changes nothing
    (verified,) = operator.json("replay", "--verify")
    (one,) = verified["partitions"]
    assert (one["problem"], one["outputs"]) == ("", operator.sent)
    assert operator.end() == 0
    between = operator.run("snapshot", "diff", "p", str(first))
    assert (between[0], "slow" in between[1]) == (0, True), between
