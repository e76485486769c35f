"""How far a long command is: a bar on a terminal, silence elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

OFTEN = 0.1  # seconds between two changes of the bar


@contextmanager
def bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Gives what is to be told the records done. total: None if nobody knows; then they are counted."""
    out = Console(stderr=True)
    columns: list[ProgressColumn] = [TextColumn(what), BarColumn()]
    if total is None:
        columns.append(TextColumn("{task.completed:,.0f} records"))
    else:
        columns += [TaskProgressColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=out, disable=not out.is_terminal, transient=True) as progress:
        task = progress.add_task(what, total=total)
        shown = 0.0

        def show(done: int) -> None:
            nonlocal shown
            if (now := time.monotonic()) - shown > OFTEN:
                shown = now
                progress.update(task, completed=done)

        yield show
