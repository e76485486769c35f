"""A text pipeline through an engine, embedded and on Kafka: late labels, a restart, reasons, alerts."""

import csv
import gzip
import json
import os
import time
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from test_groupwise import EMBEDDED, run, settings
from typer.testing import CliRunner

from streamd import wiring
from streamd.cli.ss3 import ss3
from streamd.cli.topics import create
from streamd.config import Config
from streamd.learners.ss3 import model_file
from streamd.learners.ss3.model import SS3Classifier
from streamd.ports import Output
from streamd.views import EngineView
from tests.servers.fixtures import kafka_broker  # noqa: F401

PIPELINE = """
[pipeline.p]
task = "text"
events = "{topic}"
labels = "{topic}-labels"
learner = {{ kind = "ss3" }}
early = {{ watch = ["lost_or_stolen_card"], policy = "above", min_posts = 3 }}
"""
INTENTS = ("lost_or_stolen_card", "exchange_rate", "change_pin")
LATE = 5  # events between one and its label
N = 180


def messages() -> list[tuple[str, str]]:
    """The intents in turn, so that every subject, one in three, has its own."""
    packed = resources.files("streamd").joinpath("samples/banking77.csv.gz").read_bytes()
    rows = list(csv.DictReader(gzip.decompress(packed).decode().splitlines()))
    by = [[row["text"] for row in rows if row["category"] == intent] for intent in INTENTS]
    return [(by[i % 3][i // 3], INTENTS[i % 3]) for i in range(N)]


def send(config: Config, first: int, last: int) -> None:
    pipeline, said = config.pipeline["p"], messages()
    client = wiring.client(config)
    create(config, client, partitions=1)
    for i in range(first, last):
        event = {"id": f"e{i}", "text": said[i][0], "subject": f"user {i % 3}"}
        client.append(pipeline.events, [Output("", b"k", json.dumps(event).encode(), 1000 + i)])
        if i >= LATE:
            label = {"id": f"e{i - LATE}", "label": said[i - LATE][1]}
            client.append(str(pipeline.labels), [Output("", b"k", json.dumps(label).encode(), 1000 + i)])
    client.close()


def read(config: Config, topic: str) -> list[dict[str, Any]]:
    client = wiring.client(config)
    found = [json.loads(record.value or b"") for record in client.read(topic, 0, 0, 10**6)]
    client.close()
    return found


def check(config: Config) -> None:
    """Half of the stream, a restart, the other half."""
    send(config, 0, N // 2)
    run(config)
    send(config, N // 2, N)
    view: EngineView = run(config)

    (shard,) = view.shards
    assert shard.counts["dead_letters"] == shard.counts["refused_labels"] == 0
    assert shard.counts["learned"] == N - LATE
    assert shard.quality.fading["accuracy"] > 0.6 > shard.quality.fading["majority"]
    predictions = read(config, config.pipeline["p"].predictions_topic)
    assert [one["id"] for one in predictions] == [f"e{i}" for i in range(N)]
    for one in predictions[N // 2 :]:
        assert one["why"] or not max(one["p"].values()) > min(one["p"].values())
    alerts = read(config, config.pipeline["p"].outputs["alerts"])
    standing = {alert["subject"]: alert.get("stands", True) for alert in alerts}
    assert {subject for subject, stands in standing.items() if stands} == {"user 0"}
    for subject in standing:
        turns = [alert.get("stands", True) for alert in alerts if alert["subject"] == subject]
        assert turns == [i % 2 == 0 for i in range(len(turns))]


def test_a_text_pipeline_embedded(tmp_path: Path) -> None:
    check(settings(tmp_path, EMBEDDED, PIPELINE, "messages"))


def test_a_text_pipeline_on_kafka(tmp_path: Path, kafka_broker: str) -> None:  # noqa: F811
    topic = f"messages-{os.getpid()}-{time.time_ns()}"
    check(settings(tmp_path, f'kind = "kafka"\nbrokers = ["{kafka_broker}"]', PIPELINE, topic))


def test_a_model_of_pyss3_becomes_what_a_pipeline_has_learned_and_comes_back(tmp_path: Path) -> None:
    config = settings(tmp_path, EMBEDDED, PIPELINE, "messages")
    file, there, back = tmp_path / "streamd.toml", tmp_path / "there.ss3m", tmp_path / "back.ss3m"
    text = f'group = "messages"\n[log]\n{EMBEDDED}\n[store]\npath = "store.db"\n[http]\nenabled = false\n'
    file.write_text(text + PIPELINE.format(topic="messages"))
    learner = SS3Classifier(compatibility="pyss3")
    learner.learn_many([text for text, _ in messages()], [label for _, label in messages()])
    there.write_bytes(model_file.write(learner))
    send(config, 0, 3)
    before = run(config).shards[0]

    verb("import", "p", there, "--config", file)
    send(config, 3, 4)
    after = run(config).shards[0]
    verb("export", "p", back, "--config", file)

    assert (before.counts["events"], after.counts["events"], after.classes) == (3, 4, 3)
    assert read(config, config.pipeline["p"].predictions_topic)[-1]["label"] == INTENTS[0]
    assert model_file.read(back.read_bytes()).numbers() == model_file.read(there.read_bytes()).numbers()
    assert model_file.read(back.read_bytes()).classify("stolen") == pytest.approx(learner.classify("stolen"))
    assert any(row.startswith("lost_or_stolen_card,stolen,1,") for row in verb("vocabulary", there).splitlines())


def verb(*arguments: object) -> str:
    done = CliRunner().invoke(ss3, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout
