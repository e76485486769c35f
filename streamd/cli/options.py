"""What several verbs share: their common options, and the two ways to print."""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from streamd import config
from streamd.config import Config, SqliteLog
from streamd.errors import Refused, StreamdError

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The configuration file. [default: $STREAMD_CONFIG or streamd.toml]"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, a stable contract.")]

WIDE = 160  # columns, where the output is not a terminal


def load(path: Path | None) -> Config:
    """The configuration named, or the default one. Raises ConfigError."""
    return config.load(path or config.default_path())


def print_json(value: object) -> None:
    """One JSON document on one line of stdout."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def console() -> Console:
    """Stdout for tables; what data says is never taken for markup."""
    wide = None if sys.stdout.isatty() else WIDE
    return Console(width=wide, highlight=False, markup=False, emoji=False)


def note(message: str) -> None:
    """A remark on stderr, beside the data on stdout."""
    print("streamd:", message, file=sys.stderr)


def existing(config: Config) -> Config:
    """The configuration of a log that is there: to look at a log must not make one. Raises StreamdError."""
    if isinstance(config.log, SqliteLog) and not Path(config.log.path).exists():
        raise StreamdError(f"there is no log at {config.log.path} yet")
    return config


def moment(text: str) -> float:
    """A time, or how long ago, in seconds since 1970. Raises Refused."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    if text[:-1].isdigit() and text[-1] in units:
        return time.time() - int(text[:-1]) * units[text[-1]]
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(
            f"{text} is no time; it is written as 2026-01-31T12:00:00Z, or how long ago, as 2h"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
