"""What the operator may do over HTTP: send commands to the shards of this worker.

    POST /v1/pipelines/{name}/commands/{command}     the body is its payload; `?partition=3` for one shard
    POST /v1/reload                                  read the configuration file again; what can change does
    GET  /v1/config                                  the running configuration, without secrets

The answer says what became of it in every shard it was for: 200 if it was carried out and committed in all of
them, 409 if it was not (where it was refused, nothing was changed), 503 with Retry-After if it could not be sent.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import msgspec
from msgspec import Struct
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from streamd.errors import NotFound, Transient
from streamd.operating.mailbox import AGAIN, Command, Outcome
from streamd.operating.reloading import Reloaded

PATIENCE = 60.0  # seconds a command may take until it is committed
LONGEST = 2 << 30  # bytes of a payload: an imported state is one


class Operator(Struct, frozen=True):
    """What the routes call, from the server's thread."""

    command: Callable[[str, Command], "Future[tuple[Outcome, ...]]"]
    reload: Callable[[], Reloaded]
    config: Callable[[], Mapping[str, Any]]


class Configured(Struct, frozen=True):
    """The running configuration of a worker, as `config.written` has it."""

    group: str
    worker: str
    config: dict[str, Any]


class Reload(Struct, frozen=True):
    """The answer to a reload."""

    worker: str
    reloaded: Reloaded


class Outcomes(Struct, frozen=True):
    """The answer to a command."""

    worker: str
    pipeline: str
    command: str
    outcomes: tuple[Outcome, ...]


def routes(group: str, worker: str, operator: Operator) -> list[Route]:
    async def command(request: Request) -> Response:
        sent = await _command(request)
        pipeline = request.path_params["name"]
        try:
            under_way = asyncio.wrap_future(operator.command(pipeline, sent))
            found = await asyncio.wait_for(asyncio.shield(under_way), PATIENCE)
        except NotFound as refusal:
            raise HTTPException(404, str(refusal)) from None
        except Transient as failure:
            again = {"retry-after": str(round(failure.retry_after or AGAIN))}
            raise HTTPException(503, str(failure), again) from None
        except TimeoutError:
            reason = f"not committed within {PATIENCE:g} s, and may be yet; see `streamd status`"
            raise HTTPException(504, reason) from None
        body = msgspec.json.encode(Outcomes(worker, pipeline, sent.name, found))
        return Response(body, 200 if all(one.done for one in found) else 409, media_type="application/json")

    async def reload(request: Request) -> Response:
        found = await run_in_threadpool(operator.reload)
        body = msgspec.json.encode(Reload(worker, found))
        return Response(body, 409 if found.error else 200, media_type="application/json")

    async def config(request: Request) -> Response:
        body = msgspec.json.encode(Configured(group, worker, dict(operator.config())))
        return Response(body, media_type="application/json")

    return [
        Route("/v1/pipelines/{name}/commands/{command}", command, methods=["POST"]),
        Route("/v1/reload", reload, methods=["POST"]),
        Route("/v1/config", config),
    ]


async def _command(request: Request) -> Command:
    """What a request sends. Raises HTTPException."""
    number = request.query_params.get("partition")
    if number is not None and not (number.isascii() and number.isdigit()):
        raise HTTPException(400, "partition: expected a number")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LONGEST:
            raise HTTPException(413, f"more than {LONGEST} bytes")
    return Command(request.path_params["command"], bytes(body), None if number is None else int(number))
