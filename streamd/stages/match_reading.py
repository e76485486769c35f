"""What the records of a matching pipeline say, and whether they may say it here."""

from collections.abc import Collection

import msgspec

from streamd import records as codec
from streamd.errors import BadRecord
from streamd.ports import Record, murmur2
from streamd.stages.match_records import ArrivalRecord, OutcomeRecord, ResourceRecord, Told
from streamd.stages.match_settings import Settings


class Reader:
    """Of one shard."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._decoders: dict[str, msgspec.json.Decoder[Told]] = {
            settings.arrivals: msgspec.json.Decoder(ArrivalRecord),
            settings.resources: msgspec.json.Decoder(ResourceRecord),
            settings.outcomes: msgspec.json.Decoder(OutcomeRecord),
        }

    def read(self, record: Record, pools: Collection[str]) -> tuple[Told, int]:
        """A record and its event time. pools: those known here. Raises BadRecord."""
        settings = self.settings
        if record.value is not None and len(record.value) > settings.record_bytes:
            raise BadRecord(f"the record has {len(record.value)} bytes, more than {settings.record_bytes}")
        told = codec.decode(self._decoders[record.topic], record.value)
        self.owned(told.pool, record)
        if told.pool not in pools and len(pools) >= settings.pools:
            raise BadRecord(f"pool: there are {len(pools)} already")
        ts = record.timestamp if told.ts is None else codec.milliseconds(told.ts)
        if ts > record.timestamp + settings.ahead:
            raise BadRecord("ts: lies further ahead of the log's timestamp than limits.ahead allows")
        return told, ts

    def owned(self, pool: str, record: Record) -> None:
        """A pool on two partitions would promise its capacity twice. Raises BadRecord."""
        if record.key is None or record.key != pool.encode():
            raise BadRecord("the key is not the pool's name: a pool must be on one partition")
        partitions = self.settings.partitions
        if partitions and murmur2(record.key) % partitions != record.partition:
            raise BadRecord(
                "the pool belongs on another partition: producers must partition by murmur2 of the key"
            )
