"""`streamd demo`: the daemon on the embedded log, learning from a shipped stream of real events."""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Annotated, Protocol

import msgspec
import typer
from rich.console import Console
from rich.live import Live

from streamd import config as configuration
from streamd import wiring
from streamd.cli import log_lines
from streamd.cli.run import Stop, controls, on_signals, watched
from streamd.config import Config
from streamd.daemon import Daemon
from streamd.demo import sample, screen
from streamd.demo.feeder import Feed, Feeder
from streamd.demo.screen import Moment, Said
from streamd.errors import StreamdError, Transient
from streamd.ports import LogClient
from streamd.records import Prediction

PIPELINE = "adult"
LATE = 4_500  # events a label comes after its own, at most: three seconds at the default rate
LOOK = 0.25  # seconds between two looks
PERIOD = 2.0  # seconds between two lines where there is no terminal
SHOWN = 6  # predictions

_prediction = msgspec.json.Decoder(Prediction)


def demo(
    rate: Annotated[float, typer.Option("--rate", min=0, help="Events per second; 0: without a pause.")] = 1500,
    folder: Annotated[Path, typer.Option("--folder", help="Where log and state are kept.")] = Path(".demo"),
    events: Annotated[int | None, typer.Option("--events", min=1, help="Send only the first N.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Remove what an earlier demo left, and begin anew.")
    ] = False,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="Stop when the sample is over and learned.")
    ] = False,
) -> None:
    """Watch the daemon learn from a stream of 48,842 real events. Ctrl-C drains; started again, it goes on."""
    stop = Stop()
    with on_signals(stop), _alone(folder):
        if fresh:
            _clear(folder)
        config = configured(folder)
        _log_to(folder / "streamd.log", config.log_level)
        _Demo(config, folder, rate, sample.rows()[:events]).run(stop, until_idle)


def configured(folder: Path) -> Config:
    """The shipped configuration, its log in this folder."""
    config = configuration.parse(sample.configuration())
    log = msgspec.structs.replace(config.log, path="streamd.db")
    return configuration.resolve(msgspec.structs.replace(config, log=log), folder)


class _Display(Protocol):
    def show(self, moment: Moment) -> None: ...


class _Lines:
    """A line every few seconds, and whenever something else begins."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._state = ""
        self._next = 0.0

    def show(self, moment: Moment) -> None:
        state = moment.figures.phase or moment.state
        if state != self._state and not moment.figures.phase:
            self._say(f"{moment.seconds:6.1f} s  {state}")
        elif state == self._state and moment.seconds < self._next:
            return
        self._state, self._next = state, moment.seconds + PERIOD
        self._say(screen.line(moment))

    def _say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)


class _Screen:
    """The panel, drawn anew at every look."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, moment: Moment) -> None:
        self._live.update(screen.panel(moment), refresh=True)


@contextmanager
def _display(console: Console) -> Iterator[_Display]:
    if not console.is_terminal:
        yield _Lines(console)
        return
    with Live(console=console, auto_refresh=False) as live:
        yield _Screen(live)


