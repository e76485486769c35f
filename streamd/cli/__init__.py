"""The command line: one file a verb. A verb computes plain data, then prints it; `--json` prints the same data.

Exit codes are those of `streamd.errors`: 0, 1, 2 usage, 65 state, 70 a bug, 75 try again, 78 configuration.
"""

import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import typer

from streamd import __version__
from streamd.errors import EXIT_BUG, StreamdError

VERBS = {
    "run": "run:run",
    "check": "check:check",
    "init": "init:init",
    "send": "send:send",
    "tail": "tail:tail",
    "status": "status:status",
    "reload": "reload:reload",
    "skip": "skip:skip",
    "promote": "promote:promote",
    "trace": "trace:trace",
    "predict": "asking:predict",
    "explain": "asking:explain",
    "replay": "replay:replay",
    "demo": "demo:demo",
    "crowd": "crowd:crowd",
    "test": "tests:run_tests",
    "active": "active:active",
    "groupwise": "groupwise:groupwise",
    "match": "match:match",
    "snapshot": "snapshots:snapshots",
    "dead-letters": "dead_letters:dead_letters",
    "ss3": "ss3:ss3",
    "topics": "topics:topics",
}
"""Verb -> its file and its function, or its group of further verbs, in the order of `--help`."""


def command_line(verbs: Sequence[str]) -> typer.Typer:
    """The command line with these verbs: only they are imported, lest a daemon start as slowly as all."""
    app = typer.Typer(
        name="streamd",
        help="A daemon that learns from a stream while it serves it.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    for verb in verbs:
        file, _, name = VERBS[verb].partition(":")
        found = getattr(import_module(f"streamd.cli.{file}"), name)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=verb)
        else:
            app.command(verb)(found)
    return app


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point: runs a verb and exits. Every failure is one line on stderr and an exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    verbs = given[:1] if given and given[0] in VERBS else tuple(VERBS)
    try:
        command_line(verbs)(args=given, prog_name="streamd")
    except StreamdError as error:
        _say(str(error))
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001  the outermost place: whatever arrives here is a bug
        traceback.print_exc()
        _say(f"this is a bug: {type(error).__name__}: {error}")
        sys.exit(EXIT_BUG)
    sys.exit(0)


def _say(message: str) -> None:
    print("streamd:", message, file=sys.stderr)


def _version(asked: bool) -> None:
    if asked:
        print("streamd", __version__)
        raise typer.Exit


def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None: ...
