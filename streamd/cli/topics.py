"""`streamd topics`: the topics that a configuration reads and writes; makes those that are missing."""

from typing import Annotated

import typer
from msgspec import Struct
from rich.table import Table

from streamd import wiring
from streamd.cli.options import ConfigFile, Json, console, load, print_json
from streamd.config import Config
from streamd.errors import ConfigError
from streamd.ports import LogClient

topics = typer.Typer(name="topics", help="The topics a configuration reads and writes.", no_args_is_help=True)


class TopicStatus(Struct, frozen=True):
    """partitions: 0 if the topic does not exist. made: by this call."""

    topic: str
    pipeline: str
    role: str
    partitions: int
    made: bool = False


@topics.command("list")
def list_topics(config: ConfigFile = None, json: Json = False) -> None:
    """Say which topics are there, and which are missing."""
    loaded = load(config)
    client = wiring.client(loaded)
    try:
        _print(look(loaded, client), json)
    finally:
        client.close()


@topics.command("create")
def create_topics(
    config: ConfigFile = None,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Of each topic that is missing. [default: log.partitions]")
    ] = None,
    json: Json = False,
) -> None:
    """Make the topics that are missing, with as many partitions as the pipeline's other topics have."""
    loaded = load(config)
    client = wiring.client(loaded)
    try:
        _print(create(loaded, client, partitions or loaded.log.partitions), json)
    finally:
        client.close()


def look(config: Config, client: LogClient) -> list[TopicStatus]:
    """Every topic of every pipeline, as it is."""
    there = client.topics()
    return [
        TopicStatus(topic, name, role, there[topic].partitions if topic in there else 0)
        for name, pipeline in config.pipeline.items()
        for role, topic in (
            *(("input", topic) for topic in pipeline.inputs),
            *pipeline.outputs.items(),
        )
    ]


def create(config: Config, client: LogClient, partitions: int) -> list[TopicStatus]:
    """Make what is missing. Raises ConfigError if a pipeline's inputs differ in partitions."""
    found = look(config, client)
    done = []
    for status in found:
        own = {s.partitions for s in found if s.pipeline == status.pipeline and s.role == "input" and s.partitions}
        if len(own) > 1:
            raise ConfigError(
                f"pipeline.{status.pipeline}", f"its input topics differ in partitions: {sorted(own)}"
            )
        count = own.pop() if own else partitions
        if not status.partitions:
            client.create(status.topic, count)
            status = TopicStatus(status.topic, status.pipeline, status.role, count, made=True)
        done.append(status)
    return done


def _print(found: list[TopicStatus], json: bool) -> None:
    if json:
        print_json(found)
        return
    table = Table("topic", "pipeline", "role", "partitions", box=None, pad_edge=False)
    for status in found:
        count = f"{status.partitions}{', made now' if status.made else ''}" if status.partitions else "missing"
        table.add_row(status.topic, status.pipeline, status.role, count)
    console().print(table)
