"""`streamd run`: the daemon, until a signal, a failure, or (with `--until-idle`) nothing is left to do."""

import logging
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from streamd import __version__, wiring
from streamd.cli import log_lines, team
from streamd.cli.forks import let_in
from streamd.cli.options import ConfigFile, load
from streamd.config import Config, digest, plain, without_secrets, written
from streamd.daemon import Daemon
from streamd.errors import EXIT_BUG, EXIT_OK, Poisoned, StreamdError, Transient
from streamd.http.operating import Operator
from streamd.http.server import HttpServer
from streamd.operating.choices import (
    CAUTIOUS,
    ChangedModelChoice,
    Choices,
    GrownTopicChoice,
    LostStateChoice,
    OffsetGapChoice,
)
from streamd.operating.reloading import Reloaded, Reloader
from streamd.watchdog import Liveness, Watchdog

log = logging.getLogger("streamd")

RELOAD = 50.0  # seconds until a reload is committed
LOOK = 0.1  # seconds between two looks at the daemon


def run(
    config: ConfigFile = None,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="Stop when every record has been processed and committed.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=256,
            help="Processes of one group, looked after by this one, which starts those that fail again at once; "
            "worker i listens on the port plus i. [default: this process is the only worker, and nobody does]",
        ),
    ] = None,
    on_offset_gap: Annotated[
        OffsetGapChoice, typer.Option(help="Records deleted before they were read: go on with the nearest kept?")
    ] = "stop",
    on_lost_state: Annotated[
        LostStateChoice,
        typer.Option(help="Journal and snapshots do not meet: go on from an older state, or afresh?"),
    ] = "stop",
    on_grown_topic: Annotated[
        GrownTopicChoice, typer.Option(help="The inputs have more partitions than a state knows: go on?")
    ] = "pause",
    on_changed_model: Annotated[
        ChangedModelChoice,
        typer.Option(
            help="A state is of another configuration: learn a new one from the log's history, and go on where "
            "that one ended?"
        ),
    ] = "pause",
    index: Annotated[int | None, typer.Option(hidden=True, min=0)] = None,
) -> None:
    """Run the daemon. It logs JSON lines on stderr; SIGTERM and SIGINT drain it, a second one ends it at once.

    SIGHUP reads the configuration file again, as `streamd reload` does. SIGUSR1 drains it and gives its place in
    the consumer group up at once: for scale-in.
    """
    choices = Choices(on_offset_gap, on_lost_state, on_grown_topic, on_changed_model)
    work = partial(_work, config, until_idle, choices)
    if workers is None or index is not None:
        raise typer.Exit(work(index, os.getppid()))
    loaded = load(config)
    if _needs_pinned_hashes(loaded):
        _pin_hashes()
    log_lines.configure(loaded.log_level)
    raise typer.Exit(team.run(loaded, workers, work))


def _work(file: Path | None, until_idle: bool, choices: Choices, index: int | None, parent: int) -> int:
    """Be the worker of this index, or the only one. parent: who looks after it. Returns the exit code."""
    config = _read(file, index)
    if _needs_pinned_hashes(config):
        _pin_hashes(*(() if index is None else ("--index", str(index))))
    log_lines.configure(config.log_level)
    if index is not None:
        team.follow(parent)
    return supervise(config, until_idle, partial(_read, file, index), choices)


def _read(file: Path | None, index: int | None) -> Config:
    loaded = load(file)
    return loaded if index is None else team.member(loaded, index)


def supervise(config: Config, until_idle: bool, read: Callable[[], Config], choices: Choices = CAUTIOUS) -> int:
    """Run the daemon to its end; returns the exit code, having said why in one line."""
    stop = Stop()
    try:
        with on_signals(stop):
            attend(config, until_idle, stop, read, choices)
    except StreamdError as error:
        if isinstance(error, Poisoned):
            log.critical("a record ended the process", exc_info=error)
        _say(logging.ERROR, "stopped", {"reason": str(error), "exit": error.exit_code})
        return error.exit_code
    except Exception as error:
        facts = {"reason": f"{type(error).__name__}: {error}", "exit": EXIT_BUG}
        log.critical("stopped by a bug", extra={"facts": facts}, exc_info=True)
        return EXIT_BUG
    _say(logging.INFO, "stopped", {"exit": EXIT_OK})
    return EXIT_OK


class Stop(threading.Event):
    """Set when the daemon is to drain. leave: and to give its place in the group up."""

    leave = False

    def __init__(self) -> None:
        super().__init__()
        self.reload = threading.Event()
        """Set when the configuration file is to be read again."""


def attend(
    config: Config, until_idle: bool, stop: Stop, read: Callable[[], Config], choices: Choices = CAUTIOUS
) -> None:
    """Build the daemon, serve it over HTTP, wait for its end, drain it. Raises what ended it, if it failed."""
    daemon = wiring.build(config, choices)
    liveness, reloader = controls(config, daemon, read)
    with watched(config, daemon, liveness, reloader) as url:
        daemon.start()
        _say(logging.INFO, "started", _about(config, url))
        failure = _wait(daemon, stop, until_idle, reloader)
        _say(logging.INFO, "draining", {"within": float(config.worker.drain)})
        _drain(daemon, failure, stop.leave)


