"""SS3 beyond its golden values: bad input, live parameters, un-learning, bounds, forgetting, reasons."""

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamd.errors import BadRecord, ConfigError
from streamd.learners.ss3.explain import as_html, explain, insight
from streamd.learners.ss3.model import SS3Classifier
from streamd.learners.ss3.steps import UNKNOWN
from streamd.learners.ss3.text import Tokeniser
from streamd.learners.ss3.vocabulary import vocabulary
from streamd.snapshot import digest

laws = settings(max_examples=25, deadline=None, derandomize=True, database=None)
WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f", ".", ","]), max_size=12).map(" ".join)
DOCUMENTS = st.lists(st.tuples(WORDS, st.sampled_from(["x", "y", "z"])), max_size=25)
EXAMPLES = [
    ("I lost my card", "lost"),
    ("where is my refund", "refund"),
    ("card lost, please help.", "lost"),
    ("refund please", "refund"),
    ("is my card lost?", "lost"),
]


def learned(documents: list[tuple[str, str]], **settings: Any) -> SS3Classifier:
    model = SS3Classifier(**settings)
    model.learn_many([text for text, _ in documents], [label for _, label in documents])
    return model


def told(model: SS3Classifier) -> dict[tuple[str, str], tuple[float, ...]]:
    """All values of all pairs."""
    return {(e.category, e.term): (e.fr, e.lv, e.sg, e.sn, e.gv, e.cv) for e in vocabulary(model)}


ODD_TEXTS = {
    "empty": "",
    "only separators": " .,;\n\n. ",
    "a megabyte without a space": "a" * 1_000_000,
    "control characters": "lost\x00card\x07\x1b[0m",
    "mixed scripts": "lost карта 卡 بطاقة",
    "right to left": "\u202eאבד הכרטיס\u202c",
    "emoji": "lost 💳 👩‍👩‍👧",
}


@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS.keys())
@pytest.mark.parametrize("form", [{}, {"preprocessing": "unicode"}, {"compatibility": "pyss3"}], ids=str)
def test_odd_texts_are_classified_explained_learned_and_taken_back(text: str, form: dict[str, Any]) -> None:
    model = learned(EXAMPLES, **form)
    before, values = digest(model.state()), told(model)

    p, _ = model.peek(text)
    tree = explain(model, text)

    assert p.sum() == pytest.approx(1.0)
    assert "".join(t.text for par in tree.paragraphs for s in par.sentences for t in s.terms) == text
    assert digest(model.state()) == before
    steps = model.steps()
    row = steps.row(text)
    steps.learn(row, "lost")
    steps.unlearn(row, "lost")
    steps.execute()
    assert told(model) == values


@pytest.mark.parametrize("text", [None, 7, ["a"], "\ud800", "x" * 20])
def test_what_is_no_text_is_refused(text: Any) -> None:
    model = SS3Classifier(max_characters=15)
    before = digest(model.state())

    with pytest.raises(BadRecord):
        model.steps().row(text)

    assert digest(model.state()) == before


def test_nothing_known_is_decided_by_the_default() -> None:
    assert SS3Classifier().predict_one("card") == UNKNOWN
    assert learned(EXAMPLES).predict_one("weather") == "lost"
    assert learned(EXAMPLES, default="unknown").predict_one("weather") == UNKNOWN
    assert learned(EXAMPLES, default="refund").predict_one("weather") == "refund"
    assert learned(EXAMPLES, default="nowhere").predict_one("weather") == UNKNOWN


def test_parameters_out_of_range_are_refused() -> None:
    wrong: list[dict[str, Any]] = [
        {"sigma": -1.0}, {"lam": float("nan")}, {"n_grams": 0}, {"significance": "b"}, {"confidence": "c"},
        {"over_terms": "d"}, {"preprocessing": "e"}, {"compatibility": "f"}, {"max_terms": 1}, {"half_life": 0.0},
        {"max_classes": 0}, {"paragraph": "("}, {"sentence": "(a)"}, {"word": ""},
            {"paragraph": "(", "compatibility": "pyss3"}, {"max_characters": 0},
    ]  # fmt: skip
    for parameters in wrong:
        with pytest.raises(ConfigError):
            SS3Classifier(**parameters)


