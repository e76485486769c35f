"""The HTTP side, over a real socket: health, metrics, views, the token, the address."""

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import pytest
from engine_views import ENGINE, SHARD
from msgspec.structs import replace

from streamd.config import Config, Http, Worker, parse
from streamd.errors import BadRecord, ConfigError, Elsewhere, NotFound, StreamdError, Transient
from streamd.http.app import LONGEST, readiness
from streamd.http.server import HttpServer
from streamd.questions import Question
from streamd.views import EngineView

PIPELINE = '[pipeline.adult]\ntask = "classify"\nevents = "people"\nlearner = {kind = "linear"}\n'


class Shown:
    """What the server is to show; the test changes it."""

    def __init__(self) -> None:
        self.views: list[EngineView] = [ENGINE]
        self.dead = ""
        self.asked: list[tuple[str, Question]] = []
        self.answer: Future[bytes] | StreamdError = Future()

    def ask(self, pipeline: str, question: Question) -> "Future[bytes]":
        self.asked.append((pipeline, question))
        if isinstance(self.answer, StreamdError):
            raise self.answer
        return self.answer


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.type = response.headers["content-type"]
        self.headers = response.headers
        self.text = response.read().decode()

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def configured(**keys: Any) -> Config:
    http_keys = Http(port=0, **keys)
    return replace(parse(PIPELINE), http=http_keys, worker=Worker(name="w7"))


def get(server: HttpServer, path: str, **headers: str) -> Answer:
    return request(server, "GET", path, None, headers)


def post(server: HttpServer, path: str, body: bytes, **headers: str) -> Answer:
    return request(server, "POST", path, body, headers)


def request(server: HttpServer, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, body, headers)
        return Answer(connection.getresponse())
    finally:
        connection.close()


@pytest.fixture
def shown() -> Shown:
    return Shown()


Start = Callable[[Config], HttpServer]


@pytest.fixture
def start(shown: Shown) -> Iterator[Start]:
    servers = []

    def make(config: Config) -> HttpServer:
        server = HttpServer(config, lambda: "c0ffee", lambda: shown.views, lambda: shown.dead, shown.ask)
        servers.append(server)
        server.start()
        return server

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def server(start: Start) -> HttpServer:
    return start(configured())


def test_livez_is_200_until_there_is_a_reason(server: HttpServer, shown: Shown) -> None:
    assert get(server, "/livez").status == 200
    shown.dead = "adult: no progress"
    answer = get(server, "/livez")
    assert (answer.status, answer.text) == (503, "adult: no progress\n")


def test_readyz_gives_the_reasons(server: HttpServer, shown: Shown) -> None:
    assert get(server, "/readyz").status == 200
    shown.views = [replace(ENGINE, ready=False, reasons=("partition 1: being restored",))]
    answer = get(server, "/readyz")
    assert (answer.status, answer.json["ready"]) == (503, False)
    assert answer.json["pipelines"]["adult"]["reasons"] == ["partition 1: being restored"]
    assert answer.json["pipelines"]["adult"]["lag_records"] == 9


def test_readiness_is_that_of_every_pipeline() -> None:
    waiting = replace(ENGINE, pipeline="b", ready=False, reasons=("not yet",))
    found = readiness([ENGINE, waiting], ENGINE.last_epoch + 3)
    assert not found.ready
    assert found.pipelines["adult"].ready
    assert found.pipelines["b"].reasons == ("not yet",)
    assert found.pipelines["b"].last_epoch_age == 3
    assert readiness([ENGINE], 0).ready
    assert not readiness([], 0).ready


def test_readiness_says_what_is_assigned_and_what_is_restored() -> None:
    shards = (SHARD, replace(SHARD, partition=2, phase="restoring"), replace(SHARD, partition=3, phase="paused"))
    found = readiness([replace(ENGINE, shards=shards)], 0).pipelines["adult"]
    assert (found.assigned, found.restored) == ([1, 2, 3], [1])