def controls(config: Config, daemon: Daemon, read: Callable[[], Config]) -> tuple[Liveness, Reloader]:
    """What looks at a daemon from outside, and what changes how it works. read: the configuration file, again."""
    liveness = Liveness(config.worker.stall, daemon.views, daemon.failure)
    return liveness, Reloader(config, read, wiring.check, partial(_work_by, daemon, liveness))


@contextmanager
def watched(config: Config, daemon: Daemon, liveness: Liveness, reloader: Reloader) -> Iterator[str]:
    """The HTTP server, bound before the daemon starts, and the watchdog. Yields the server's address."""
    watchdog = Watchdog(config.worker.stall, liveness.stuck)
    server = None
    if config.http.enabled:
        operator = Operator(daemon.command, partial(_reload, reloader), partial(_running, reloader))
        server = HttpServer(
            config, partial(_digest, reloader), daemon.views, liveness.look, daemon.ask, operator=operator
        )
        server.start()
    watchdog.start()
    try:
        yield server.url if server else ""
    finally:
        # The server last: it says what is going on until the end.
        watchdog.stop()
        if server:
            server.stop()


@contextmanager
def on_signals(stop: Stop) -> Iterator[None]:
    """The first SIGTERM, SIGINT or SIGUSR1 sets `stop`; the second one has its usual effect."""
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}

    def drain(number: int, _: object) -> None:
        for known in former:
            signal.signal(known, signal.SIG_DFL)
        stop.leave = number == signal.SIGUSR1
        stop.set()

    def reload(number: int, _: object) -> None:
        stop.reload.set()

    for number in former:
        signal.signal(number, drain)
    former[signal.SIGHUP] = signal.signal(signal.SIGHUP, reload)
    let_in()
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _wait(daemon: Daemon, stop: Stop, until_idle: bool, reloader: Reloader) -> BaseException | None:
    """Wait for a signal, a failure, or the end of the work. Returns the failure."""
    while not stop.wait(LOOK):
        if stop.reload.is_set():
            stop.reload.clear()
            _reload(reloader)
        if (failure := daemon.failure()) is not None:
            return failure
        if until_idle and daemon.idle():
            return None
    return None


def _reload(reloader: Reloader) -> Reloaded:
    """Read the configuration file again, and say what became of it."""
    found = reloader.reload()
    if found.error:
        _say(logging.ERROR, "reload refused", {"reason": found.error})
    else:
        level = logging.WARNING if found.refused else logging.INFO
        facts = {"applied": found.applied, "need_restart": found.refused, "config": digest(plain(reloader.config))}
        _say(level, "reloaded", facts)
    return found


def _digest(reloader: Reloader) -> str:
    return digest(plain(reloader.config))


def _running(reloader: Reloader) -> Mapping[str, Any]:
    return without_secrets(written(reloader.config))


def _work_by(daemon: Daemon, liveness: Liveness, config: Config) -> None:
    """Let this process work by another configuration; returns when it does. Raises Transient."""
    log_lines.configure(config.log_level)
    daemon.drain, liveness.stall = config.worker.drain, config.worker.stall
    under_way = [daemon.reload(name, partial(wiring.setup, config, name)) for name in config.pipeline]
    for future in under_way:
        try:
            future.result(RELOAD)
        except TimeoutError:
            raise Transient(f"not committed within {RELOAD:g} s, and will be; see the log") from None


def _drain(daemon: Daemon, failure: BaseException | None, leave: bool) -> None:
    """Stop in order. What failed first is what is raised: a drain that fails after it is its consequence."""
    try:
        daemon.stop(leave)
    except StreamdError:
        if failure is None:
            raise
    failure = failure or daemon.failure()
    if failure is not None:
        raise failure


def _about(config: Config, url: str) -> Mapping[str, Any]:
    return {
        "version": __version__,
        "python": platform.python_version(),
        "group": config.group,
        "worker": config.worker.name,
        "pipelines": sorted(config.pipeline),
        "config": digest(plain(config)),
        "url": url,
    }


def _say(level: int, event: str, facts: Mapping[str, Any]) -> None:
    log.log(level, event, extra={"facts": facts})


def _needs_pinned_hashes(config: Config) -> bool:
    """River's models may iterate over sets of strings, whose order changes with the hash seed."""
    return any("river" in pipeline.kinds for pipeline in config.pipeline.values())


def _pin_hashes(*more: str) -> None:
    """Start this process anew with a fixed hash seed; it keeps its process id. more: arguments, beside its own."""
    if sys.flags.hash_randomization and not sys.flags.ignore_environment:
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], *more])
