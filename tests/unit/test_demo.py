"""The demo: its sample and configuration, what the feeder sends, what is shown, and a run from start to end."""

import fcntl
import hashlib
import io
import os
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from streamd import config, wiring
from streamd.cli.demo import configured, demo, streams
from streamd.demo import sample, screen
from streamd.demo.desk import ANNOTATORS
from streamd.demo.feeder import Feed
from streamd.errors import StreamdError
from streamd.operating.tracing import Tracer
from streamd.ports import LogClient
from streamd.records import Prediction, decode_event
from streamd.views import EngineView, EstimateView, MatchingView, PoolView, QueryingView, ShardView

TOP = Path(__file__).parents[2]
SAMPLES = TOP / "streamd" / "samples"


# --- the sample and its configuration


def test_the_shipped_configuration_is_the_one_at_the_top() -> None:
    assert (SAMPLES / "config.toml").read_bytes() == (TOP / "config.toml").read_bytes()


def test_the_configuration_is_good_and_keeps_its_log_in_the_folder(tmp_path: Path) -> None:
    found = configured(tmp_path)
    wiring.check(found)
    assert found.log.path == found.store.path == str(tmp_path / "streamd.db")
    assert config.load(TOP / "config.toml").log.path == str(TOP / ".demo" / "streamd.db")


def test_the_samples_have_their_attribution() -> None:
    notice = (SAMPLES / "README.md").read_text()
    assert hashlib.sha256((SAMPLES / "adult.csv.gz").read_bytes()).hexdigest() in notice
    assert "B. Becker and R. Kohavi" in notice
    assert "PolyAI-LDN" in notice
    assert "CC BY 4.0" in notice
    assert sum(row.label == ">50K" for row in sample.people()) == 11_687
    assert len(sample.people()) == 48_842
    assert len({row.label for row in sample.messages()}) == 77
    assert len(sample.messages()) == 10_003


@pytest.mark.parametrize("rows", [sample.people, sample.messages])
def test_a_row_makes_an_event_without_its_truth(rows: Callable[[], Sequence[sample.Row]]) -> None:
    for row in rows()[:200]:
        event = decode_event(row.event)
        assert (event.id, event.label) == (row.id, msgspec.UNSET)
        assert (event.features is None) != (event.text is None)
        assert not {"income", "part", "?"} & {*(event.features or {}), *(event.features or {}).values()}


# --- the feeder


@pytest.fixture
def client(tmp_path: Path) -> Iterator[LogClient]:
    with closing(wiring.client(configured(tmp_path))) as client:
        for topic in ("people", "messages"):
            client.create(topic, 1)
        yield client


def ids(client: LogClient, topic: str) -> list[str]:
    return [record.key.decode() for record in client.read(topic, 0, 0, 100_000) if record.key is not None]


@pytest.mark.parametrize("places", [range(7, 488, 7), [1, 100, 103, 350, 359, 488], [1000]])
def test_every_event_is_sent_once_and_the_streams_end_together(client: LogClient, places: Sequence[int]) -> None:
    sent = streams(488)
    for place in places:
        feed = Feed(client, dict(sent))  # a new one at each step: as if it were killed in between
        feed.advance(place)
        assert abs(len(ids(client, "messages")) / 100 - min(place, 488) / 488) <= 0.011
        assert feed.done == (place >= 488)
    Feed(client, dict(sent)).advance(488)
    assert ids(client, "people") == [row.id for row in sent["people"]] == [f"p{i}" for i in range(488)]
    assert ids(client, "messages") == [row.id for row in sent["messages"]] == [f"m{i}" for i in range(100)]


# --- what is shown

NOTHING = EngineView(
    pipeline="income",
    task="classify",
    model="groupwise/0",
    events="people",
    predictions="people-predictions",
    ready=False,
    reasons=("starting",),
    shards=(),
    lag=(),
    epochs=0,
    epoch_seconds=0.0,
    commit_seconds=0.0,
    epoch_bytes=0,
    last_epoch=0.0,
    voids=0,
    restores=0,
    restore_seconds=0.0,
    last_progress=0.0,
    away=False,
    unwritten=0,
)
ASKED = QueryingView(
    "auto", {"asked": 297, "expired": 7}, 13, 4.0, 0.1, EstimateView(0.711, 0.812, 90.0, 0.822, 0.041, 277, 30), ()
)
SHARD = ShardView(
    0, phase="running", sequence=12, counts={"events": 3000, "learned": 2960}, pending=40, querying=ASKED
)
POOL = PoolView(
    pool="desk",
    resources=9,
    open=5,
    matched=290,
    unmatched={},
    settled=200,
    expected=152.0,
    succeeded=150,
    miscalibrated=0,
    alarm=False,
    segments=0,
    groups={},
)
RUNNING = msgspec.structs.replace(NOTHING, ready=True, reasons=(), shards=(SHARD,))
MATCHING = msgspec.structs.replace(
    RUNNING, pipeline="desk", shards=(ShardView(0, counts={"arrivals": 297}, matching=MatchingView((POOL,))),)
)


def moment(*views: EngineView) -> screen.Moment:
    pace = screen.Pace()
    pace.add(10.0, 1000)
    prediction = Prediction("p17", label="<=50K", p={"<=50K": 0.97, ">50K": 0.03}, why=[["age", -0.25]])
    said = [screen.Said("39, Male", prediction, ">50K")]
    shown = []
    for view in views:
        truth = None if view.pipeline == "desk" else screen.Truth(1000, 851, 0.877)
        shown.append(screen.figures(view, pace, 12.0, truth))
    return screen.Moment(shown, said, "sending", 12.0, "http://127.0.0.1:8080", ".demo")


