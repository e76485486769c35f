"""SS3's model files, vocabulary, k-fold and grid search."""

import json
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from streamd.errors import StateError
from streamd.learners.ss3.evaluation import folds, grid_search, surface
from streamd.learners.ss3.model import SS3Classifier
from streamd.learners.ss3.model_file import read, write
from streamd.learners.ss3.vocabulary import stop_words, vocabulary
from tests.unit.test_ss3 import EXAMPLES, learned, told

TEXTS = [text for text, _ in EXAMPLES * 6]
LABELS = [label for _, label in EXAMPLES * 6]


@pytest.mark.parametrize(
    "form", [{}, {"n_grams": 3}, {"n_grams": 2, "confidence": "norm_gv", "sigma": 0.3}], ids=str
)
def test_a_model_file_read_back_decides_the_same(form: dict[str, Any]) -> None:
    model = learned(EXAMPLES * 3, compatibility="pyss3", **form)

    again = read(write(model))

    assert told(again) == told(model)
    assert again.sigma == model.sigma
    for text in TEXTS:
        assert again.classify(text).tolist() == model.classify(text).tolist()
    again.learn_one("my card", "lost")
    model.learn_one("my card", "lost")
    assert told(again) == told(model)


def test_a_file_of_pyss3_s_own_making_is_read() -> None:
    """As PySS3 0.6.5 wrote it after learning "a b a b" of x, then "b b" of "1"."""
    nodes = {"0": [{"1": [{}, 2, 0, 0, 0, 0]}, 2, 0, 0, 0, 0], "1": [{"0": [{}, 1, 0, 0, 0, 0]}, 2, 0, 0, 0, 0]}
    file = {
        "__a__": 0.0, "__l__": 0.5, "__p__": 1, "__s__": 0.45,
        "__max_fr__": [[2, 2], [2, 1]], "__max_gv__": [[0, 0], [0, 0]],
        "__categories__": [["x", nodes], ["1", {"1": [{"1": [{}, 1, 0, 0, 0, 0]}, 2, 0, 0, 0, 0]}]],
        "__categories_index__": {"x": 0, "1": 1}, "__index_to_word__": {"0": "a", "1": "b"},
        "__word_to_index__": {"a": 0, "b": 1}, "__cv_mode__": "norm_gv_xai", "__sg_mode__": "xai",
    }  # fmt: skip

    model = read(json.dumps(file).encode())

    like = learned([("a b a b", "x"), ("b b", "1")], n_grams=2, compatibility="pyss3")
    assert told(model) == told(like)
    assert model.classes == ["x", "1"]


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"__categories__": [["x", {"0": [{}, "many"]}]]}', b"\xff"])
def test_what_is_no_model_file_is_refused(raw: bytes) -> None:
    with pytest.raises(StateError):
        read(raw)


def test_names_that_pyss3_would_lose_are_not_written() -> None:
    with pytest.raises(StateError):
        write(learned([("a a", "1")]))


def test_the_vocabulary_says_what_was_counted() -> None:
    model = learned([("the card the card", "a"), ("the bank the bank", "b"), ("the sea the sea", "c")], n_grams=2)

    counted = {(entry.category, entry.term): entry.fr for entry in vocabulary(model)}

    assert counted["a", "the"] == 2.0
    assert counted["a", "the card"] == 2.0
    assert ("b", "card") not in counted
    assert {entry.n for entry in vocabulary(model, n=2)} == {2}
    assert {entry.category for entry in vocabulary(model, category="b")} == {"b"}
    assert stop_words(model) == ["the"]


def test_folds_deal_every_category_out_evenly() -> None:
    labels = ["a"] * 10 + ["b"] * 5

    placed = folds(labels, 5, seed=3).tolist()

    assert sorted(placed[:10]) == sorted([*range(5), *range(5)])
    assert sorted(placed[10:]) == [*range(5)]
    assert placed == folds(labels, 5, seed=3).tolist()


def test_the_grid_is_searched_on_counts_learned_once() -> None:
    seen: list[tuple[int, int]] = []
    grid = ([0.3, 0.45], [0.5, 1.0, 2.0], [1.0], [0.0, 0.1])

    tried = grid_search(TEXTS, LABELS, grid, k=3, progress=lambda done, total: seen.append((done, total)))

    assert len(tried) == 12
    assert seen[-1] == (36, 36)
    assert tried[0].accuracy == max(point.accuracy for point in tried) == 1.0
    again = grid_search(TEXTS, LABELS, ([0.45], [2.0], [1.0], [0.1]), k=3)
    assert again[0] in tried
    picture = ElementTree.fromstring(surface(tried))
    assert len(picture.findall("{http://www.w3.org/2000/svg}rect")) == 6
    assert SS3Classifier().sigma == 0.45
