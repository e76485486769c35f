"""Questions to a pipeline's live model: asked from any thread, answered by its engine between two batches.

An answer changes nothing: neither the state nor what the stream will be told. Few may wait, and only a little time
is spent on them at once, so that whoever asks never holds up the stream; who finds no room, or gets no answer in
time, may ask again later. While questions come, the engine works in short turns, so that none waits for long.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from msgspec import Struct

from streamd.errors import StreamdError, Transient

ROOM = 64  # questions that may wait
SLICE = 0.02  # seconds of answers between two batches; one is always given
LATELY = 2.0  # seconds: while questions come closer than that, batches are short
AGAIN = 1.0  # seconds after which asking again makes sense


class Question(Struct, frozen=True):
    """kind: "predict", "explain" or what else the pipeline's task answers.  body: as a record's value.

    partition, or the key of a record: which shard is asked; neither: any that is here.
    """

    kind: str
    body: bytes = b""
    partition: int | None = None
    key: bytes | None = None


class Questions:
    """Those that wait for one engine."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._waiting: deque[tuple[Question, Future[bytes]]] = deque()
        self._closed = False
        self._asked = -math.inf

    def ask(self, question: Question) -> "Future[bytes]":
        """From any thread. The future gets the answer, BadRecord, NotFound, Elsewhere or Transient.

        Raises Transient if too many wait already, or nobody will answer any more.
        """
        if self._closed or len(self._waiting) >= self._room:
            reason = "the pipeline is stopping" if self._closed else "too many questions wait"
            raise Transient(reason, AGAIN)
        self._asked = time.monotonic()
        future: Future[bytes] = Future()
        self._waiting.append((question, future))
        return future

    @property
    def come(self) -> bool:
        """Some came a moment ago: the next may be about to."""
        return time.monotonic() - self._asked < LATELY

    def answer(self, answer: Callable[[Question], bytes], moment: float = SLICE) -> None:
        """By the engine's thread: answer those that wait, for a moment (seconds) at most."""
        if not self._waiting:
            return
        end = time.monotonic() + moment
        while self._waiting:
            question, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                _settle(future, answer, question)
                if time.monotonic() >= end:
                    return

    def close(self) -> None:
        """Nobody will answer any more."""
        self._closed = True
        while self._waiting:
            _, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                future.set_exception(Transient("the pipeline is stopping", AGAIN))


def _settle(future: "Future[bytes]", answer: Callable[[Question], bytes], question: Question) -> None:
    try:
        future.set_result(answer(question))
    except StreamdError as refusal:
        future.set_exception(refusal)
    except Exception as bug:  # noqa: BLE001  the asker sees it, as an executor's caller would; no state was touched
        future.set_exception(bug)
