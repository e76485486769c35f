"""A real Prometheus server, and promtool: both from Debian's package `prometheus`."""

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.servers import Unavailable
from tests.servers.process import free_port, kill, spawn, wait_until

START = 60.0  # seconds; 1 on an idle machine


class Server(NamedTuple):
    url: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def ask(self, path: str, **parameters: str) -> Any:
        """`data` of an answer of the HTTP API, such as `query` or `rules`."""
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}") as answer:
            return json.load(answer)["data"]

    def value(self, query: str) -> float | None:
        """The value of the first series that the query finds."""
        found = self.ask("query", query=query)["result"]
        return float(found[0]["value"][1]) if found else None

    def firing(self) -> dict[str, Any]:
        """The alerts that fire, by name."""
        alerts = self.ask("alerts")["alerts"]
        return {alert["labels"]["alertname"]: alert for alert in alerts if alert["state"] == "firing"}

    def wait(self, ready: Callable[[], bool], timeout: float = START) -> None:
        wait_until(ready, self.process, self.log, timeout)

    def stop(self) -> None:
        kill(self.process)


def binary(name: str) -> str:
    """The path of `prometheus` or `promtool`. Raises Unavailable."""
    found = shutil.which(name)
    if found is None:
        raise Unavailable(f"no {name} on the PATH (Debian's package prometheus has it)")
    return found


def configuration(source: Path, target: str, token: Path, interval: str) -> str:
    """The text of a scrape configuration with another target (host:port), token file and interval."""
    text = source.read_text()
    for pattern, value in (
        (r"(?<=credentials_file: ).*", str(token)),
        (r"(?<=targets: ).*", f'["{target}"]'),
        (r"(?<=_interval: ).*", interval),
    ):
        text, found = re.subn(pattern, value, text)
        assert found, f"{source} has no {pattern}"
    return text


def start(directory: Path, configuration: Path) -> Server:
    """Start a server with this configuration, its files in `directory`. Raises Unavailable."""
    directory.mkdir(parents=True, exist_ok=True)
    port, log = free_port(), directory / "prometheus.log"
    options = [
        f"--config.file={configuration}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    server = Server(f"http://127.0.0.1:{port}", spawn([binary("prometheus"), *options], log), log)
    server.wait(lambda: _ready(server.url))
    return server


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready") as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
