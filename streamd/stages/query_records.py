"""The records a query stage writes: what is asked for, and what became of each answer."""

from msgspec import UNSET, Struct, UnsetType

from streamd import records as codec


class Reply(Struct, frozen=True):
    """Where the label is to go. partition: for producers that need not hash the key."""

    topic: str
    key: str
    partition: int


class QueryRecord(Struct, frozen=True, omit_defaults=True):
    """A request for a label. proposed: the label to confirm, where kind is `confirm`; annotator: who is asked,
    where the stage assigns itself; exclude: who passed."""

    id: str
    event: str
    pipeline: str
    kind: str
    ts: int
    deadline: int
    answers: int
    utility: float | None
    threshold: float | None
    p_ask: float
    reply: Reply
    pool: str | UnsetType = UNSET
    needs: tuple[str, ...] = ()
    proposed: str | UnsetType = UNSET
    annotator: str | UnsetType = UNSET
    exclude: tuple[str, ...] = ()
    text: str | UnsetType = UNSET
    features: dict[str, codec.Scalar] | UnsetType = UNSET


class OutcomeRecord(Struct, frozen=True, omit_defaults=True):
    """What became of an answer."""

    id: str
    success: bool
    reason: str
    ts: int
    pipeline: str
    pool: str | UnsetType = UNSET
    resource: str | UnsetType = UNSET
