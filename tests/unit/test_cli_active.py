"""`streamd active simulate`, as a user has it."""

from pathlib import Path

import numpy as np
import pytest

from streamd.cli.active_curves import svg
from tests.unit.command_line import Terminal


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    monkeypatch.chdir(tmp_path)
    return Terminal(tmp_path, capsys)


def recorded(n: int = 600) -> str:
    rng = np.random.default_rng(0)
    rows = [f"{a:.4f},{b:.4f},{'yes' if a + b > 0 else 'no'}" for a, b in rng.normal(size=(n, 2))]
    return "\n".join(["a,b,class", *rows]) + "\n"


def test_every_combination_is_run_and_told(terminal: Terminal) -> None:
    file = terminal.file("stream.csv", recorded())

    done = terminal(
        "active", "simulate", file, "--strategy", "auto,random", "--budget", "0.05,0.2", "--delay", "0,20",
        "--noise", "0.1", "-j", "1", "--json", "--picture", "curves.svg",
    )  # fmt: skip

    assert done.code == 0, done.err
    assert len(done.json) == 8
    for one in done.json:
        assert one["result"]["events"] == 600
        assert one["result"]["asked"] <= one["run"]["budget"] * 600 + 5 + 1e-9
        assert one["result"]["accuracy"] > 0.6
        assert len(one["result"]["curve"]) == 40
    assert (terminal.folder / "curves.svg").read_text().startswith("<svg")


def test_the_same_seed_gives_the_same_run(terminal: Terminal) -> None:
    file = terminal.file("stream.csv", recorded())
    arguments = ("active", "simulate", file, "--budget", "0.1", "-j", "1", "--limit", "300", "--json")
    assert terminal(*arguments).json == terminal(*arguments).json


@pytest.mark.parametrize("utility", ["margin", "expected_gain", "vote_entropy", "mean_kl"])
def test_any_utility_may_ask(terminal: Terminal, utility: str) -> None:
    file = terminal.file("stream.csv", recorded(200))
    arguments = ("active", "simulate", file, "--strategy", "auto", "--budget", "0.2", "-j", "1", "--json")
    done = terminal(*arguments, "--utility", utility, "--committee", "3")
    assert done.code == 0, done.err
    assert 20 <= done.json[0]["result"]["asked"] <= 50
    assert done.json[0]["result"]["curve"] != terminal(*arguments).json[0]["result"]["curve"]


def test_a_table_is_printed(terminal: Terminal) -> None:
    file = terminal.file("stream.csv", recorded(100))
    done = terminal("active", "simulate", file, "--strategy", "all", "--budget", "0.1", "-j", "1")
    assert done.code == 0, done.err
    assert {line.split()[0] for line in done.out.splitlines()[1:]} >= {"auto", "calmid", "self_labelling"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--utility", "clever"], "--utility: no clever"),
        (["--utility", "mean_kl", "--learner", "ss3"], "needs a learner of kind linear, river"),
        (["--strategy", "clever"], "no clever"),
        (["--budget", "2"], "--budget"),
        (["--budget", "much"], "--budget"),
        (["--label", "missing"], "no column missing"),
        (["--learner", "oracle"], "--learner"),
    ],
)
def test_what_cannot_be_run_is_refused(terminal: Terminal, arguments: list[str], said: str) -> None:
    file = terminal.file("stream.csv", recorded(20))
    done = terminal("active", "simulate", file, *arguments)
    assert done.code == 1
    assert said in done.err


def test_a_curve_of_one_point_is_still_a_picture() -> None:
    assert "auto" in svg([("auto", 0.05, 0.8)])
    assert "nan" not in svg([("a&b", 0.05, 0.8), ("a&b", 0.05, 0.9), ("c", 0.0, 0.5)])