@laws
@given(DOCUMENTS, WORDS)
def test_parameters_changed_live_are_as_if_they_had_always_been(
    documents: list[tuple[str, str]], text: str
) -> None:
    changed = learned(documents, n_grams=2)
    changed.classify(text)

    changed.retune({"sigma": 0.32, "lam": 1.24, "rho": 1.1, "alpha": 0.05})

    fresh = learned(documents, n_grams=2, sigma=0.32, lam=1.24, rho=1.1, alpha=0.05)
    assert changed.classify(text).tolist() == fresh.classify(text).tolist()
    for wrong in ({"rho": 0.7, "sigma": -1.0}, {"n_grams": 3}, {"confidence": "much"}):
        with pytest.raises(ConfigError):
            changed.retune(wrong)
    assert (changed.sigma, changed.rho) == (0.32, 1.1)
    changed.retune({"confidence": "gv", "significance": "vanilla", "over_terms": "max"})
    fresh = learned(
        documents, n_grams=2, sigma=0.32, lam=1.24, rho=1.1, alpha=0.05,
        confidence="gv", significance="vanilla", over_terms="max",
    )  # fmt: skip
    assert changed.classify(text).tolist() == fresh.classify(text).tolist()


@laws
@given(DOCUMENTS, st.data())
def test_a_label_taken_back_was_never_learned(documents: list[tuple[str, str]], data: st.DataObject) -> None:
    kept = [data.draw(st.booleans()) for _ in documents]
    model = learned(documents, n_grams=3)
    steps = model.steps()
    for (text, label), keep in zip(documents, kept, strict=True):
        if not keep:
            steps.unlearn(steps.row(text), label)
    steps.execute()

    never = learned([document for document, keep in zip(documents, kept, strict=True) if keep], n_grams=3)

    assert told(model) == told(never)
    for category in never.classes:
        assert model.largest(category) == never.largest(category)
    assert (model.terms, model.pairs) == (never.terms, never.pairs)
    assert set(model._ids) == set(never._ids)


@laws
@given(DOCUMENTS)
def test_a_corrected_label_is_as_if_the_right_one_had_come_at_once(documents: list[tuple[str, str]]) -> None:
    model, right = learned(documents, n_grams=2), SS3Classifier(n_grams=2)
    steps = model.steps()
    for text, label in documents:
        steps.correct(steps.row(text), label, "y", b"")
    steps.execute()

    right.learn_many([text for text, _ in documents], ["y" for _ in documents])

    assert told(model) == told(right)