def test_metrics_speak_the_scrapers_format(server: HttpServer) -> None:
    plain = get(server, "/metrics")
    assert plain.type.startswith("text/plain")
    assert 'streamd_epochs_total{pipeline="adult"} 10.0' in plain.text
    newer = get(server, "/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert newer.type.startswith("application/openmetrics-text")
    assert newer.text.endswith("# EOF\n")


def test_pipelines_are_the_views(server: HttpServer) -> None:
    every = get(server, "/v1/pipelines").json
    assert (every["group"], every["worker"]) == ("streamd", "w7")
    one = get(server, "/v1/pipelines/adult")
    assert msgspec.json.decode(one.text, type=EngineView) == ENGINE
    assert every["pipelines"] == [one.json]


def test_a_shard_of_another_worker_is_421_with_its_partition(server: HttpServer, shown: Shown) -> None:
    view = shown.views[0]
    held = view.shards[0].partition
    answer = get(server, f"/v1/pipelines/{view.pipeline}/partitions/{held}")
    assert (answer.status, answer.json["partition"]) == (200, held)
    for known, owner in (
        (Elsewhere(999, "w8"), "w8"),
        (Transient("starting"), None),
        (NotFound("no answer"), None),
    ):
        shown.answer = known
        answer = get(server, f"/v1/pipelines/{view.pipeline}/partitions/999")
        assert (answer.status, answer.json["partition"], answer.json["owner"]) == (421, 999, owner)
    assert {question.partition for _, question in shown.asked} == {999}


def test_what_is_not_there_is_404_with_a_sentence(server: HttpServer) -> None:
    answer = get(server, "/v1/pipelines/nobody")
    assert (answer.status, answer.json) == (404, {"error": "there is no pipeline nobody here"})
    assert get(server, "/elsewhere").status == 404


def test_a_question_goes_to_its_pipeline_and_comes_back_answered(server: HttpServer, shown: Shown) -> None:
    assert isinstance(shown.answer, Future)
    shown.answer.set_result(b'{"label":"a"}')
    answer = post(server, "/v1/pipelines/adult/predict?partition=3", b'{"text":"x"}')
    assert (answer.status, answer.json, answer.type) == (200, {"label": "a"}, "application/json")
    post(server, "/v1/pipelines/adult/explain?key=k%C3%A9", b"{}")
    assert shown.asked == [
        ("adult", Question("predict", b'{"text":"x"}', 3, None)),
        ("adult", Question("explain", b"{}", None, "ké".encode())),
    ]


REFUSALS = [
    (BadRecord("no text"), 400),
    (NotFound("no such pipeline"), 404),
    (Elsewhere(3, "w8"), 421),
    (Transient("too many questions wait", 2.0), 503),
]


@pytest.mark.parametrize(("refusal", "status"), REFUSALS)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_question_that_is_refused_says_why(
    server: HttpServer, shown: Shown, refusal: StreamdError, status: int, at_once: bool
) -> None:
    if at_once:
        shown.answer = refusal
    else:
        assert isinstance(shown.answer, Future)
        shown.answer.set_exception(refusal)
    answer = post(server, "/v1/pipelines/adult/predict", b"{}")
    assert (answer.status, answer.json["error"]) == (status, str(refusal))
    if status == 421:
        assert (answer.json["partition"], answer.json["owner"]) == (3, "w8")
    assert answer.headers["retry-after"] == ("2" if status == 503 else None)


def test_a_question_that_is_none_is_not_handed_on(server: HttpServer, shown: Shown) -> None:
    assert get(server, "/v1/pipelines/adult/predict").status == 405
    assert post(server, "/v1/pipelines/adult/guess", b"{}").status == 404
    assert post(server, "/v1/pipelines/adult/predict?partition=-1", b"{}").status == 400
    assert post(server, "/v1/pipelines/adult/predict", b"x" * (LONGEST + 1)).status == 413
    assert shown.asked == []


def test_a_question_nobody_answers_in_time_is_503_and_given_up(shown: Shown) -> None:
    server = HttpServer(configured(), str, list, lambda: "", shown.ask, patience=0.01)
    server.start()
    answer = post(server, "/v1/pipelines/adult/predict", b"{}")
    server.stop()
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert isinstance(shown.answer, Future)
    assert shown.answer.cancelled()


def test_the_page_escapes_what_it_shows(server: HttpServer, shown: Shown) -> None:
    shown.views = [replace(ENGINE, model="<script>", ready=False, reasons=("a < b",))]
    answer = get(server, "/")
    assert answer.status == 200
    assert answer.text.count("<script>") == 1  # its own
    assert "&lt;script&gt;" in answer.text
    assert "a &lt; b" in answer.text
    assert "0.75" in answer.text
    assert "'unsafe-inline'; connect-src" in answer.headers["content-security-policy"]
    assert "script-src 'sha256-" in answer.headers["content-security-policy"]


def test_the_page_has_a_box_where_a_pipeline_reads_texts(server: HttpServer, shown: Shown) -> None:
    assert "id=box" not in get(server, "/").text
    shown.views = [replace(ENGINE, task="text", pipeline="messages")]
    assert "<option>messages" in get(server, "/").text


def test_the_page_of_a_daemon_that_has_just_started(server: HttpServer, shown: Shown) -> None:
    shown.views = []
    assert get(server, "/").status == 200


@pytest.fixture
def guarded(start: Start, tmp_path: Path) -> HttpServer:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    return start(configured(token_file=str(token)))


@pytest.mark.parametrize("path", ["/", "/metrics", "/v1/pipelines", "/v1/pipelines/adult", "/nowhere"])
def test_with_a_token_every_route_needs_it(guarded: HttpServer, path: str) -> None:
    for headers in (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "s3cret"},
        {"authorization": "Bearer "},
    ):
        answer = get(guarded, path, **headers)
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert get(guarded, path, authorization="Bearer s3cret").status in (200, 404)
    assert post(guarded, "/v1/pipelines/adult/predict", b"{}").status == 401


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_need_no_token(guarded: HttpServer, path: str) -> None:
    assert get(guarded, path).status == 200


