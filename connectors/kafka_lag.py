"""Lag of input partitions from what the client library knows already."""

from streamd.ports import Lag, Record


class LagWatch:
    """Nothing tells the age of a record that was not fetched. It cannot be older than the last moment with
    nothing waiting, nor (log timestamps) than the last record delivered: the younger of the two bounds it."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, int], float] = {}
        self._end: dict[tuple[str, int], int] = {}

    def starts(self, topic: str, partition: int, end: int) -> None:
        """Reading starts anew; `end` serves until the first fetch tells better."""
        self._end[topic, partition] = end
        self._since.pop((topic, partition), None)

    def delivered(self, last: Record) -> None:
        key = (last.topic, last.partition)
        self._since[key] = max(self._since.get(key, 0.0), last.timestamp / 1000)

    def lag(self, topic: str, partition: int, position: int | None, end: int | None, now: float) -> Lag:
        """position: next offset to deliver. end: of the partition, None if not fetched from yet. now: seconds."""
        key = (topic, partition)
        end = self._end.get(key, 0) if end is None else end
        records = max(0, end - (position or 0))
        if records == 0:
            self._since[key] = now
            return Lag(0, 0.0)
        return Lag(records, max(0.0, now - self._since.setdefault(key, now)))