@laws
@given(st.lists(st.tuples(st.lists(st.integers(0, 60), max_size=9), st.sampled_from("xy")), max_size=60))
def test_a_bounded_vocabulary_is_exact_until_it_evicts_and_then_within_its_error(
    numbered: list[tuple[list[int], str]],
) -> None:
    bound = 32
    model, truth, seen = SS3Classifier(n_grams=2, max_terms=bound), Counter[str](), set[str]()
    for numbers, label in numbered:
        words = ["w" + "abcdefghij"[n % 10] * (1 + n // 10) for n in numbers]
        model.learn_one(" ".join(words), label)
        truth.update(words)
        truth.update(f"{a} {b}" for a, b in pairwise(words))
        seen.update(truth)

        stored = Counter[str]()
        for entry in vocabulary(model):
            stored[entry.term] += entry.fr  # type: ignore[assignment]
        if not model.evicted:
            assert stored == truth
            assert model.error == 0.0
        assert model.terms <= bound + 2
        assert all(stored[term] <= truth[term] <= stored[term] + model.error for term in seen)


def test_forgetting_halves_the_counts_in_a_half_life() -> None:
    model = learned([("a a a a b", "x")] + [("c", "y")] * 9, half_life=3.0)

    assert model.values("a", "x")[0] == pytest.approx(4 / 8)
    assert model.values("c", "y")[0] == pytest.approx(sum(0.5 ** (age / 3) for age in range(9)))
    assert model.values("a", "x")[1] == 0.0
    assert model.values("c", "y")[1] == 1.0


def test_forgetting_survives_the_largest_unit() -> None:
    model = SS3Classifier(half_life=1.0)
    for _ in range(600):
        model.learn_many(["a b", "b c"], ["x", "y"])

    assert model.values("b", "y")[0] == pytest.approx(1 + 0.25 / 0.75)
    assert model.values("b", "x")[0] == pytest.approx(0.5 / 0.75)
    assert np.isfinite(model.classify("a b c")).all()


@pytest.mark.parametrize(
    "form", [{}, {"n_grams": 3}, {"preprocessing": "unicode"}, {"over_sentences": "max"}], ids=str
)
def test_the_explanation_sums_to_the_decision(form: dict[str, Any]) -> None:
    model = learned(EXAMPLES * 3, **form)
    text = "Hello. I lost my card, and my refund is 3.5 $!\n\nPlease: is my card lost? Don't."

    tree = explain(model, text)

    assert tree.cv == tree.decided == model.classify(text).tolist()
    assert "".join(t.text for par in tree.paragraphs for s in par.sentences for t in s.terms) == text
    _, why = model.peek(text)
    terms = [reason for reason in why if isinstance(reason[1], float)]
    if not form.get("over_sentences"):
        assert sum(share for _, share, *_ in terms) == pytest.approx(max(tree.cv))


def test_reasons_name_terms_categories_sentences_and_paragraphs() -> None:
    model = learned(EXAMPLES * 3, n_grams=2)

    _, why = model.peek("card lost. refund\nmy card")

    named = {reason[0]: reason[1:] for reason in why}
    assert "refund" in named or "(rest)" in named or "card lost" in named
    assert len(named["(sentences)"][0]) == 3
    assert sum(named["(sentences)"][0]) == pytest.approx(sum(named["(paragraphs)"][0]))


def test_the_page_escapes_what_it_shows() -> None:
    model = learned([("<script>lost</script>", "<b>"), ("lost lost", "<b>"), ("found found", "ok")])

    page = as_html(explain(model, "<script>lost</script>"), title="<i>")

    assert "<script>" not in page
    assert "&lt;b&gt;" in page
    assert "<i>" not in page


def test_insights_are_the_pieces_that_spoke_for_the_category() -> None:
    tree = explain(
        learned(EXAMPLES * 3), "Hello there my friend. My card was lost in town. Bye now to you all, friend."
    )

    assert [text for text, _ in insight(tree, "sentence")] == [" My card was lost in town."]
    assert insight(tree, "word", window=0) != []
    assert insight(tree, "paragraph", category="refund") == []
    with pytest.raises(BadRecord):
        insight(tree, "letter")
    with pytest.raises(BadRecord):
        insight(tree, category="weather")


def test_several_labels_and_none() -> None:
    model = SS3Classifier(multilabel=True)
    for _ in range(3):
        model.learn_many(
            ["card lost", "refund late", "card refund", "weather fine"], [["c"], ["r"], ["c", "r"], []]
        )

    assert sorted(model.predict_one("card refund lost late")) == ["c", "r"]
    assert model.predict_one("weather fine") == []
    assert model.predict_one("nothing known") == []
    with pytest.raises(BadRecord):
        model.learn_one("x", ["a", 1])  # type: ignore[list-item]


def words_of(kind: str, text: str) -> list[str]:
    words: dict[str, int] = {}
    codes = Tokeniser(kind).learned(text, lambda word: words.setdefault(word, len(words)))
    names = list(words)
    return [names[code] for code in codes if code >= 0]


def test_the_two_kinds_of_words() -> None:
    text = "Don't pay $5, 10% of 3.5 km; naïve ＦＵＬＬ ½ हिन्दी 卡片"

    assert words_of("numbers", text) == [
        "dont", "pay", "mnnbrr", "nnbrrp", "of", "nnbrr", "km", "naive", "full", "nnbrr", "nnbrr",
        "ह", "नद", "卡片",
    ]  # fmt: skip
    assert words_of("unicode", text) == [
        "don't", "pay", "5", "10", "of", "3", "5", "km", "naïve", "full", "1⁄2", "हिन्दी", "卡", "片",
    ]  # fmt: skip
