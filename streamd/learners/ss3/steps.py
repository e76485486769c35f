"""A run of the SS3 classifier: texts cut into codes, what is to be done with them, and the predictions of it."""

from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamd.errors import BadRecord
from streamd.kernels import ss3 as kernel
from streamd.kernels import ss3_counts as counts
from streamd.learners import Label, Why
from streamd.learners.features import HEAVIEST
from streamd.learners.ss3.text import Tokeniser

if TYPE_CHECKING:
    from streamd.learners.ss3.model import SS3Classifier

UNKNOWN = "[unknown]"
REST, SENTENCES, PARAGRAPHS = "(rest)", "(sentences)", "(paragraphs)"


class SS3Predictions:
    """The predictions of one run; see `streamd.learners.Predictions`.

    values: (n, C) probabilities.  confidences: (n, C) what SS3 says, cv summed up.
    """

    def __init__(
        self, model: "SS3Classifier", steps: "SS3Steps", known: NDArray[np.int64], answers: kernel.Answers
    ) -> None:
        self._p, self._known = answers.p, known
        self.confidences = answers.cv
        self._answers = answers
        self._model = model
        self._classes = model.classes
        self._words = steps.words
        self._codes = steps._codes
        self._starts = [steps._placed[row][0] for row in steps._predicted]

    @property
    def values(self) -> NDArray[np.float64]:
        return self._p

    @property
    def known(self) -> NDArray[np.int64]:
        return self._known

    def memos(self) -> list[bytes]:
        """Each's confidences; where all are 0, then the default (int32), if there is one."""
        return [self._memo(i) for i in range(len(self._known))]

    def _memo(self, i: int) -> bytes:
        said = self.confidences[i, : self.known[i]]
        memo: bytes = said.tobytes()
        if self._answers.decided[i] >= 0 and not said.any():
            memo += self._answers.decided[i].astype(np.int32).tobytes()
        return memo

    def label(self, i: int) -> str | list[str]:
        """The decision: a category or UNKNOWN; with several labels, the list of them."""
        names = [self._classes[c] for c in self._model.decision(self._memo(i))]
        return names if self._model.multilabel else names[0] if names else UNKNOWN

    def whys(self) -> list[Why]:
        """Up to five of [term, its part of the decided category's confidence, {category: cv of the term}], then
        [REST, what the other terms add]; where there are several, [SENTENCES, [sum of each]] and PARAGRAPHS."""
        return [self._why(i) for i in range(len(self._known))]

    def _why(self, i: int) -> Why:
        a, decided = self._answers, int(self._answers.decided[i])
        if decided < 0 or not self.confidences[i, decided] > 0.0:
            return []
        reasons: Why = []
        for at, words, share, categories, cvs in zip(
            a.at[i].tolist(), a.words[i].tolist(), a.share[i].tolist(), a.category[i].tolist(),
            a.confidence[i].tolist(), strict=True,
        ):  # fmt: skip
            if at >= 0:
                codes = self._codes[self._starts[i] + at : self._starts[i] + at + words]
                by = {self._classes[c]: cv for c, cv in zip(categories, cvs, strict=True) if c >= 0}
                reasons.append([" ".join(self._words[code] for code in codes), share, by])
        rest = float(self.confidences[i, decided]) - sum(reason[1] for reason in reasons)
        if abs(rest) > 1e-12 * float(self.confidences[i, decided]):
            reasons.append([REST, rest])
        return reasons + self._parts(i)

    def _parts(self, i: int) -> Why:
        start, found = self._starts[i], []
        for code in self._codes[start:]:
            if code in (kernel.SENTENCE, kernel.PARAGRAPH):
                found.append(code)
            if len(found) == kernel.PARTS or code == END:
                break
        sums = list(zip(found, self._answers.parts[i].tolist(), strict=False))
        parts: Why = []
        for mark, name in ((kernel.SENTENCE, SENTENCES), (kernel.PARAGRAPH, PARAGRAPHS)):
            if len(of := [cv for code, cv in sums if code == mark]) > 1:
                parts.append([name, of])
        return parts


END = -4  # after a row


class _Lexicon(dict[str, int]):
    """Pieces of text to codes, for one run."""

    def __init__(self, steps: "SS3Steps", tokens: Tokeniser) -> None:
        self._steps = steps
        self._tokens = tokens

    def __missing__(self, piece: str) -> int:
        code = self[piece] = self._tokens.code(piece, self._steps.code)
        return code


