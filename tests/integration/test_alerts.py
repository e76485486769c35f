"""Alerts about subjects through crashes: each is in the log once, as if nothing had died."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from test_engine import FaultyLog

from streamd import config as configuration
from streamd import wiring
from streamd.config import Config
from streamd.ports import Output
from streamd.sight import Sight

SETTINGS = """
[log]
path = "log.db"
synchronous = "normal"
[epoch]
interval = "5ms"
max_records = 7
[snapshot]
interval = "10ms"
work = 1
[pipeline.p]
task = "text"
events = "events"
labels = "labels"
learner = { kind = "ss3" }
early = { watch = ["risk"], policy = "slope", window = 2, min_posts = 2, max_age = "1h" }
"""
RISK, FINE = "my card was stolen", "what is the exchange rate"


class Killed(Exception):
    pass


def settings(folder: Path) -> Config:
    folder.mkdir()
    return configuration.resolve(configuration.parse(SETTINGS), folder)


def fill(config: Config) -> None:
    """Thirty subjects; every third writes of a risk, and half of those turn out not to have meant it."""
    client = wiring.client(config)
    for topic in ("events", "labels"):
        client.create(topic, 1)

    def send(topic: str, key: str, **record: Any) -> None:
        client.append(topic, [Output("", key.encode(), json.dumps(record).encode(), 1000)])

    for i in range(6):
        label = {"text": RISK, "label": "risk"} if i % 2 else {"text": FINE, "label": "fine"}
        send("events", "teacher", id=f"taught {i}", **label)
    for i in range(90):
        subject = f"s{i % 30}"
        text = RISK if i % 3 == 0 else FINE
        send("events", subject, id=f"e{i}", text=text, subject=subject)
        if i % 6 == 0 and i >= 60:
            for k in (i - 60, i - 30, i):
                send("labels", subject, id=f"e{k}", label="fine")
    client.close()


def alerts(config: Config) -> list[dict[str, Any]]:
    client = wiring.client(config)
    found = [json.loads(record.value or b"") for record in client.read("events-alerts", 0, 0, 10**6)]
    client.close()
    return found


def run(config: Config, commit: Callable[[FaultyLog], None]) -> bool:
    """Run until nothing waits, or until killed. Says whether it was killed."""
    sight = Sight("p", "text", "", "events", "events-predictions")
    log = FaultyLog(wiring.log(config, "p"))
    engine = wiring.engine(config, "p", sight, log)  # type: ignore[arg-type]
    log.on_poll = lambda n: engine.stop() if sight.idle else None  # type: ignore[func-returns-value]
    commit(log)
    try:
        engine.run()
    except Killed:
        return True
    return False


def kill(log: FaultyLog, at: int, after: bool) -> None:
    def die(n: int) -> None:
        if n == at:
            raise Killed

    if after:
        log.after_commit = die
    else:
        log.before_commit = die


def test_alerts_are_given_once_whenever_the_daemon_dies(tmp_path: Path) -> None:
    calm, harried = settings(tmp_path / "calm"), settings(tmp_path / "harried")
    for config in (calm, harried):
        fill(config)
    assert not run(calm, lambda log: None)
    deaths = 0
    while run(harried, partial(kill, at=1 + deaths % 3, after=deaths % 2 == 0)):
        deaths += 1

    told = alerts(harried)
    assert deaths > 5
    assert told == alerts(calm)
    stands = [alert.get("stands", True) for alert in told]
    assert (stands.count(True), stands.count(False)) == (10, 5)
    assert len({alert["id"] for alert in told}) == 10


def test_early_is_for_texts_and_classes_and_its_topic_is_its_own() -> None:
    for old, new, key in (
        ('task = "text"', 'task = "regress"', r"pipeline\.p\.early"),
        ('labels = "labels"', 'alerts = "events"', r"pipeline\.p"),
        ("window = 2", "window = 0", r"pipeline\.p\.early\.window"),
        ('watch = ["risk"]', "watch = []", r"pipeline\.p\.early\.watch"),
    ):
        with pytest.raises(configuration.ConfigError, match=key):
            configuration.parse(SETTINGS.replace(old, new))
