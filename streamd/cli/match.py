"""`streamd match replay`: every rule and the hindsight bounds on a recorded stream of resources and arrivals."""

from pathlib import Path
from typing import Annotated

import typer

from streamd.cli.options import Json, print_json

match = typer.Typer(help="Online matching, away from the daemon.", no_args_is_help=True)


@match.callback()
def _several() -> None: ...


@match.command()
def replay(
    file: Annotated[Path, typer.Argument(help="JSON lines: resource and arrival records as in the topics.")],
    runs: Annotated[int, typer.Option(min=2, help="Simulated outcomes per rule.")] = 100,
    delay: Annotated[int, typer.Option(min=0, help="Arrivals until an outcome is known.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated outcomes.")] = 0,
    rule: Annotated[list[str] | None, typer.Option(help="Only these rules; may be given several times.")] = None,
    bounds: Annotated[bool, typer.Option(help="Solve the bounds, too.")] = True,
    picture: Annotated[Path | None, typer.Option(help="Also draw the table: an SVG file.")] = None,
    json: Json = False,
) -> None:
    """Score every rule on a recorded stream, against the best that could have been had in hindsight."""
    # Only here, for scipy's sake: the other verbs shall start without it.
    from streamd.cli import match_picture as drawing
    from streamd.cli import match_replay
    from streamd.matching import replay as replaying

    rules = match_replay.chosen(rule)
    with file.open("rb") as lines:
        given = match_replay.read(lines)
    report = replaying.score(given, rules, runs=runs, delay=delay, seed=seed, solve=bounds)
    if picture is not None:
        picture.write_text(drawing.picture(report))
    if json:
        print_json(report)
    else:
        match_replay.show(report)
