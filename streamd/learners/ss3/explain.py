"""Why SS3 decided as it did: the whole tree of a text, what of it mattered, and a page that shows it in colour.

The tree is cut and recognised by the very code that decides, so its sums are the decision. Only with
`compatibility="pyss3"` it is PySS3's, which cleans word by word and so may differ from its own decision; both are
given then.
"""

import html
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamd.errors import BadRecord
from streamd.kernels import ss3 as kernel
from streamd.learners.ss3.model import SS3Classifier
from streamd.learners.ss3.text import Token

Vector = list[float]  # one number a category
LEVELS = ("word", "sentence", "paragraph")


class Term(msgspec.Struct, frozen=True):
    """A term recognised, or what lies between. text: as it is written, with what is between its words.

    term: its words, cleaned; empty for what is no word. The vectors are empty for what the model does not know.
    """

    text: str
    term: str = ""
    fr: Vector = []
    lv: Vector = []
    sg: Vector = []
    sn: Vector = []
    cv: Vector = []


class Sentence(msgspec.Struct, frozen=True):
    cv: Vector
    terms: list[Term]


class Paragraph(msgspec.Struct, frozen=True):
    cv: Vector
    sentences: list[Sentence]


class Explanation(msgspec.Struct, frozen=True):
    """decided: the confidences by which the model decides; cv: those of the tree, the same unless PySS3's."""

    categories: list[str]
    label: str | list[str]
    decided: Vector
    cv: Vector
    paragraphs: list[Paragraph]


class _Found(NamedTuple):
    """A term at a place of a row of codes, which may be one the model does not know."""

    term: int
    taken: int


def explain(model: SS3Classifier, text: Any) -> Explanation:
    """The whole tree. Raises BadRecord for what is no text; changes nothing."""
    predicted = model.steps()
    predicted.predict(predicted.row(text))
    predictions = predicted.execute()
    steps = model.steps()
    tree = model._tokens.explained(text, steps.code)
    pieces = [token for paragraph in tree for sentence in paragraph for token in [*sentence, _END]]
    coded = [token.code for token in pieces if token.code is not None]
    steps.op(kernel.RECOGNISE, steps.place(coded), 0, 1.0)
    found = {at: _Found(term, taken) for term, at, taken in steps.answers().found.tolist() if term >= 0}
    values = _values(model, {place.term for place in found.values()})
    build = _Builder(model, steps.words, found, values)
    paragraphs = [build.paragraph(paragraph) for paragraph in tree]
    return Explanation(
        categories=list(model.classes),
        label=predictions.label(0),
        decided=predictions.confidences[0].tolist(),
        cv=_fold(model.operators[2], [paragraph.cv for paragraph in paragraphs], len(model.classes)),
        paragraphs=paragraphs,
    )


_END = Token(kernel.BREAK, "")  # no n-gram leaves its sentence


def _values(model: SS3Classifier, terms: set[int]) -> dict[int, NDArray[np.float64]]:
    ordered = sorted(terms)
    return dict(zip(ordered, model.term_values(ordered), strict=True)) if ordered else {}


def _fold(operator: str, vectors: Sequence[Vector], C: int) -> Vector:
    total = [0.0] * C
    for vector in vectors:
        if vector and operator == "max":
            total = [max(a, b) for a, b in zip(total, vector, strict=True)]
        elif vector:
            total = [a + b for a, b in zip(total, vector, strict=True)]
    return total


class _Builder:
    """Walks through the tokens in the order in which they were coded."""

    def __init__(
        self,
        model: SS3Classifier,
        words: list[str],
        found: dict[int, _Found],
        values: dict[int, NDArray[np.float64]],
    ) -> None:
        self._operators, self._alpha, self._C = model.operators, model.alpha, len(model.classes)
        self._words, self._found, self._values = words, found, values
        self._at = 0

    def paragraph(self, sentences: list[list[Token]]) -> Paragraph:
        made = [self._sentence(tokens) for tokens in sentences]
        return Paragraph(_fold(self._operators[1], [sentence.cv for sentence in made], self._C), made)

    def _sentence(self, tokens: list[Token]) -> Sentence:
        terms, i = [], 0
        while i < len(tokens):
            size = self._size(tokens, i)
            terms.append(self._term(tokens[i : i + size]))
            self._at += sum(token.code is not None for token in tokens[i : i + size])
            i += size
        self._at += 1  # of `_END`
        return Sentence(_fold(self._operators[0], [term.cv for term in terms], self._C), terms)

    def _size(self, tokens: list[Token], i: int) -> int:
        """How many tokens the term at i takes, what is between its words included."""
        place = self._found.get(self._at) if tokens[i].code is not None else None
        size, words = 1, 1
        while place is not None and words < place.taken:
            words += tokens[i + size].code is not None
            size += 1
        return size

    def _term(self, tokens: list[Token]) -> Term:
        text = "".join(token.text for token in tokens)
        codes = [token.code for token in tokens if token.code is not None and token.code >= 0]
        name = " ".join(self._words[code] for code in codes)
        if not codes or self._at not in self._found:
            return Term(text, name)
        fr, lv, sg, sn, _, cv = self._values[self._found[self._at].term].tolist()
        return Term(text, name, fr, lv, sg, sn, [v if v > self._alpha else 0.0 for v in cv])


