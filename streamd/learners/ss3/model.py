"""SS3: text classification from counts alone, exact after every document, with its reasons (Burdisso, Errecalde,
Montes-y-Gomez 2019, https://arxiv.org/abs/1905.08772; n-grams: t-SS3, https://arxiv.org/abs/1911.06147).

For a term g (a word or an n-gram) and category c of C, with fr(g, c) the times g was seen in c:

    lv = (fr / max_fr(c)) ^ sigma             max_fr over the terms of g's length; 0 where fr <= 1
    sg = tanh(3 (lv - M) / (lam D) - 3)/2 + 1/2   M the lower median of g's lv over the categories, D their mean
                                              deviation from it; both their least where C = 2
    sn = ((C - (S+1)) / ((C-1) (S+1))) ^ rho  S the sum of sg over the other categories
    gv = lv sg sn                             its weight for c
    cv = gv / max_gv(c)                       its confidence: `norm_gv`; `gv` takes gv as it is

significance: "xai" silences words that are common everywhere (sg = 0 where M >= 0.3, or M > 0.2 or all lv > 0.09
and D <= 0.1) and gives lam D a floor of 0.03; "vanilla" does neither. confidence "norm_gv_xai" is `norm_gv`, and
for n-grams T, the sum of gv of all its words over all categories, takes part: below 0.05 the n-gram counts
nothing; where every word has gv >= 0.01 in c, T is added. "gv" with "vanilla" is nearest to the paper.

A sentence takes, from the left, n-grams where they say more than their words; cv above alpha are added up over
terms, sentences and paragraphs (or the largest is taken). The largest sum is the decision, the first category on
ties. If all are 0, `default` decides: the category with the most words, unknown, or a name. The probabilities of
a prediction are its cv over their sum, all the same if that is 0.

These are the functions of PySS3 0.6.5 (https://github.com/sergioburdisso/pyss3); `compatibility="pyss3"` also cuts
texts as it does (see `text.py`). Without that, learning, deciding and explaining see the same words. In both,
only counts are stored, so sigma, lam, rho and alpha may change at any time, and a category counts among the C from
its first document on, until all were taken back.

>>> model = SS3Classifier()
>>> for text, label in [("I lost my card", "lost"), ("where is my refund", "refund"), ("card lost", "lost"),
...                     ("refund please", "refund"), ("is my card lost", "lost")]:
...     model.learn_one(text, label)
>>> model.classify("my card").round(4).tolist()
[1.8291, 0.0]
>>> [reason[:2] for reason in model.peek("a lost card?")[1]]
[['lost', 1.0], ['card', 1.0]]
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamd.errors import BadRecord, ConfigError, StateError
from streamd.kernels import ss3 as kernel
from streamd.kernels import ss3_counts as counts
from streamd.learners import Label, Why
from streamd.learners.features import LONGEST
from streamd.learners.ss3.steps import SS3Predictions, SS3Steps
from streamd.learners.ss3.text import Delimiters, Pyss3Tokeniser, Tokeniser
from streamd.snapshot import State
from streamd.views import VocabularyView

CONFIDENCES = {"gv": kernel.GV, "norm_gv": kernel.NORM_GV, "norm_gv_xai": kernel.NORM_GV_XAI}
SIGNIFICANCES = {"vanilla": kernel.VANILLA, "xai": kernel.XAI}
OPERATORS = {"sum": kernel.SUM, "max": kernel.MAX}  # a new one is a line here and one in the kernel's `_fold`
OTHERS = "[others]"  # PySS3's category of documents that have no label
EXPLAINED = 1 << 12  # characters; a tree is many times as long
SLOTS = 1 << 13  # of the cache of values
TERM_ARRAYS = ("parent", "word", "length", "held", "missed")


class SS3Classifier:
    """sigma (PySS3's s), lam (l), rho (p), alpha (a): how frequencies are smoothed, what makes a word significant,
    how much words shared with other categories are sanctioned, below which cv a term counts nothing.

    n_grams: the longest n-grams learned, in words.
    significance, confidence: see above.  over_terms, over_sentences, over_paragraphs: "sum" or "max".
    default: "most-probable", "unknown", or a category; None: "unknown" with several labels, else "most-probable".
    multilabel: labels are lists, perhaps empty. The decision: 2-means of the confidences, the upper group.
    preprocessing: "numbers" (PySS3's) or "unicode"; paragraph, sentence, word: delimiters; see `ss3/text.py`.
    compatibility: None, or "pyss3": texts cut as PySS3 does; n-grams pruned as there, by `fit` and while learning.
    max_terms: words and n-grams kept; those seen least give way, see `kernels.ss3_counts`; from then on `error`
        says by how much a count may be too low.
    half_life: documents after which a count is worth half; None: no forgetting. lv is 0 where that is 1 or less.
    max_classes, max_characters: what exceeds them is a BadRecord.
    All parameters out of range raise ConfigError. Those of `LIVE` say what is made of the counts, not what is
    counted: they can be changed while it learns.
    """

    LIVE: ClassVar[frozenset[str]] = frozenset(
        {"sigma", "lam", "rho", "alpha", "significance", "confidence", "default"}
        | {"over_terms", "over_sentences", "over_paragraphs"}
    )

    def __init__(
        self,
        sigma: float = 0.45,
        lam: float = 0.5,
        rho: float = 1.0,
        alpha: float = 0.0,
        n_grams: int = 1,
        significance: str = "xai",
        confidence: str = "norm_gv_xai",
        over_terms: str = "sum",
        over_sentences: str = "sum",
        over_paragraphs: str = "sum",
        default: str | None = None,
        multilabel: bool = False,
        preprocessing: str = "numbers",
        paragraph: str = Delimiters().paragraph,
        sentence: str = Delimiters().sentence,
        word: str | None = None,
        compatibility: str | None = None,
        max_terms: int = 1 << 20,
        half_life: float | None = None,
        max_classes: int = 1000,
        max_characters: int = 1 << 21,
    ) -> None:
        self.sigma, self.lam, self.rho, self.alpha = sigma, lam, rho, alpha
        self.n_grams = n_grams
        self.significance = significance
        self.confidence = confidence
        self.over_terms, self.over_sentences, self.over_paragraphs = over_terms, over_sentences, over_paragraphs
        self.default = default
        self.multilabel = multilabel
        self.preprocessing = preprocessing
        self.compatibility = compatibility
        self.max_terms = max_terms
        self.half_life = half_life
        self.max_classes = max_classes
        self.max_characters = max_characters
        _check(self)
        delimiters = Delimiters(paragraph, sentence, word)
        pyss3 = compatibility == "pyss3"
        self._tokens = Pyss3Tokeniser(delimiters) if pyss3 else Tokeniser(preprocessing, delimiters)
        self.classes: list[str] = []
        self._places: dict[str, int] = {}
        kernel.load()  # here, and not with the other kernels, because it takes long and few need it
        self._settings = self._compiled()
        self.reset()

    def retune(self, parameters: Mapping[str, Any]) -> None:
        """Change parameters of `LIVE`; takes effect at once and at no cost, for only counts are stored. Raises
        ConfigError, and changes nothing, for another parameter or one out of range."""
        for name in parameters:
            _require(name in self.LIVE, name, "cannot be changed while learning")
        before = {name: getattr(self, name) for name in parameters}
        self._set(parameters)
        try:
            _check(self)
        except ConfigError:
            self._set(before)
            raise
        self._settings = self._compiled()
        self._store.n[counts.VERSION] += 1

    def _set(self, parameters: Mapping[str, Any]) -> None:
        for name, value in parameters.items():
            setattr(self, name, value)

    @property
    def operators(self) -> tuple[str, str, str]:
        """Over terms, sentences, paragraphs."""
        return self.over_terms, self.over_sentences, self.over_paragraphs

    def _compiled(self) -> kernel.Settings:
        return kernel.Settings(
            float(self.sigma), float(self.lam), float(self.rho), float(self.alpha),
            0.5 ** (1.0 / self.half_life) if self.half_life is not None else 1.0,
            CONFIDENCES[self.confidence], SIGNIFICANCES[self.significance],
            OPERATORS[self.over_terms], OPERATORS[self.over_sentences], OPERATORS[self.over_paragraphs],
            self.n_grams, self.max_terms, int(self.compatibility == "pyss3"),
        )  # fmt: skip

    # --- as a learner

    def steps(self) -> SS3Steps:
        return SS3Steps(self)

    def probabilities(self, memo: bytes) -> NDArray[np.float64]:
        said = self.confidences(memo)
        total = np.cumsum(said)[-1] if len(said) else 0.0  # in the kernel's order
        return said / total if total > 0.0 else np.full(len(said), 1.0 / max(len(said), 1))

    def confidences(self, memo: bytes) -> NDArray[np.float64]:
        if len(memo) % 8 not in (0, 4):
            raise StateError("a memo of this length is none of this learner's")
        return np.frombuffer(memo, np.float64, len(memo) // 8)

    def decision(self, memo: bytes) -> list[int]:
        said = self.confidences(memo)
        default = int(np.frombuffer(memo[-4:], np.int32)[0]) if len(memo) % 8 else -1
        if self.multilabel:
            return [c for c in several(said, default) if self.classes[c] != OTHERS]
        if default >= 0:
            return [default]
        return [int(said.argmax())] if said.any() else []

    def peek(self, x: Any) -> tuple[NDArray[np.float64], Why]:
        predictions = self._predict([x])
        return predictions.values[0, : predictions.known[0]], predictions.whys()[0]

    def explain(self, x: Any) -> Struct:
        """The whole tree, `explain.Explanation`. Raises BadRecord for what is no text, or a long one."""
        from streamd.learners.ss3.explain import explain

        if len(self._text(x)) > EXPLAINED:
            raise BadRecord(f"text: {len(x)} characters, at most {EXPLAINED} are explained")
        return explain(self, x)

    def reset(self) -> None:
        """Forget what was learned; categories keep their places."""
        self._store = counts.empty(self.half_life is not None)
        self._ids: dict[str, int] = {}
        self._widen()

    def state(self) -> State:
        store, ids = self._store, int(self._store.n[counts.IDS])
        length, count = store.length[:ids], store.held[:ids].astype(np.int64)
        where = np.repeat(store.first[:ids] - (np.cumsum(count) - count), count) + np.arange(count.sum())
        C = len(self.classes)
        arrays: dict[str, NDArray[Any]] = {
            "names": np.frombuffer("\n".join(self._ids).encode(), np.uint8),
            "name_ids": np.fromiter(self._ids.values(), np.int32, len(self._ids)),
            "parent": store.parent[:ids],
            "word": np.where(length == 1, 0, store.word[:ids]),
            "length": length,
            "held": store.held[:ids],
            "missed": store.missed[:ids] if store.x[counts.ERROR] > 0.0 else np.zeros(0),
            "category": store.category[where],
            "fr": store.fr[where],
            "docs": store.docs[:C],
            "words": store.words[:C],
            "floor": store.floor[: C * self.n_grams],
        }
        places = {"free": counts.FREE, "evicted": counts.EVICTED, "since_pruning": counts.SINCE_PRUNING}
        document = {name: int(store.n[place]) for name, place in places.items()}
        unit, error = store.x.tolist()
        return State(arrays, {**document, "classes": list(self.classes), "unit": unit, "error": error})

    def restore(self, state: State) -> None:
        arrays, document = state
        try:
            classes = list(document["classes"])
            words = arrays["names"].tobytes().decode().split("\n") if len(arrays["names"]) else []
            ids = dict(zip(words, arrays["name_ids"].tolist(), strict=True))
            store = self._stored(arrays, document, len(classes))
        except (KeyError, ValueError) as error:
            raise StateError(f"not the state of an SS3 learner with these settings: {error}") from None
        self.classes, self._places = classes, {y: c for c, y in enumerate(classes)}
        self._store, self._ids = store, ids

    def _stored(self, arrays: dict[str, NDArray[Any]], document: dict[str, Any], C: int) -> counts.Store:
        store = counts.widen(counts.empty(self.half_life is not None), max(C, 1), self.n_grams, SLOTS)
        T = len(arrays["length"])
        fits = len(arrays["category"]) == len(arrays["fr"]) == int(arrays["held"].sum())
        if not fits or len(arrays["docs"]) != C or len(arrays["floor"]) != C * self.n_grams:
            raise ValueError("the arrays do not fit one another")
        alive = int(np.count_nonzero(arrays["length"]))
        terms = {name: np.zeros(T + 8, kind) for name, kind in counts.BY_TERM.items()}
        for name in TERM_ARRAYS:
            terms[name][: len(arrays[name])] = arrays[name]
        table = np.zeros(max(16, 1 << (2 * alive).bit_length()), np.int32)
        store.docs[:C], store.words[:C] = arrays["docs"], arrays["words"]
        store.floor[: C * self.n_grams] = arrays["floor"]
        store.x[:] = document["unit"], document["error"]
        for name, place in (("free", counts.FREE), ("evicted", counts.EVICTED)):
            store.n[place] = document[name]
        store.n[counts.SINCE_PRUNING] = document["since_pruning"]
        store.n[counts.IDS], store.n[counts.ALIVE] = T, alive
        store = store._replace(table=table, **terms)
        category, fr = arrays["category"].astype(np.int64), arrays["fr"].astype(np.float64)
        made: counts.Store = counts.restored(store, category, fr, self.n_grams)
        return made

    # --- as a classifier

    def learn_one(self, x: str, y: Label | Sequence[str]) -> None:
        self.learn_many([x], [y])

    def learn_many(self, X: Iterable[str], y: Iterable[Label | Sequence[str]]) -> None:
        """Learn documents one after the other."""
        steps = self.steps()
        for text, label in zip(X, y, strict=True):
            steps.learn(steps.row(text), label)
        steps.execute()

    def fit(self, X: Sequence[str], y: Sequence[Label | Sequence[str]]) -> None:
        """Learn a whole set. As PySS3 does, when compatible: categories sorted, the documents of each joined by
        newlines (several labels: one after the other), then n-grams seen ten times or less dropped."""
        if self.compatibility != "pyss3":
            return self.learn_many(X, y)
        if self.multilabel:
            self.learn_many(X, y)
        else:
            for label in sorted({str(label) for label in y}):
                texts = [text for text, other in zip(X, y, strict=True) if other == label]
                self.learn_one("".join(text if text.endswith("\n") else text + "\n" for text in texts), label)
        self.prune(kernel.PRUNE_UP_TO)

    def prune(self, least: int) -> None:
        """Drop the n-grams of two words or more that were seen at most so often in a category."""
        steps = self.steps()
        steps.op(kernel.PRUNE, 0, least, 1.0)
        steps.execute()

    def classify(self, text: str) -> NDArray[np.float64]:
        """(C,) confidences: not probabilities, and not bounded by 1."""
        confidences: NDArray[np.float64] = self._predict([text]).confidences[0]
        return confidences

    def predict_proba_one(self, x: str) -> dict[str, float]:
        return dict(zip(self.classes, self._predict([x]).values[0].tolist(), strict=True))

    def predict_one(self, x: str) -> str | list[str]:
        return self._predict([x]).label(0)

    def predict_many(self, X: Iterable[str]) -> list[str | list[str]]:
        predictions = self._predict(X)
        return [predictions.label(i) for i in range(len(predictions.known))]

    @property
    def error(self) -> float:
        """No stored count is lower than the truth by more than this; 0 until something was evicted."""
        return float(self._store.x[counts.ERROR] / self._store.x[counts.UNIT])

    @property
    def terms(self) -> int:
        """Words and n-grams stored."""
        return int(self._store.n[counts.ALIVE])

    @property
    def pairs(self) -> int:
        """(term, category) stored."""
        return int(self._store.n[counts.PAIRS])

    @property
    def evicted(self) -> int:
        """Terms that had to give way so far."""
        return int(self._store.n[counts.EVICTED])

    @property
    def memory(self) -> int:
        """Bytes that the counts take in memory, the room kept for more included, the names of words not."""
        kept = (*counts.POOLS, *counts.BY_LIST, "table")
        return sum(getattr(self._store, name).nbytes for name in kept if name != "log")

    # --- to look at

    def vocabulary_view(self) -> VocabularyView:
        return VocabularyView(self.terms, self.max_terms, self.pairs, self.evicted, self.error, self.memory)

    def values(self, term: str, category: str) -> list[float]:
        """[fr, lv, sg, sn, gv, cv] of a word, or of an n-gram written with spaces; 0 where it is not known."""
        steps = self.steps()
        steps.op(kernel.VALUES, steps.place([steps.code(word) for word in term.split()]), counts.NOBODY, 1.0)
        found: list[float] = steps.answers().values[0, :, self._places[category]].tolist()
        return found

    def term_values(self, terms: Iterable[int]) -> NDArray[np.float64]:
        """(terms, 6, C): fr, lv, sg, sn, gv, cv of terms by their number."""
        steps = self.steps()
        for term in terms:
            steps.op(kernel.VALUES, 0, term, 1.0)
        return steps.answers().values

    def largest(self, category: str) -> tuple[list[float], list[float]]:
        """(max_fr, max_gv) of a category, for every length of which it has terms."""
        steps = self.steps()
        for n in range(1, self.n_grams + 1):
            steps.op(kernel.LARGEST, 0, n, 1.0)
        found = steps.answers().values[:, :3, self._places[category]]
        return [row[0] for row in found.tolist() if row[2]], [row[1] for row in found.tolist() if row[2]]

    def numbers(self) -> dict[int, str]:
        """The terms by their number, words of n-grams with spaces between."""
        store, words = self._store, {term: word for word, term in self._ids.items()}
        names = dict(sorted(words.items()))
        for n in range(2, self.n_grams + 1):
            for term in np.flatnonzero(store.length[: store.n[counts.IDS]] == n).tolist():
                names[term] = f"{names[int(store.parent[term])]} {words[int(store.word[term])]}"
        return names

    # --- inside

    def _predict(self, X: Iterable[str]) -> SS3Predictions:
        steps = self.steps()
        for text in X:
            steps.predict(steps.row(text))
        return steps.execute()

    def _text(self, x: Any) -> str:
        if not isinstance(x, str):
            raise BadRecord(f"text: {'null' if x is None else type(x).__name__} is not a string")
        if len(x) > self.max_characters:
            raise BadRecord(f"text: {len(x)} characters, at most {self.max_characters}")
        if not x.isascii():
            try:
                x.encode()
            except UnicodeEncodeError:
                raise BadRecord("text: not valid Unicode") from None
        return x

    def _labels(self, y: Any) -> list[str]:
        """The labels of a document, checked."""
        if self.multilabel and isinstance(y, list | tuple):
            labels = list(dict.fromkeys(y)) if all(isinstance(label, str) for label in y) else list(y)
            labels = labels or [OTHERS]
        else:
            labels = [y]
        for label in labels:
            if not isinstance(label, str):
                raise BadRecord(f"label: {type(label).__name__} is not the name of a class")
            if len(label) > LONGEST:
                raise BadRecord(f"label: a class name of {len(label)} characters, at most {LONGEST}")
            if not label.isascii() and not _is_unicode(label):
                raise BadRecord("label: not valid Unicode")
        return labels

    def _numbers_of(self, y: Any) -> list[int]:
        """The categories of a label; new ones get their places."""
        labels = self._labels(y)
        new = [label for label in labels if label not in self._places]
        if len(self.classes) + len(new) > self.max_classes:
            raise BadRecord(f"label: a new class, but there are {self.max_classes} already")
        for label in new:
            self._places[label] = len(self.classes)
            self.classes.append(label)
        return [self._places[label] for label in labels]

    def _default(self) -> int:
        default = self.default or ("unknown" if self.multilabel else "most-probable")
        if default == "most-probable":
            return kernel.MOST_PROBABLE
        return self._places.get(default, kernel.UNKNOWN)

    def _widen(self) -> None:
        self._store = counts.widen(self._store, max(1, len(self.classes)), self.n_grams, SLOTS)

    def _run(
        self,
        rows: NDArray[np.int64],
        codes: NDArray[np.int32],
        ops: NDArray[np.int64],
        weights: NDArray[np.float64],
        local: NDArray[np.int32],
        answers: kernel.Answers,
        words: list[str],
    ) -> None:
        self._widen()
        self._store = kernel.run(self._store, self._settings, rows, codes, ops, weights, local, answers)
        self._follow_words(words)

    def _follow_words(self, words: list[str]) -> None:
        """Bring the table of names up to what came and went, in that order."""
        store, ids = self._store, self._ids
        lines = store.log[: 2 * store.n[counts.LOGGED]].reshape(-1, 2).tolist()
        store.n[counts.LOGGED] = 0
        if not any(number == counts.NOBODY for number, _ in lines):
            ids.update((words[number], term) for number, term in lines)
            return
        names = {term: word for word, term in ids.items()}
        for number, term in lines:
            if number == counts.NOBODY:
                del ids[names.pop(term)]
            else:
                ids[words[number]] = term
                names[term] = words[number]


def several(confidences: NDArray[np.float64], default: int) -> list[int]:
    """PySS3's choice of several labels: 2-means from the smallest and the largest confidence; the upper group, the
    largest first. All 0: the default, if there is one; all the same: none."""
    order = sorted(range(len(confidences)), key=lambda c: -confidences[c])
    values = [float(confidences[c]) for c in order]
    if not values or values[0] == 0.0:
        return [default] if default >= 0 else []
    low, high = values[-1], values[0]
    if low == high:
        return []
    while True:
        upper = [v for v in values if abs(low - v) >= abs(high - v)]
        lower = [v for v in values if abs(low - v) < abs(high - v)]
        means = sum(lower) / len(lower) if lower else low, sum(upper) / len(upper) if upper else high
        if means == (low, high):
            return order[: len(upper)]
        low, high = means


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check(model: SS3Classifier) -> None:
    default = model.default
    _require(default is None or bool(default), "default", "must be the name of a category, or left out")
    for name in ("sigma", "lam", "rho", "alpha"):
        _require(0.0 <= getattr(model, name) < 1e6, name, "must be 0 or more, and finite")
    _require(1 <= model.n_grams <= 8, "n_grams", "must be within 1 and 8")
    _require(model.significance in SIGNIFICANCES, "significance", _one_of(SIGNIFICANCES))
    _require(model.confidence in CONFIDENCES, "confidence", _one_of(CONFIDENCES))
    for name, operator in zip(("over_terms", "over_sentences", "over_paragraphs"), model.operators, strict=True):
        _require(operator in OPERATORS, name, _one_of(OPERATORS))
    _require(model.preprocessing in ("numbers", "unicode"), "preprocessing", 'must be "numbers" or "unicode"')
    _require(model.compatibility in (None, "pyss3"), "compatibility", 'must be "pyss3", or left out')
    _require(16 * model.n_grams <= model.max_terms <= 1 << 28, "max_terms", "must be within 16 n_grams and 2^28")
    _require(model.half_life is None or 1.0 <= model.half_life < 1e9, "half_life", "must be 1 document or more")
    _require(1 <= model.max_classes <= 1 << 14, "max_classes", "must be within 1 and 16384")
    _require(model.max_characters >= 1, "max_characters", "must be 1 or more")


def _one_of(names: Iterable[str]) -> str:
    return "must be one of " + ", ".join(names)


def _require(holds: bool, key: str, expected: str) -> None:
    if not holds:
        raise ConfigError(key, expected)
