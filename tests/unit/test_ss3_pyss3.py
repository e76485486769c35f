"""Agreement with PySS3 0.6.5, value by value, within 1e-9."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from streamd.learners.ss3.explain import explain, insight
from streamd.learners.ss3.model import SS3Classifier
from streamd.learners.ss3.text import clean
from streamd.learners.ss3.vocabulary import stop_words
from tests.unit.ss3_golden import GOLDEN, present, settings_of

CASES = {case["name"]: case for case in GOLDEN.get("cases", [])}
every_case = pytest.mark.parametrize("name", CASES)
pytestmark = present


@cache
def trained(name: str, **changes: Any) -> SS3Classifier:
    return train(CASES[name], **changes)


def train(case: dict[str, Any], **changes: Any) -> SS3Classifier:
    model = SS3Classifier(**{**settings_of(case), **changes})
    documents = GOLDEN["corpora"][case["corpus"]]["train"]
    texts, labels = [text for text, _ in documents], [label for _, label in documents]
    (model.fit if case["how"] == "fit" else model.learn_many)(texts, labels)
    return model


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("text", "dotted", "plain"), GOLDEN.get("preprocessing", []))
def test_preprocessing(text: str, dotted: str, plain: str) -> None:
    assert clean(text) == dotted
    assert clean(text, dots=False) == plain


@every_case
def test_counts_and_values_of_every_term(name: str) -> None:
    case, model = CASES[name], trained(name)

    assert model.classes == case["categories"]
    for category, terms in case["values"].items():
        for term, expected in terms.items():
            close(model.values(term, category), expected)
    assert model.pairs == sum(case["terms_per_category"])
    assert sum(" " not in term for term in model.numbers().values()) == case["vocabulary"]
    for category, max_fr, max_gv in zip(case["categories"], case["max_fr"], case["max_gv"], strict=True):
        close(model.largest(category)[0], max_fr)
        if case["cv_m"] != "gv":
            close(model.largest(category)[1], max_gv)


@every_case
def test_every_decision(name: str) -> None:
    case, model = CASES[name], trained(name)
    texts = [text for text, _ in GOLDEN["corpora"][case["corpus"]]["test"]]

    unknown = trained(name, default="unknown").predict_many(texts)
    several = trained(name, default="unknown")
    several.multilabel = True

    for i, (text, expected) in enumerate(zip(texts, case["docs"], strict=True)):
        close(model.classify(text), expected["cv"])
        assert model.predict_one(text) == expected["label"]
        assert unknown[i] == expected["label_unknown"]
        assert several.predict_one(text) == expected["multilabel"]


@pytest.mark.parametrize(
    "stream", GOLDEN.get("streams", []), ids=lambda stream: f"{stream['corpus']}-{stream['n_grams']}"
)
def test_classify_then_learn_is_exact_after_every_document(stream: dict[str, Any]) -> None:
    model = SS3Classifier(**settings_of(stream))
    documents = GOLDEN["corpora"][stream["corpus"]]["train"][: stream["steps"]]

    steps = model.steps()
    for text, label in documents:
        row = steps.row(text)
        steps.predict(row)
        steps.learn(row, label)
    predictions = steps.execute()

    for i, expected in enumerate(stream["docs"]):
        if expected is not None:
            close(predictions.confidences[i, : predictions.known[i]], expected["cv"])
            assert predictions.label(i) == expected["label"]
    assert model.classes == stream["categories"]
    for category, max_fr, max_gv in zip(stream["categories"], stream["max_fr"], stream["max_gv"], strict=True):
        close(model.largest(category), (max_fr, max_gv))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "recognised" in case])
def test_the_terms_recognised(name: str) -> None:
    case, model = CASES[name], trained(name)

    for (text, _), expected in zip(GOLDEN["corpora"][case["corpus"]]["test"], case["recognised"], strict=False):
        tree = explain(model, text)  # PySS3's list is of its explanation, too
        terms = [term for p in tree.paragraphs for sentence in p.sentences for term in sentence.terms if term.fr]
        assert [term.term for term in terms] == [term.replace("→", " ") for term in expected]


@every_case
def test_stop_words(name: str) -> None:
    assert stop_words(trained(name))[: len(CASES[name]["stopwords"])] == CASES[name]["stopwords"]


@pytest.mark.parametrize("case", GOLDEN.get("explanations", []), ids=lambda case: f"n{case['n_grams']}")
def test_explanations_and_insights(case: dict[str, Any]) -> None:
    model = train(case)

    for expected in case["docs"]:
        told = explain(model, expected["text"])

        close(told.decided, expected["cv"])
        close(told.cv, expected["json_cv"])
        for paragraph, like in zip(told.paragraphs, expected["paragraphs"], strict=True):
            close(paragraph.cv, like["cv"])
            for sentence, sentence_like in zip(paragraph.sentences, like["sentences"], strict=True):
                close(sentence.cv, sentence_like["cv"])
                terms = [term for term in sentence.terms if any(term.cv)]
                assert [[t.text, t.term.replace(" ", "→")] for t in terms] == [
                    w[:2] for w in sentence_like["words"]
                ]
                for term, (_, _, cv) in zip(terms, sentence_like["words"], strict=True):
                    close(term.cv, cv)
        for level, pieces in expected["insight"].items():
            found = insight(told, level)
            assert [text for text, _ in found] == [text for text, _ in pieces]
            close([cv for _, cv in found], [cv for _, cv in pieces])