class _Demo:
    """One run of the demo. Its log client belongs to this thread; the feeder has its own."""

    def __init__(self, config: Config, folder: Path, rate: float, rows: Sequence[sample.Row]) -> None:
        self._config = config
        self._pipeline = config.pipeline[PIPELINE]
        self._folder = folder
        self._rate = rate
        self._rows = rows
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._pace = screen.Pace()
        self._feeder = Feeder(self._feed, rate)
        self._began = time.monotonic()

    def run(self, stop: threading.Event, until_idle: bool) -> None:
        """Until `stop`, or the end of the sample. Raises what the daemon or the feeder died of."""
        self._console.print(f"streamd demo: loading; log and state in {self._folder}")
        daemon = wiring.build(self._config)
        with ExitStack() as stack:
            url = self._serve(stack, daemon)
            self._console.print(
                f"open {url}/ and {url}/metrics; Ctrl-C ends, the same command goes on", soft_wrap=True
            )
            client = stack.enter_context(closing(wiring.client(self._config)))
            display = stack.enter_context(_display(self._console))
            daemon.start()
            try:
                self._attend(daemon, client, display, url, stop, until_idle)
            finally:
                self._feeder.stop()  # first, so that the drain has an end to reach
                daemon.stop()
            self._raise_failure(daemon)
            last = self._moment(daemon, client, url)
        self._console.print(screen.last_line(last), soft_wrap=True)
        self._console.print(f"drained; `streamd demo --folder {self._folder}` goes on from here", soft_wrap=True)

    def _serve(self, stack: ExitStack, daemon: Daemon) -> str:
        """Bind the configured port, or a free one where another process has it."""
        try:
            return stack.enter_context(self._watched(self._config, daemon))
        except Transient as busy:
            self._console.print(f"{busy}; taking a free port")
        http = msgspec.structs.replace(self._config.http, port=0)
        return stack.enter_context(self._watched(msgspec.structs.replace(self._config, http=http), daemon))

    @staticmethod
    def _watched(config: Config, daemon: Daemon) -> AbstractContextManager[str]:
        return watched(config, daemon, *controls(config, daemon, lambda: config))

    def _attend(
        self,
        daemon: Daemon,
        client: LogClient,
        display: _Display,
        url: str,
        stop: threading.Event,
        until_idle: bool,
    ) -> None:
        feeding = False
        while not stop.wait(LOOK):
            self._raise_failure(daemon)
            if not feeding and daemon.views()[0].ready:
                feeding = True
                self._feeder.start()
            moment = self._moment(daemon, client, url)
            display.show(moment)
            if until_idle and self._feeder.done and moment.figures.labels >= len(self._rows):
                return

    def _raise_failure(self, daemon: Daemon) -> None:
        if failure := daemon.failure() or self._feeder.failure:
            raise failure

    def _moment(self, daemon: Daemon, client: LogClient, url: str) -> Moment:
        now = time.monotonic()
        at = screen.figures(daemon.views()[0], self._pace, now)
        said = self._last(client) if at.events and self._console.is_terminal else []
        return Moment(at, said, self._state(), now - self._began, url, str(self._folder))

    def _state(self) -> str:
        if self._feeder.done:
            return f"the sample is over, all {len(self._rows):,} events and labels were sent; serving until Ctrl-C"
        pace = f"{self._rate:,.0f} events/s" if self._rate else "events without a pause"
        return f"sending UCI Adult: {pace}; their labels come up to {LATE:,} events later"

    def _last(self, client: LogClient) -> list[Said]:
        """The last predictions committed, each with the truth."""
        topic = self._pipeline.answers
        if topic not in client.topics():
            return []
        end = client.ends(topic)[0][1]
        found = client.read(topic, 0, max(0, end - SHOWN), SHOWN)
        predictions = [_prediction.decode(record.value) for record in found if record.value is not None]
        return [Said(one, sample.rows()[int(one.id)].label) for one in predictions]

    def _feed(self) -> Feed:
        client = wiring.client(self._config)
        events, labels = self._pipeline.inputs
        for topic in (events, labels):
            client.create(topic, self._config.log.partitions)
        return Feed(client, events, labels, self._rows, LATE)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder: two demos in one would send everything twice. Raises StreamdError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StreamdError(f"{folder} cannot be used: {error.strerror}") from None
    try:
        _seize(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _seize(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StreamdError(f"another demo runs in {folder}; --folder names another place") from None


def _clear(folder: Path) -> None:
    """Remove what a demo has left; whatever else lies there stays."""
    left = sorted(folder.glob("streamd.*"))
    if left:
        typer.echo(f"removing the state of an earlier demo: {len(left)} files in {folder}")
    for path in left:
        path.unlink()


def _log_to(path: Path, level: str) -> None:
    """The log lines go to a file: the terminal shows the figures."""
    handler = logging.FileHandler(path)
    handler.setFormatter(log_lines.JsonLines())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(True)
