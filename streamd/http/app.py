"""Health, metrics and the state of the pipelines over HTTP. It reads what the engines show, hands
them questions, and changes nothing; what the operator may change is in `operating`.

    /livez                 200, or 503 with the reason: an engine ended, or is stuck although records wait
    /readyz                200 or 503; JSON with the reasons per pipeline
    /metrics               Prometheus or OpenMetrics, as the scraper asks
    /v1/pipelines          all views as JSON, with the group and the worker that shows them
    /v1/pipelines/{name}   one view
    /v1/pipelines/{name}/partitions/{partition}   one shard, or 421 if another worker has it, and which
    POST /v1/pipelines/{name}/predict    the body, an event, predicted by the live model; nothing is learned
    POST /v1/pipelines/{name}/explain    the same, with the whole reason
    /                      a page for people

A question may say whose shard it is for: `?partition=3`, or `?key=` as a record's; else any shard here answers.
400 what cannot be used, 404 what is not there, 413 too long, 421 a shard of another worker, 503 with Retry-After
where no answer came in time.

With a token every route but the two health checks needs `Authorization: Bearer TOKEN`, else 401.
"""

import asyncio
import hmac
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

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

from streamd.errors import BadRecord, Elsewhere, NotFound, Transient
from streamd.http import operating
from streamd.http.operating import Operator
from streamd.http.page import page
from streamd.questions import AGAIN, Question
from streamd.views import EngineView

QUESTIONS = ("predict", "explain")
WHEREABOUTS = "whereabouts"  # no task answers it: it is for who has the shard
LONGEST = 1 << 20  # bytes of a question
Ask = Callable[[str, Question], "Future[bytes]"]

OPEN = frozenset({"/livez", "/readyz"})  # for probes, which have no token


class Shown(Struct, frozen=True):
    """What the application reads. alive: why the process is not alive, empty if it is."""

    group: str
    worker: str
    views: Callable[[], Sequence[EngineView]]
    alive: Callable[[], str]
    metrics: CollectorRegistry
    ask: Ask
    patience: float  # seconds an answer may take
    operator: Operator | None = None  # None: no commands are taken


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
        view, number = named(request), request.path_params["partition"]
        for shard in view.shards:
            if shard.partition == number:
                return _json(shard)
        return _elsewhere(await elsewhere(view.pipeline, number))

    async def elsewhere(name: str, number: int) -> Elsewhere:
        """Who has a partition, as its engine knows; nobody, while that gives no answer."""
        try:
            answered = asyncio.wrap_future(shown.ask(name, Question(WHEREABOUTS, partition=number)))
            await asyncio.wait_for(answered, min(shown.patience, 1.0))
        except Elsewhere as known:
            return known
        except (BadRecord, NotFound, Transient, TimeoutError):
            pass  # the partition has come here by now, or the engine is busy
        return Elsewhere(number)

    async def ask(request: Request) -> Response:
        question = await _question(request)
        try:
            answered = asyncio.wrap_future(shown.ask(request.path_params["name"], question))
            return Response(await asyncio.wait_for(answered, shown.patience), media_type="application/json")
        except BadRecord as refusal:
            raise HTTPException(400, refusal.reason) from None
        except NotFound as refusal:
            raise HTTPException(404, str(refusal)) from None
        except Elsewhere as refusal:
            return _elsewhere(refusal)
        except Transient as refusal:
            return _busy(str(refusal), refusal.retry_after)
        except TimeoutError:
            return _busy(f"no answer within {shown.patience:g} s", None)

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
        *(Route(f"/v1/pipelines/{{name}}/{kind}", ask, methods=["POST"], name=kind) for kind in QUESTIONS),
        *([] if shown.operator is None else operating.routes(shown.group, shown.worker, shown.operator)),
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


async def _question(request: Request) -> Question:
    """What a request asks. Raises HTTPException."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LONGEST:
            raise HTTPException(413, f"more than {LONGEST} bytes")
    number, key = request.query_params.get("partition"), request.query_params.get("key")
    if number is not None and not (number.isascii() and number.isdigit()):
        raise HTTPException(400, "partition: expected a number")
    partition = None if number is None else int(number)
    kind = request.url.path.rpartition("/")[2]
    return Question(kind, body, partition, None if key is None else key.encode())


def _elsewhere(refusal: Elsewhere) -> Response:
    return _json({"error": str(refusal), "partition": refusal.partition, "owner": refusal.owner}, 421)


def _busy(reason: str, again: float | None) -> Response:
    answer = _json({"error": reason}, 503)
    answer.headers["retry-after"] = str(max(1, round(again or AGAIN)))
    return answer


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal = _json({"error": error.detail}, error.status_code)
    refusal.headers.update(error.headers or {})
    return refusal
