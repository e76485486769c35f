"""`streamd dead-letters` on the embedded log: by reason, topic and time; retried once; dropped on record."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from command_line import Terminal
from msgspec.structs import replace

from streamd import config, wiring
from streamd.errors import Refused
from streamd.operating.letters import Letters, Wanted
from streamd.ports import Output

DEAD = "events-dead-letters"


@pytest.fixture
def terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Two records that cannot be read, a label too early for ever, and good ones between."""
    monkeypatch.chdir(tmp_path)
    found = Terminal(tmp_path, capsys)
    values = [b"not json", b'{"id":"a","features":{"x":1}}', b'{"id":7}']
    found.append("labels", [])
    found.append(
        "events", [Output("", b"k", value, 1000 + i, 0, (("h", b"1"),)) for i, value in enumerate(values)]
    )
    assert found("run", "--until-idle").code == 0
    return found


def listed(terminal: Terminal) -> list[tuple[str, int, int]]:
    return [(k["reason"][:8], k["open"], k["handled"]) for k in terminal("dead-letters", "list", "--json").json]


def test_they_are_listed_by_reason_and_shown_without_their_values(terminal: Terminal) -> None:
    assert listed(terminal) == [("Expected", 1, 0), ("not JSON", 1, 0)]
    (one,) = terminal("dead-letters", "show", "--reason", "not JSON", "--json").json
    assert (one["topic"], one["partition"], one["offset"], one["status"]) == ("events", 0, 0, "open")
    assert one["value"] is None
    assert terminal("dead-letters", "show", "--at", "0/0", "--values", "--json").json[0]["value"] == "not json"
    assert terminal("dead-letters", "show", "--until", "1970-01-01T00:00:01Z", "--json").json == []
    assert "not JSON" in terminal("dead-letters", "show").out


def test_a_retry_goes_through_the_input_once_more_and_only_once(terminal: Terminal) -> None:
    assert terminal("dead-letters", "retry", "--reason", "not JSON", "--json").json["letters"] == 1
    assert terminal("dead-letters", "retry", "--reason", "not JSON", "--json").json["letters"] == 0
    again = terminal.records("events")[-1]
    assert (again.key, again.value, again.headers[0]) == (b"k", b"not json", ("h", b"1"))
    assert dict(again.headers).keys() == {"h", "streamd-retry"}
    assert terminal("run", "--until-idle").code == 0  # it is refused again: another dead letter
    assert listed(terminal) == [("Expected", 1, 0), ("not JSON", 1, 1)]
    (new,) = terminal("dead-letters", "show", "--reason", "not JSON", "--json").json
    assert (new["at"], new["tries"]) == ("0/2", 1)


def test_what_is_dropped_is_listed_no_more_and_a_record_of_it_is_kept(terminal: Terminal) -> None:
    assert "say which" in terminal("dead-letters", "drop").err
    assert terminal("dead-letters", "drop", "--reason", "Expected", "--json").json["letters"] == 1
    assert [one["at"] for one in terminal("dead-letters", "show", "--json").json] == ["0/0"]
    assert terminal("dead-letters", "retry", "--everything", "--json").json["letters"] == 1
    (mark,) = [r for r in terminal.records(f"{DEAD}-handled") if b"dropped" in (r.value or b"")]
    assert mark.key == b"0/1"


@pytest.mark.parametrize("written", [False, True])
def test_a_retry_that_was_cut_short_is_ended_and_never_doubled(terminal: Terminal, written: bool) -> None:
    """Cut short before its record was written, or after."""
    begun = {"action": "begun", "by": "somebody", "ts": 1, "end": 3}
    terminal.append(f"{DEAD}-handled", [Output("", b"0/0", json.dumps(begun).encode(), 1000, 0)])
    if written:
        header = ("streamd-retry", json.dumps({"letter": f"{DEAD}/0/0", "times": 1}).encode())
        terminal.append("events", [Output("", b"k", b"not json", 1000, 0, (header,))])
    sent = terminal("dead-letters", "retry", "--reason", "not JSON", "--json").json["letters"]
    assert sent == (0 if written else 1)
    assert sum(record.value == b"not json" for record in terminal.records("events")) == 2
    assert terminal("dead-letters", "show", "--at", "0/0", "--all", "--json").json[0]["status"] == "retried"


def test_of_two_who_retry_at_once_one_does(terminal: Terminal) -> None:
    with closing(wiring.client(config.load("streamd.toml"))) as client:
        one, other = Letters(client, "a", DEAD), Letters(client, "a", DEAD)
        seen = list(one.find(Wanted())), list(other.find(Wanted()))
        assert (one.retry(seen[0]), other.retry(seen[1])) == (2, 0)
        late = [letter for letter in other.find(Wanted(handled=True)) if letter.status == "begun"]
        assert late == []
    begun = {"action": "begun", "by": "somebody", "ts": 1 << 60, "end": 3}
    assert terminal("run", "--until-idle").code == 0
    terminal.append(f"{DEAD}-handled", [Output("", b"0/2", json.dumps(begun).encode(), 1000, 0)])
    refused = terminal("dead-letters", "retry", "--everything")
    assert "being retried by another" in refused.err


def test_what_cannot_be_retried_is_refused_with_a_sentence(terminal: Terminal) -> None:
    assert "there is no pipeline z" in terminal("dead-letters", "list", "--pipeline", "z").err
    assert "is no time" in terminal("dead-letters", "retry", "--since", "yesterday").err
    with closing(wiring.client(config.load("streamd.toml"))) as client:
        letters = Letters(client, "a", DEAD)
        (one, *_) = letters.find(Wanted())
        with pytest.raises(Refused, match="the topic gone no longer exists"):
            letters.retry([replace(one, about=replace(one.about, topic="gone"))])
