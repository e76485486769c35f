"""Task text in a predicting pipeline: what it decides where it knows nothing, and events with several labels."""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import pytest
from test_predicting import SETTINGS, digest, reason, written

from streamd.learners.ss3 import SS3Classifier
from streamd.ports import Record
from streamd.stages.predicting import Predicting, Taken

TEXT = msgspec.structs.replace(SETTINGS, task="text")


def stage(**parameters: Any) -> Predicting:
    return Predicting(TEXT, partial(SS3Classifier, **parameters), 0)


def text(id: str, text: str, label: object = None, **fields: object) -> Record:
    event = {"id": id, "text": text, "label": label, **fields}
    return Record("events", 0, 0, 1, id.encode(), json.dumps(event).encode())


def label(id: str, label: object) -> Record:
    return Record("labels", 0, 0, 1, id.encode(), json.dumps({"id": id, "label": label}).encode())


def told(taken: Taken) -> list[dict[str, Any]]:
    return [json.loads(output.value) for output in written(taken, "predictions")]


def replayed(stream: Sequence[Record], taken: Taken, **parameters: Any) -> Predicting:
    task = stage(**parameters)
    task.replay(stream, taken.refused, taken.memos)
    return task


LEARNED = [text(f"{i}", *example) for i, example in enumerate([("card stolen", "lost"), ("the rate", "rate")] * 3)]


@pytest.mark.parametrize(
    ("default", "expected", "right"),
    [("most-probable", "rate", 1), ("unknown", None, 0), ("lost", "lost", 0), ("nobody", None, 0)],
)
def test_where_no_word_is_known_the_default_decides_and_is_judged(
    default: str, expected: str | None, right: int
) -> None:
    task = stage(default=default)
    task.take([*LEARNED, text("more", "the rate", "rate")])
    before = task.quality.measures()[1]["accuracy"] * 7
    stream = [text("x", "zzz"), label("x", "rate")]
    taken = task.take(stream)

    assert told(taken)[0]["label"] == expected
    assert task.quality.measures()[1]["accuracy"] * 8 == pytest.approx(before + right)


def test_an_event_may_have_several_labels_or_none() -> None:
    stream = [
        text("a", "my card was stolen", ["lost", "card"]),
        text("b", "exchange rate", "rate"),
        text("c", "hello you", []),
        text("d", "stolen card", ["card", "lost", "card"]),
        text("e", "rate of exchange", ["rate"]),
        text("f", "hello", None),
        text("g", "stolen card"),
        label("g", ["lost", "card"]),
        label("g", ["card", "lost"]),
        label("f", []),
        text("h", "rate", ["rate", ""]),
        text("i", "my stolen card", "card"),
        label("i", ["lost", "card"]),
    ]
    task = stage(multilabel=True)
    taken = task.take(stream)
    answers = {one["id"]: one["label"] for one in told(taken)}
    after = told(task.take([text("z", "exchange rate")]))

    assert answers["a"] == []
    assert set(answers["g"]) == {"lost", "card"}
    assert after[0]["label"] == ["rate"]
    assert [reason(letter) for letter in written(taken, "dead")] == [
        "label: expected a string that is not empty, a boolean or an integer"
    ]
    assert task.counts["repeated_labels"] == 1
    assert task.counts["corrected_labels"] == 1
    labels, total, _ = task.quality.measures()
    assert labels == 8
    assert total["accuracy"] == pytest.approx(3 / 8)  # d, g and, with no label told, c
    assert total["jaccard"] > total["majority"] > 0.0
    assert 0.0 < total["f1"] < 1.0
    again = replayed(stream, taken, multilabel=True)
    again.take([text("z", "exchange rate")])
    assert digest(again) == digest(task)


def test_several_labels_survive_a_snapshot() -> None:
    stream = [text("a", "my card", ["lost", "card"]), text("b", "a rate")]
    task, copy = stage(multilabel=True), stage(multilabel=True)
    task.take(stream)
    copy.restore(task.freeze()())
    rest = [label("a", ["card", "lost"]), label("b", ["rate"]), text("c", "rate card")]
    assert task.take(rest) == copy.take(rest)
    assert digest(task) == digest(copy)
    assert task.counts["repeated_labels"] == 1
