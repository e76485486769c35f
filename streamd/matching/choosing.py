"""Which edge an arrival gets: prices, the rule's scores, and the reason where there is none."""

import numpy as np
from numpy.typing import NDArray

from streamd.kernels import matching as kernel
from streamd.kernels import matching_ids as ids
from streamd.matching.arrivals import Arrival, Edges
from streamd.matching.attempts import Decision
from streamd.matching.probabilities import Chances, Codes, Priced, Source
from streamd.matching.resources import Resources
from streamd.matching.rules import Rule
from streamd.matching.run import REASONS


class Chooser:
    """Reads resources and what was learned of them; changes neither."""

    def __init__(self, rule: Rule, source: Source, resources: Resources, chances: Chances) -> None:
        self.rule = rule
        self.source = source
        self.resources = resources
        self.chances = chances
        self._even = Rule(kind="random", seed=rule.seed).modes()
        self._best = np.empty(kernel.TOP, np.int64)
        self._score = np.empty(kernel.TOP)

    def choose(
        self, arrival: Arrival, edges: Edges, barred: NDArray[np.int64], now: int, timeout: int
    ) -> Decision:
        """The best edge at this event time, or why there is none. barred: slots it must not get."""
        chance = self._chance(arrival)
        codes: Codes = self.chances.codes(arrival.features)
        priced = self.chances.price(edges.slots, edges.p, arrival.kind, codes, now, chance)
        needs = self.resources.needs(arrival.needs) if arrival.needs else np.uint64(0)
        state = self.resources.state
        if self.source.explore == "epsilon" and ids.draw(chance, 1) < self.source.epsilon:
            state = (*state[:12], self._even, state[13])
        best, score = self._best, self._score
        kernel.choose(edges.slots, priced.q, edges.bids, barred, needs, now, chance, state, best, score)
        if best[0] < 0:
            return Decision(None, self._why_not(edges, priced, barred, needs, now))
        return self._told(edges, priced, now, arrival, now + timeout)

    def _told(self, edges: Edges, priced: Priced, now: int, arrival: Arrival, until: int) -> Decision:
        """The decision for what the kernel found."""
        found = [i for i in self._best.tolist() if i >= 0]
        listed = arrival.edges
        if listed is not None:
            names = [listed[i].resource for i in found]
        else:
            names = [self.resources.names.name(int(edges.slots[i])) for i in found]
        slot, p = int(edges.slots[found[0]]), float(priced.p[found[0]])
        k, load = kernel.look(slot, now, self.resources.state)
        units = 1.0
        if self.rule.money:
            bid = float(edges.bids[found[0]]) if edges.bids.size else np.nan
            units = bid if bid == bid else float(self.resources.table[slot]["weight"])
        return Decision(
            names[0],
            p=p,
            score=float(self._score[0]),
            k=k,
            load=load,
            units=units,
            open_until=until if arrival.deadline is None else min(until, arrival.deadline),
            best=tuple(zip(names, self._score.tolist(), strict=False)),
        )

    def _why_not(self, edges: Edges, priced: Priced, barred: NDArray[np.int64], needs: np.uint64, now: int) -> str:
        """The nearest miss of all edges."""
        counts = np.zeros(kernel.LOW + 1, np.int64)
        kernel.explain(edges.slots, priced.q, edges.bids, barred, needs, now, self.resources.state, counts)
        return REASONS[int(np.flatnonzero(counts)[-1])]

    def _chance(self, arrival: Arrival) -> np.uint64:
        """A hash of (seed, arrival, attempt), if anything is drawn."""
        if not (self.chances.draws or self.rule.kind == "random" or self.source.explore == "epsilon"):
            return np.uint64(0)
        raw = np.frombuffer(f"{arrival.id}/{arrival.attempt}".encode(), np.uint8)
        return np.uint64(ids.key(raw, 0, len(raw), self.rule.seed))
