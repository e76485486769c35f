"""`streamd ss3`: its verbs on small files."""

import csv
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


def test_export_vocabulary_and_explain_fit_together(texts: Path, tmp_path: Path) -> None:
    model, page = tmp_path / "cards.ss3m", tmp_path / "why.html"
    run("export", texts, model, "--n-grams", 2)

    rows = list(csv.DictReader(run("vocabulary", model, "--category", "lost", "-n", 2).splitlines()))
    tree = json.loads(run("explain", model, "my card is lost", "--html", page))

    assert {"my card", "card lost"} <= {row["term"] for row in rows}
    assert tree["label"] == "lost"
    assert tree["cv"] == tree["decided"]
    assert "<mark" in page.read_text()
    assert json.loads(run("vocabulary", model, "--stop-words", "--json")) is not None


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
