"""`streamd skip`: make a record that ends the process a dead letter, so that the shard goes on."""

from typing import Annotated

import msgspec
import typer

from streamd.cli.operating import Urls, Workers, addresses, carry_out, report
from streamd.cli.options import ConfigFile, Json, existing, load
from streamd.config import Config
from streamd.errors import Refused
from streamd.operating.mailbox import Command
from streamd.operating.skips import Place


def skip(
    topic: Annotated[str, typer.Argument(help="The input topic of the record.")],
    partition: Annotated[int, typer.Argument(min=0)],
    offset: Annotated[int, typer.Argument(min=0)],
    config: ConfigFile = None,
    pipeline: Annotated[str, typer.Option(help="Of those that read the topic. [default: the one that does]")] = "",
    url: Urls = None,
    workers: Workers = 1,
    json: Json = False,
) -> None:
    """Make a record a dead letter when its turn comes, without trying it. Works while the daemon is down, too."""
    loaded = existing(load(config))
    name = pipeline or reader(loaded, topic)
    command = Command("skip", msgspec.json.encode(Place(topic, offset)), partition)
    report(carry_out(loaded, name, [command], addresses(loaded, url, workers)), json)


def reader(config: Config, topic: str) -> str:
    """The pipeline that reads a topic. Raises Refused if none does, or several."""
    found = [name for name, pipeline in config.pipeline.items() if topic in pipeline.inputs]
    if not found:
        inputs = sorted({topic for pipeline in config.pipeline.values() for topic in pipeline.inputs})
        raise Refused(f"no pipeline reads {topic}; the topics read are {', '.join(inputs)}")
    if len(found) > 1:
        raise Refused(f"{', '.join(found)} all read {topic}; say which with --pipeline")
    return found[0]
