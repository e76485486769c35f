"""`streamd trace`: an output's way back to its input, and what followed."""

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated

import typer

from streamd import wiring
from streamd.cli.options import ConfigFile, Json, existing, load, moment, print_json
from streamd.cli.progress import bar
from streamd.errors import Refused
from streamd.operating.tracing import FOREVER, Between, Fact, Tracer


def trace(
    id: Annotated[str, typer.Argument(help="Of an event, a query (e1#1) or a match (e1#1/2).")],
    pipeline: Annotated[str, typer.Option(help="Only this one. [default: all]")] = "",
    values: Annotated[
        bool, typer.Option("--values", help="Tell the records whole, too: they may hold personal data.")
    ] = False,
    since: Annotated[
        str, typer.Option(help="Look at nothing from before: a time (RFC 3339), or how long ago, as 2h.")
    ] = "",
    until: Annotated[str, typer.Option(help="Nor at outputs of records from after.")] = "",
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Find the input behind an output, the epoch, snapshot and configuration that made it, and what followed.

    Without --since the journals are read from their beginning.
    """
    loaded = existing(load(config))
    if pipeline and pipeline not in loaded.pipeline:
        raise Refused(f"there is no pipeline {pipeline}; there are {', '.join(loaded.pipeline)}")
    wanted = {name: one for name, one in loaded.pipeline.items() if pipeline in ("", name)}
    between = Between(int(moment(since) * 1000) if since else 0, int(moment(until) * 1000) if until else FOREVER)
    with (
        closing(wiring.client(loaded)) as client,
        closing(wiring.store(loaded)) as store,
        bar("reading", None) as progress,
    ):
        found = Tracer(client, store, loaded.group, values, between, progress).trace(id, wanted)
    if not found:
        when = " of that time" if since or until else ""
        raise Refused(f"{id} is in no journal and no output{when} that is kept")
    if json:
        print_json(found)
    else:
        _print(found)


def _print(found: Sequence[Fact]) -> None:
    for fact in found:
        moment = datetime.fromtimestamp(fact.ts / 1000, UTC).isoformat(timespec="milliseconds")
        print(f"{moment.replace('+00:00', 'Z')}  {fact.what}: {fact.topic} {fact.partition}/{fact.offset}")
        told = ", ".join(f"{name} {value}" for name, value in fact.told.items())
        made = ""
        if fact.epoch is not None:
            kept = f"snapshot {fact.snapshot}" if fact.snapshot else "no snapshot"
            made = f"; {fact.pipeline} epoch {fact.epoch}, after {kept}, configuration {fact.config or 'unknown'}"
        print(f"    {told}{made}")
        if fact.value is not None:
            print(f"    {fact.value}")
