"""PySS3's model files (`.ss3m`, written by 0.6.5): read into an SS3 learner, and written from one.

The file is JSON: for every category a trie of words, each node [next, fr, cv, sg, gv, lv]. It holds no documents
and no names of functions or delimiters but the modes of cv and sg. A learner read from it decides as PySS3 did
with these counts; PySS3 itself loses category names that are numbers, and what the modes mean, when it loads.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from streamd.errors import StateError
from streamd.learners.ss3.model import SS3Classifier
from streamd.learners.ss3.vocabulary import BATCH
from streamd.snapshot import State

DEEPEST = 8  # words of an n-gram
FR, CV, SG, GV, LV = 1, 2, 3, 4, 5
OF_VALUES = {CV: 5, SG: 2, GV: 4, LV: 1}  # where `term_values` has them


def read(raw: bytes, **settings: Any) -> SS3Classifier:
    """A learner with the counts and hyper-parameters of a model file. settings: those of `SS3Classifier`, over the
    file's; by default `compatibility="pyss3"`. Raises StateError for what is no model file."""
    try:
        model = msgspec.json.decode(raw)
        categories = [(str(name), trie) for name, trie in model["__categories__"]]
        words = {int(number): str(word) for number, word in model["__index_to_word__"].items()}
        largest = [[float(fr) for fr in row] for row in model["__max_fr__"]]
        pairs = [(c, path, fr) for c, (_, trie) in enumerate(categories) for path, fr in _walk(trie, ())]
        found = {
            "sigma": float(model["__s__"]), "lam": float(model["__l__"]),
            "rho": float(model["__p__"]), "alpha": float(model["__a__"]),
            "confidence": str(model["__cv_mode__"]), "significance": str(model["__sg_mode__"]),
            "multilabel": bool(model.get("__multilabel__", False)), "compatibility": "pyss3",
        }  # fmt: skip
        n_grams = max([1, *map(len, largest), *(len(path) for _, path, _ in pairs)])
        learner = SS3Classifier(**{"n_grams": n_grams, **found, **settings})
        learner.restore(_state(learner, [name for name, _ in categories], words, pairs, largest))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, msgspec.MsgspecError) as error:
        raise StateError(f"not a PySS3 model file: {type(error).__name__}: {error}") from None
    return learner


def write(model: SS3Classifier) -> bytes:
    """A model file that PySS3 0.6.5 can load. Raises StateError for names that it would lose: category names of
    digits only."""
    if any(name.isdigit() for name in model.classes):
        raise StateError("PySS3 loses category names that are numbers when it loads them")
    words = sorted((term, word) for word, term in model._ids.items())
    index = {term: i for i, (term, _) in enumerate(words)}
    tries: list[dict[str, Any]] = [{} for _ in model.classes]
    _fill(model, tries, index)
    largest = [model.largest(name) for name in model.classes]
    return msgspec.json.encode(
        {
            "__a__": model.alpha, "__l__": model.lam, "__p__": model.rho, "__s__": model.sigma,
            "__max_fr__": [[_whole(fr) for fr in row] for row, _ in largest],
            "__max_gv__": [row for _, row in largest],
            "__categories__": [[name, trie] for name, trie in zip(model.classes, tries, strict=True)],
            "__categories_index__": {name: c for c, name in enumerate(model.classes)},
            "__index_to_word__": {str(i): word for i, (_, word) in enumerate(words)},
            "__word_to_index__": {word: i for i, (_, word) in enumerate(words)},
            "__cv_mode__": model.confidence, "__sg_mode__": model.significance,
            "__multilabel__": model.multilabel,
        }
    )  # fmt: skip


def _walk(trie: Mapping[str, Any], prefix: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], float]]:
    if len(prefix) >= DEEPEST and trie:
        raise ValueError(f"n-grams of more than {DEEPEST} words")
    for number, node in trie.items():
        path = (*prefix, int(number))
        fr = float(node[FR])
        if not 0.0 < fr < 1e15:
            raise ValueError("a frequency that is none")
        yield path, fr
        yield from _walk(node[0], path)


def _state(
    learner: SS3Classifier,
    classes: list[str],
    words: dict[int, str],
    pairs: list[tuple[int, tuple[int, ...], float]],
    largest: list[list[float]],
) -> State:
    paths = sorted({path for _, path, _ in pairs}, key=lambda path: (len(path), path))
    ids = {path: i for i, path in enumerate(paths)}
    of_term = sorted((ids[path], c, fr) for c, path, fr in pairs)
    known = [path for path in paths if len(path) == 1]
    floor = np.zeros((len(classes), learner.n_grams))
    learned = np.zeros(len(classes))
    for c, row in enumerate(largest):
        floor[c, : len(row)] = row
    for c, path, fr in pairs:
        learned[c] += fr if len(path) == 1 else 0.0
    arrays: dict[str, Any] = {
        "names": np.frombuffer("\n".join(words[path[0]] for path in known).encode(), np.uint8),
        "name_ids": np.array([ids[path] for path in known], np.int32),
        "parent": np.array([ids[path[:-1]] if len(path) > 1 else -1 for path in paths], np.int32),
        "word": np.array([ids[path[-1:]] if len(path) > 1 else 0 for path in paths], np.int32),
        "length": np.array([len(path) for path in paths], np.int8),
        "held": np.bincount([t for t, _, _ in of_term], minlength=len(paths)).astype(np.int16),
        "missed": np.zeros(0),
        "category": np.array([c for _, c, _ in of_term], np.int16),
        "fr": np.array([fr for _, _, fr in of_term], np.float64),
        "docs": np.ones(len(classes)),  # the file does not say how many
        "words": learned,
        "floor": floor.reshape(-1),
    }
    counters = {"free": -1, "evicted": 0, "since_pruning": 0, "unit": 1.0, "error": 0.0}
    return State(arrays, {**counters, "classes": classes})


def _fill(model: SS3Classifier, tries: list[dict[str, Any]], index: dict[int, int]) -> None:
    """Shorter terms first, so that the nodes above are there."""
    store, numbers = model._store, sorted(model.numbers(), key=lambda term: int(model._store.length[term]))
    for start in range(0, len(numbers), BATCH):
        batch = numbers[start : start + BATCH]
        for term, values in zip(batch, model.term_values(batch), strict=True):
            path = [index[term]] if store.length[term] == 1 else []
            above = term
            while store.length[above] > 1:
                path.insert(0, index[int(store.word[above])])
                above = int(store.parent[above])
                if store.length[above] == 1:
                    path.insert(0, index[above])
            for c in np.flatnonzero(values[0] > 0.0).tolist():
                _put(tries[c], path, values[:, c].tolist())


def _put(trie: dict[str, Any], path: list[int], values: list[float]) -> None:
    for number in path[:-1]:
        if str(number) not in trie:
            return  # its beginning was evicted
        trie = trie[str(number)][0]
    trie[str(path[-1])] = [{}, _whole(values[0]), *(values[OF_VALUES[place]] for place in (CV, SG, GV, LV))]


def _whole(fr: float) -> float | int:
    return int(fr) if fr == int(fr) else fr
