"""A drift alarm of few numbers: HDDM_A (Frias-Blanco et al. 2015), on a stream of errors in [0, 1].

The moment at which the mean error was lowest, up to chance, is remembered; an alarm is raised when the mean since
then is larger by more than Hoeffding's bound allows with confidence 1 - delta. After an alarm it starts anew.

>>> alarm = Alarm(delta=0.001)
>>> [i for i in range(600) if alarm.update(float(i % 10 == 0 or i > 300 and i % 2 == 0))]
[320]
"""

import math

import numpy as np

from streamd.errors import ConfigError
from streamd.querying.decision import numbers
from streamd.snapshot import State


class Alarm:
    """delta: how probable a false alarm may be, in (0, 1)."""

    def __init__(self, delta: float = 0.001) -> None:
        if not 0.0 < delta < 1.0:
            raise ConfigError("drift_delta", "must be within 0 and 1")
        self.delta = delta
        self._log = math.log(1.0 / delta)
        self.alarms = 0
        self._start()

    def _start(self) -> None:
        self._n = self._sum = 0.0
        self._low_n = self._low_sum = 0.0

    def update(self, error: float) -> bool:
        """Take an error; whether it raised the alarm. What is not finite is left out."""
        if not 0.0 <= error <= 1.0:
            return False
        self._n += 1
        self._sum += error
        if self._low_n == 0 or self._upper(self._sum, self._n) <= self._upper(self._low_sum, self._low_n):
            self._low_n, self._low_sum = self._n, self._sum
        late = self._n - self._low_n
        if late < 1:
            return False
        rise = self._sum / self._n - self._low_sum / self._low_n
        bound = math.sqrt(late / (2.0 * self._low_n * self._n) * self._log)
        if rise < bound:
            return False
        self.alarms += 1
        self._start()
        return True

    def _upper(self, total: float, n: float) -> float:
        return total / n + math.sqrt(self._log / (2.0 * n))

    def state(self) -> State:
        kept = np.array([self._n, self._sum, self._low_n, self._low_sum, float(self.alarms)])
        return State({"alarm": kept}, {})

    def restore(self, state: State) -> None:
        self._n, self._sum, self._low_n, self._low_sum, alarms = numbers(state, "alarm", (5,)).tolist()
        self.alarms = int(alarms)
