"""`streamd match replay`: a recorded stream in, rules and bounds out."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from command_line import Terminal

from streamd.errors import EXIT_FAILURE
from streamd.matching.replay import ALL


@pytest.fixture
def streamd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    monkeypatch.chdir(tmp_path)
    return Terminal(tmp_path, capsys)


def written(folder: Path, *lines: Any) -> Path:
    path = folder / "stream.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else msgspec.json.encode(line) for line in lines))
    return path


RESOURCES = [{"id": name, "pool": "x", "capacity": 1, "weight": 2.0} for name in ("ann", "ben")]
ARRIVALS = [{"id": f"q{i}", "pool": "x", "edges": [["ann", 0.5], ["ben", 0.25], ["zoe", 1]]} for i in range(4)]


def test_every_rule_is_scored_against_the_bounds(streamd: Terminal, tmp_path: Path) -> None:
    path = written(tmp_path, *RESOURCES, *ARRIVALS)

    report = streamd("match", "replay", str(path), "--json", "--runs", "50").json

    assert (report["resources"], report["arrivals"], report["edges"]) == (2, 4, 8)
    assert report["exact"] <= report["stochastic_lp"] <= report["matching_lp"] <= 4.0 + 1e-9
    assert {score["rule"] for score in report["scores"]} == set(ALL)
    text = streamd("match", "replay", str(path), "--runs", "50").out
    assert "derived here, not published" in text
    assert "2 resources, 4 arrivals, 8 edges" in text


def test_an_arrival_may_name_a_segment(streamd: Terminal, tmp_path: Path) -> None:
    segment = {"id": "all", "pool": "x", "edges": [["ann", 0.5], ["ben", 0.5]]}
    path = written(tmp_path, *RESOURCES, segment, {"id": "q", "pool": "x", "segment": "all"})

    report = streamd("match", "replay", str(path), "--json", "--rule", "greedy").json

    assert (report["arrivals"], report["edges"], report["exact"]) == (1, 2, 1.0)


@pytest.mark.parametrize(
    "line", [b"{", {"id": "q"}, {"id": "q", "edges": [["ann", 2.0]]}, {"id": "q", "edges": [["ann"]]}]
)
def test_a_bad_line_is_refused(streamd: Terminal, tmp_path: Path, line: Any) -> None:
    done = streamd("match", "replay", str(written(tmp_path, *RESOURCES, line)))

    assert done.code == EXIT_FAILURE
    assert len(done.err.strip().splitlines()) == 1


def test_an_unknown_rule_is_refused(streamd: Terminal, tmp_path: Path) -> None:
    done = streamd("match", "replay", str(written(tmp_path, *RESOURCES)), "--rule", "best")

    assert done.code == EXIT_FAILURE
    assert "greedy" in done.err
