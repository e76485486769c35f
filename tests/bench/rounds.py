"""Rounds in which the contestants take turns, so that a busy machine slows all alike; medians of ratios."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.progress import track
from rich.table import Table


class Timed(NamedTuple):
    """One run: seconds on the clock, and of the processor (all threads of this process)."""

    seconds: float
    cpu: float


Contestant = Callable[[], Timed]


class Watch:
    """Measures from its making to `read`."""

    def __init__(self) -> None:
        self._began, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> Timed:
        return Timed(time.perf_counter() - self._began, time.process_time() - self._cpu)


def interleaved(contestants: Mapping[str, Contestant], rounds: int) -> Mapping[str, Sequence[Timed]]:
    """One unmeasured round, then `rounds` measured ones, A B C A B C; every second one backwards."""
    results: dict[str, list[Timed]] = {name: [] for name in contestants}
    for number in track(range(rounds + 1), "rounds", transient=True):
        order = list(contestants) if number % 2 else list(contestants)[::-1]
        for name in order:
            timed = contestants[name]()
            if number:
                results[name].append(timed)
    return results


def ratio(slower: Sequence[Timed], faster: Sequence[Timed]) -> str:
    """How many times faster, as `median [least, most] clock, median processor`, round by round."""
    clock = [s.seconds / f.seconds for s, f in zip(slower, faster, strict=True)]
    cpu = statistics.median(s.cpu / f.cpu for s, f in zip(slower, faster, strict=True))
    return f"{statistics.median(clock):.2f}x [{min(clock):.2f}, {max(clock):.2f}], processor {cpu:.2f}x"


def speed(runs: Sequence[Timed], events: int) -> tuple[str, str]:
    """(events per second, microseconds of processor per event), medians."""
    clock, cpu = (statistics.median(column) for column in zip(*runs, strict=True))
    return f"{events / clock:,.0f}", f"{cpu / events * 1e6:.1f}"


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 3, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    console().print(table)


def console() -> Console:
    return Console(width=120, highlight=False)
