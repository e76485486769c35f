"""Records that the operator has said must not be tried: they become dead letters when their turn comes.

For a record that ends the process whenever it is tried. Part of a shard's state, made by the command `skip`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from streamd.errors import Refused
from streamd.journal import Refusal
from streamd.ports import Record

REASON = "skipped by the operator"


class Place(Struct, frozen=True):
    """The payload of the command `skip`, in JSON."""

    topic: str
    offset: int


class Skips:
    """Those of one shard that are still ahead of it."""

    def __init__(self, places: Sequence[Sequence[Any]] = ()) -> None:
        self._places: set[tuple[str, int]] = {(topic, offset) for topic, offset in places}

    def __bool__(self) -> bool:
        return bool(self._places)

    def document(self) -> list[tuple[str, int]]:
        """For a snapshot; what the constructor takes."""
        return sorted(self._places)

    def add(self, payload: bytes, inputs: Sequence[str], positions: Mapping[str, int]) -> Callable[[], None]:
        """What adds one. Raises Refused for a record that is not, or no longer, ahead."""
        try:
            place = msgspec.json.decode(payload, type=Place)
        except msgspec.MsgspecError as error:
            raise Refused(f'skip: expected {{"topic": ..., "offset": ...}}: {error}') from None
        if place.topic not in inputs:
            raise Refused(f"{place.topic} is not an input of this pipeline; its inputs are {', '.join(inputs)}")
        if place.offset < (reached := positions.get(place.topic, 0)):
            raise Refused(
                f"{place.topic} has been processed up to offset {reached}; {place.offset} is behind, with nothing "
                "to skip"
            )
        return lambda: self._places.add((place.topic, place.offset))

    def among(self, records: Sequence[Record]) -> dict[int, Refusal]:
        """Those among the records, by index."""
        return {i: Refusal(True, REASON) for i, r in enumerate(records) if (r.topic, r.offset) in self._places}

    def passed(self, positions: Mapping[str, int]) -> None:
        """Forget those that the shard has passed."""
        self._places = {place for place in self._places if place[1] >= positions.get(place[0], 0)}
