"""Paths through a declared acyclic graph, and the one that costs least."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from streamd.errors import ConfigError


class Graph:
    """edges: name -> (tail, head). Raises ConfigError unless acyclic, with every edge on a path to the sink."""

    def __init__(self, edges: Mapping[str, Sequence[str]], source: str, sink: str) -> None:
        self.names = list(edges)
        self._ends = [_ends(name, ends) for name, ends in edges.items()]
        self.source, self.sink = source, sink
        order = _topological(self._ends)
        place = {node: i for i, node in enumerate(order)}
        self._edges = sorted(range(len(self._ends)), key=lambda j: place[self._ends[j][0]])
        self._check()
        self.longest = int(self.cheapest(np.full(len(self.names), -1.0)).sum())  # path, in edges

    def cheapest(self, costs: NDArray[np.float64]) -> NDArray[np.uint8]:
        """(m,) 1 for the edges of the path of least cost; of equal ones that of the edges declared first."""
        best: dict[str, float] = {self.source: 0.0}
        into: dict[str, int] = {}
        for j in self._edges:
            tail, head = self._ends[j]
            if tail not in best:
                continue
            cost = best[tail] + float(costs[j])
            if head not in best or cost < best[head]:
                best[head], into[head] = cost, j
        path, node = np.zeros(len(self.names), np.uint8), self.sink
        while node != self.source:
            path[into[node]] = 1
            node = self._ends[into[node]][0]
        return path

    @staticmethod
    def cost(path: NDArray[np.uint8], costs: NDArray[np.float64]) -> float:
        return float(path @ costs)

    def _check(self) -> None:
        ahead, back = {self.source}, {self.sink}
        for j in self._edges:
            if self._ends[j][0] in ahead:
                ahead.add(self._ends[j][1])
        for j in reversed(self._edges):
            if self._ends[j][1] in back:
                back.add(self._ends[j][0])
        if self.source == self.sink or self.sink not in ahead:
            raise ConfigError("edges", f"no path leads from {self.source} to {self.sink}")
        for name, (tail, head) in zip(self.names, self._ends, strict=True):
            if tail not in ahead or head not in back:
                raise ConfigError(f"edges.{name}", f"lies on no path from {self.source} to {self.sink}")


def _ends(name: str, ends: Sequence[str]) -> tuple[str, str]:
    if isinstance(ends, str) or len(ends) != 2 or ends[0] == ends[1]:
        raise ConfigError(f"edges.{name}", "expected two different nodes, tail and head")
    return ends[0], ends[1]


def _topological(ends: Sequence[tuple[str, str]]) -> list[str]:
    nodes = list(dict.fromkeys(node for pair in ends for node in pair))
    missing = {node: sum(head == node for _, head in ends) for node in nodes}
    order = [node for node in nodes if not missing[node]]
    for node in order:
        for tail, head in ends:
            if tail == node:
                missing[head] -= 1
                if not missing[head]:
                    order.append(head)
    if len(order) < len(nodes):
        raise ConfigError("edges", "the graph has a cycle")
    return order
