"""Records to a topic at a pace, and their labels behind them."""

import time
from collections import deque
from collections.abc import Callable

from streamd.cli.sources import Item
from streamd.ports import LogClient, Output

AT_ONCE = 10_000  # records of one append
STRIDE = 50  # records of one append while labels follow their events closely
TICKS = 20  # appends a second at a given rate


class Pace:
    """So many events a second, or as many as there are. The clock starts at the first one."""

    def __init__(
        self,
        rate: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.at_once = AT_ONCE if rate is None else max(1, int(rate / TICKS))
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._start: float | None = None

    def wait(self, sent: int) -> None:
        """Wait until the event after so many may go."""
        if self._rate is None:
            return
        now = self._clock()
        if self._start is None:
            self._start = now
        if (early := self._start + sent / self._rate - now) > 0:
            self._sleep(early)


class Sender:
    """Appends records, and their labels behind them.

    A label goes out once `delay` further events have gone; never earlier, and at most one append later.
    """

    def __init__(self, client: LogClient, topic: str, labels_topic: str | None, delay: int, pace: Pace) -> None:
        self.records = 0
        self.bytes = 0
        self.labels = 0
        self._client = client
        self._topic = topic
        self._labels_topic = labels_topic
        self._delay = delay
        self._pace = pace
        self._at_once = pace.at_once if labels_topic is None else min(pace.at_once, max(delay, STRIDE))
        self._waiting: deque[tuple[int, Item]] = deque()  # (how many events must have gone, whose label)

    def send(self, items: list[Item]) -> None:
        for start in range(0, len(items), self._at_once):
            self._pace.wait(self.records)
            self._append(items[start : start + self._at_once])

    def finish(self) -> None:
        """Send the labels that still wait."""
        self._release(everything=True)

    def _append(self, items: list[Item]) -> None:
        now = int(time.time() * 1000)
        outputs = [Output(self._topic, item.key, item.value, now) for item in items]
        self._client.append(self._topic, outputs)
        for place, item in enumerate(items, self.records + 1):
            if item.label is not None:
                self._waiting.append((place + self._delay, item))
        self.records += len(items)
        self.bytes += sum(len(item.value) for item in items)
        self._release()

    def _release(self, everything: bool = False) -> None:
        due: list[Output] = []
        now = int(time.time() * 1000)
        while self._waiting and (everything or self._waiting[0][0] <= self.records):
            item = self._waiting.popleft()[1]
            assert item.label is not None
            assert self._labels_topic is not None
            due.append(Output(self._labels_topic, item.key, item.label, now))
        if due and self._labels_topic is not None:
            self._client.append(self._labels_topic, due)
            self.labels += len(due)
