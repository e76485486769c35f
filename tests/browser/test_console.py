"""The page at `/` in a real browser: a message is typed, and the page says what it is and why."""

import csv
import gzip
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from streamd import config as configuration
from streamd import wiring
from streamd.ports import Output
from tests.servers import Unavailable
from tests.servers.chromium import Browser
from tests.servers.fixtures import missing
from tests.servers.process import free_port, kill, spawn, wait_until

SETTINGS = """
[http]
port = {port}
[pipeline.messages]
task = "text"
events = "messages"
learner = {{ kind = "ss3" }}
[pipeline.numbers]
task = "classify"
events = "numbers"
learner = {{ kind = "linear" }}
"""
INTENTS = ("lost_or_stolen_card", "exchange_rate", "card_arrival", "refund_not_showing_up", "change_pin")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    try:
        started = Browser(tmp_path_factory.mktemp("browser"))
    except Unavailable as reason:
        missing(reason)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a daemon that has learned some hundred messages."""
    folder, port = tmp_path_factory.mktemp("daemon"), free_port()
    file, log, url = folder / "streamd.toml", folder / "log", f"http://127.0.0.1:{port}"
    file.write_text(SETTINGS.format(port=port))
    client = wiring.client(configuration.load(file))
    for topic in ("messages", "numbers"):
        client.create(topic, 1)
    client.append("messages", [Output("", None, json.dumps(event).encode(), 1) for event in messages()])
    client.close()
    daemon = spawn([sys.executable, "-m", "streamd.cli", "run", "-c", str(file)], log, dict(os.environ))

    def learned() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/v1/pipelines/messages", timeout=5) as answer:
                view = json.load(answer)
        except OSError:
            return False
        return view["ready"] and sum(shard["counts"].get("learned", 0) for shard in view["shards"]) > 0

    wait_until(learned, daemon, log, 180.0)
    yield url
    kill(daemon)


def messages() -> list[dict[str, str]]:
    packed = resources.files("streamd").joinpath("samples/banking77.csv.gz").read_bytes()
    rows = csv.DictReader(gzip.decompress(packed).decode().splitlines())
    found = [row for row in rows if row["category"] in INTENTS]
    return [{"id": str(i), "text": row["text"], "label": row["category"]} for i, row in enumerate(found)]


WHY = "const label = document.querySelector('#why .label'); return label && label.textContent;"


def test_a_message_is_explained_as_it_is_typed(browser: Browser, page: str) -> None:
    browser.open(page)
    choices = browser.run("return [...document.querySelectorAll('#box option')].map((o) => o.textContent)")
    assert choices == ["messages"]

    browser.type("#box textarea", "Hello. I think <b>someone</b> has stolen my card. What is the exchange rate?")
    browser.wait("return document.querySelectorAll('#why mark').length > 2")

    assert browser.run(WHY) in INTENTS
    marks = browser.run(
        "return [...document.querySelectorAll('#why mark')]"
        ".map((m) => [m.textContent, m.title, m.style.background])"
    )
    told = {word.lower(): (title, colour) for word, title, colour in marks}
    assert "lost_or_stolen_card" in told["stolen"][0]
    assert "exchange_rate" in told["exchange"][0]
    assert told["stolen"][1] != told["exchange"][1]
    assert "<b>someone</b>" in browser.run("return document.querySelector('#why .message').textContent")
    assert browser.run("return document.querySelectorAll('#why .message b').length") == 0
    assert browser.run("return document.querySelectorAll('#why .sum').length") >= 2
    sums = browser.run("return [...document.querySelectorAll('#why .bars b')].map((b) => Number(b.textContent))")
    assert sums == sorted(sums, reverse=True)
    assert browser.complaints() == []
    assert browser.picture().startswith(b"\x89PNG")


def test_a_message_of_unknown_words_says_so(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.type("#box textarea", "qwxyz")
    browser.wait(WHY)
    assert "No word of this message says anything yet" in browser.run(
        "return document.getElementById('why').textContent"
    )
    assert browser.complaints() == []


def test_what_was_typed_stays_while_the_state_is_renewed(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.type("#box textarea", "stolen")
    browser.run("document.querySelector('#state').replaceChildren(); renew();")
    browser.wait("return document.querySelectorAll('#state h2').length === 2")
    assert browser.run("return document.getElementById('box').elements.text.value") == "stolen"


def test_the_command_line_asks_the_same_daemon(page: str, tmp_path: Path) -> None:
    (tmp_path / "streamd.toml").write_text(SETTINGS.format(port=page.rpartition(":")[2]))

    def streamd(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "streamd.cli", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    told = json.loads(streamd("predict", "messages", "stolen card", "--json").stdout)
    assert told["label"] == "lost_or_stolen_card"
    shown = streamd("explain", "messages", "My card was stolen. Help!", "--html", "why.html")
    assert "lost_or_stolen_card" in shown.stdout
    assert "stolen" in (tmp_path / "why.html").read_text()
    refused = streamd("predict", "messages", '{"features": {}}')
    assert (refused.returncode, "text" in refused.stderr) == (1, True)
    assert "no pipeline other" in streamd("predict", "other", "x").stderr
    assert "vocabulary: " in streamd("status").stdout
    nobody = streamd("predict", "messages", "x", "--url", f"127.0.0.1:{free_port()}")
    assert nobody.returncode == 75
