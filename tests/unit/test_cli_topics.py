"""`streamd topics`: what is missing is made, as wide as what is there."""

import json
from pathlib import Path

import pytest

from streamd import config as configuration
from streamd import wiring
from streamd.cli.topics import create, look
from streamd.config import Config
from streamd.errors import ConfigError

SETTINGS = """
[pipeline.p]
task = "classify"
events = "events"
labels = "labels"
backfill_outputs = "of-history"
learner = { kind = "linear" }
"""


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    return configuration.resolve(configuration.parse(SETTINGS), tmp_path)


def test_missing_topics_are_made_as_wide_as_the_inputs_that_are_there(settings: Config) -> None:
    client = wiring.client(settings)
    client.create("events", 3)
    made = create(settings, client, partitions=8)
    assert [(s.topic, s.partitions, s.made) for s in made] == [
        ("events", 3, False),
        ("labels", 3, True),
        ("events-predictions", 3, True),
        ("events-dead-letters", 3, True),
        ("of-history", 3, True),
    ]
    assert not any(s.made for s in create(settings, client, partitions=8))
    assert [s.partitions for s in look(settings, client)] == [3, 3, 3, 3, 3]


def test_inputs_of_different_widths_are_refused(settings: Config) -> None:
    client = wiring.client(settings)
    client.create("events", 3)
    client.create("labels", 2)
    with pytest.raises(ConfigError, match="differ in partitions"):
        create(settings, client, partitions=1)


def test_the_verbs_print_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from streamd.cli import main

    file = tmp_path / "streamd.toml"
    file.write_text(SETTINGS)
    for verb, missing in (("list", [True] * 5), ("create", [False] * 5)):
        with pytest.raises(SystemExit) as ended:
            main(["topics", verb, "--config", str(file), "--json"])
        assert ended.value.code == 0
        found = json.loads(capsys.readouterr().out)
        assert [status["partitions"] == 0 for status in found] == missing