def drawn(*views: EngineView) -> str:
    console = Console(file=io.StringIO(), width=190, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(screen.panel(moment(*views)))
    return captured.get()


def said(*views: EngineView) -> str:
    return "\n".join(screen.told(moment(*views)))


@pytest.mark.parametrize("show", [drawn, said])
def test_the_figures_of_a_running_daemon_are_shown(show: Callable[..., str]) -> None:
    shown = show(RUNNING, MATCHING)
    for figure in (
        "3,000",
        "1,000/s",
        "2,960",
        "297 (9.9%; budget 10%)",
        "13, 7",
        "0.711",
        "0.812",
        "0.822 ± 0.041",
    ):
        assert figure in shown
    for figure in ("0.851, lately 0.877", "290, 5 open", "0.750 of 200", "0.760"):
        assert figure in shown


def test_the_panel_shows_the_last_predictions_with_their_reasons_and_the_addresses() -> None:
    shown = drawn(RUNNING)
    for part in ("39, Male", "<=50K", "0.970", ">50K", "age -0.25", "http://127.0.0.1:8080/metrics"):
        assert part in shown


def test_before_the_daemon_runs_the_phase_is_shown() -> None:
    assert "compiling the kernels" in drawn(NOTHING)
    restoring = msgspec.structs.replace(NOTHING, reasons=("partition 0: being restored",))
    assert "being restored" in said(restoring)


# --- a run


def command(folder: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "streamd.cli", "demo", "--folder", str(folder), *options]


def say(process: subprocess.Popen[str], until: str) -> str:
    assert process.stdout is not None
    line = next((line for line in process.stdout if until in line), None)
    assert line is not None, f"it ended without saying {until!r}"
    return line


def test_stopped_and_started_again_it_goes_on_and_the_four_methods_work_together(tmp_path: Path) -> None:
    # Given a demo that was ended by a signal while questions were with the crowd
    with subprocess.Popen(
        command(tmp_path, "--rate", "1000", "--events", "3000"), stdout=subprocess.PIPE, text=True
    ) as first:
        address = say(first, "open http").split()[1]
        say(first, "income: events")
        with urllib.request.urlopen(f"{address}readyz") as answer:
            assert answer.status == 200
        first.send_signal(signal.SIGTERM)
        assert "drained" in say(first, "drained")
    assert first.returncode == 0
    # When it is started again, until the end of the samples
    again = subprocess.run(
        command(tmp_path, "--rate", "0", "--events", "3000", "--until-idle"), stdout=subprocess.PIPE, text=True
    )
    # Then every event was predicted exactly once, in order
    assert again.returncode == 0
    with closing(wiring.client(configured(tmp_path))) as client:
        assert ids(client, "people-predictions") == [f"p{i}" for i in range(3000)]
        assert ids(client, "message-predictions") == [f"m{i}" for i in range(614)]
        # both pipelines asked the desk within their budgets, every question was decided on, by known annotators
        queries = read(client, "desk-queries")
        # a question that somebody passed goes to another one under a new id, and costs nothing more
        asked = Counter(pipeline for pipeline, _ in {(query["pipeline"], query["event"]) for query in queries})
        assert 200 < asked["income"] <= 0.1 * 3000 + 11
        assert 120 < asked["messages"] <= 0.3 * 614 + 11
        matches = read(client, "assignments")
        assert {match["id"] for match in matches} == {f"{q['id']}/{q.get('attempt', 1)}" for q in queries}
        assert {match["resource"] for match in matches if "resource" in match} <= ANNOTATORS.keys()
        # and most of the answers came and were learned
        learned = {topic: ids(client, topic) for topic in ("message-labels", "people-labels")}
        assert len(set(learned["people-labels"])) > 0.8 * asked["income"]
        assert len(set(learned["message-labels"])) > 0.8 * asked["messages"]
        traced(tmp_path, client)


def traced(folder: Path, client: LogClient) -> None:
    """The story of a match leads through all three pipelines, each record once, and what an answer led to came
    when the answer did."""
    demo = configured(folder)
    outcome = read(client, "desk-outcomes")[0]
    with closing(wiring.store(demo)) as store:
        story = Tracer(client, store, demo.group, values=False).trace(outcome["id"], demo.pipeline)
    told = Counter((fact.pipeline, fact.what, fact.topic, fact.offset) for fact in story)
    assert set(told.values()) == {1}
    assert {what for _, what, _, _ in told} == {
        "events",
        "predictions",
        "queries",
        "matches",
        "labels",
        "outcomes",
    }
    epochs = {fact.what: fact.epoch for fact in story if fact.pipeline != "desk" and fact.told["id"]}
    assert epochs["outcomes"] == epochs["labels"] > epochs["predictions"] == epochs["queries"]


def read(client: LogClient, topic: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(record.value or b"") for record in client.read(topic, 0, 0, 100_000)]


def test_fresh_removes_the_demos_own_files_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "streamd.db").write_text("not even SQLite")
    (tmp_path / "letter.txt").write_text("dear")
    ended = subprocess.run(
        command(tmp_path, "--fresh", "--rate", "0", "--events", "50", "--until-idle"),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert ended.returncode == 0
    assert "removing the state of an earlier demo" in ended.stdout
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_two_demos_do_not_share_a_folder(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(StreamdError, match="another demo runs in"):
        demo(folder=tmp_path, rate=0, events=10)
    os.close(descriptor)
