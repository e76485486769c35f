"""`streamd ss3`: its verbs on small files."""

import csv
import importlib.util
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamd.cli.ss3 import ss3
from streamd.errors import StreamdError
from tests.unit.test_ss3 import EXAMPLES


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *EXAMPLES * 4])
    return path


def run(*arguments: object) -> str:
    done = CliRunner().invoke(ss3, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_evaluate_tries_the_grid_and_draws_it(texts: Path, tmp_path: Path) -> None:
    picture = tmp_path / "surface.svg"

    told = run("evaluate", texts, "--sigma", "0.3,0.45", "--k", 2, "--picture", picture, "--json")

    tried = json.loads(told)
    assert [point["accuracy"] for point in tried] == [1.0, 1.0]
    assert picture.read_text().startswith("<svg")
    assert "accuracy" in run("evaluate", texts, "--k", 2)


def test_train_vocabulary_and_explain_fit_together(texts: Path, tmp_path: Path) -> None:
    model, page = tmp_path / "cards.ss3m", tmp_path / "why.html"
    run("train", texts, model, "--n-grams", 2)

    rows = list(csv.DictReader(run("vocabulary", model, "--category", "lost", "-n", 2).splitlines()))
    tree = json.loads(run("explain", model, "my card is lost", "--html", page))

    assert {"my card", "card lost"} <= {row["term"] for row in rows}
    assert tree["label"] == "lost"
    assert tree["cv"] == tree["decided"]
    assert "<mark" in page.read_text()
    words = json.loads(run("explain", model, "well, my card is lost", "--snippets", "word", "--window", 1))
    assert sum(cv for _, cv in words) == pytest.approx(max(tree["cv"]))
    assert json.loads(run("vocabulary", model, "--stop-words", "--json")) is not None


def test_a_vocabulary_as_parquet_needs_the_extra(texts: Path, tmp_path: Path) -> None:
    model, table = tmp_path / "cards.ss3m", tmp_path / "terms.parquet"
    run("train", texts, model)
    if importlib.util.find_spec("pyarrow") is None:
        with pytest.raises(StreamdError, match=r"streamd\[parquet\]"):
            run("vocabulary", model, "--parquet", table)
    else:
        run("vocabulary", model, "--parquet", table)
        assert table.read_bytes()[:4] == b"PAR1"


def test_early_decisions_are_judged_beside_the_constants(texts: Path, tmp_path: Path) -> None:
    posts = tmp_path / "posts.csv"
    rows = [
        (f"s{i}", "my card is lost" if i < 2 and turn else "hello", int(i < 2))
        for turn in (0, 1)
        for i in range(8)
    ]
    with posts.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("subject", "text", "truth"), *rows])

    told = json.loads(run("early", texts, posts, "--watch", "lost", "--json"))
    shown = run("early", texts, posts, "--watch", "lost", "--policy", "threshold", "--o", "5")

    assert told["decided"]["recall"] == told["decided"]["precision"] == 1.0
    assert told["decided"]["erde"]["50"] < told["everyone"]["erde"]["50"] < told["nobody"]["erde"]["50"] + 0.25
    assert told["nobody"]["erde"]["50"] == 0.25
    assert "ERDE_5 " in shown
    assert "8 subjects, 2 positive" in shown
    for wrong in (("--watch", "nothing"), ("--watch", "lost", "--o", "x"), ("--watch", "lost", "--policy", "x")):
        with pytest.raises(StreamdError):
            run("early", texts, posts, *wrong)


def test_files_that_cannot_be_read_say_so(texts: Path, tmp_path: Path) -> None:
    for arguments in (
        ("evaluate", tmp_path / "none.csv"),
        ("evaluate", texts, "--label", "x"),
        ("vocabulary", texts),
    ):
        with pytest.raises(StreamdError):
            run(*arguments)
    with pytest.raises(StreamdError):
        run("evaluate", texts, "--sigma", "much")
