"""Drift of a stream of losses, by ADWIN.

ADWIN (Bifet and Gavalda, Learning from time-changing data with adaptive windowing, SDM 2007) keeps a window of
losses in exponentially growing buckets, O(log n) of them, and cuts it where two parts of it differ in their means
by more than chance allows. The implementation is river's.

>>> drift = Adwin(delta=0.002)
>>> [i for i in range(2000) if drift.update(0.1 + 0.8 * (i >= 1000))]
[1023]
>>> drift.detections
1
"""

import numpy as np

from streamd.errors import ConfigError, StateError
from streamd.learners.pickled import dump, load
from streamd.snapshot import State


class Adwin:
    """delta: how probable a false alarm may be, in (0, 1). `detections` counts the drifts seen so far."""

    def __init__(self, delta: float = 0.002, key: bytes | None = None) -> None:
        if not 0.0 < delta < 1.0:
            raise ConfigError("drift_delta", "must be within 0 and 1")
        self.delta = delta
        self.detections = 0
        self._key = key
        from river import drift  # here, for it brings along half a second of imports

        self._adwin = drift.ADWIN(delta=delta)

    def update(self, loss: float) -> bool:
        """Take the next loss; whether the window was cut by it."""
        self._adwin.update(loss)
        seen = bool(self._adwin.drift_detected)
        self.detections += seen
        return seen

    def state(self) -> State:
        """Bounded by O(log n) buckets: some kilobytes."""
        return State(
            {"window": np.frombuffer(dump(self._adwin, self._key), np.uint8)}, {"detections": self.detections}
        )

    def restore(self, state: State) -> None:
        """Take back what `state` gave. Raises StateError if it is not that."""
        if "window" not in state.arrays or not isinstance(state.document.get("detections"), int):
            raise StateError("this is not the state of a drift detector")
        adwin = load(state.arrays["window"].tobytes(), self._key)
        if type(adwin) is not type(self._adwin):
            raise StateError(f"the state is that of a {type(adwin).__name__}, not of ADWIN")
        self._adwin, self.detections = adwin, state.document["detections"]
