"""A run of arrivals with plain edges, decided and booked in one call, exactly as `decide` and `apply` do it.

Only where p comes with the edges and nothing is drawn or paid in money: see `streamd.kernels.matching_run`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from streamd.kernels import matching as kernel
from streamd.kernels import matching_run as compiled
from streamd.matching.arrivals import NO_EDGES, Edges
from streamd.matching.attempts import Decision
from streamd.matching.probabilities import Source
from streamd.matching.resources import Resources
from streamd.matching.rules import Rule

REASONS = (
    "",
    "no resource is known",
    "every resource has left",
    "no resource is eligible",
    "no resource has room",
    "every rate is used up",
    "every score is below the floor",
)
"""By the codes of `streamd.kernels.matching`; of several the last one is told: the nearest miss."""
SHORTEST = 8  # bytes of an edge and its comma


class Listed(NamedTuple):
    """An arrival whose edges are JSON. now: its event time; until: when its attempt is over its time; waits: it is
    not to be left unmatched in a run."""

    match: str
    arrival: str
    attempt: int
    kind: str | None
    now: int
    until: int
    edges: msgspec.Raw
    waits: bool = False


class Answered(NamedTuple):
    """slot: of the resource, -1 for none; unknown: edges that lead to nobody known."""

    decision: Decision
    slot: int
    unknown: int
    edges: Edges


def runs(rule: Rule, source: Source) -> bool:
    """Whether runs are decided so under this rule."""
    given = source.kind == "event" and source.explore == "none" and (source.floor, source.ceiling) == (0.0, 1.0)
    return given and not rule.money and rule.kind != "random"


class Runner:
    """Calls the kernel for one pool; keeps its scratch arrays. most: edges of an arrival."""

    def __init__(self, resources: Resources, most: int, keeps: bool) -> None:
        """keeps: whether the edges are wanted back."""
        self._resources = resources
        self._most = most
        self._keeps = keeps
        self._room(0)

    def decide(self, asked: Sequence[Listed]) -> list[Answered]:
        """Decide and book from the first arrival on, until one is not plain."""
        resources, m, top = self._resources, len(asked), kernel.TOP
        text = b"".join([one.edges for one in asked])
        ends = np.array([memoryview(one.edges).nbytes for one in asked], np.int64).cumsum()
        moments = np.array([one.now for one in asked], np.int64)
        waits = np.array([one.waits for one in asked], np.bool_)
        if len(text) > SHORTEST * len(self._slots):
            self._room(len(text) // SHORTEST)
        sizes, found = np.empty(m, np.int64), np.empty((m, top, 2), np.int64)
        score, told, why = np.empty((m, top)), np.empty((m, 3)), np.empty((m, 3), np.int64)
        raw = np.frombuffer(text, np.uint8)
        written = (self._slots, self._p, self._where, sizes, found, score, told, why)
        names = resources.names
        done = compiled.run(
            raw, ends, moments, waits, self._most, names.table, names.seed, *written, *resources.state
        )
        lists = (found[:done].tolist(), score[:done].tolist(), told[:done].tolist(), why[:done].tolist())
        told_names = text.decode("latin-1")  # names are ASCII; what is not is none of theirs
        answered, first = [], 0
        for one, places, scores, numbers, (slot, reason, unknown), size in zip(
            asked, *lists, sizes[:done].tolist(), strict=False
        ):
            edges = NO_EDGES
            if self._keeps:
                own = slice(first, first + size)
                edges = Edges(self._slots[own].copy(), self._p[own].copy(), NO_EDGES.bids)
                first += size
            decision = (
                Decision(None, REASONS[reason])
                if slot < 0
                else _decision(one, told_names, places, scores, *numbers)
            )
            answered.append(Answered(decision, slot, unknown, edges))
        return answered

    def _room(self, edges: int) -> None:
        size = max(1024, edges + edges // 2)
        self._slots, self._p, self._where = np.empty(size, np.int64), np.empty(size), np.empty((size, 2), np.int64)


def _decision(
    one: Listed, text: str, places: list[list[int]], scores: list[float], p: float, k: float, load: float
) -> Decision:
    best = tuple([(text[a:b], score) for (a, b), score in zip(places, scores, strict=True) if a >= 0])
    return Decision(best[0][0], "", p, scores[0], k, load, 1.0, one.until, best)