class SS3Steps:
    """One run; see `streamd.learners.Steps`. Categories are given out at once, so execute every run."""

    def __init__(self, model: "SS3Classifier") -> None:
        self.words: list[str] = []  # by their number in the run
        self._model = model
        self._numbers: dict[str, int] = {}
        self._local = array("i")
        tokens = model._tokens
        self._lexicon = _Lexicon(self, tokens) if isinstance(tokens, Tokeniser) else None
        self._texts: list[str] = []
        self._codes = array("i")
        self._placed: dict[int, tuple[int, int, int, int]] = {}  # row -> where its codes are
        self._ops: list[int] = []
        self._weights: list[float] = []
        self._predicted: list[int] = []
        self._known: list[int] = []

    def code(self, word: str) -> int:
        """The number of a word in this run."""
        number = self._numbers.get(word)
        if number is None:
            number = self._numbers[word] = len(self.words)
            self.words.append(word)
            self._local.append(self._model._ids.get(word, counts.NOBODY))
        return number

    def row(self, x: Any, tags: Sequence[str] = ()) -> int:
        self._texts.append(self._model._text(x))
        return len(self._texts) - 1

    def predict(self, row: int) -> None:
        model = self._model
        self._place(row)
        self.op(kernel.PREDICT, row, model._default(), 1.0)
        self._predicted.append(row)
        self._known.append(len(model.classes))

    def observe(self, row: int) -> None:
        """Without a label there is nothing to count."""

    def learn(self, row: int, y: Label | Sequence[str], seen: int | bytes = b"", weight: float = 1.0) -> None:
        if not 0.0 <= weight <= HEAVIEST:
            raise BadRecord(f"the label's weight is not within 0 and {HEAVIEST:g}")
        self._count(kernel.LEARN, row, self._model._numbers_of(y), weight)

    def correct(
        self, row: int, old: Label | Sequence[str], new: Label | Sequence[str], seen: int | bytes = b""
    ) -> None:
        """As if the old label, of weight 1, had never been learned, and the new one now. Counts are taken back at
        their weight of today: with forgetting, that is more than was left of them."""
        added = self._model._numbers_of(new)
        taken = [self._model._places[y] for y in self._model._labels(old) if y in self._model._places]
        self._count(kernel.UNLEARN, row, taken, 1.0)
        self._count(kernel.LEARN, row, added, 1.0)

    def unlearn(self, row: int, y: Label | Sequence[str], weight: float = 1.0) -> None:
        """As if this label had never been learned. BadRecord if it is not a category."""
        known = [self._model._places.get(label, -1) for label in self._model._labels(y)]
        if -1 in known:
            raise BadRecord("label: not a category that was learned")
        self._count(kernel.UNLEARN, row, known, weight)

    def execute(self) -> SS3Predictions:
        return SS3Predictions(self._model, self, np.array(self._known, np.int64), self.answers())

    def answers(self) -> kernel.Answers:
        """Apply everything; once a run."""
        model = self._model
        rows = np.zeros((max(1, len(self._texts)), 4), np.int64)
        for row, places in self._placed.items():
            rows[row] = places
        ops = np.array(self._ops, np.int64).reshape(-1, 4)
        asked = [row for kind, row, _, _ in ops.tolist() if kind == kernel.RECOGNISE]
        listed = sum(self._placed[row][1] - self._placed[row][0] for row in asked)
        valued = int(np.isin(ops[:, 0], (kernel.VALUES, kernel.LARGEST)).sum())
        answers = kernel.answers(len(self._predicted), len(model.classes), listed, valued)
        codes = np.frombuffer(self._codes, np.int32) if self._codes else np.zeros(0, np.int32)
        local = np.array(self._local, np.int32)
        model._run(rows, codes, ops, np.array(self._weights), local, answers, self.words)
        return answers

    def place(self, codes: Sequence[int]) -> int:
        """A row of codes already cut."""
        start = len(self._codes)
        self._codes.extend(codes)
        self._texts.append("")
        row = len(self._texts) - 1
        self._placed[row] = (start, len(self._codes), start, len(self._codes))
        self._codes.append(END)
        return row

    def op(self, kind: int, row: int, what: int, weight: float) -> None:
        self._ops += (kind, row, what, len(self._model.classes))
        self._weights.append(weight)

    def _count(self, kind: int, row: int, categories: Iterable[int], weight: float) -> None:
        if weight == 0.0:
            return
        self._place(row)
        for category in categories:
            self.op(kind, row, category, float(weight))

    def _place(self, row: int) -> None:
        """Cut a row into codes, when it is first needed."""
        if row in self._placed:
            return
        text, codes, tokens = self._texts[row], self._codes, self._model._tokens
        start = len(codes)
        if isinstance(tokens, Tokeniser):
            assert self._lexicon is not None
            codes.extend(tokens.codes(text, self._lexicon))
            self._placed[row] = (start, len(codes), start, len(codes))
        else:
            codes.extend(tokens.decided(text, self.code))
            middle = len(codes)
            codes.append(END)
            codes.extend(tokens.learned(text, self.code))
            self._placed[row] = (start, middle, middle + 1, len(codes))
        codes.append(END)
