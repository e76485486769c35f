"""Health, metrics and the state of the pipelines over HTTP. It reads what the engines show, and changes nothing.

    /livez                 200, or 503 with the reason: an engine ended, or is stuck although records wait
    /readyz                200 or 503; JSON with the reasons per pipeline
    /metrics               Prometheus or OpenMetrics, as the scraper asks
    /v1/pipelines          all views as JSON, with the group and the worker that shows them
    /v1/pipelines/{name}   one view
    /v1/pipelines/{name}/partitions/{partition}   one shard, or 421 if another worker has it
    /                      a page for people

With a token every route but the two health checks needs `Authorization: Bearer TOKEN`, else 401.
"""

import hmac
import time
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from streamd.http.page import page
from streamd.views import EngineView

OPEN = frozenset({"/livez", "/readyz"})  # for probes, which have no token


class Shown(Struct, frozen=True):
    """What the application reads. alive: why the process is not alive, empty if it is."""

    group: str
    worker: str
    views: Callable[[], Sequence[EngineView]]
    alive: Callable[[], str]
    metrics: CollectorRegistry


class Pipelines(Struct, frozen=True):
    """`/v1/pipelines`."""

    group: str
    worker: str
    pipelines: Sequence[EngineView]


class Readiness(Struct, frozen=True):
    """One pipeline in `/readyz`. Partitions by number; lag: records in all, and the age of the oldest."""

    ready: bool
    reasons: Sequence[str]
    assigned: Sequence[int]
    restored: Sequence[int]
    lag_records: int
    lag_seconds: float
    last_epoch_age: float  # seconds


class Ready(Struct, frozen=True):
    """`/readyz`."""

    ready: bool
    pipelines: dict[str, Readiness]


def app(shown: Shown, token: str | None) -> Starlette:
    """The application. token: None leaves every route open, for loopback addresses."""

    async def livez(request: Request) -> Response:
        reason = shown.alive()
        return PlainTextResponse(f"{reason or 'alive'}\n", 503 if reason else 200)

    async def readyz(request: Request) -> Response:
        found = readiness(shown.views(), time.time())
        return _json(found, 200 if found.ready else 503)

    async def metrics(request: Request) -> Response:
        encoder, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encoder(shown.metrics), headers={"content-type": content_type})

    async def pipelines(request: Request) -> Response:
        return _json(Pipelines(shown.group, shown.worker, shown.views()))

    def named(request: Request) -> EngineView:
        name = request.path_params["name"]
        for view in shown.views():
            if view.pipeline == name:
                return view
        raise HTTPException(404, f"there is no pipeline {name} here")

    async def pipeline(request: Request) -> Response:
        return _json(named(request))

    async def partition(request: Request) -> Response:
        number = request.path_params["partition"]
        for shard in named(request).shards:
            if shard.partition == number:
                return _json(shard)
        refusal = {"error": f"partition {number} is not with this worker", "partition": number, "owner": None}
        return _json(refusal, 421)

    async def home(request: Request) -> Response:
        return page(shown.group, shown.worker, shown.views(), time.time())

    routes = [
        Route("/", home),
        Route("/livez", livez),
        Route("/readyz", readyz),
        Route("/metrics", metrics),
        Route("/v1/pipelines", pipelines),
        Route("/v1/pipelines/{name}", pipeline),
        Route("/v1/pipelines/{name}/partitions/{partition:int}", partition),
    ]
    guard = [] if token is None else [Middleware(Guard, token=token)]
    return Starlette(routes=routes, middleware=guard, exception_handlers={HTTPException: _refuse})


class Guard:
    """Lets nobody without the token pass, except to the health checks."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = b"Bearer " + token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN or self._knows(scope):
            await self._app(scope, receive, send)
            return
        refusal = _json({"error": "a bearer token is needed"}, 401)
        refusal.headers["www-authenticate"] = "Bearer"
        await refusal(scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self._expected)


def readiness(views: Sequence[EngineView], now: float) -> Ready:
    """Ready if there are pipelines and every one is."""
    found = {view.pipeline: _readiness(view, now) for view in views}
    return Ready(bool(found) and all(one.ready for one in found.values()), found)


def _readiness(view: EngineView, now: float) -> Readiness:
    return Readiness(
        view.ready,
        view.reasons,
        [shard.partition for shard in view.shards],
        [shard.partition for shard in view.shards if shard.phase == "running"],
        sum(lag.records for lag in view.lag),
        max((lag.seconds for lag in view.lag), default=0.0),
        max(0.0, now - view.last_epoch),
    )


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json({"error": error.detail}, error.status_code)
