"""Task choose: a path through a declared graph, nearly as cheap on every group as that group's best path.

The combinatorial case of Acharya et al. 2023. Each group has a follow-the-perturbed-leader oracle (Kalai, Vempala
2005, https://doi.org/10.1016/j.jcss.2004.10.016): with s the costs its labelled events had, edge by edge, it takes
the cheapest path of s + u, each u uniform on [0, sqrt(R A (t + 1) / D)], t its labelled events, R the longest
path's cost, A the sum of all edges' and D twice the longest path's edges. One of the awake groups' paths is drawn
with AdaNormalHedge's weights; their accounting is expected, of costs divided by the longest path's.

With one group this is the bare oracle. Per group the regret to its best path is at most

    3 sqrt(D R A (T + 1))  (its oracle, in expectation)  +  longest path's cost x sqrt(3 C ln(B / q))  (the meta)

All draws are of (seed, number of the event, group, edge): none depends on a generator's position.

>>> model = GroupwiseChooser({"bus": ["home", "work"], "walk": ["home", "park"], "path": ["park", "work"]},
...                          source="home", sink="work", groups=["rain?"], highest=10.0)
>>> for day in range(400):
...     rain = {"rain": 1.0} if day % 2 else {}
...     steps = model.steps()
...     row = steps.row({"day": 1.0, **rain})
...     steps.observe(row)
...     steps.predict(row)
...     steps.learn(row, {"bus": 4.0, "walk": 8.0 if rain else 1.0, "path": 1.0}, 0)
...     _ = steps.execute()
>>> [model.path(model.peek(x)[0]) for x in ({"day": 1.0, "rain": 1.0},)]
[['bus']]
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamd.errors import BadRecord, StateError
from streamd.kernels import groupwise as kernel
from streamd.learners import Why
from streamd.learners.features import FeatureTypes, check_number
from streamd.learners.groupwise import metas
from streamd.learners.groupwise.choose_steps import ChooserSteps, Drawn, named
from streamd.learners.groupwise.groups import Groups, Members
from streamd.learners.groupwise.model import require
from streamd.learners.groupwise.paths import Graph
from streamd.learners.groupwise.view import ENOUGH, alarmed, counted, harm
from streamd.snapshot import State
from streamd.views import GroupsView, GroupView

# of a group: prior mass, labels, sums of weights and of weighted costs (in longest paths), and sum of squared harm
KEPT = ("mass", "n", "weight", "weight2", "loss", "own", "everyone", "harm2")


class GroupwiseChooser:
    """edges: name -> [tail, head]; source, sink: nodes; highest: what an edge may cost, the least being 0 (a label
    beyond is counted in `clipped` and learned as the nearer end). groups, everyone, prior, floor, max_groups,
    max_awake, seed: as for `GroupwiseRegressor`. All raise ConfigError with the key when they do not fit.
    """

    def __init__(
        self,
        edges: dict[str, list[str]],
        source: str,
        sink: str,
        highest: float = 1.0,
        groups: list[str] | dict[str, str] | None = None,
        everyone: bool = True,
        prior: dict[str, float] | None = None,
        floor: float = 1e-6,
        max_features: int = 1 << 18,
        max_features_per_event: int = 1000,
        max_groups: int = 256,
        max_awake: int = 64,
        seed: int = 0,
    ) -> None:
        require(0.0 < highest < 1e100, "highest", "must be above 0")
        require(0.0 <= floor <= 1.0, "floor", "must be within 0 and 1")
        require(0 <= seed < 1 << 63, "seed", "must be within 0 and 2^63")
        self.graph = Graph(edges, source, sink)
        self.highest, self.floor, self.seed = highest, floor, seed
        self.groups = Groups(groups if groups is not None else [], prior or {}, everyone, max_groups, max_awake)
        self.types = FeatureTypes(max_features, max_features_per_event)
        self.reset()

    @property
    def classes(self) -> Sequence[str]:
        """The edges, in the order of a prediction's columns."""
        return self.graph.names

    @property
    def unit(self) -> float:
        """What the longest path can cost."""
        return self.graph.longest * self.highest

    def reset(self) -> None:
        """Forget what was learned, born groups too."""
        self.groups.clear()
        self.clipped = self.born = 0
        self._totals = np.zeros(len(kernel.TOTALS))
        self._spent = np.zeros((0, len(self.classes)))  # per slot and edge: the costs its oracle has learned
        self._judged = np.zeros((0, len(self.classes) + 1))  # those of events it was awake in, and what was paid
        self._E = np.zeros((0, 1, 1, 2))
        self._table = np.zeros((0, len(KEPT)))
        for slot, name in enumerate(self.groups.fixed):
            self._bear(slot, self.groups.mass(name))

    def steps(self) -> ChooserSteps:
        return ChooserSteps(self)

    def peek(self, x: Any, tags: Sequence[str] = ()) -> tuple[NDArray[np.float64], Why]:
        steps = self.steps()
        steps.predict(steps.row(x, tags))
        predictions = steps.execute()
        return predictions.values[0], predictions.whys()[0]

    def path(self, values: NDArray[np.float64]) -> list[str]:
        """The names of the edges of a prediction, in the order declared."""
        return named(self.classes, values)

    def probabilities(self, memo: bytes) -> NDArray[np.float64]:
        return self.read(memo).path.astype(np.float64)

    def read(self, memo: bytes) -> Drawn:
        """Raises StateError for a memo that is none of this learner's."""
        m = len(self.classes)
        n, rest = divmod(len(memo) - m, m + 16)
        if rest or n < 0:
            raise StateError("a memo of this length is none of this learner's")
        bits = np.frombuffer(memo, np.uint8, m + n * m)
        p = np.frombuffer(memo, np.float64, n, m + n * m)
        ids = np.frombuffer(memo, np.int64, n, m + n * m + 8 * n).tolist()
        return Drawn(bits[:m], bits[m:].reshape(n, m), p, ids, ())

    def costs(self, y: Any, counted: bool) -> NDArray[np.float64]:
        """(m,) a label's costs within [0, highest]. Raises BadRecord unless every edge has one."""
        if not isinstance(y, Mapping) or len(y) != len(self.classes):
            raise BadRecord("label: not the costs of all edges")
        given = []
        for name in self.classes:
            if name not in y:
                raise BadRecord(f"label: no cost of the edge {name}")
            given.append(check_number(f"label of {name}", y[name]))
        costs = np.array(given)
        held = np.clip(costs, 0.0, self.highest)
        self.clipped += counted and not np.array_equal(costs, held)
        return np.asarray(held)

    # --- what steps do

    def draw(self, members: Members) -> Drawn:
        """Changes nothing. With nobody awake: every group's path, all of one weight; without any, the first."""
        slots = self.groups.awake(members)
        awake = slots or list(range(len(self.groups.names)))
        paths = [self._leader(slot) for slot in awake] or [self.graph.cheapest(np.zeros(len(self.classes)))]
        p = self._weights(slots) if slots else np.full(len(paths), 1.0 / len(paths))
        left = float(draws(self.seed, int(self._totals[0]), 0, 1)[0])
        g = min(int(np.searchsorted(np.cumsum(p), left, side="right")), len(p) - 1)
        ids = [self.groups.ids[slot] for slot in slots]
        names = [self.groups.names[slot] for slot in slots]
        kept = np.array(paths, np.uint8)[: len(slots)].reshape(len(slots), len(self.classes))
        return Drawn(paths[g], kept, p[: len(slots)], ids, names)

    def observe(self, members: Members) -> None:
        for birth in self.groups.observe(members):
            self.born += 1
            self._bear(birth.slot, birth.mass)
        self._totals[0] += 1.0

    def learn(
        self, members: Members, drawn: Drawn | None, costs: NDArray[np.float64], weight: float, sign: float
    ) -> None:
        """Count a label in (sign 1) or out (-1)."""
        if drawn is not None and len(drawn.groups):
            self._judge(drawn, costs, weight, sign)
        elif drawn is not None:
            self._totals[kernel.TOTALS.index("nobody")] += sign
            self._totals[kernel.TOTALS.index("nobody_loss")] += sign * Graph.cost(drawn.path, costs) / self.unit
        slots = self.groups.awake(members)
        self._spent[slots] += sign * costs

    def _judge(self, drawn: Drawn, costs: NDArray[np.float64], weight: float, sign: float) -> None:
        losses = drawn.paths @ costs / self.unit
        played = Graph.cost(drawn.path, costs) / self.unit
        expected = float(drawn.p @ losses)
        for slot, loss in zip(self.groups.held(drawn.groups), losses.tolist(), strict=True):
            if slot < 0:
                continue
            R, C = self._E[slot, 0, 0]
            self._E[slot, 0, 0] = R + sign * (expected - loss), max(C + sign * abs(expected - loss), 0.0)
            single = losses[0] if self.groups.everyone else 0.0
            lost = [weight * played, weight * loss, weight * single, (weight * (played - single)) ** 2]
            self._table[slot, 1:] += sign * np.array([1.0, weight, weight * weight, *lost])
            self._judged[slot] += sign * np.append(costs, played * self.unit)
            self._totals[kernel.TOTALS.index("floored")] += sign * self.floor * self._table[slot, 0]
        self._totals[1] += sign

    def _leader(self, slot: int) -> NDArray[np.uint8]:
        m, longest = len(self.classes), self.graph.longest
        t = float(self._table[slot, 1])
        reach = math.sqrt(self.unit * m * self.highest * (t + 1.0) / (2.0 * longest))
        u = draws(self.seed, int(self._totals[0]), self.groups.ids[slot], m)
        return self.graph.cheapest(self._spent[slot] + reach * u)

    def _weights(self, slots: Sequence[int]) -> NDArray[np.float64]:
        a = np.array([kernel.exponent(*self._E[slot, 0, 0].tolist()) for slot in slots])
        top = float(a.max())
        if top == -math.inf:
            p = self._table[slots, 0].copy()
        else:
            rest = [kernel.remainder(*self._E[slot, 0, 0].tolist()) for slot in slots]
            p = np.exp(a - top) * np.where(a > -math.inf, rest, 0.0) + 2.0 * self.floor * math.exp(-top)
            p = p * self._table[slots, 0]
        return np.asarray(p / p.sum())

    def _bear(self, slot: int, mass: float) -> None:
        if slot == len(self._spent):
            self._spent = np.vstack([self._spent, np.zeros((1, len(self.classes)))])
            self._judged = np.vstack([self._judged, np.zeros((1, len(self.classes) + 1))])
            self._E = np.concatenate([self._E, np.zeros((1, 1, 1, 2))])
            self._table = np.vstack([self._table, np.zeros((1, len(KEPT)))])
        elif (C := float(self._E[slot, 0, 0, 1])) > 0.0:
            self._totals[kernel.TOTALS.index("retired")] += 1.5 * self._table[slot, 0] * (1.0 + math.log1p(C))
        for array in (self._spent, self._judged, self._E, self._table):
            array[slot] = 0.0
        self._table[slot, 0] = mass
        self._totals[kernel.TOTALS.index("mass")] += mass

    # --- what it shows, what it keeps

    def groups_view(self) -> GroupsView:
        """All groups, in the order of their slots."""
        bounds = metas.bounds("anh", "own", self._E, self._table[:, 0], self._totals)[:, 0, 0]
        views = [self._group(slot, float(bounds[slot])) for slot in range(len(self.groups.names))]
        named = dict(zip(kernel.TOTALS, self._totals.tolist(), strict=True))
        counts = {name: int(named[name]) for name in ("observed", "judged", "guarded", "nobody")}
        lost = self.unit * named["nobody_loss"] / named["nobody"] if named["nobody"] else None
        return counted(self.groups, views, self, counts | {"hashed": 0}, lost)

    def _group(self, slot: int, bound: float) -> GroupView:
        kept = dict(zip(KEPT, self._table[slot].tolist(), strict=True))
        n, weight, unit = int(kept["n"]), kept["weight"], self.unit
        loss, own, single = (kept[name] * unit / weight if n else None for name in ("loss", "own", "everyone"))
        low, high = harm(kept) if n >= ENOUGH and self.groups.everyone else (None, None)
        R, C = self._E[slot, 0, 0].tolist()
        costs, paid = self._judged[slot, :-1], float(self._judged[slot, -1])
        best = Graph.cost(self.graph.cheapest(costs), costs)
        return GroupView(
            name=self.groups.names[slot],
            seen=self.groups.seen[slot],
            labels=n,
            effective=weight * weight / kept["weight2"] if n else 0.0,
            loss=loss,
            everyone=single if self.groups.everyone else None,
            own=own,
            regret_everyone=unit * (kept["loss"] - kept["everyone"]) if n and self.groups.everyone else None,
            regret_own=unit * (kept["loss"] - kept["own"]) if n else None,
            harm=loss - single if loss is not None and single is not None and self.groups.everyone else None,
            harm_low=None if low is None else unit * low,
            harm_high=None if high is None else unit * high,
            R=R,
            C=C,
            bound=bound,
            nearest=R,
            nearest_bound=bound,
            best=best / n if n else None,
            regret_best=paid - best if n else None,
            best_bound=self._leader_bound(n) + unit * bound,
            alarms=alarmed(R, bound, low if slot > 0 else None),
        )

    def _leader_bound(self, n: int) -> float:
        """Of a group's own oracle after n labels: 3 sqrt(D R A (T + 1))."""
        longest, m = self.graph.longest, len(self.classes)
        return 3.0 * math.sqrt(2.0 * longest * self.unit * m * self.highest * (n + 1.0))

    def state(self) -> State:
        groups = self.groups.state()
        arrays = {f"groups.{name}": array for name, array in groups.arrays.items()}
        arrays |= {"spent": self._spent, "judged": self._judged, "E": self._E}
        arrays |= {"table": self._table, "totals": self._totals}
        document = {
            "edges": list(self.classes),
            "clipped": self.clipped,
            "born": self.born,
            "types": self.types.document(),
            "groups": groups.document,
        }
        return State(arrays, document)

    def restore(self, state: State) -> None:
        arrays, document = state
        try:
            if list(document["edges"]) != list(self.classes):
                raise StateError("the state is of a graph with other edges")
            self.groups.restore(arrays["groups.names"], arrays["groups.seen"], document["groups"])
            self.types.restore([(name, kind) for name, kind in document["types"]])
            self.clipped, self.born = int(document["clipped"]), int(document["born"])
            self._spent, self._judged = arrays["spent"].copy(), arrays["judged"].copy()
            self._E = arrays["E"].copy()
            self._table, self._totals = arrays["table"].copy(), arrays["totals"].copy()
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"this is not the state of a groupwise chooser: {error}") from None
        slots = len(self.groups.names)
        if self._spent.shape != (slots, len(self.classes)) or self._E.shape != (slots, 1, 1, 2):
            raise StateError(f"costs of shape {self._spent.shape} for {slots} groups")


def draws(seed: int, event: int, group: int, n: int) -> NDArray[np.float64]:
    """(n,) numbers in [0, 1) of seed, event and group: splitmix64 (Steele, Lea, Flood 2014) over a counter."""
    mask = (1 << 64) - 1
    with np.errstate(over="ignore"):
        h = np.arange(n, dtype=np.uint64)
        for part in (group & mask, event & mask, seed & mask):
            h = h + np.uint64(0x9E3779B97F4A7C15) + np.uint64(part)
            h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            h = h ^ (h >> np.uint64(31))
    return (h >> np.uint64(11)).astype(np.float64) * 2.0**-53
