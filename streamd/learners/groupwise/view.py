"""What the operator sees of a groupwise learner, per group, as plain data.

Losses are means over the group's labelled events, weighted as the labels were, in the label's units (squared for
squared loss; log loss in nats). R, C and bounds are sums of losses scaled to [0, 1], unweighted.
"""

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamd.kernels import groupwise as kernel
from streamd.learners.groupwise import intervals, metas
from streamd.learners.groupwise.model import Groupwise

LEVEL = 0.05  # of the interval on the difference to the single model
RHO2 = (-2.0 * math.log(LEVEL) + math.log(1.0 - 2.0 * math.log(LEVEL))) / 1000.0  # tightest around 1000 labels
ENOUGH = 30  # labels, for an interval that holds in the limit


class GroupView(Struct, frozen=True):
    """One group. None where there is nothing to say (no labels yet, no everyone, no intervals).

    seen: events it was awake in, for born groups as Space-Saving counts them. labels: labelled events;
    effective: (sum w)^2 / sum w^2. loss, everyone, own: mean losses of what was played, of the single model, of
    the group's own oracle; expected: of the experts, by their weights. harm: loss - everyone, between harm_low
    and harm_high at all times (level 0.95). R, C, bound: of the expert (group, own oracle). nearest,
    nearest_bound: R and bound of the group's expert that comes nearest to its bound, or exceeds it. fallback:
    share of labels at which all weights were 0. covered, width: of the intervals; misses: those above alpha
    labels, misses_bound: how far from 0 that may be. ambiguity, discrepancy: mean spread of the awake models
    around what was played, their largest difference; scaled units.
    """

    name: str
    seen: int
    labels: int
    effective: float
    loss: float | None
    everyone: float | None
    own: float | None
    expected: float | None
    harm: float | None
    harm_low: float | None
    harm_high: float | None
    R: float
    C: float
    bound: float
    nearest: float
    nearest_bound: float
    fallback: float | None
    covered: float | None
    width: float | None
    misses: float
    misses_bound: float
    ambiguity: float | None
    discrepancy: float | None
    alarms: Sequence[str]


class DeclarationView(Struct, frozen=True):
    """How often a declared predicate's feature was missing, or of another type, in an observed event."""

    text: str
    missing: int
    mistyped: int


class GroupsView(Struct, frozen=True):
    """All groups, and what was counted.

    clipped: labels outside the declared range. born, retired: groups; refused: births for which there was no slot.
    crowded: groups of an event beyond `max_awake`. hashed: features beyond `max_features`. guarded: learning steps
    at which rounding had to be mended. nobody: labels of events without an awake group; nobody_loss: their mean.
    """

    groups: Sequence[GroupView]
    declarations: Sequence[DeclarationView]
    observed: int
    judged: int
    clipped: int
    born: int
    retired: int
    refused: int
    crowded: int
    hashed: int
    guarded: int
    nobody: int
    nobody_loss: float | None


def groups_view(learner: Groupwise) -> GroupsView:
    """The state of all groups, in the order of their slots."""
    slots, groups = len(learner.groups.names), learner.groups
    table, totals = learner._table[:slots], learner._totals
    E = learner._E[:slots, : learner._width(slots)]
    bounds = metas.bounds(learner.meta, learner.experts, E, table[:, kernel.MASS], totals)
    named = dict(zip(kernel.TOTALS, totals.tolist(), strict=True))
    wealth = learner.born + len(groups.fixed) + learner.coverage * named["judged"]
    unit = learner.unit()
    views = [
        _group(learner, slot, table[slot], _expert(E, bounds, slot, learner.experts), wealth, unit)
        for slot in range(slots)
    ]
    return GroupsView(
        groups=views,
        declarations=[
            DeclarationView(one.text, missing, mistyped)
            for one, missing, mistyped in zip(groups.declarations, groups.missing, groups.mistyped, strict=True)
        ],
        observed=int(named["observed"]),
        judged=int(named["judged"]),
        clipped=learner.clipped,
        born=learner.born,
        retired=groups.retired,
        refused=groups.refused,
        crowded=groups.crowded,
        hashed=learner.index.hashed,
        guarded=int(named["guarded"]),
        nobody=int(named["nobody"]),
        nobody_loss=unit * named["nobody_loss"] / named["nobody"] if named["nobody"] else None,
    )


