"""`streamd match replay`: a recorded stream, all its rules and bounds, as a table, as JSON, as a picture."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from command_line import Terminal

from streamd.errors import EXIT_FAILURE

LINES = [
    {"id": "ann", "pool": "p", "capacity": 1},
    {"id": "ben", "pool": "p", "capacity": 1, "weight": 2.0},
    {"id": "both", "pool": "p", "edges": [["ann", 0.3], ["ben", 0.2]]},
    *({"id": f"a{i}", "pool": "p", "segment": "both"} for i in range(6)),
    {"id": "last", "pool": "p", "edges": [["ann", 0.9], ["unknown", 0.5]]},
]


@pytest.fixture
def streamd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    monkeypatch.chdir(tmp_path)
    terminal = Terminal(tmp_path, capsys)
    terminal.file("stream.jsonl", "\n".join(map(json.dumps, LINES)))
    return terminal


def test_a_replay_scores_every_rule_against_its_bounds(streamd: Terminal) -> None:
    report = streamd("match", "replay", "stream.jsonl", "--runs", "400", "--json").json
    assert report["exact"] <= report["stochastic_lp"] + 1e-9 <= report["matching_lp"] + 2e-9
    assert {"greedy", "sc", "k_b", "ranking", "nonadaptive"} <= {score["rule"] for score in report["scores"]}
    for score in report["scores"]:
        assert score["reward"] - 2 * score["interval"] <= report["exact"]
    text = streamd("match", "replay", "stream.jsonl").out
    assert "exact optimum" in text
    assert "Huang et al. 2023" in text


def test_the_picture_has_a_bar_for_each_rule(streamd: Terminal) -> None:
    rules = ("--rule", "sc", "--rule", "greedy")
    assert streamd("match", "replay", "stream.jsonl", *rules, "--picture", "out.svg").code == 0
    drawn = ElementTree.fromstring((streamd.folder / "out.svg").read_text())
    words = [element.text for element in drawn.iter() if element.text and element.text.strip()]
    assert {"sc", "greedy"} <= set(words)
    assert any(word.startswith("matching LP") for word in words)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1: "),
        ('{"id": "a"}', "line 1: neither a capacity nor edges nor a segment"),
        ('{"id": "a", "capacity": 1}\n{"id": "v", "edges": [["a"]]}', "arrival v: an edge has no p"),
        ('{"id": "a", "capacity": 1}\n{"id": "v", "edges": [["a", 1.5]]}', "p must be within 0 and 1"),
    ],
)
def test_a_bad_line_is_named(streamd: Terminal, line: str, said: str) -> None:
    streamd.file("bad.jsonl", line)
    done = streamd("match", "replay", "bad.jsonl")
    assert done.code == EXIT_FAILURE
    assert said in done.err
