"""Sends the samples to the log as streams, at a pace, without their labels: who is asked for one tells it.

Where to go on is not kept anywhere: the topics say which events they already hold.
"""

import time
from collections.abc import Callable, Sequence

from streamd.demo.beside import Beside
from streamd.demo.sample import Row
from streamd.ports import LogClient, Output

TICK = 0.1  # seconds between two appends
CHUNK = 2_000  # events of one append when no pace is set


class Feed:
    """The streams of a demo, topic -> rows, each of one partition; they begin and end together."""

    def __init__(self, client: LogClient, streams: dict[str, Sequence[Row]]) -> None:
        self._client = client
        self._streams = streams
        self._sent = {topic: client.ends(topic)[0][1] for topic in streams}

    @property
    def size(self) -> int:
        """How many events the longest stream has."""
        return max(map(len, self._streams.values()))

    @property
    def place(self) -> int:
        """How far the stream that is furthest behind has come, in events of the longest."""
        parts = (sent / len(self._streams[topic]) for topic, sent in self._sent.items())
        return min(self.size, int(min(parts) * self.size))

    @property
    def done(self) -> bool:
        """Every event was sent."""
        return all(sent >= len(self._streams[topic]) for topic, sent in self._sent.items())

    def advance(self, place: int) -> None:
        """Send all events up to this place in the longest stream, and up to the same share of the others."""
        now = int(time.time() * 1000)
        for topic, rows in self._streams.items():
            end = min(len(rows), -(-place * len(rows) // self.size))
            new = rows[self._sent[topic] : end]
            if new:
                self._client.append(topic, [Output(topic, row.key, row.event, now) for row in new])
                self._sent[topic] = end


class Feeder(Beside):
    """A thread that advances a feed. rate: events of the longest stream per second, 0 for no pause.

    open: makes the feed, in the thread that uses it.
    """

    def __init__(self, open: Callable[[], Feed], rate: float) -> None:
        super().__init__("feeder")
        self.done = False
        self._open = open
        self._rate = rate

    def work(self) -> None:
        feed = self._open()
        began, first = time.monotonic(), feed.place
        while not feed.done and not self._stopping.wait(TICK if self._rate else 0.0):
            paced = first + int((time.monotonic() - began) * self._rate)
            feed.advance(paced if self._rate else feed.place + CHUNK)
        self.done = feed.done
