"""Sending a command of the operator to whoever holds the shards: the workers that are named, or none if none runs.

With one worker nothing need be named: it is asked at `http.host` and `http.port`. With several, each has an
address: `--workers N` for those of `streamd run --workers N` on this machine, `--url` (again and again) for
others. What became of the partitions is put together, so that one that nobody answered for is seen.
"""

import http.client
from collections.abc import Iterable, Sequence
from typing import Annotated
from urllib.parse import urlencode, urlsplit

import msgspec
import typer
from msgspec import Struct

from streamd import wiring
from streamd.cli.options import console, note, print_json
from streamd.config import Config, secret
from streamd.errors import EXIT_FAILURE, Fenced, Refused, StreamdError, Transient
from streamd.http.operating import PATIENCE, Outcomes
from streamd.operating.mailbox import Command, Outcome

ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where a server that listens everywhere is asked

Urls = Annotated[
    list[str] | None,
    typer.Option("--url", help="The address of a worker; may be given again. [default: http.host and http.port]"),
]
Workers = Annotated[
    int, typer.Option("--workers", min=1, help="How many workers `streamd run --workers` started on this machine.")
]
Partition = Annotated[int | None, typer.Option("--partition", "-p", min=0, help="One shard. [default: all]")]


class Reached(Struct, frozen=True):
    """A worker that was asked. error: why it gave no answer."""

    url: str
    worker: str = ""
    error: str = ""


class Done(Struct, frozen=True):
    """What became of a command. missing: partitions that nobody answered for. at_rest: no daemon ran."""

    pipeline: str
    command: str
    at_rest: bool
    workers: Sequence[Reached]
    outcomes: Sequence[Outcome]
    missing: Sequence[int]

    @property
    def complete(self) -> bool:
        return not self.missing and all(one.done for one in self.outcomes)


def addresses(config: Config, urls: Sequence[str] | None, workers: int) -> list[str]:
    """Where the workers are asked."""
    if urls:
        return list(urls)
    if not config.http.enabled or config.http.port == 0:
        return []
    host = ANYWHERE.get(config.http.host, config.http.host)
    host = f"[{host}]" if ":" in host else host
    return [f"http://{host}:{config.http.port + i}" for i in range(workers)]


def carry_out(config: Config, pipeline: str, commands: Sequence[Command], where: Sequence[str]) -> Done:
    """Send commands, a shard each or one for all, and put together what became of them.

    where: the workers' addresses. If none of them runs, the commands are carried out here, at rest.
    """
    count = partitions(config, pipeline)
    name = commands[0].name
    wanted = range(count) if commands[0].partition is None else [one.partition for one in commands]
    token = secret(config.http.token_file, key="http.token_file")
    reached: list[Reached] = []
    outcomes: dict[int, Outcome] = {}
    for command in commands:
        for url in where:
            worker, answer = send(url, token, pipeline, command)
            if worker not in reached:
                reached.append(worker)
            for outcome in answer:
                if not outcome.elsewhere:
                    outcomes[outcome.partition] = outcome
    if not any(worker.worker for worker in reached):
        _explain(reached)
        return at_rest(config, pipeline, commands, [p for p in wanted if p is not None])
    found = [outcomes[p] for p in sorted(outcomes)]
    return Done(pipeline, name, False, reached, found, [p for p in wanted if p is not None and p not in outcomes])


def _explain(reached: Iterable[Reached]) -> None:
    """Raises Refused where a worker runs and could not do it: doing it here as well could be wrong."""
    for worker in reached:
        if worker.error:
            raise Refused(f"{worker.url}: {worker.error}")


def at_rest(config: Config, pipeline: str, commands: Sequence[Command], wanted: Sequence[int]) -> Done:
    """Carry commands out while no daemon runs. Raises Refused if one does."""
    outcomes: list[Outcome] = []
    for command in commands:
        mine = wanted if command.partition is None else [command.partition]
        try:
            outcomes += wiring.at_rest(config, pipeline).carry_out(command, mine)
        except Fenced as error:
            raise Refused(
                f"a daemon runs and could not be asked ({error}); give it an [http] port, or stop it first"
            ) from None
    return Done(pipeline, commands[0].name, True, [], outcomes, [])


def partitions(config: Config, pipeline: str) -> int:
    """How many a pipeline's inputs have. Raises StreamdError."""
    if pipeline not in config.pipeline:
        raise Refused(f"there is no pipeline {pipeline}; there are {', '.join(config.pipeline)}")
    topic = config.pipeline[pipeline].inputs[0]
    client = wiring.client(config)
    try:
        there = client.topics()
    finally:
        client.close()
    if topic not in there:
        raise Refused(f"the topic {topic} does not exist yet, so there is no shard of {pipeline}")
    return there[topic].partitions


def send(url: str, token: str | None, pipeline: str, command: Command) -> tuple[Reached, Sequence[Outcome]]:
    """Send one worker a command: (who answered, what became of it). Nobody there: a worker without name or error.

    Raises StreamdError if it refuses the token.
    """
    query = "" if command.partition is None else "?" + urlencode({"partition": command.partition})
    path = f"/v1/pipelines/{pipeline}/commands/{command.name}{query}"
    try:
        status, body = request(url, "POST", path, token, command.payload)
    except Transient as failure:
        return Reached(url, error=str(failure)), ()
    if status == 0:
        return Reached(url), ()
    try:
        answer = msgspec.json.decode(body, type=Outcomes)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Reached(url, error=_error(status, body)), ()
    return Reached(url, answer.worker), answer.outcomes


def request(
    url: str, method: str, path: str, token: str | None, body: bytes = b"", patience: float = PATIENCE + 5
) -> tuple[int, bytes]:
    """One request: (status, body); status 0 if nobody is there. patience: seconds.

    Raises Transient if the answer does not come in time, StreamdError if the token is refused.
    """
    parts = urlsplit(url if "//" in url else f"//{url}")
    if not parts.hostname:
        raise Refused(f"--url: {url} is no address; it is written http://host:port")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=patience)
    try:
        try:
            connection.connect()
        except OSError:
            return 0, b""
        connection.request(method, path, body, {"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        status, found = answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise Transient(f"{url}: no answer ({error}); see `streamd status`") from None
    finally:
        connection.close()
    if status == 401:
        raise StreamdError(f"the worker at {url} refuses the token of http.token_file")
    return status, found


def _error(status: int, body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body, type=dict[str, object])["error"])
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError):
        return f"answers {status}; is it streamd?"


def report(done: Done, json: bool) -> None:
    """Say what became of a command; exit 1 unless it was done everywhere."""
    if json:
        print_json(done)
    else:
        _print(done)
    if not done.complete:
        raise typer.Exit(EXIT_FAILURE)


def _print(done: Done) -> None:
    out = console()
    how = ", while no daemon runs" if done.at_rest else ""
    for one in done.outcomes:
        what = f"done in epoch {one.epoch:,}" if one.done else f"not done: {one.reason}"
        out.print(f"{done.command} of {done.pipeline} partition {one.partition}{how}: {what}", soft_wrap=True)
    for worker in done.workers:
        if not worker.worker:
            note(f"nobody answers at {worker.url}" if not worker.error else f"{worker.url}: {worker.error}")
    if done.missing:
        numbers = ", ".join(map(str, done.missing))
        note(f"no worker answered for partitions {numbers}; name the others with --url or --workers")
