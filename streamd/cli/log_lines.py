"""What `run` says: one JSON object a line on stderr, a fact each. A line that repeats itself is held back.

    {"ts": "2025-01-31T12:00:00.000Z", "level": "info", "event": "started", "worker": "w0"}

`event` is the logger's message; the fields come from `extra={"facts": {...}}`, or from further names in `extra`.
A line equal to an earlier one in all but `ts` is printed once a minute, with `repeated` for those held back.
"""

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

PERIOD = 60  # seconds
REMEMBERED = 1000  # lines

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "facts", "repeated", "taskName"}


def configure(level: str) -> None:
    """Send everything that is logged in this process to stderr, as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    handler.addFilter(Repeated())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(True)
    for quiet in ("numba", "asyncio", "uvicorn", "kafka"):
        logging.getLogger(quiet).setLevel(max(logging.WARNING, logging.getLogger().level))


class JsonLines(logging.Formatter):
    """A log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "ts": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        if record.name.partition(".")[0] != "streamd":
            line["logger"] = record.name
        return msgspec.json.encode({**line, **facts(record)}, enc_hook=str).decode()


def facts(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of a line besides its time, level and event."""
    found = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    given = getattr(record, "facts", None)
    if isinstance(given, Mapping):
        found.update(given)
    if record.exc_info:
        found["traceback"] = logging.Formatter().formatException(record.exc_info)
    if held := getattr(record, "repeated", 0):
        found["repeated"] = held
    return found


class Repeated(logging.Filter):
    """Lets a line through once a period; time is the record's own."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: dict[
            str, tuple[float, int]
        ] = {}  # line -> (when it was last shown, how many held back since)

    def filter(self, record: logging.LogRecord) -> bool:
        line = f"{record.levelno} {record.name} {record.getMessage()} {facts(record)}"
        when, held = self._shown.pop(line, (float("-inf"), 0))
        due = record.created - when >= PERIOD
        self._shown[line] = (record.created, 0) if due else (when, held + 1)
        if len(self._shown) > REMEMBERED:
            del self._shown[next(iter(self._shown))]
        if due:
            record.repeated = held
        return due
