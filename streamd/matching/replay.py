"""Every rule on one recorded stream, against the hindsight bounds: means over simulated outcomes, with intervals.

The stream fixes the arrivals, their edges and probabilities; outcomes are coins, the same for every rule, so that
differences between rules are differences between rules. A rule's guarantee holds against its own bound: a report
names both.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from scipy.stats import t as student

from streamd.kernels import matching_simulation as kernel
from streamd.matching import bounds
from streamd.matching.instance import Floats, Instance
from streamd.matching.resources import Offer, Resources
from streamd.matching.rules import Rule, promise

Values = tuple[float | None, float | None, float | None]  # matching LP, stochastic LP, exact

ALL: dict[str, Rule] = {
    "auto": Rule(),
    "greedy": Rule("greedy"),
    "least": Rule(f="least"),
    "gu": Rule(f="gu"),
    "sc": Rule(f="sc"),
    "hz": Rule(f="hz"),
    "hzu": Rule(f="hzu"),
    "scu": Rule(f="scu"),
    "guh": Rule(f="gu", load="hazard"),
    "exp": Rule(f="exp"),
    "k_b": Rule(f="k_b"),
    "ranking": Rule("ranking"),
    "perturbed_greedy": Rule("perturbed_greedy"),
    "random": Rule("random"),
    "nonadaptive": Rule(f="gu", adaptive=False),
}


class Runs(NamedTuple):
    """R simulated runs of one rule.

    chosen: (R, T) int32, resource or -1; successes: (R, n) int64; loads: (R, n); reward, surplus: (R,), the worth
    of the successes up to each capacity, and how many there were beyond.
    """

    chosen: NDArray[np.int32]
    successes: NDArray[np.int64]
    loads: Floats
    reward: Floats
    surplus: Floats


class Score(Struct, frozen=True):
    """One rule: mean reward per run with the half-width of its 95 % t interval, its ratios to the bounds."""

    rule: str
    reward: float
    interval: float
    matched: float  # share of the arrivals
    surplus: float  # successes beyond a capacity, per run
    ratio_matching: float | None
    ratio_stochastic: float | None
    ratio_exact: float | None
    certified: float | None
    certified_against: str
    assumes: str
    source: str


class Report(Struct, frozen=True):
    """A replay: the stream, the bounds (None: not solved), the rules, best first."""

    resources: int
    arrivals: int
    edges: int
    runs: int
    delay: int
    matching_lp: float | None
    stochastic_lp: float | None
    exact: float | None
    scores: tuple[Score, ...]


def simulate(
    given: Instance,
    rule: Rule,
    coins: Floats,
    ranks: Floats | None = None,
    delay: int = 0,
) -> Runs:
    """Run one rule once per row of coins.

    coins: (R, T), the attempt of arrival t succeeds if its coin is below p; ranks: (R, n, units), else by hash;
    delay: an outcome is known just before the decision on the arrival that comes `delay` after the next.
    """
    resources = Resources(rule, max(1, given.n), {})
    for name, weight, capacity in zip(given.names, given.weight.tolist(), given.capacity.tolist(), strict=True):
        resources.put(name, Offer(capacity, weight), 0)
    table, hot = resources.table[: given.n], resources.state[0][: given.n]
    state = (hot, table, *resources.state[2:])
    R, T = coins.shape[0], len(given.starts) - 1
    chosen = np.empty((R, T), np.int32)
    successes, loads = np.zeros((R, given.n), np.int64), np.zeros((R, given.n))
    drawn = np.zeros((0, 0, 0)) if ranks is None else np.ascontiguousarray(ranks, np.float64)
    fresh = table.copy()
    stream = (given.starts, given.slots, given.p, np.ascontiguousarray(coins), drawn)
    kernel.simulate(*stream, delay, fresh, state, chosen, successes, loads)
    paid = np.minimum(successes, np.floor(given.capacity))
    return Runs(chosen, successes, loads, paid @ given.weight, (successes - paid).sum(axis=1))


def score(
    given: Instance,
    rules: Mapping[str, Rule],
    *,
    runs: int = 100,
    delay: int = 0,
    seed: int = 0,
    solve: bool = True,
) -> Report:
    """Score rules on a stream. solve: also the bounds, which take seconds at tens of thousands of edges."""
    rng = np.random.default_rng([seed])
    coins = rng.random((runs, len(given.starts) - 1))
    units = int(min(given.capacity.max(initial=1.0), 1024.0))
    ranks = rng.random((runs, given.n, max(1, units))) if runs * given.n * units <= 1 << 26 else None
    values: Values = (None, None, None)
    if solve:
        values = (bounds.matching_lp(given), bounds.stochastic_lp(given), bounds.exact(given))
    scores = [
        _score(name, rule, given, simulate(given, rule, coins, ranks, delay), values)
        for name, rule in rules.items()
    ]
    best_first = tuple(sorted(scores, key=lambda s: -s.reward))
    return Report(given.n, len(given.starts) - 1, len(given.p), runs, delay, *values, best_first)


def interval(values: Floats) -> float:
    """The half-width of the 95 % t interval of a mean; 0 for one value."""
    if len(values) < 2:
        return 0.0
    return float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))


def _ratio(mean: float, bound: float | None) -> float | None:
    return mean / bound if bound else None


def _score(name: str, rule: Rule, given: Instance, runs: Runs, values: Values) -> Score:
    mean = float(runs.reward.mean())
    matching, stochastic, exact = values
    ratios = _ratio(mean, matching), _ratio(mean, stochastic), _ratio(mean, exact)
    told = promise(rule, float(given.capacity.min(initial=np.inf)))
    return Score(
        name,
        mean,
        interval(runs.reward),
        float((runs.chosen >= 0).mean()) if runs.chosen.size else 0.0,
        float(runs.surplus.mean()),
        *ratios,
        told.ratio,
        told.bound,
        told.assumes,
        told.source,
    )
