"""The alert rules: by promtool's unit tests, and by a real Prometheus that scrapes a real daemon."""

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamd import config, wiring
from streamd.metrics import TABLE
from streamd.ports import Output
from tests.servers import Unavailable, prometheus
from tests.servers.fixtures import missing
from tests.servers.process import free_port, kill, spawn, wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
TESTS = DEPLOY / "prometheus" / "alerts_test.yml"
SCRAPE = DEPLOY / "prometheus" / "prometheus.yml"
START = 400.0  # seconds until the daemon is ready: 3, but minutes where its kernels are compiled on a busy machine

CONFIG = """
group = "alerts"
[worker]
name = "w"
stall = "10m"
[log]
kind = "sqlite"
[http]
port = {port}
token_file = "token"
[pipeline.a]
task = "classify"
events = "events"
labels = "labels"
learner = {{kind = "linear"}}
"""


def installed(name: str) -> str:
    try:
        return prometheus.binary(name)
    except Unavailable as reason:
        missing(reason)


def promtool(*arguments: str, cwd: Path = RULES.parent) -> subprocess.CompletedProcess[str]:
    command = [installed("promtool"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_rules_are_well_formed() -> None:
    done = promtool("check", "rules", "--lint-fatal", RULES.name)
    assert done.returncode == 0, done.stderr


def test_the_scrape_configuration_is_good(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    (tmp_path / "alerts.yml").write_text(RULES.read_text())
    text = prometheus.configuration(SCRAPE, "127.0.0.1:1", tmp_path / "token", "1s")
    (tmp_path / "prometheus.yml").write_text(text)
    done = promtool("check", "config", "prometheus.yml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_fires_and_does_not_as_its_test_says() -> None:
    done = promtool("test", "rules", TESTS.name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_has_a_test_a_severity_and_what_to_do() -> None:
    names = re.findall(r"- alert: (\w+)", RULES.read_text())
    tested = set(re.findall(r'alertname="(\w+)", alertstate="firing"', TESTS.read_text()))
    assert tested == set(names)
    for rule in RULES.read_text().split("- alert: ")[1:]:
        assert re.search(r"severity: (critical|warning)\b", rule), rule
        assert "summary:" in rule, rule
        assert "description:" in rule, rule


@pytest.mark.parametrize("file", [RULES, TESTS, DEPLOY / "grafana" / "streamd.json"], ids=lambda path: path.name)
def test_only_metrics_that_exist_are_asked_for(file: Path) -> None:
    parts = ("", "_bucket", "_sum", "_count")
    suffixes = {"counter": ("_total",), "info": ("_info",), "summary": parts, "histogram": parts}
    exported = {name + suffix for name, row in TABLE.items() for suffix in suffixes.get(row.kind, ("",))}
    asked = set(re.findall(r"\bstreamd_[a-z_]+", file.read_text()))
    assert asked <= exported
    assert asked


# --- a real daemon, a real Prometheus


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[str]:
    """host:port of a running, ready daemon whose log is in `tmp_path`; the token is in the file `token`."""
    installed("prometheus")  # before anything is started for it
    port = free_port()
    (tmp_path / "token").write_text("secret")
    (tmp_path / "streamd.toml").write_text(CONFIG.format(port=port))
    command = [sys.executable, "-m", "streamd.cli", "run", "--config", str(tmp_path / "streamd.toml")]
    log = tmp_path / "daemon.log"
    process = spawn(command, log)
    try:
        wait_until(lambda: ready(port), process, log, START)
        yield f"127.0.0.1:{port}"
    finally:
        kill(process)


def ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


@pytest.fixture
def server(daemon: str, tmp_path: Path) -> Iterator[prometheus.Server]:
    """A Prometheus with the deployed rules and scrape configuration, but often."""
    (tmp_path / "alerts.yml").write_text(RULES.read_text())
    scrape = tmp_path / "prometheus.yml"
    scrape.write_text(prometheus.configuration(SCRAPE, daemon, tmp_path / "token", "500ms"))
    found = prometheus.start(tmp_path / "prometheus", scrape)
    try:
        yield found
    finally:
        found.stop()


def append(folder: Path, *values: bytes) -> None:
    client = wiring.client(config.load(folder / "streamd.toml"))
    try:
        now = int(time.time() * 1000)
        client.append("events", [Output("events", None, value, now, partition=0) for value in values])
    finally:
        client.close()


def test_an_alert_fires_when_records_are_refused(server: prometheus.Server, tmp_path: Path) -> None:
    good = [json.dumps({"id": str(i), "features": {"x": i}, "label": "y"}).encode() for i in range(100)]
    refused = "sum(streamd_dead_letters_total)"
    # given a daemon that is scraped and applies its events
    append(tmp_path, *good)
    server.wait(lambda: server.value('streamd_events_total{outcome="applied"}') == 100)
    assert server.value("streamd_ready") == 1
    assert server.value(refused) == 0
    # and all rules evaluated, none firing
    server.wait(lambda: {rule["health"] for rule in rules(server)} == {"ok"})
    assert server.firing() == {}
    # when records come that cannot be used
    append(tmp_path, *[b"not JSON"] * 50)
    server.wait(lambda: server.value(refused) == 50)
    # then exactly the alert for that fires, and says what to do
    server.wait(lambda: bool(server.firing()))
    (alert,) = server.firing().values()
    assert alert["labels"] == {"alertname": "StreamdDeadLetters", "pipeline": "a", "severity": "warning"}
    assert "dead letters" in alert["annotations"]["summary"]
    assert "streamd tail" in alert["annotations"]["description"]


def rules(server: prometheus.Server) -> list[dict[str, str]]:
    return [rule for group in server.ask("rules")["groups"] for rule in group["rules"]]
