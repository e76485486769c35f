"""Local density: of how many remembered points would an event be the nearest neighbour.

`Sliding` remembers the last w points (Ienco, Zliobaite, Pfahringer 2014); `Cognitive` a few, each with the
strength exp(-f (t - t_last)), f = 1 / (hits + 1), and forgets the weakest (Liu et al. 2023). Distances are
Euclidean.
"""

import numpy as np
from numpy.typing import NDArray

from streamd.kernels import querying as kernel
from streamd.querying.decision import numbers
from streamd.snapshot import State

Floats = NDArray[np.float64]


class Sliding:
    """size: points remembered."""

    def __init__(self, size: int = 100) -> None:
        self.size = size
        self._points: Floats = np.zeros((0, 0))
        self._nearest: Floats = np.zeros(0)  # distance of each to its nearest neighbour known
        self._next = 0

    def density(self, x: Floats) -> int:
        """How many points would have x as their new nearest neighbour. Changes nothing."""
        return int(kernel.closer(self._points, self._nearest, x)) if len(self._points) else 0

    def add(self, x: Floats) -> None:
        distance = np.inf
        if len(self._points):
            distance = float(kernel.approach(self._points, self._nearest, x))
        if len(self._points) < self.size:
            self._points = np.vstack((self._points, x)) if len(self._points) else x[None].copy()
            self._nearest = np.append(self._nearest, distance)
            return
        self._points[self._next] = x
        self._nearest[self._next] = distance
        self._next = (self._next + 1) % self.size

    def state(self) -> State:
        return State({"points": self._points, "nearest": self._nearest, "next": np.array([float(self._next)])}, {})

    def restore(self, state: State) -> None:
        self._points = numbers(state, "points", (-1, -1))
        self._nearest = numbers(state, "nearest", (len(self._points),))
        self._next = int(numbers(state, "next", (1,))[0])


class Cognitive:
    """size: as scikit-activeml counts it, one point more than that is remembered."""

    def __init__(self, size: int = 10) -> None:
        self.size = size
        self.t = 0
        self._points: Floats = np.zeros((0, 0))
        self._rows: Floats = np.zeros((0, 3))  # nearest distance, time of the last hit, hits

    def density(self, x: Floats) -> int:
        return int(kernel.closer(self._points, self._rows[:, 0], x)) if len(self._points) else 0

    def add(self, x: Floats) -> None:
        distance = np.inf
        if len(self._points):
            before = self._rows[:, 0].copy()
            distance = float(kernel.approach(self._points, before, x))
            hit = before < self._rows[:, 0]
            self._rows[hit, 0] = before[hit]
            self._rows[hit, 1] = self.t
            self._rows[hit, 2] += 1
        if len(self._points) > self.size:
            strength = np.exp(-(self.t - self._rows[:, 1]) / (self._rows[:, 2] + 1))
            weakest = int(np.argmin(strength))
            self._points = np.delete(self._points, weakest, axis=0)
            self._rows = np.delete(self._rows, weakest, axis=0)
        self._points = np.vstack((self._points, x)) if len(self._points) else x[None].copy()
        self._rows = np.vstack((self._rows, [distance, self.t, 0.0]))
        self.t += 1

    def state(self) -> State:
        return State({"points": self._points, "rows": self._rows, "t": np.array([float(self.t)])}, {})

    def restore(self, state: State) -> None:
        self._points = numbers(state, "points", (-1, -1))
        self._rows = numbers(state, "rows", (len(self._points), 3))
        self.t = int(numbers(state, "t", (1,))[0])
