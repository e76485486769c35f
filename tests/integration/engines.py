"""Running one engine of a configuration in the test's own process."""

import threading
from collections.abc import Callable

from streamd import wiring
from streamd.config import Config
from streamd.operating.choices import CAUTIOUS, Choices
from streamd.ports import Log, Store
from streamd.sight import Sight
from streamd.views import EngineView

LOOK = 0.005  # seconds


def run_engine(
    config: Config,
    log: Log | None = None,
    store: Store | None = None,
    choices: Choices = CAUTIOUS,
    until: Callable[[Sight], bool] = lambda sight: sight.idle,
    patience: float = 30.0,
) -> EngineView:
    """Run the pipeline `p` until a condition holds, at most `patience` seconds, then drain."""
    sight = Sight("p", "classify", wiring.model(config.pipeline["p"]), "events", "events-predictions")
    engine = wiring.engine(config, "p", sight, log, store, choices=choices)
    over, tick = threading.Event(), threading.Event()

    def watch() -> None:
        for _ in range(int(patience / LOOK)):
            if until(sight) or over.is_set():
                break
            tick.wait(LOOK)
        engine.stop()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        engine.run()
    finally:
        over.set()
        watcher.join()
    return sight.view
