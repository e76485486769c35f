"""`streamd trace` on the embedded log: from an output back to its input, and what followed."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from command_line import Terminal

from streamd import wiring
from streamd.config import load
from streamd.operating.tracing import Between, Tracer, root
from streamd.ports import Output


@pytest.fixture
def terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """An event and its label, an hour later and after a drain; another one, of a similar id; a dead letter."""
    monkeypatch.chdir(tmp_path)
    found = Terminal(tmp_path, capsys)
    found.append("labels", [])
    for id, at in (("e11", 1000), ("e1", 2000)):
        value = {"id": id, "features": {"x": 1.0, "name": "Ada"}}
        found.append("events", [Output("", b"k", json.dumps(value).encode(), at)])
    assert found("run", "--until-idle").code == 0
    text = (tmp_path / "streamd.toml").read_text()
    (tmp_path / "streamd.toml").write_text(text.replace('kind = "linear"', 'kind = "linear", eta = 0.5'))
    later = {"id": "e1", "label": "yes", "annotator": "Bob"}, {"id": "e1", "label": {"no": "label"}}
    for value in later:
        found.append("labels", [Output("", b"k", json.dumps(value).encode(), 3_600_000)])
    assert found("run", "--until-idle").code == 0
    return found


def test_a_prediction_leads_to_its_input_and_to_the_label_that_followed(terminal: Terminal) -> None:
    facts = terminal("trace", "e1", "--json").json
    assert [(fact["what"], fact["topic"], fact["offset"]) for fact in facts] == [
        ("events", "events", 1),
        ("predictions", "events-predictions", 1),
        ("labels", "labels", 0),
        ("labels", "labels", 1),
        ("dead letters", "events-dead-letters", 0),
    ]
    event, prediction, label, bad, letter = facts
    assert (event["epoch"], event["snapshot"]) == (1, 0)
    assert {key: prediction[key] for key in ("epoch", "snapshot", "config")} == {
        key: event[key] for key in ("epoch", "snapshot", "config")
    }
    assert prediction["told"]["model"].startswith("linear/")
    assert label["epoch"] > event["epoch"]
    assert label["snapshot"] == 1
    assert label["config"] != event["config"]  # the file was changed in between
    assert (letter["told"]["offset"], letter["epoch"]) == (1, bad["epoch"])


def test_only_what_is_of_the_time_is_read(terminal: Terminal) -> None:
    def read(between: Between) -> tuple[list[str], int]:
        loaded, done = load(terminal.folder / "streamd.toml"), [0]
        with closing(wiring.client(loaded)) as client, closing(wiring.store(loaded)) as store:
            tracer = Tracer(client, store, loaded.group, False, between, done.append)
            return [fact.what for fact in tracer.trace("e1", loaded.pipeline)], done[-1]

    # of the outputs only those from the event on: its prediction and the dead letter, beside the journal's inputs
    whole, count = read(Between())
    assert whole == ["events", "predictions", "labels", "labels", "dead letters"]
    assert count == 7
    assert read(Between(until=3_000_000)) == (whole[:-1], 6)
    # an epoch of later
    assert read(Between(since=4_000_000_000_000)) == ([], 0)
    told = terminal("trace", "e1", "--since", "1d", "--json").json
    assert [fact["what"] for fact in told] == whole
    assert "no output of that time" in terminal("trace", "e1", "--since", "2099-01-01").err


def test_no_personal_data_unless_it_is_asked_for(terminal: Terminal) -> None:
    shown = terminal("trace", "e1").out
    assert "Ada" not in shown
    assert "Bob" not in shown
    asked = terminal("trace", "e1", "--values").out
    assert "Ada" in asked
    assert "annotator Bob" in asked


def test_an_id_of_nothing_is_refused(terminal: Terminal) -> None:
    assert "is in no journal" in terminal("trace", "e2").err


@pytest.mark.parametrize("id", ["e1", "e1#2", "e1#2/3"])
def test_a_query_and_a_match_lead_to_their_event(id: str) -> None:
    assert root(id) == "e1"
    assert root("a/3") == "a/3"  # may be an event's own id
