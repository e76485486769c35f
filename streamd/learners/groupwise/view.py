"""What the operator sees of a groupwise learner, per group, as plain data; see `streamd.views.GroupView`.

Two alarms: "regret", an expert's R exceeds its bound (a wrong range, labels that come late, or a bug); "harm",
what is played is worse on the group than the single model, beyond the interval.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamd.kernels import groupwise as kernel
from streamd.learners.groupwise import intervals, metas
from streamd.learners.groupwise.groups import Groups
from streamd.views import DeclarationView, GroupsView, GroupView

if TYPE_CHECKING:
    from streamd.learners.groupwise.model import Groupwise

LEVEL = 0.05  # of the interval on the difference to the single model
RHO2 = (-2.0 * math.log(LEVEL) + math.log(1.0 - 2.0 * math.log(LEVEL))) / 1000.0  # tightest around 1000 labels
ENOUGH = 30  # labels, for an interval that holds in the limit


def groups_view(learner: "Groupwise") -> GroupsView:
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
    counts = {name: int(named[name]) for name in ("observed", "judged", "guarded", "nobody")}
    lost = unit * named["nobody_loss"] / named["nobody"] if named["nobody"] else None
    return counted(groups, views, learner, counts | {"hashed": learner.index.hashed}, lost)


class Counting(Protocol):
    """A learner that keeps groups."""

    clipped: int
    born: int


def counted(
    groups: Groups,
    views: Sequence[GroupView],
    learner: Counting,
    counts: Mapping[str, int],
    nobody_loss: float | None,
) -> GroupsView:
    """The groups' views with what was counted beside them."""
    return GroupsView(
        groups=tuple(views),
        declarations=tuple(
            DeclarationView(one.text, missing, mistyped)
            for one, missing, mistyped in zip(groups.declarations, groups.missing, groups.mistyped, strict=True)
        ),
        clipped=learner.clipped,
        born=learner.born,
        retired=groups.retired,
        refused=groups.refused,
        crowded=groups.crowded,
        nobody_loss=nobody_loss,
        **counts,
    )


def alarmed(R: float, bound: float, harm_low: float | None) -> tuple[str, ...]:
    """The alarms of a group. bound: of R; harm_low: of the loss beyond the single model's."""
    found = ("regret",) if bound * (1 + 1e-9) + 1e-6 < R else ()
    return (*found, "harm") if harm_low is not None and harm_low > 0.0 else found


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
    learner: "Groupwise", slot: int, row: NDArray[np.float64], expert: _Expert, wealth: float, unit: float
) -> GroupView:
    kept = dict(zip(kernel.TABLE, row.tolist(), strict=True))
    n, weight = kept["n"], kept["weight"]

    def mean(name: str) -> float | None:
        return kept[name] / weight if weight > 0.0 else None

    loss, own = _times(mean("loss"), unit), _times(mean("own"), unit)
    single = _times(mean("everyone"), unit) if learner.groups.everyone else None
    low, high = harm(kept) if single is not None and n >= ENOUGH else (None, None)
    return GroupView(
        name=learner.groups.names[slot],
        seen=learner.groups.seen[slot],
        labels=int(n),
        effective=weight * weight / kept["weight2"] if n else 0.0,
        loss=loss,
        everyone=single,
        own=own,
        expected=_times(mean("expected"), unit),
        regret_everyone=unit * (kept["loss"] - kept["everyone"]) if n and learner.groups.everyone else None,
        regret_own=unit * (kept["loss"] - kept["own"]) if n else None,
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
        misses=kept["misses"] if learner.coverage else None,
        misses_bound=intervals.bound(kept["bets"], wealth) if learner.coverage else None,
        ambiguity=mean("ambiguity"),
        discrepancy=mean("discrepancy"),
        alarms=alarmed(expert.nearest, expert.nearest_bound, low if slot > 0 else None),
    )


def _times(value: float | None, unit: float) -> float | None:
    return None if value is None else unit * value


def harm(kept: dict[str, float]) -> tuple[float, float]:
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