def alarms(view: GroupsView) -> list[str]:
    """All alarms, each with its group."""
    return [f"{group.name}: {alarm}" for group in view.groups for alarm in group.alarms]


class _Expert(Struct, frozen=True):
    """R, C and bound of (group, own oracle), R and bound of the one nearest to its bound."""

    R: float
    C: float
    bound: float
    nearest: float
    nearest_bound: float


def _expert(E: NDArray[np.float64], bounds: NDArray[np.float64], slot: int, experts: str) -> _Expert:
    column = slot if experts == "pairs" else 0
    R, C = E[slot, :, :, kernel.REGRET], E[slot, :, :, kernel.SIZE]
    own = int((R[column] - bounds[slot, column]).argmax())
    nearest = np.unravel_index(int((R - bounds[slot]).argmax()), R.shape)
    return _Expert(
        R=float(R[column, own]),
        C=float(C[column, own]),
        bound=float(bounds[slot, column, own]),
        nearest=float(R[nearest]),
        nearest_bound=float(bounds[slot][nearest]),
    )


def _group(
    learner: Groupwise, slot: int, row: NDArray[np.float64], expert: _Expert, wealth: float, unit: float
) -> GroupView:
    kept = dict(zip(kernel.TABLE, row.tolist(), strict=True))
    n, weight = kept["n"], kept["weight"]

    def mean(name: str) -> float | None:
        return kept[name] / weight if weight > 0.0 else None

    loss, own = _times(mean("loss"), unit), _times(mean("own"), unit)
    single = _times(mean("everyone"), unit) if learner.groups.everyone else None
    low, high = _harm(kept) if single is not None and n >= ENOUGH else (None, None)
    misses_bound = intervals.bound(kept["bets"], wealth) if learner.coverage else 0.0
    found = []
    if expert.nearest > expert.nearest_bound * (1 + 1e-9) + 1e-6:
        found.append("regret above its bound: a wrong range, labels that come late, or a bug")
    if slot > 0 and low is not None and low > 0.0:
        found.append("worse than the single model, beyond the interval")
    return GroupView(
        name=learner.groups.names[slot],
        seen=learner.groups.seen[slot],
        labels=int(n),
        effective=weight * weight / kept["weight2"] if n else 0.0,
        loss=loss,
        everyone=single,
        own=own,
        expected=_times(mean("expected"), unit),
        harm=loss - single if loss is not None and single is not None else None,
        harm_low=_times(low, unit),
        harm_high=_times(high, unit),
        R=expert.R,
        C=expert.C,
        bound=expert.bound,
        nearest=expert.nearest,
        nearest_bound=expert.nearest_bound,
        fallback=kept["fallback"] / n if n else None,
        covered=kept["covered"] / n if n and learner.coverage else None,
        width=kept["width"] / n if n and learner.coverage else None,
        misses=kept["misses"],
        misses_bound=misses_bound,
        ambiguity=mean("ambiguity"),
        discrepancy=mean("discrepancy"),
        alarms=found,
    )


def _times(value: float | None, unit: float) -> float | None:
    return None if value is None else unit * value


def _harm(kept: dict[str, float]) -> tuple[float, float]:
    """An interval for the mean of w (loss - everyone's), valid at all times together.

    The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas (2024, arXiv 2103.06476),
    tightest around 1000 labels.
    """
    n = kept["n"]
    mean = (kept["loss"] - kept["everyone"]) / n
    variance = max(kept["harm2"] / n - mean * mean, 0.0)
    v = n * RHO2 + 1.0
    spread = math.sqrt(variance * 2.0 * v / (n * n * RHO2) * math.log(math.sqrt(v) / LEVEL))
    scale = n / kept["weight"]
    return scale * (mean - spread), scale * (mean + spread)
