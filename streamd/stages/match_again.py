"""Arrivals that are offered again when their attempt is over its time, without who failed them."""

import msgspec
import numpy as np

from streamd import records as codec
from streamd.matching.attempts import Attempt
from streamd.snapshot import State
from streamd.stages.match_records import ArrivalRecord

_arrival = msgspec.json.Decoder(ArrivalRecord)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Offered:
    """Of one shard: what may be offered again, by pool and match, as it came."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, bytes]] = {}

    def add(self, pool: str, match: str, value: bytes) -> None:
        self._kept.setdefault(pool, {})[match] = value

    def drop(self, pool: str, match: str) -> None:
        self._kept.get(pool, {}).pop(match, None)

    def again(self, pool: str, failed: Attempt, now: int) -> bytes | None:
        """The record that offers it again; None if there is no time left, or it is not to be offered again."""
        value = self._kept.get(pool, {}).pop(failed.id, None)
        if value is None:
            return None
        fields, told = _fields.decode(value), _arrival.decode(value)
        if told.deadline is not None and codec.milliseconds(told.deadline) <= now:
            return None
        fields.pop("ts", None)
        fields["attempt"] = msgspec.Raw(codec.encode(told.attempt + 1))
        fields["exclude"] = msgspec.Raw(codec.encode([*told.exclude, failed.decision.resource]))
        return codec.encode(fields)

    def state(self) -> State:
        kept = {pool: given for pool, given in self._kept.items() if given}
        packed = msgspec.msgpack.encode(kept, order="sorted")
        return State({"offered": np.frombuffer(packed, np.uint8)}, {})

    def restore(self, raw: bytes) -> None:
        self._kept = msgspec.msgpack.decode(raw, type=dict[str, dict[str, bytes]])
