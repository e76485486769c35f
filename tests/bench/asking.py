"""Questions under load: how long an answer of the live model takes while the stream runs, and what it costs it.

    python -m tests.bench.asking --events 60000 --rate 100

The daemon's engine works off a full topic on the embedded log, once in peace and once while somebody asks for
predictions, one after the other at a steady rate. Latency is from the question to the answer, in wall time; the
cost is in processor time of the process, the asker's own among it.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streamd.config import Config
from streamd.errors import Transient
from streamd.questions import Question
from tests.bench.rounds import Timed
from tests.bench.running import Running, adult, config, copied, fill, running

PATIENCE = 30.0  # seconds for an answer


class Asked(NamedTuple):
    """latencies: seconds, (answers,). peace, load: the stream's time without and with the questions."""

    latencies: Sequence[float]
    refused: int
    peace: Timed
    load: Timed


class Asker:
    """Asks for a prediction of the same event, again and again."""

    def __init__(self, engine: Running, body: bytes, rate: float) -> None:
        self._engine, self._question, self._pause = engine, Question("predict", body), 1 / rate
        self._over = threading.Event()
        self.latencies: list[float] = []
        self.refused = 0

    @contextmanager
    def at_work(self) -> Iterator[None]:
        thread = threading.Thread(target=self._work)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _work(self) -> None:
        over = False
        while not over:
            began = time.perf_counter()
            try:
                self._engine.ask(self._question).result(PATIENCE)
                self.latencies.append(time.perf_counter() - began)
            except Transient:
                self.refused += 1
            over = self._over.wait(self._pause)


def measure(events: int, rate: float) -> Asked:
    with tempfile.TemporaryDirectory() as name:
        full = config(Path(name), False)
        fill(full, adult(events, False))
        worked_off(copied(full, Path(name) / "warm"), events)
        peace = worked_off(copied(full, Path(name) / "peace"), events)
        with running(copied(full, Path(name) / "load")) as engine:
            asker = Asker(engine, next(adult(1, True)).value, rate)
            with asker.at_work():
                load = engine.wait(events)
    return Asked(asker.latencies, asker.refused, peace, load)


def worked_off(settings: Config, events: int) -> Timed:
    with running(settings) as engine:
        return engine.wait(events)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--rate", type=float, default=100.0, help="questions per second, at most")
    given = parser.parse_args(arguments)
    found = measure(given.events, given.rate)
    middle, late = np.quantile(found.latencies, (0.5, 0.99)) * 1e3
    answers = len(found.latencies)
    print(f"{answers:,} answers in {found.load.seconds:.1f} s under load, {found.refused} refused")
    print(f"latency: median {middle:.1f} ms, p99 {late:.1f} ms")
    more, ratio = found.load.cpu - found.peace.cpu, found.load.cpu / found.peace.cpu
    print(f"the stream's processor time: {ratio:.2f}x; {more / answers * 1e3:.2f} ms per answer")


if __name__ == "__main__":
    main()
