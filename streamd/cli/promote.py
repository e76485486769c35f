"""`streamd promote`: make a shadow the live model, and the live one that shadow."""

from typing import Annotated

import typer

from streamd.cli.operating import Partition, Urls, Workers, addresses, carry_out, report
from streamd.cli.options import ConfigFile, Json, existing, load, note
from streamd.cli.promoted import exchange
from streamd.config import Config
from streamd.errors import Refused
from streamd.operating.mailbox import Command


def promote(
    pipeline: Annotated[str, typer.Argument(help="The pipeline.")],
    shadow: Annotated[str, typer.Argument(help="Its shadow, as [pipeline.PIPELINE.shadow.SHADOW] names it.")],
    config: ConfigFile = None,
    partition: Partition = None,
    url: Urls = None,
    workers: Workers = 1,
    json: Json = False,
) -> None:
    """Make a shadow the live model at an epoch's end; what was live becomes the shadow. Promote again to go back.

    The state remembers it: a restart changes nothing, whichever of the two the file calls live.
    """
    loaded = existing(load(config))
    _known(loaded, pipeline, shadow)
    where = addresses(loaded, url, workers)
    done = carry_out(loaded, pipeline, [Command("promote", shadow.encode(), partition)], where)
    if not json and any(one.done for one in done.outcomes):
        note(exchange(pipeline, shadow))
    report(done, json)


def _known(config: Config, pipeline: str, shadow: str) -> None:
    """Raises Refused for a shadow the file does not know: no need to ask a daemon."""
    if pipeline not in config.pipeline:
        raise Refused(f"there is no pipeline {pipeline}; there are {', '.join(config.pipeline)}")
    known = getattr(config.pipeline[pipeline], "shadow", {})
    if shadow not in known:
        raise Refused(f"pipeline {pipeline} has no shadow {shadow}; it has {', '.join(known) or 'none'}")
