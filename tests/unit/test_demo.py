"""The demo: its sample and configuration, what the feeder sends, what is shown, and a run from start to end."""

import fcntl
import hashlib
import io
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from streamd import config, wiring
from streamd.cli.demo import configured, demo
from streamd.demo import sample, screen
from streamd.demo.feeder import Feed
from streamd.errors import StreamdError
from streamd.ports import LogClient
from streamd.records import Label, Prediction, decode_event, decode_label
from streamd.views import EngineView, QualityView, ShardView

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


def test_the_sample_is_uci_adult_with_its_attribution() -> None:
    notice = (SAMPLES / "README.md").read_text()
    assert hashlib.sha256((SAMPLES / "adult.csv.gz").read_bytes()).hexdigest() in notice
    assert "B. Becker and R. Kohavi" in notice
    assert "CC BY 4.0" in notice
    rows = sample.rows()
    assert len(rows) == 48_842
    assert sum(row.label == ">50K" for row in rows) == 11_687


def test_a_row_makes_an_event_and_a_label_record_without_leaks() -> None:
    row = next(row for row in sample.rows() if "occupation" not in row.features)  # missing in the file
    event, label = decode_event(row.event), decode_label(row.label_record)
    assert event.id == label.id == row.id
    assert event.label is msgspec.UNSET
    assert label.label == row.label
    assert event.features is not None
    assert not {"income", "part"} & event.features.keys()
    assert "?" not in event.features.values()
    assert isinstance(event.features["age"], int | float)


# --- the feeder


@pytest.fixture
def client(tmp_path: Path) -> Iterator[LogClient]:
    with closing(wiring.client(configured(tmp_path))) as client:
        client.create("adult", 1)
        client.create("adult-labels", 1)
        yield client


def ids(client: LogClient, topic: str) -> list[str]:
    return [record.key.decode() for record in client.read(topic, 0, 0, 100_000) if record.key is not None]


def feed(client: LogClient, rows: Sequence[sample.Row], late: int) -> Feed:
    return Feed(client, "adult", "adult-labels", rows, late)


@pytest.mark.parametrize("steps", [[7] * 60, [1, 100, 3, 250, 9, 9, 400], [1000]])
def test_every_event_and_label_is_sent_once_however_it_is_cut(client: LogClient, steps: list[int]) -> None:
    rows = sample.rows()[:200]
    for step in steps:
        feed(client, rows, 50).advance(step)  # a new feed at each step: as if it were killed in between
    while not (last := feed(client, rows, 50)).done:
        last.advance(60)
    assert ids(client, "adult") == [row.id for row in rows]
    assert sorted(ids(client, "adult-labels"), key=int) == [row.id for row in rows]


def test_a_label_comes_after_its_event_and_not_too_late(client: LogClient) -> None:
    rows, late = sample.rows()[:200], 50
    one = feed(client, rows, late)
    for sent in range(1, 200 + late + 1):
        one.advance(1)
        came = {int(id) for id in ids(client, "adult-labels")}
        assert all(number < min(sent, 200) for number in came)
        assert all(number in came for number in range(sent - late))
    assert one.done


def test_a_feed_with_other_settings_goes_on_without_repeating(client: LogClient) -> None:
    feed(client, sample.rows()[:100], 30).advance(80)
    other = feed(client, sample.rows()[:300], 70)
    while not other.done:
        other.advance(11)
    assert len(ids(client, "adult")) == len(set(ids(client, "adult-labels"))) == 300
    assert len(ids(client, "adult-labels")) == 300


# --- what is shown

NOTHING = EngineView(
    pipeline="adult",
    task="classify",
    model="linear/0",
    events="adult",
    predictions="adult-predictions",
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
SHARD = ShardView(
    0,
    phase="running",
    sequence=12,
    counts={"events": 3000},
    pending=40,
    quality=QualityView(2960, {"accuracy": 0.8512, "majority": 0.7613}, {"accuracy": 0.861}, 0),
)
RUNNING = msgspec.structs.replace(NOTHING, ready=True, reasons=(), shards=(SHARD,))


def moment(view: EngineView) -> screen.Moment:
    pace = screen.Pace()
    pace.add(10.0, 1000)
    prediction = Prediction("17", label="<=50K", p={"<=50K": 0.97, ">50K": 0.03}, why=[["age", -0.25]])
    said = [screen.Said(prediction, ">50K")]
    return screen.Moment(screen.figures(view, pace, 12.0), said, "sending", 12.0, "http://127.0.0.1:8080", ".demo")


def drawn(view: EngineView) -> str:
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(screen.panel(moment(view)))
    return captured.get()


@pytest.mark.parametrize("show", [drawn, lambda view: screen.line(moment(view))])
def test_the_figures_of_a_running_daemon_are_shown(show: object) -> None:
    assert callable(show)
    shown = show(RUNNING)
    for figure in ("3,000", "1,000", "0.851", "0.861", "0.761", "2,960", "40", "12"):
        assert figure in shown


def test_the_panel_shows_the_last_predictions_with_their_reasons_and_the_addresses() -> None:
    shown = drawn(RUNNING)
    for part in ("17", "<=50K", "0.970", ">50K", "age -0.25", "http://127.0.0.1:8080/metrics"):
        assert part in shown


def test_before_the_daemon_runs_the_phase_is_shown() -> None:
    assert "compiling the kernels" in drawn(NOTHING)
    restoring = msgspec.structs.replace(NOTHING, reasons=("partition 0: being restored",))
    assert "being restored" in screen.line(moment(restoring))


# --- a run


def command(folder: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "streamd.cli", "demo", "--folder", str(folder), *options]


def say(process: subprocess.Popen[str], until: str) -> str:
    assert process.stdout is not None
    line = next((line for line in process.stdout if until in line), None)
    assert line is not None, f"it ended without saying {until!r}"
    return line


def test_stopped_and_started_again_it_goes_on_and_predicts_everything_once(tmp_path: Path) -> None:
    # Given a demo that was ended by a signal while labels were pending
    options = ("--rate", "3000", "--events", "9000")
    with subprocess.Popen(command(tmp_path, *options), stdout=subprocess.PIPE, text=True) as first:
        address = say(first, "open http").split()[1]
        say(first, "events;")
        with urllib.request.urlopen(f"{address}readyz") as answer:
            assert answer.status == 200
        first.send_signal(signal.SIGTERM)
        assert "drained" in say(first, "drained")
    assert first.returncode == 0
    # When it is started again, until the end of the sample
    again = subprocess.run(
        command(tmp_path, "--rate", "0", "--events", "9000", "--until-idle"), stdout=subprocess.PIPE, text=True
    )
    # Then every event was predicted exactly once, in order, and every label learned
    assert again.returncode == 0
    assert "9,000 events;" in again.stdout
    assert "9,000 labels learned, 0 pending" in again.stdout
    with closing(wiring.client(configured(tmp_path))) as client:
        assert ids(client, "adult-predictions") == [str(number) for number in range(9000)]
        labels = [record.value for record in client.read("adult-labels", 0, 0, 100_000)]
        assert len({msgspec.json.decode(value or b"", type=Label).id for value in labels}) == len(labels) == 9000


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
