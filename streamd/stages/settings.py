"""What the configuration says of a predicting pipeline, as its stages need it: plain values, no config object."""

from msgspec import Struct

from streamd.stages import alerting
from streamd.stages.pending import Bounds


class Settings(Struct, frozen=True):
    """One pipeline's."""

    task: str
    events: str
    labels: str | None
    predictions: str
    dead_letters: str
    model: str
    echo: tuple[str, ...]
    top: int
    bounds: Bounds
    fading: float
    drift_delta: float | None  # None: not watched
    drift_reset: bool
    record_bytes: int
    ahead: int  # milliseconds
    early: alerting.Settings | None = None
