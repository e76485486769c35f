"""The desk of the demo: a pool of simulated annotators, who they are, and the thread in which they answer."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

from streamd.crowd import Crowd, Habits
from streamd.crowd.attendance import NAP, Attendance, Clock
from streamd.demo.beside import Beside
from streamd.demo.sample import Row
from streamd.ports import LogClient, Output
from streamd.records import encode

POOL = "desk"
CAPACITY = 2_000  # answers of one annotator

ANNOTATORS: Mapping[str, Habits] = {
    "ada": Habits(0.98, silent=0.02, delay=0.8),
    "alan": Habits(0.97, silent=0.05, delay=1.2),
    "barbara": Habits(0.96, silent=0.02, delay=0.6),
    "claude": Habits(0.95, silent=0.10, delay=1.0),
    "donald": Habits(0.99, silent=0.05, delay=3.0),  # careful and slow: many answers come too late
    "edsger": Habits(0.90, skip=0.20, silent=0.02, delay=0.7),  # passes over what he does not like
    "frances": Habits(0.94, silent=0.03, delay=0.9),
    "grace": Habits(0.97, silent=0.02, delay=0.5),
    "john": Habits(0.60, silent=0.02, delay=0.3),  # quick and wrong
    "niklaus": Habits(0.93, silent=0.40, delay=0.8),  # often does not answer at all
}


class Desk(Beside):
    """rows: those of the streams, each of whose truth a crowd of its own knows.

    open: makes a log client, in the thread that uses it.
    """

    def __init__(
        self, open: Callable[[], LogClient], resources: str, matches: str, rows: Sequence[Sequence[Row]]
    ) -> None:
        super().__init__("desk")
        self.idle = False
        self._open = open
        self._resources = resources
        self._matches = matches
        self._crowds = [Crowd({row.id: row.label for row in stream}, ANNOTATORS) for stream in rows]

    def work(self) -> None:
        with closing(self._open()) as client:
            self._answer(client)

    def _answer(self, client: LogClient) -> None:
        self._hire(client)
        while self._matches not in client.topics():
            if self._stopping.wait(NAP):
                return
        attended = [Attendance(client, self._matches, crowd, Clock.wall) for crowd in self._crowds]
        while not self._stopping.wait(NAP):
            busy = [attendance.step() or attendance.waiting > 0 for attendance in attended]
            self.idle = not any(busy)

    def _hire(self, client: LogClient) -> None:
        """Tell the pool who there is, once."""
        client.create(self._resources, 1)
        if client.ends(self._resources)[0][1] > 0:
            return
        people = [{"id": name, "pool": POOL, "capacity": CAPACITY, "concurrent": 100} for name in ANNOTATORS]
        client.append(self._resources, [Output("", POOL.encode(), encode(one), 1) for one in people])