def insight(
    explanation: Explanation,
    level: str = "word",
    category: str | None = None,
    window: int = 3,
    least: float = 0.01,
) -> list[tuple[str, float]]:
    """The pieces of a text that spoke for a category (by default the strongest), with their confidence, strongest
    first: paragraphs, sentences, or words with `window` words around them, windows that touch taken together.

    Raises BadRecord for an unknown level or category.
    """
    if level not in LEVELS:
        raise BadRecord(f"level: one of {', '.join(LEVELS)}")
    if category is not None and category not in explanation.categories:
        raise BadRecord("category: not one that was learned")
    if not explanation.cv:
        return []
    c = max(range(len(explanation.cv)), key=explanation.cv.__getitem__)
    c = c if category is None else explanation.categories.index(category)
    pieces: list[tuple[str, float]] = []
    for paragraph in explanation.paragraphs:
        if level == "paragraph":
            pieces.append((_text([term for s in paragraph.sentences for term in s.terms]), paragraph.cv[c]))
        elif level == "sentence":
            pieces += [(_text(sentence.terms), sentence.cv[c]) for sentence in paragraph.sentences]
        else:
            terms = [term for sentence in paragraph.sentences for term in sentence.terms]
            pieces += _windows(terms, c, window, least)
    if level != "word":
        pieces = [piece for piece in pieces if piece[1] > least]
    return sorted(pieces, key=lambda piece: -piece[1])


def _text(terms: Sequence[Term]) -> str:
    return "".join(term.text for term in terms)


def _windows(terms: Sequence[Term], c: int, window: int, least: float) -> list[tuple[str, float]]:
    """PySS3's windows: they reach `window` places back and, after each strong word, `window` words on."""
    cvs = [term.cv[c] if term.cv else 0.0 for term in terms]
    pieces, i = [], 0
    while i < len(terms):
        if cvs[i] <= least:
            i += 1
            continue
        back = min(i, window)
        first, i, left, total = i - back, i - back, back + 1, 0.0
        while left > 0 and i < len(terms):
            total += cvs[i]
            left += min(window, len(terms) - 1 - i) if cvs[i] > least else 0
            left -= bool(terms[i].term)
            i += 1
        pieces.append((_text(terms[first:i]), total))
    return pieces


PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8c564b")


def as_html(explanation: Explanation, title: str = "Why") -> str:
    """A page on its own: every term in the colour of its strongest category, the stronger the more confident, and
    its numbers when pointed at. All text is escaped."""
    ranked = sorted(range(len(explanation.cv)), key=lambda c: -explanation.cv[c])[: len(PALETTE)]
    colours = {c: PALETTE[i] for i, c in enumerate(ranked)}
    label = explanation.label if isinstance(explanation.label, str) else ", ".join(explanation.label)
    legend = "".join(
        f'<li><b style="background:{colours[c]}"></b>{html.escape(explanation.categories[c])} '
        f"{explanation.cv[c]:.3f}</li>"
        for c in ranked
    )
    paragraphs = "".join(
        "<p>" + "".join(_marked(term, colours) for s in paragraph.sentences for term in s.terms) + "</p>"
        for paragraph in explanation.paragraphs
    )
    return _PAGE.format(title=html.escape(title), label=html.escape(label), legend=legend, paragraphs=paragraphs)


def _marked(term: Term, colours: dict[int, str]) -> str:
    text = html.escape(term.text)
    if not term.cv or max(term.cv) <= 0.0:
        return text
    c = max(range(len(term.cv)), key=term.cv.__getitem__)
    strength = round(15 + 75 * min(term.cv[c], 1.0))
    told = f"{term.term}: cv {term.cv[c]:.3f}, lv {term.lv[c]:.3f}, sg {term.sg[c]:.3f}, sn {term.sn[c]:.3f}, "
    told += f"seen {term.fr[c]:g} times"
    colour = colours.get(c, "#808080")
    style = f"background:color-mix(in srgb, {colour} {strength}%, transparent)"
    return f'<mark style="{style}" title="{html.escape(told)}">{text}</mark>'


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 1rem/1.6 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }}
p {{ white-space: pre-wrap; margin: 0 }}
mark {{ border-radius: .2em; color: inherit }}
ul {{ list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem }}
li b {{ display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin-right: .4em }}
</style>
<h1>{label}</h1><ul>{legend}</ul>
{paragraphs}
</html>
"""


def recognised(model: SS3Classifier, text: str) -> list[str]:
    """The terms a decision is made of, in order, words with spaces between; unknown words are none."""
    steps = model.steps()
    codes = model._tokens.decided(text, steps.code)
    steps.op(kernel.RECOGNISE, steps.place(codes), 0, 1.0)
    found = [place for place in steps.answers().found.tolist() if place[0] >= 0]
    return [" ".join(steps.words[code] for code in codes[at : at + taken]) for _, at, taken in found]
