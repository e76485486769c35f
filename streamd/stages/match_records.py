"""The records of a matching pipeline, as DESIGN section 8 has them."""

from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from streamd import records as codec
from streamd.errors import BadRecord
from streamd.matching.arrivals import Arrival, Edge
from streamd.matching.resources import Offer, Rate, Refill

NO_REPLY = msgspec.Raw()


class ArrivalRecord(Struct, frozen=True):
    """As DESIGN section 8 has it; a query is one, and asks for another resource than its event's other queries.

    pipeline: who asks; ids, kinds and events of two that ask one pool do not mix.
    """

    id: codec.Id
    pool: codec.Id
    ts: int | str | None = None
    deadline: int | str | None = None
    attempt: int = 1
    exclude: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    distinct: str | None = None
    edges: list[Edge] | None = None
    segment: str | None = None
    features: dict[str, codec.Scalar] | None = None
    kind: str | None = None
    event: str | None = None
    pipeline: str | None = None
    reply: msgspec.Raw = NO_REPLY


class ResourceRecord(Struct, frozen=True):
    """A resource, or with `edges` a segment."""

    id: codec.Id
    pool: codec.Id
    op: Literal["put", "leave"] = "put"
    capacity: float | None = None
    weight: float = 1.0
    cost: float = 1.0
    concurrent: int = 0
    groups: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    refill: Refill | None = None
    pace: str = "asap"
    rate: Rate | None = None
    edges: list[Edge] | None = None
    ts: int | str | None = None


class OutcomeRecord(Struct, frozen=True):
    id: codec.Id
    pool: codec.Id
    success: bool
    resource: str | None = None
    reason: str = "label"
    pipeline: str | None = None
    ts: int | str | None = None


class Match(Struct, frozen=True, omit_defaults=True):
    """The answer. best: up to three of [resource, score]; query: the arrival as it came, if it names a `reply`."""

    id: str
    arrival: str
    pool: str
    resource: str | UnsetType = UNSET
    unmatched: str | UnsetType = UNSET
    p: float = 0.0
    score: float = 0.0
    k: float = 0.0
    load: float = 0.0
    open_until: int = 0
    best: tuple[tuple[str, float], ...] = ()
    model: str = ""
    ts: int = 0
    query: msgspec.Raw | UnsetType = UNSET


Told = ArrivalRecord | ResourceRecord | OutcomeRecord


def asked(told: ArrivalRecord) -> Arrival:
    """An arrival as the pool takes it. Raises BadRecord."""
    if told.attempt < 1:
        raise BadRecord("attempt: must be 1 or more")
    deadline = None if told.deadline is None else codec.milliseconds(told.deadline)
    distinct = told.event if told.distinct is None else told.distinct
    return Arrival(
        of_pipeline(told.pipeline, told.id),
        told.attempt,
        told.edges,
        told.segment,
        told.features,
        None if told.kind is None else of_pipeline(told.pipeline, told.kind),
        told.needs,
        told.exclude,
        None if distinct is None else of_pipeline(told.pipeline, distinct),
        deadline,
    )


def offer(told: ResourceRecord) -> Offer:
    """What a resource offers. Raises BadRecord."""
    if told.capacity is None:
        raise BadRecord("Object missing required field `capacity`")
    terms = (told.groups, told.needs, told.refill, told.pace, told.rate)
    return Offer(told.capacity, told.weight, told.cost, told.concurrent, *terms)


def of_pipeline(pipeline: str | None, name: str) -> str:
    """A name among those of all pipelines that ask."""
    return name if pipeline is None else f"{pipeline}:{name}"
