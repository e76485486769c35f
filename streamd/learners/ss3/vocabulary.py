"""What an SS3 model has learned, term by term: rows for a table, and the words that tell nothing."""

from collections.abc import Iterator

import msgspec
import numpy as np

from streamd.learners.ss3.model import SS3Classifier

BATCH = 4096  # terms whose values are worked out at a time


class Entry(msgspec.Struct, frozen=True):
    """A term in a category in which it was seen."""

    category: str
    term: str
    n: int
    fr: float
    lv: float
    sg: float
    sn: float
    gv: float
    cv: float


def vocabulary(model: SS3Classifier, category: str | None = None, n: int | None = None) -> Iterator[Entry]:
    """All pairs, or those of one category and of one length, in the order of the terms. Values as of now."""
    names = [(number, name) for number, name in model.numbers().items() if n in (None, name.count(" ") + 1)]
    chosen = [c for c, name in enumerate(model.classes) if category in (None, name)]
    for start in range(0, len(names), BATCH):
        batch = names[start : start + BATCH]
        values = model.term_values([number for number, _ in batch])
        for (_, name), of_term in zip(batch, values, strict=True):
            for c in chosen:
                if of_term[0, c] > 0.0:
                    yield Entry(model.classes[c], name, name.count(" ") + 1, *of_term[:, c].tolist())


def stop_words(model: SS3Classifier, least: float = 0.01) -> list[str]:
    """Words whose sg is below `least` in every category: the most frequent in the first category first."""
    found = []
    names = [(number, name) for number, name in model.numbers().items() if " " not in name]
    for start in range(0, len(names), BATCH):
        batch = names[start : start + BATCH]
        values = model.term_values([number for number, _ in batch])
        silent = np.all(values[:, 2, :] < least, axis=1)
        found += [(-values[i, 0, 0], number, name) for i, (number, name) in enumerate(batch) if silent[i]]
    return [name for _, _, name in sorted(found)]
