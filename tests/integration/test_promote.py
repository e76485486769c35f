"""Shadows on a real engine: promoted between two epochs, remembered through crashes, on every log and store."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from streamd import config as configuration
from streamd import wiring
from streamd.cli.replay import compare
from streamd.cli.replay_source import of_topics
from streamd.cli.replay_verify import verify
from streamd.config import Config
from streamd.errors import StateError
from streamd.operating.mailbox import Command
from streamd.ports import Output
from tests.integration.engines import run_engine
from tests.integration.test_commands import running, send
from tests.integration.test_engine import FaultyLog
from tests.servers.fixtures import kafka_broker, valkey_url  # noqa: F401

EMBEDDED = '[log]\npath = "log.db"\nsynchronous = "normal"\n'
PIPELINE = """
group = "g{events}"
[epoch]
interval = "20ms"
[snapshot]
interval = "50ms"
[pipeline.p]
task = "classify"
events = "{events}"
labels = "{events}-labels"
{more}
learner = {{ kind = "linear", {live} }}
[pipeline.p.shadow.other]
kind = "linear"
{shadow}
"""
ADAGRAD, SGD, OTHER = 'optimizer = "adagrad"', 'optimizer = "sgd"', "standardise = false"
PROMOTE = Command("promote", b"other")


def settings(
    folder: Path,
    ports: str = EMBEDDED,
    events: str = "events",
    live: str = ADAGRAD,
    shadow: str = SGD,
    more: str = "",
) -> Config:
    text = PIPELINE.format(events=events, live=live, shadow=shadow, more=more) + ports
    return configuration.resolve(configuration.parse(text), folder)


def fill(config: Config, first: int, last: int) -> None:
    """Events, each with its label three events later."""
    events = config.pipeline["p"].events
    client = wiring.client(config)
    for topic in (*config.pipeline["p"].inputs, *config.pipeline["p"].outputs.values()):
        client.create(topic, 1)
    for i in range(first, last):
        x = {"x": (i * 37 % 100) / 10, "c": "abc"[i % 3]}
        client.append(
            events, [Output("", b"%d" % i, json.dumps({"id": f"{i}", "features": x}).encode(), 1000 + i)]
        )
        if i >= 3:
            y = {"id": f"{i - 3}", "label": "hi" if (i - 3) * 37 % 100 > 50 else "lo"}
            client.append(f"{events}-labels", [Output("", b"%d" % i, json.dumps(y).encode(), 1000 + i)])
    client.close()


def predictions(config: Config) -> list[tuple[str, str]]:
    """(id, model) in the order of the topic."""
    client = wiring.client(config)
    topic = config.pipeline["p"].answers
    told = [json.loads(record.value or b"") for record in client.read(topic, 0, 0, 10**6)]
    client.close()
    return [(one["id"], one["model"]) for one in told]


def models(config: Config) -> list[str]:
    return list(dict.fromkeys(model for _, model in predictions(config)))


def live(config: Config) -> Sequence[str]:
    view = run_engine(config)
    shown = view.shards[0].shadows
    assert shown is not None
    return (shown.live, *(one.model for one in shown.shadows))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_around_a_promotions_commit_leaves_it_done_or_not_done(
    tmp_path: Path, moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = settings(tmp_path)
    fill(config, 0, 60)
    old, new = live(config)

    def crash(commit: int) -> None:
        raise StateError("a crash")

    log = FaultyLog(wiring.log(config, "p"))
    setattr(log, f"{moment}_commit", crash)
    with running(config, log=log) as engine:  # type: ignore[arg-type]
        future = engine.command(PROMOTE)
        assert future.exception(30) is not None
    # then the next worker knows, from the journal; and so does the one with the two exchanged in its file
    done = moment == "after"
    assert live(config) == ((new, old) if done else (old, new))
    assert ("a promoted model is live" in caplog.messages) == done
    swapped = settings(tmp_path, live=SGD, shadow=ADAGRAD)
    assert live(swapped) == ((new, old) if done else (old, new))
    fill(swapped, 60, 90)
    run_engine(swapped)
    assert models(swapped) == ([old, new] if done else [old])
    assert [id for id, _ in predictions(swapped)] == [str(i) for i in range(90)]


def test_a_snapshot_of_the_promoted_model_is_used_by_a_file_that_knows_only_it(tmp_path: Path) -> None:
    config = settings(tmp_path)
    fill(config, 0, 60)
    old, new = live(config)
    with running(config) as engine:
        assert send(engine, PROMOTE)[0].done
    text = PIPELINE.partition("[pipeline.p.shadow")[0].format(events="events", live=SGD, more="") + EMBEDDED
    alone = configuration.resolve(configuration.parse(text), tmp_path)
    fill(alone, 60, 80)
    run_engine(alone)
    assert models(alone) == [old, new]
    # and one that knows neither pauses the shard with the keys that differ
    other = configuration.resolve(configuration.parse(text.replace(SGD, OTHER)), tmp_path)
    view = run_engine(other, until=lambda sight: any("standardise" in reason for reason in sight.view.reasons))
    assert "learned under another configuration" in view.shards[0].reason


def test_a_promotion_of_a_shadow_that_has_seen_nothing_is_refused_and_the_stream_goes_on(tmp_path: Path) -> None:
    config = settings(tmp_path)
    fill(config, 0, 3)
    with running(config) as engine:
        (outcome,) = send(engine, PROMOTE)
    assert not outcome.done
    assert "has seen nothing it could be judged by" in outcome.reason
    fill(config, 3, 20)
    assert live(config)[0] == models(config)[0]


def whole_life(folder: Path, ports: str, events: str) -> None:
    """Backfill, serving, a promotion, a replay and a verification, with restarts in between."""
    config = settings(folder, ports, events, more='backfill = "earliest"')
    fill(config, 0, 40)
    run_engine(config)
    fill(config, 40, 80)
    old, new = live(config)
    with running(config) as engine:
        assert send(engine, PROMOTE)[0].done
    fill(config, 80, 120)
    assert live(config) == (new, old)
    told = predictions(config)
    assert [id for id, _ in told] == [str(i) for i in range(40, 120)]
    assert [model for _, model in told] == [old] * 40 + [new] * 40
    records = of_topics(config, config.pipeline["p"].inputs, events, "start")
    report = compare(
        events, [("a", config, "p"), ("b", settings(folder, ports, events, live=OTHER), "p")], records
    )
    assert [run.events for run in report.runs] == [120, 120]
    assert report.differences[0] is not None
    (found,) = verify(config, "p", lambda done: None)
    assert [(one.problem, one.after) for one in found.partitions] == [("", 0)]
    assert found.partitions[0].outputs == 80


def test_a_whole_life_on_the_embedded_log(tmp_path: Path) -> None:
    whole_life(tmp_path, EMBEDDED, "events")


@pytest.mark.kafka
@pytest.mark.redis
@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_a_whole_life_on_kafka_and_redis(
    tmp_path: Path,
    kafka_broker: str,  # noqa: F811
    valkey_url: str,  # noqa: F811
    client: str,
) -> None:
    events = f"life-{client[0]}-{os.getpid()}-{time.time_ns() % 10**9}"
    log = f'[log]\nkind = "kafka"\nclient = "{client}"\nbrokers = ["{kafka_broker}"]\n'
    store = f'[store]\nkind = "redis"\nurl = "{valkey_url}"\nprefix = "{events}"\n'
    whole_life(tmp_path, log + store, events)
