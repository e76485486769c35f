"""A crowd at its work: reads the queries of a topic, and writes the answers when their time has come."""

import heapq
import time
from collections.abc import Callable, Iterator
from enum import StrEnum

from streamd import records as codec
from streamd.crowd import Answer, Crowd
from streamd.errors import BadRecord
from streamd.ports import LogClient, Output, Record

AT_ONCE = 1000  # records of one read
NAP = 0.05  # seconds between two looks


class Clock(StrEnum):
    wall = "wall"
    event = "event"


class Attendance:
    """Reads the queries, and writes the answers when their time has come.

    wall: an answer is given `delay` after its query was read. event: once a query so much younger was read; it
    then carries its event time. An annotator's answer that the reply topic already holds is not given again.
    """

    def __init__(
        self, client: LogClient, topic: str, crowd: Crowd, clock: Clock, now: Callable[[], float] = time.time
    ) -> None:
        self.sent = 0
        self._client = client
        self._topic = topic
        self._crowd = crowd
        self._event = clock is Clock.event
        self._now = now
        self._offsets = [first for first, _ in client.ends(topic)]
        self._coming: list[tuple[int, int, Answer]] = []  # due, in order of reading
        self._number = 0
        self._latest = 0  # event time
        self._given: dict[str, set[tuple[str, str]]] = {}  # reply topic -> (query, annotator) answered before

    def step(self) -> bool:
        """Read what is new, answer what is due. Returns whether anything was read."""
        new = list(self._read())
        wall = int(self._now() * 1000)
        for record in new:
            for answer in self._crowd.ask(record.value):
                self._latest = max(self._latest, answer.asked)
                if (answer.query, answer.annotator) not in self._answered(answer.topic):
                    self._number += 1
                    due = (answer.asked if self._event else wall) + answer.after
                    heapq.heappush(self._coming, (due, self._number, answer))
        self._give(self._latest if self._event else wall)
        return bool(new)

    @property
    def waiting(self) -> int:
        """Answers that are to be given yet."""
        return len(self._coming)

    def finish(self) -> None:
        """Give every answer that waits, whether its time has come or not."""
        self._give(1 << 62)

    def _read(self) -> Iterator[Record]:
        for partition, offset in enumerate(self._offsets):
            found = self._client.read(self._topic, partition, offset, AT_ONCE)
            if found:
                self._offsets[partition] = found[-1].offset + 1
            yield from found

    def _give(self, until: int) -> None:
        outputs: dict[str, list[Output]] = {}
        now = int(self._now() * 1000)
        while self._coming and self._coming[0][0] <= until:
            due, _, answer = heapq.heappop(self._coming)
            outputs.setdefault(answer.topic, []).append(answer.output(now, due if self._event else None))
        for topic, found in outputs.items():
            self._client.append(topic, found)
            self.sent += len(found)

    def _answered(self, topic: str) -> set[tuple[str, str]]:
        """Of a life before: read once, when its first answer is to be given."""
        if topic not in self._given:
            self._given[topic] = set(_given(self._client, topic))
        return self._given[topic]


def _given(client: LogClient, topic: str) -> Iterator[tuple[str, str]]:
    if topic not in client.topics():
        return
    for partition, (offset, end) in enumerate(client.ends(topic)):
        while offset < end and (records := client.read(topic, partition, offset, AT_ONCE)):
            offset = records[-1].offset + 1
            for record in records:
                try:
                    label = codec.decode_label(record.value)
                except BadRecord:
                    continue
                if label.query is not None:
                    yield label.query, label.annotator
