"""The command line: one file a verb. A verb computes plain data, then prints it; `--json` prints the same data.

Exit codes are those of `streamd.errors`: 0, 1, 2 usage, 65 state, 70 a bug, 75 try again, 78 configuration.
"""

import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import typer

from streamd import __version__
from streamd.cli.active import active
from streamd.cli.asking import explain, predict
from streamd.cli.check import check
from streamd.cli.crowd import crowd
from streamd.cli.dead_letters import dead_letters
from streamd.cli.demo import demo
from streamd.cli.groupwise import groupwise
from streamd.cli.init import init
from streamd.cli.match import match
from streamd.cli.promote import promote
from streamd.cli.reload import reload
from streamd.cli.replay import replay
from streamd.cli.run import run
from streamd.cli.send import send
from streamd.cli.skip import skip
from streamd.cli.snapshots import snapshots
from streamd.cli.ss3 import ss3
from streamd.cli.status import status
from streamd.cli.tail import tail
from streamd.cli.tests import run_tests
from streamd.cli.topics import topics
from streamd.cli.trace import trace
from streamd.errors import EXIT_BUG, StreamdError

app = typer.Typer(
    name="streamd",
    help="A daemon that learns from a stream while it serves it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
VERBS = (
    *(run, check, init, send, tail, status),
    *(reload, skip, promote, trace),
    *(predict, explain, replay),
    *(demo, crowd),
)
for verb in VERBS:
    app.command()(verb)
app.command("test")(run_tests)
app.add_typer(active, name="active")
app.add_typer(groupwise, name="groupwise")
app.add_typer(match, name="match")
app.add_typer(snapshots)
app.add_typer(dead_letters)
app.add_typer(ss3, name="ss3")
app.add_typer(topics)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point: runs a verb and exits. Every failure is one line on stderr and an exit code."""
    try:
        app(args=arguments, prog_name="streamd")
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


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None: ...
