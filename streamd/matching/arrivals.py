"""What comes to a pool: arrivals with their edges, outcomes; and the bounds of what it takes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamd.errors import BadRecord


class Edge(Struct, frozen=True, array_like=True, gc=False):
    """[resource, p?, bid?]: p needed unless it is learned; bid: of money pools, else the resource's weight."""

    resource: str
    p: float | None = None
    bid: float | None = None


class Arrival(Struct, frozen=True):
    """Who asks for a match. Exactly one of edges, segment, or neither: then every resource of the pool is an edge.

    kind, features: what learned probabilities depend on; needs: what the resource must offer; exclude: resources
    not to be taken; distinct: arrivals with the same value get different resources; deadline: milliseconds.
    """

    id: str
    attempt: int = 1
    edges: Sequence[Edge] | None = None
    segment: str | None = None
    features: Mapping[str, Any] | None = None
    kind: str | None = None
    needs: Sequence[str] = ()
    exclude: Sequence[str] = ()
    distinct: str | None = None
    deadline: int | None = None


class Outcome(Struct, frozen=True):
    """What became of an attempt. id: the match's or the arrival's; resource: if given, must be the attempt's."""

    id: str
    success: bool
    resource: str | None = None
    skip: bool = False


class Limits(Struct, frozen=True):
    """Bounds of a pool. Attempts open, answers and distinct keys remembered, edges of one arrival, segments."""

    resources: int = 10_000_000
    open: int = 1_000_000
    remember: int = 100_000
    edges: int = 10_000
    segments: int = 10_000
    segment_edges: int = 10_000_000


class Edges(NamedTuple):
    """The edges of an arrival by slot (-1: unknown), with bids as the kernel takes them."""

    slots: NDArray[np.int64]
    p: NDArray[np.float64]
    bids: NDArray[np.float64]


NO_EDGES = Edges(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))


def numbers(edges: Sequence[Edge], given: bool, money: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(p, bids) of edges. given: whether p must come with the edge, else it is learned. Raises BadRecord."""
    told = [edge.p for edge in edges]
    if given:
        if None in told:
            raise BadRecord("edges: an edge has no p")
        p = np.array(told, np.float64)
        if len(p) and not (p.min() >= 0.0 and p.max() <= 1.0):  # a NaN is its own least and most
            raise BadRecord("edges: p must be within 0 and 1")
    else:
        p = np.zeros(len(told))
    if not money:
        return p, NO_EDGES.bids
    bids = np.array([np.nan if edge.bid is None else edge.bid for edge in edges])
    if (bids <= 0.0).any() or (bids > 1e12).any():
        raise BadRecord("edges: a bid must be above 0")
    return p, bids
