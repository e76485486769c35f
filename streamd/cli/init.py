"""`streamd init TASK`: write a commented configuration to start from."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from streamd.cli.options import Json, note, print_json
from streamd.errors import StreamdError


class TaskName(StrEnum):
    classify = "classify"
    regress = "regress"
    match = "match"


HEAD = """\
# A streamd configuration: {what}.
# `streamd check` says what it means, `streamd run` runs it. Keys that are commented out show their default.

group = "streamd"              # state and positions in the log belong to it

[log]
kind = "sqlite"                # the embedded log: one file on a local disk
path = "streamd.db"            # relative to this file
partitions = 1                 # of topics that do not exist yet
# retention = "30d"            # by default everything is kept

[epoch]
# interval = "200ms"           # the longest time between two commits

[http]
host = "127.0.0.1"             # beyond loopback, `token_file` is needed
port = 8080                    # /metrics, /readyz, /v1/pipelines

"""

STARTER = (
    HEAD
    + """\
# An event     {event}
# its label    {label}, later, under the same id
# or at once   "label" in the event itself
[pipeline.{name}]
task = "{task}"
events = "{name}-events"
labels = "{name}-labels"       # leave it out if labels only come in the events
# predictions = "{name}-events-predictions"
# dead_letters = "{name}-events-dead-letters"
# echo = []                    # fields of the event repeated in its prediction

[pipeline.{name}.learner]
kind = "linear"                # {loss}
eta = 0.1                      # learning rate
l2 = 0.0                       # shrinkage of the weights

[pipeline.{name}.pending]
# max_age = "1d"               # how long an event waits for its label
# max_events = 100000

[pipeline.{name}.quality]
# fading = 0.999               # per label, of the fading window
# drift = "none"               # or "adwin"
"""
)

MATCH = (
    HEAD
    + """\
# A resource   {"id": "ann", "pool": "desk", "capacity": 40, "concurrent": 3}; "op": "leave" when it goes
# an arrival   {"id": "a1", "pool": "desk", "edges": [["ann", 0.7], ["ben", 0.4]]}: [resource, probability]
# its match    {"id": "a1/1", "arrival": "a1", "pool": "desk", "resource": "ann", ...}, or "unmatched": why
# its outcome  {"id": "a1/1", "pool": "desk", "success": true}
# The key of every record is its pool: a pool has one partition, and one worker.
[pipeline.desk]
task = "match"
events = "arrivals"
resources = "resources"
outcomes = "outcomes"
# matches = "arrivals-matches"
# dead_letters = "arrivals-dead-letters"
timeout = "1d"                 # an open attempt has failed after it
# attempts = 1                 # above: after a time-out the arrival is offered again

[pipeline.desk.rule]
kind = "stochastic_balance"
# f = "auto"                   # the balance function: sc at one unit of capacity, k_b above
# consume = "success"          # or "attempt": what takes a unit of capacity
# hold = "auto"                # what an open attempt holds: block at one unit, expected above

[pipeline.desk.probabilities]
# kind = "event"               # "beta" or "logistic": learned from the outcomes, edges need no probability
"""
)

TASKS = {
    TaskName.classify: {
        "what": "predict a class for every event, and learn from the labels",
        "name": "churn",
        "event": '{"id": "e1", "features": {"age": 39, "plan": "basic", "trial": false}}',
        "label": '{"id": "e1", "label": "stays"}',
        "loss": "softmax regression",
    },
    TaskName.regress: {
        "what": "predict a number for every event, and learn from the labels",
        "name": "demand",
        "event": '{"id": "e1", "features": {"hour": 17, "weekday": "Mon", "holiday": false}}',
        "label": '{"id": "e1", "label": 42.5}',
        "loss": "least squares",
    },
}


def init(
    task: Annotated[TaskName, typer.Argument(help="What to predict, a class or a number; or match.")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="The file to write; - is stdout.")
    ] = "streamd.toml",
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    json: Json = False,
) -> None:
    """Write a starter configuration."""
    text = starter(task)
    if output == "-":
        typer.echo(text, nl=False)
        return
    write(Path(output), text, force)
    if json:
        print_json({"written": output, "task": task.value})
    else:
        note(f"wrote {output}; edit it, then: streamd check --config {output}")


def starter(task: TaskName) -> str:
    """The configuration to start from, as TOML."""
    if task is TaskName.match:
        return MATCH.replace("{what}", "match every arrival to a resource, and learn from the outcomes")
    text = STARTER
    for name, value in {**TASKS[task], "task": task.value}.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def write(path: Path, text: str, force: bool) -> None:
    """Raises StreamdError if the file exists and `force` is not set, or cannot be written."""
    try:
        with path.open("w" if force else "x") as file:
            file.write(text)
    except FileExistsError:
        raise StreamdError(f"{path} exists; --force replaces it") from None
    except OSError as error:
        raise StreamdError(f"{path} cannot be written: {error.strerror}") from None
