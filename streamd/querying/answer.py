"""What an answer came to, what is counted of the label loop, and what there is to see of it."""

from collections.abc import Sequence
from typing import NamedTuple

from streamd.querying.annotators import Standing
from streamd.querying.estimates import Quality
from streamd.querying.queries import Query, Said

COUNTS = {
    "asked": "labels asked for",
    "drawn": "of these, events of the random slice that the strategy had not asked for",
    "answered": "queries answered in time",
    "expired": "queries whose label did not come in time; their token came back",
    "late": "answers after expiry: learned, and debited again",
    "repeated": "answers that changed nothing",
    "corrected": "answers that changed a consensus already learned",
    "disagreed": "answers that contradicted another annotator's",
    "skipped": "answers that gave no label",
    "refuted": "proposed labels that were wrong",
    "unasked": "labels of events never asked for",
    "alarms": "drift alarms",
    "unknown_annotator": "answers by somebody who is not among the annotators named",
    "gold": "questions asked whose answer is known, to judge annotators",
}


class Answer(NamedTuple):
    """What a label came to. weight: for the learner. next: the annotator to ask now, "" for whoever there is."""

    kind: str
    label: Said | None = None
    weight: float = 1.0
    old: Said | None = None
    next: str = ""
    query: Query | None = None


class Standings(NamedTuple):
    """What there is to see."""

    counts: dict[str, int]
    pending: int
    level: float
    share: float
    quality: Quality
    annotators: list[Standing]
    lost: float


def number_of(label: str | list[str], p: Sequence[float], classes: Sequence[str]) -> int:
    """Of the class, or of several the likeliest predicted; len(classes) if none is known."""
    if isinstance(label, str):
        return classes.index(label) if label in classes else len(classes)
    known = [classes.index(name) for name in label if name in classes]
    return max(known, key=lambda number: p[number] if number < len(p) else -1.0, default=len(classes))