def test_an_empty_or_missing_token_is_refused_with_its_key(tmp_path: Path, shown: Shown) -> None:
    (tmp_path / "empty").write_text(" \n")
    for name in ("empty", "missing"):
        config = configured(token_file=str(tmp_path / name))
        with pytest.raises(ConfigError, match=r"http\.token_file"):
            HttpServer(config, str, lambda: shown.views, lambda: "", shown.ask)


def test_a_port_in_use_is_try_again(server: HttpServer, shown: Shown) -> None:
    config = replace(configured(), http=Http(port=server.port))
    with pytest.raises(Transient, match=rf"127\.0\.0\.1:{server.port} is in use"):
        HttpServer(config, str, lambda: shown.views, lambda: "", shown.ask)


def test_an_address_of_another_machine_is_refused(shown: Shown) -> None:
    config = configured(host="192.0.2.1")
    with pytest.raises(ConfigError, match=r"http\.host"):
        HttpServer(config, str, lambda: shown.views, lambda: "", shown.ask)


def test_a_stopped_server_gives_its_port_back(shown: Shown) -> None:
    server = HttpServer(configured(), str, lambda: shown.views, lambda: "", shown.ask)
    port = server.port
    server.start()
    assert get(server, "/livez").status == 200
    server.stop()
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", port))


def test_a_server_that_never_started_can_be_stopped(shown: Shown) -> None:
    HttpServer(configured(), str, lambda: shown.views, lambda: "", shown.ask).stop()


def test_the_server_logs_nothing_of_its_own(server: HttpServer, capfd: pytest.CaptureFixture[str]) -> None:
    get(server, "/livez")
    assert capfd.readouterr() == ("", "")


def test_ages_are_never_negative() -> None:
    assert readiness([ENGINE], time.time()).pipelines["adult"].last_epoch_age > 0
    assert readiness([ENGINE], 0.0).pipelines["adult"].last_epoch_age == 0
