"""The folder in which a demo keeps its log and state."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamd.errors import StreamdError


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder: two demos in one would send everything twice. Raises StreamdError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StreamdError(f"{folder} cannot be used: {error.strerror}") from None
    try:
        _seize(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _seize(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StreamdError(f"another demo runs in {folder}; --folder names another place") from None


def clear(folder: Path) -> int:
    """Remove what a demo has left; whatever else lies there stays. Returns how many files those were."""
    left = sorted(folder.glob("streamd.*"))
    for path in left:
        path.unlink()
    return len(left)


def log_to(path: Path, level: str, formatter: logging.Formatter) -> None:
    """The log lines go to a file: the terminal shows the figures."""
    handler = logging.FileHandler(path)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(True)
