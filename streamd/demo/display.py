"""Where the demo is shown: a panel on a terminal, lines elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.live import Live

from streamd.demo import screen
from streamd.demo.screen import Moment

PERIOD = 2.0  # seconds between two lines where there is no terminal


class Display(Protocol):
    def show(self, moment: Moment) -> None: ...


class Lines:
    """Lines every few seconds, and whenever something else begins."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._state = ""
        self._told: list[str] = []
        self._next = 0.0

    def show(self, moment: Moment) -> None:
        state = moment.phase or moment.state
        if state != self._state and not moment.phase:
            self._say(f"{moment.seconds:6.1f} s  {state}")
        elif state == self._state and moment.seconds < self._next:
            return
        self._next = moment.seconds + PERIOD
        told = screen.told(moment)
        if told != self._told or state != self._state:
            self._say("\n".join(f"{moment.seconds:6.1f} s  {line}" for line in told))
        self._state, self._told = state, told

    def _say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)


class Screen:
    """The panel, drawn anew at every look."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, moment: Moment) -> None:
        self._live.update(screen.panel(moment), refresh=True)


@contextmanager
def display(console: Console) -> Iterator[Display]:
    if not console.is_terminal:
        yield Lines(console)
        return
    with Live(console=console, auto_refresh=False) as live:
        yield Screen(live)
