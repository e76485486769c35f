"""`streamd snapshot` on the embedded log and store: what is kept, what is in it, and going back to it."""

import json
from pathlib import Path

import pytest
from command_line import Terminal

from streamd import config, wiring
from streamd.ports import Output


@pytest.fixture
def terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A pipeline that learned `a` for large numbers, was drained, and then learned the opposite."""
    monkeypatch.chdir(tmp_path)
    found = Terminal(tmp_path, capsys)
    teach(found, 0, "ab")
    teach(found, 100, "ba")
    return found


def teach(terminal: Terminal, first: int, labels: str) -> None:
    rows = [(str(i), {"x": float(i % 10)}, labels[i % 10 < 5]) for i in range(first, first + 100)]
    values = [{"id": id, "features": x, "label": y} for id, x, y in rows]
    terminal.append("labels", [])
    terminal.append("events", [Output("", b"k", json.dumps(value).encode(), 1000) for value in values])
    assert terminal("run", "--until-idle").code == 0


def epochs(terminal: Terminal) -> list[int]:
    return [one["epoch"] for one in terminal("snapshot", "list", "--json").json]


def learner(terminal: Terminal, *which: str) -> dict[str, object]:
    found = terminal("snapshot", "show", "a", *which, "--json").json["inside"]["learner"]
    assert isinstance(found, dict)
    return found


def test_show_and_diff_say_what_is_inside_in_the_words_of_the_method(terminal: Terminal) -> None:
    last, first = epochs(terminal)
    assert learner(terminal, "--epoch", str(first))["classes"] == ["b", "a"]
    assert set(learner(terminal)["largest weights"]) == {"x"}  # type: ignore[call-overload]
    told = terminal("snapshot", "diff", "a", str(first))
    assert f"from epoch {first} to {last}" in told.out
    assert "counts.events: 100 -> 200" in told.out
    assert "positions.events: 100 -> 200" in told.out
    assert "learner.largest weights.x" in told.out


def test_a_rollback_is_an_epoch_that_puts_back_what_was_learned_and_no_more(terminal: Terminal) -> None:
    last, first = epochs(terminal)
    done = terminal("snapshot", "rollback", "a", "-p", "0", "--epoch", str(first), "--json").json
    assert done["outcomes"] == [
        {"partition": 0, "done": True, "epoch": last + 1, "reason": "", "elsewhere": False}
    ]
    assert terminal("run", "--until-idle").code == 0  # restores the snapshot before, and replays the journal
    now = terminal("snapshot", "show", "a", "--json").json
    assert now["inside"]["learner"] == learner(terminal, "--epoch", str(first))
    assert now["inside"]["counts"]["events"] == 200
    assert now["positions"]["events"] == 200
    assert now["inside"]["commands"] == {"rollback": 1}


def test_an_exported_state_is_that_of_a_shard_again(terminal: Terminal) -> None:
    _, first = epochs(terminal)
    assert terminal("snapshot", "export", "a", "a.snapshot", "--epoch", str(first)).code == 0
    assert terminal("snapshot", "import", "a", "a.snapshot").code == 0
    assert terminal("run", "--until-idle").code == 0
    now = terminal("snapshot", "show", "a", "--json").json
    then = terminal("snapshot", "show", "a", "--file", "a.snapshot", "--json").json
    assert now["inside"]["learner"] == then["inside"]["learner"]
    assert now["inside"]["counts"]["events"] == 100  # all of the state, its counts too
    assert now["positions"]["events"] == 200  # but not its place


def test_an_import_at_offsets_starts_a_new_shard_there(terminal: Terminal) -> None:
    """Another cluster: another group, whose topics hold only what came since."""
    assert terminal("snapshot", "export", "a", "a.snapshot").code == 0
    taken = ["snapshot", "import", "a", "a.snapshot", "--at-offsets", "events=195", "--at-offsets", "labels=0"]
    again = terminal(*taken)
    assert again.code == 1
    assert "has a state of its own" in again.err
    text = (terminal.folder / "streamd.toml").read_text()
    (terminal.folder / "streamd.toml").write_text(text.replace('group = "test"', 'group = "other"'))
    missing = terminal(*taken[:-2])
    assert "the next offset of labels is needed" in missing.err
    beyond = terminal(*taken[:-3], "events=999", "--at-offsets", "labels=0")
    assert "offset 999" in beyond.err
    assert terminal(*taken).code == 0
    assert terminal("run", "--until-idle").code == 0
    now = terminal("snapshot", "show", "a", "--json").json
    assert now["inside"]["counts"]["repeated_events"] == 5  # 195 to 199, still remembered
    assert now["inside"]["counts"]["events"] == 200


def test_a_rollback_while_another_worker_has_the_shard_is_refused(terminal: Terminal) -> None:
    _, first = epochs(terminal)
    other = wiring.log(config.load("streamd.toml"), "a")
    other.open()
    done = terminal("snapshot", "rollback", "a", "--before", "0s", "-p", "0")
    other.close(leave=True)
    assert done.code == 1
    assert "a daemon runs and could not be asked" in done.err
    assert epochs(terminal)[1] == first


def test_what_does_not_fit_is_refused_with_a_sentence_and_nothing_is_changed(terminal: Terminal) -> None:
    last, first = epochs(terminal)
    terminal("snapshot", "export", "a", "a.snapshot")
    packed = (terminal.folder / "a.snapshot").read_bytes()
    terminal.file("short", packed[:-10])
    terminal.file("flipped", packed[:200] + bytes([packed[200] ^ 4]) + packed[201:])
    terminal.file("other", b"hello")
    expected = {
        ("import", "a", "short"): "damaged or cut short",
        ("import", "a", "flipped"): "damaged or cut short",
        ("import", "a", "other"): "not a snapshot that streamd exported",
        ("import", "a", "nowhere"): "cannot be read",
        ("rollback", "a", "-p", "0", "-e", "999"): f"there are {last}, {first}",
        ("rollback", "a", "--before", "9d"): "no snapshot of test.a.0 from before that",
        ("rollback", "a"): "--epoch N, or --before TIME",
        ("rollback", "z", "--epoch", "1"): "there is no pipeline z",
    }
    for arguments, sentence in expected.items():
        done = terminal("snapshot", *arguments)
        assert done.code == 1
        assert sentence in done.err, arguments
    text = (terminal.folder / "streamd.toml").read_text()
    changed = text.replace('kind = "linear"', 'kind = "linear", max_features = 9')
    (terminal.folder / "streamd.toml").write_text(changed)
    done = terminal("snapshot", "import", "a", "a.snapshot")
    assert "learned under another configuration; different: learner.max_features" in done.err
    assert epochs(terminal) == [last, first]
