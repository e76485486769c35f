"""A thread of the demo beside the daemon: it ends when told to, and what it died of is handed over."""

import threading
from abc import ABC, abstractmethod


class Beside(ABC):
    """`failure` is what the thread died of."""

    def __init__(self, name: str) -> None:
        self.failure: BaseException | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the thread has ended. May be called without `start`."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    @abstractmethod
    def work(self) -> None:
        """In the thread, until `_stopping` is set or nothing is left to do."""

    def _run(self) -> None:
        try:
            self.work()
        except BaseException as failure:  # noqa: BLE001  handed over: the demo ends with its exit code
            self.failure = failure
