"""Sends rows to the log as a stream: events at a pace, their labels some events later and not in their order.

Where to go on is not kept anywhere: the topics say which events and labels they already hold.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from streamd.demo.sample import Row
from streamd.ports import LogClient, Output
from streamd.records import Label

TICK = 0.1  # seconds between two appends
CHUNK = 2_000  # events of one append when no pace is set; records of one read

_label = msgspec.json.Decoder(Label)


class Feed:
    """What is sent next. late: how many events a label comes after its event, at most."""

    def __init__(self, client: LogClient, events: str, labels: str, rows: Sequence[Row], late: int) -> None:
        self._client = client
        self._events, self._labels = events, labels
        self._rows = rows
        self._place = client.ends(events)[0][1]  # how many events were sent; goes on after the last one
        held = set(_ids(client, labels))
        order = sorted((number + _delay(number, late), number) for number in range(len(rows)))
        self._due = deque((place, rows[number]) for place, number in order if rows[number].id not in held)

    @property
    def done(self) -> bool:
        """Every event and every label was sent."""
        return self._place >= len(self._rows) and not self._due

    def advance(self, count: int) -> None:
        """Go on by `count` events: send them, and the labels that are due then."""
        before, self._place = self._place, self._place + count
        self._append(self._events, ((row.key, row.event) for row in self._rows[before : self._place]))
        self._append(self._labels, ((row.key, row.label_record) for row in self._take_due()))

    def _take_due(self) -> Iterator[Row]:
        while self._due and self._due[0][0] <= self._place:
            yield self._due.popleft()[1]

    def _append(self, topic: str, records: Iterable[tuple[bytes, bytes]]) -> None:
        now = int(time.time() * 1000)
        if outputs := [Output(topic, key, value, now) for key, value in records]:
            self._client.append(topic, outputs)


def _delay(number: int, late: int) -> int:
    """How many events the label of this row comes later, 1 to `late`: scattered evenly, the same in every run."""
    return 1 + (number * 2_654_435_761 % (1 << 32)) * late // (1 << 32)


def _ids(client: LogClient, topic: str) -> Iterator[str]:
    offset, end = client.ends(topic)[0]
    while offset < end:
        found = client.read(topic, 0, offset, CHUNK)
        yield from (_label.decode(record.value).id for record in found if record.value is not None)
        offset = found[-1].offset + 1


class Feeder:
    """A thread that advances a feed. rate: events per second, 0 for no pause.

    open: makes the feed, in the thread that uses it. `failure` is what the thread died of.
    """

    def __init__(self, open: Callable[[], Feed], rate: float) -> None:
        self.done = False
        self.failure: BaseException | None = None
        self._open = open
        self._rate = rate
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when nothing more is sent. May be called without `start`."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._send(self._open())
        except BaseException as failure:  # noqa: BLE001  handed over: the demo ends with its exit code
            self.failure = failure

    def _send(self, feed: Feed) -> None:
        began, sent = time.monotonic(), 0
        while not feed.done and not self._stopping.wait(TICK if self._rate else 0.0):
            due = int((time.monotonic() - began) * self._rate) - sent if self._rate else CHUNK
            feed.advance(due)
            sent += due
        self.done = feed.done
