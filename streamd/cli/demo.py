"""`streamd demo`: all four methods on the embedded log, learning from shipped streams of real events.

Two pipelines predict and ask for the labels worth having; a third sends their questions to a simulated crowd, and
they learn what it answers.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from streamd import config as configuration
from streamd import wiring
from streamd.cli import log_lines
from streamd.cli.run import Stop, controls, on_signals, watched
from streamd.config import Config, MatchPipeline, Pipeline
from streamd.config.keys import AnyPipeline
from streamd.daemon import Daemon
from streamd.demo import folder as place
from streamd.demo import sample, screen
from streamd.demo.desk import Desk
from streamd.demo.display import Display, display
from streamd.demo.feeder import Feed, Feeder
from streamd.demo.sample import Row
from streamd.demo.screen import Figures, Moment, Said
from streamd.demo.watch import Watch
from streamd.errors import Transient
from streamd.ports import LogClient

LOOK = 0.25  # seconds between two looks
CALM = 4  # looks at which all must be over: one part's view may be older than what another has just written


def demo(
    rate: Annotated[float, typer.Option("--rate", min=0, help="People per second; 0: without a pause.")] = 500,
    folder: Annotated[Path, typer.Option("--folder", help="Where log and state are kept.")] = Path(".demo"),
    events: Annotated[
        int | None,
        typer.Option("--events", min=1, help="Send only N people, and their share of messages."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Remove what an earlier demo left, and begin anew.")
    ] = False,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="Stop when the samples are over and learned.")
    ] = False,
) -> None:
    """Watch the daemon learn from 48,842 people and 10,003 messages. Ctrl-C drains; started again, it goes on.

    SS3 sorts messages, groupwise models judge people; both ask for the labels worth having, a matching pipeline
    finds who answers, and a simulated crowd does, late, wrongly, or never.
    """
    stop = Stop()
    with on_signals(stop), place.alone(folder):
        if fresh and (left := place.clear(folder)):
            typer.echo(f"removing the state of an earlier demo: {left} files in {folder}")
        config = configured(folder)
        place.log_to(folder / "streamd.log", config.log_level, log_lines.JsonLines())
        _Demo(config, folder, rate, streams(events)).run(stop, until_idle)


def configured(folder: Path) -> Config:
    """The shipped configuration, its log in this folder."""
    config = configuration.parse(sample.configuration())
    log = msgspec.structs.replace(config.log, path="streamd.db")
    return configuration.resolve(msgspec.structs.replace(config, log=log), folder)


def streams(people: int | None) -> dict[str, Sequence[Row]]:
    """What is sent to each topic of events: all of it, or the first people and as large a part of the messages."""
    all_people, all_messages = sample.people(), sample.messages()
    part = 1.0 if people is None else min(1.0, people / len(all_people))
    return {"people": all_people[:people], "messages": all_messages[: max(1, round(part * len(all_messages)))]}


class _Demo:
    """One run of the demo. Its log client belongs to this thread; the feeder and the desk have their own."""

    def __init__(self, config: Config, folder: Path, rate: float, streams: Mapping[str, Sequence[Row]]) -> None:
        self._config = config
        self._folder = folder
        self._rate = rate
        self._streams = streams
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._paces = {name: screen.Pace() for name in config.pipeline}
        self._watches = {
            name: Watch(pipeline.predictions_topic, {row.id: row for row in streams[pipeline.events]})
            for name, pipeline in config.pipeline.items()
            if isinstance(pipeline, Pipeline)
        }
        self._feeder = Feeder(self._feed, rate)
        self._desk = self._staffed(config.pipeline["desk"])
        self._began = time.monotonic()

    def run(self, stop: threading.Event, until_idle: bool) -> None:
        """Until `stop`, or the end of the samples. Raises what the daemon, the feeder or the desk died of."""
        self._console.print(f"streamd demo: loading; log and state in {self._folder}")
        daemon = wiring.build(self._config)
        with ExitStack() as stack:
            url = self._serve(stack, daemon)
            self._console.print(
                f"open {url}/ and {url}/metrics; Ctrl-C ends, the same command goes on", soft_wrap=True
            )
            client = stack.enter_context(closing(wiring.client(self._config)))
            shown = stack.enter_context(display(self._console))
            daemon.start()
            try:
                self._attend(daemon, client, shown, url, stop, until_idle)
            finally:
                self._feeder.stop()  # first, so that the drain has an end to reach
                self._desk.stop()
                daemon.stop()
            self._raise_failure(daemon)
            last = self._moment(daemon, client, url)
        self._console.print("\n".join(screen.told(last, last=True)), soft_wrap=True)
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
        shown: Display,
        url: str,
        stop: threading.Event,
        until_idle: bool,
    ) -> None:
        feeding, calm = False, 0
        while not stop.wait(LOOK):
            self._raise_failure(daemon)
            if not feeding and all(view.ready for view in daemon.views()):
                feeding = True
                self._desk.start()
                self._feeder.start()
            shown.show(self._moment(daemon, client, url))
            calm = calm + 1 if self._over(daemon) else 0
            if until_idle and calm >= CALM:
                return

    def _over(self, daemon: Daemon) -> bool:
        """Everything was sent and predicted, and nobody will say anything more."""
        if not (self._feeder.done and self._desk.idle and daemon.idle()):
            return False
        shards = [shard for view in daemon.views() for shard in view.shards]
        if any(pool.open for shard in shards if shard.matching is not None for pool in shard.matching.pools):
            return False  # who does not answer in time makes room for another one
        events = {view.events: sum(s.counts.get("events", 0) for s in view.shards) for view in daemon.views()}
        return all(events[topic] >= len(rows) for topic, rows in self._streams.items())

    def _raise_failure(self, daemon: Daemon) -> None:
        if failure := daemon.failure() or self._feeder.failure or self._desk.failure:
            raise failure

    def _moment(self, daemon: Daemon, client: LogClient, url: str) -> Moment:
        now = time.monotonic()
        at: list[Figures] = []
        said: list[Said] = []
        for view in daemon.views():
            watch = self._watches.get(view.pipeline)
            if watch is not None:
                watch.look(client)
                said += watch.said
            truth = None if watch is None else watch.truth
            at.append(screen.figures(view, self._paces[view.pipeline], now, truth))
        return Moment(at, said, self._state(), now - self._began, url, str(self._folder))

    def _state(self) -> str:
        people, messages = len(self._streams["people"]), len(self._streams["messages"])
        if self._feeder.done:
            return f"the samples are over, all {people:,} people and {messages:,} messages; serving until Ctrl-C"
        pace = f"{self._rate:,.0f} a second" if self._rate else "without a pause"
        return f"sending {people:,} people ({pace}) and {messages:,} messages; a crowd is asked for labels"

    def _staffed(self, desk: AnyPipeline) -> Desk:
        assert isinstance(desk, MatchPipeline)
        matches = desk.outputs["matches"]
        return Desk(lambda: wiring.client(self._config), desk.resources, matches, list(self._streams.values()))

    def _feed(self) -> Feed:
        client = wiring.client(self._config)
        for topic in self._streams:
            client.create(topic, 1)
        return Feed(client, dict(self._streams))
