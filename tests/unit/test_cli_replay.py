"""`streamd replay`: what a configuration would have done, and that it does nothing."""

import doctest
import json
import random
from pathlib import Path

import numpy as np
import pytest
from command_line import CONFIG, Terminal

from streamd.operating import paired
from streamd.operating.paired import difference
from streamd.ports import Output


@pytest.fixture
def terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.chdir(tmp_path)
    found = Terminal(tmp_path, capsys)
    worse = CONFIG.format(partitions=1).replace('"linear"', '"linear", eta = 50.0, clip = 0.1')
    (tmp_path / "worse.toml").write_text(worse.replace('"events"', '"others"').replace('"labels"', '"answers"'))
    return found


def lines(n: int, label: bool = True) -> list[dict[str, object]]:
    draw = random.Random(5)
    found: list[dict[str, object]] = []
    for i in range(n):
        x = draw.uniform(-3, 3)
        found.append({"id": f"e{i}", "features": {"x": x, "noise": draw.gauss(0, 5)}})
        if label:
            found[-1]["label"] = "high" if x + draw.gauss(0, 0.3) > 0.5 else "low"
    return found


def text(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_a_file_through_two_configurations_side_by_side(terminal: Terminal) -> None:
    name = terminal.file("in.jsonl", text(lines(600)))
    asked = ("replay", name, "-c", "streamd.toml", "-c", "worse.toml", "--delay", "5", "--picture", "c.svg")
    done = terminal(*asked, "--json")
    assert done.code == 0
    first, second = done.json["runs"]
    assert first["records"] == second["records"] == 1200
    assert first["events"] == first["labels"] == first["scored"] == 600
    assert first["score"] == pytest.approx(first["quality"]["accuracy"])
    (found,) = done.json["differences"]
    assert found["mean"] == pytest.approx(second["score"] - first["score"])
    assert found["low"] < found["mean"] < found["high"] < 0
    assert (terminal.folder / "c.svg").read_text().count("<polyline") == 2
    told = terminal(*asked).out
    assert "worse.toml: worse than the first, on 600 events" in told
    # then nothing was written anywhere
    assert not (terminal.folder / "streamd.db").exists()


def test_the_same_configuration_twice_is_no_difference(terminal: Terminal) -> None:
    name = terminal.file("in.jsonl", text(lines(100)))
    done = terminal("replay", name, "-c", "streamd.toml", "-c", "streamd.toml")
    assert "no difference from the first that 100 events can show" in done.out


def test_topics_are_merged_by_time_and_may_be_replayed_from_an_offset_or_a_time(terminal: Terminal) -> None:
    rows = lines(40)
    for i, row in enumerate(rows):
        label = json.dumps({"id": row["id"], "label": row.pop("label")}).encode()
        terminal.append("events", [Output("", b"k", json.dumps(row).encode(), 1000 + 10 * i, 0)])
        terminal.append("labels", [Output("", b"k", label, 1000 + 10 * i + 25, 0)])
    whole = terminal("replay", "events", "--json").json["runs"][0]
    assert (whole["events"], whole["labels"], whole["quality"] != {}) == (40, 40, True)
    for start in ("30", "1970-01-01T00:00:01.300Z"):
        part = terminal("replay", "events", "--from", start, "--json").json["runs"][0]
        # the labels of the events before are for nobody
        assert (part["events"], part["labels"]) == (10, 10)
    assert [record.topic for record in terminal.records("events-predictions")] == []


MATCH = """
[log]
kind = "sqlite"
[pipeline.desk]
task = "match"
events = "queries"
resources = "annotators"
outcomes = "outcomes"
matches = "assignments"
{rule}
"""


def test_a_matching_pipeline_is_replayed_from_its_topics_under_two_rules(terminal: Terminal) -> None:
    for name, rule in (("streamd.toml", ""), ("greedy.toml", "rule = { kind = 'greedy' }")):
        terminal.file(name, MATCH.format(rule=rule))
    people = [{"id": f"a{i}", "pool": "x", "capacity": 3} for i in range(4)]
    asked = [
        {"id": f"q{i}", "pool": "x", "edges": [[f"a{(i + j) % 4}", 0.3 + j / 4] for j in range(2)]}
        for i in range(20)
    ]
    ends = [{"id": f"q{i}/1", "pool": "x", "success": i % 3 == 0} for i in range(20)]
    for topic, rows, at in (("annotators", people, 1000), ("queries", asked, 2000), ("outcomes", ends, 2005)):
        terminal.append(
            topic, [Output("", b"x", json.dumps(row).encode(), at + 10 * i, 0) for i, row in enumerate(rows)]
        )
    done = terminal("replay", "queries", "-c", "streamd.toml", "-c", "greedy.toml", "--json")
    assert done.code == 0, done.err
    assert done.json["measure"] == "success"
    for run in done.json["runs"]:
        assert (run["events"], run["scored"]) == (20, 20)
        assert 4 <= run["matches"] <= 20
        assert run["matches"] / 20 * 0.3 - 1e-9 <= run["score"] <= run["matches"] / 20 * 0.55 + 1e-9
    assert done.json["differences"][0]["n"] == 20
    assert terminal.records("assignments") == []


def test_an_asking_pipeline_gets_the_labels_it_asked_for_and_no_others(terminal: Terminal) -> None:
    asking = (
        "queries = 'queries'\noutcomes = 'outcomes'\n[pipeline.a.query]\nstrategy = 'random'\nbudget = {budget}\n"
    )
    for name, budget in (("streamd.toml", 0.2), ("half.toml", 0.5)):
        terminal.file(name, CONFIG.format(partitions=1) + asking.format(budget=budget))
    name = terminal.file("in.jsonl", text(lines(400)))
    done = terminal("replay", name, "-c", "streamd.toml", "-c", "half.toml", "--delay", "3", "--json")
    assert done.code == 0, done.err
    for run, share in zip(done.json["runs"], (0.2, 0.5), strict=True):
        assert run["queries"] == pytest.approx(400 * share, rel=0.3)
        assert run["labels"] == run["queries"]
        assert run["withheld"] == 400 - run["queries"]
        assert run["scored"] == 400  # by the recording's labels, the withheld among them
    assert (
        terminal("replay", name, "-c", "streamd.toml", "--delay", "3", "--json").json["runs"][0]["queries"]
        == (done.json["runs"][0]["queries"])
    )


def test_a_file_cut_in_its_last_line_is_refused_and_nothing_is_replayed(terminal: Terminal) -> None:
    name = terminal.file("cut.jsonl", text(lines(3)) + '{"id": "e4", "feat')
    done = terminal("replay", name)
    assert done.code == 1
    assert done.out == ""
    assert "cut.jsonl: line 4, the last, is incomplete and was left out; nothing was replayed" in done.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("nothing",), "nothing is neither a file nor an input of pipeline a: events, labels"),
        ((), "say what to replay"),
        (("events", "--pipeline", "b"), "there is no pipeline b; there are a"),
        (("events", "--from", "yesterday"), "expected start, an offset, or a time"),
    ],
)
def test_what_makes_no_sense_is_refused(terminal: Terminal, arguments: tuple[str, ...], reason: str) -> None:
    terminal.append("events", [Output("", b"k", b"{}", 1, 0)])
    terminal.append("labels", [Output("", b"k", b"{}", 1, 0)])
    done = terminal("replay", *arguments)
    assert done.code == 1
    assert reason in done.err


def test_the_interval_covers_the_difference_as_often_as_it_says() -> None:
    rng = np.random.Generator(np.random.Philox(3))
    hits = 0
    for _ in range(60):
        # differences that depend on their neighbours: single draws would give an interval far too short
        noise = np.convolve(rng.normal(size=2050), np.ones(50) / 50, "valid")[:2000]
        found = difference(np.zeros(2000), 0.1 + noise)
        assert found is not None
        hits += found.low < 0.1 < found.high
    assert 50 <= hits <= 60


def test_events_that_only_one_scored_are_no_pairs() -> None:
    none = difference(np.array([np.nan, 1.0]), np.array([1.0, np.nan]))
    assert none is None
    one = difference(np.array([0.0, np.nan, 1.0]), np.array([1.0, 1.0, 1.0]))
    assert one is not None
    assert (one.n, one.mean) == (2, 0.5)


def test_the_example_of_the_bootstrap() -> None:
    assert doctest.testmod(paired).failed == 0
