"""Every rule on the instance families of the project's notes: mean ratio to the bound, with a 95 % t interval.

    python -m tests.bench.matching_ratios               a few seeds, about half a minute
    python -m tests.bench.matching_ratios --long        all seeds and coins, the notes' table

The last column compares with the notes where they give an interval: in the long form the measured mean must lie in
it (rounding allowed), in the short form the two intervals must meet. `k_b` is to reach .96 on the capacity family.
Coins and ranks are numpy's: default_rng([77, seed]), coins first; so are the instances: default_rng([family,
seed]).
"""

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from rich.progress import track

from streamd.matching import bounds, replay
from streamd.matching.instance import Instance, instance
from streamd.matching.rules import Rule
from tests.bench.rounds import print_table

ROUNDING = 0.0006  # the notes print three digits

RULES = {
    "greedy": Rule("greedy"),
    "least": Rule(f="least"),
    "exp": Rule(f="exp"),
    "gu": Rule(f="gu"),
    "sc": Rule(f="sc"),
    "k_b": Rule(f="k_b"),
    "ranking": Rule("ranking"),
    "perturbed": Rule("perturbed_greedy"),
    "nonadaptive": Rule(f="gu", adaptive=False),
}


class Family(NamedTuple):
    """Instances, the bound they are held against, and (mean, half-width) where the notes have an interval."""

    make: Callable[[int], Instance]
    bound: Callable[[Instance], float | None]
    seeds: int
    runs: int
    noted: dict[str, tuple[float, float]]


Draw = Callable[[np.random.Generator, int], np.ndarray]


def _rng(family: int, seed: int) -> np.random.Generator:
    return np.random.default_rng([family, seed])


def _random(rng: np.random.Generator, n: int, T: int, d: int, p: Draw) -> list[list[tuple[int, float]]]:
    """T arrivals with d distinct even neighbours; neighbours first, then their p."""
    arrivals = []
    for _ in range(T):
        drawn = rng.choice(n, d, replace=False).tolist()
        arrivals.append(sorted(zip(drawn, p(rng, d).tolist(), strict=True)))
    return arrivals


def _log_uniform(rng: np.random.Generator, d: int) -> np.ndarray:
    return np.exp(rng.uniform(np.log(0.005), np.log(0.2), d))


def equal(seed: int) -> Instance:
    return instance(
        _random(_rng(1, seed), 100, 2000, 5, lambda _, d: np.full(d, 0.05)), np.ones(100), np.ones(100)
    )


def unequal(seed: int) -> Instance:
    return instance(_random(_rng(2, seed), 100, 1892, 5, _log_uniform), np.ones(100), np.ones(100))


def weighted(seed: int) -> Instance:
    w = np.round(np.minimum(20.0, 1.0 + _rng(4, seed).pareto(1.5, 100)), 6)
    return instance(_random(_rng(2, seed), 100, 1892, 5, _log_uniform), w, np.ones(100))


def kvv(seed: int) -> Instance:
    label = _rng(3, seed).permutation(40)
    return instance(_triangle(label, 40, 0.025), np.ones(40), np.ones(40))


def kvv_capacity(seed: int) -> Instance:
    label = _rng(7, seed).permutation(40)
    return instance(_triangle(label, 80, 0.5), np.ones(40), np.full(40, 40.0))


def _triangle(label: np.ndarray, times: int, p: float) -> list[list[tuple[int, float]]]:
    """Step i: `times` arrivals that anybody from i on can take."""
    return [sorted((int(u), p) for u in label[i:]) for i in range(len(label)) for _ in range(times)]


def heavy(seed: int) -> Instance:
    rng = _rng(5, seed)
    popularity = 1.0 / np.arange(1, 101)
    popularity = rng.permutation(popularity / popularity.sum())
    arrivals = []
    for _ in range(2000):
        d = min(30, int(1.0 + rng.pareto(1.2)))
        arrivals.append([(u, 0.05) for u in sorted(rng.choice(100, d, replace=False, p=popularity).tolist())])
    return instance(arrivals, np.ones(100), np.ones(100))


def capacity(seed: int) -> Instance:
    rng = _rng(6, seed)
    b = rng.integers(5, 41, 50)
    T = round(0.65 * b.sum() / 0.325)
    arrivals = _random(rng, 50, T, 5, lambda rng, d: rng.uniform(0.05, 0.6, d))
    return instance(arrivals, np.ones(50), b)


def trap(seed: int) -> Instance:
    rng = _rng(8, seed)
    label = rng.permutation(100).tolist()
    A, B = label[:50], label[50:]
    first = [sorted([(A[j], 0.06), (B[j], 0.05)]) for j in rng.integers(0, 50, 1000)]
    return instance(first + [[(A[j], 0.05)] for j in rng.integers(0, 50, 1000)], np.ones(100), np.ones(100))


def small(seed: int) -> Instance:
    arrivals = _random(_rng(9, seed), 8, 40, 3, lambda rng, d: rng.uniform(0.05, 0.4, d))
    return instance(arrivals, np.ones(8), np.ones(8))


def large_p(seed: int) -> Instance:
    arrivals = _random(_rng(10, seed), 100, 200, 5, lambda rng, d: rng.uniform(0.2, 0.8, d))
    return instance(arrivals, np.ones(100), np.ones(100))


LP, STOCHASTIC = bounds.matching_lp, bounds.stochastic_lp
FAMILIES = {
    "equal p": Family(equal, LP, 8, 300, {"greedy": (0.879, 0.002), "least": (0.879, 0.001)}),
    "equal p, stochastic": Family(equal, STOCHASTIC, 8, 300, {"least": (0.941, 0.001)}),
    "unequal p": Family(unequal, LP, 8, 300, {"greedy": (0.980, 0.001), "gu": (0.979, 0.001)}),
    "weighted": Family(weighted, LP, 8, 300, {"greedy": (0.983, 0.001), "gu": (0.983, 0.001)}),
    "heavy-tailed degrees": Family(
        heavy, STOCHASTIC, 8, 300, {"greedy": (0.923, 0.007), "least": (0.964, 0.004), "gu": (0.964, 0.004)}
    ),
    "greedy trap": Family(
        trap, STOCHASTIC, 8, 300, {"greedy": (0.837, 0.002), "least": (0.905, 0.003), "gu": (0.880, 0.002)}
    ),
    "large p": Family(large_p, STOCHASTIC, 16, 600, {"greedy": (0.961, 0.003), "gu": (0.958, 0.002)}),
    "triangular": Family(kvv, LP, 4, 300, {"greedy": (0.621, 0.022), "least": (0.628, 0.009)}),
    "small": Family(small, bounds.exact, 30, 2000, {"greedy": (0.991, 0.001), "gu": (0.990, 0.001)}),
    "capacities 5 to 40": Family(
        capacity, LP, 6, 100,
        {"greedy": (0.936, 0.004), "exp": (0.950, 0.001), "gu": (0.956, 0.003), "k_b": (0.965, 0.001)},
    ),
    "triangular, b = 40": Family(kvv_capacity, LP, 3, 40, {"greedy": (0.644, 0.104), "least": (0.640, 0.002)}),
}  # fmt: skip


def measure(family: Family, seeds: int, runs: int) -> dict[str, tuple[float, float]]:
    """Per rule (mean ratio, half-width over the instances)."""
    ratios: dict[str, list[float]] = {name: [] for name in RULES}
    for seed in range(seeds):
        given = family.make(seed)
        bound = family.bound(given)
        assert bound is not None
        rng = np.random.default_rng([77, seed])
        coins = rng.random((runs, len(given.starts) - 1))
        ranks = rng.random((runs, given.n, int(given.capacity.max())))
        for name, rule in RULES.items():
            ratios[name].append(float(replay.simulate(given, rule, coins, ranks).reward.mean()) / bound)
    return {name: (float(np.mean(found)), replay.interval(np.array(found))) for name, found in ratios.items()}


def agrees(found: tuple[float, float], noted: tuple[float, float], strict: bool) -> bool:
    """Whether a mean lies within the noted interval; unless strict, whether the two intervals meet."""
    return abs(found[0] - noted[0]) <= noted[1] + ROUNDING + (0.0 if strict else found[1])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true")
    given = parser.parse_args(arguments)
    for name, family in track(FAMILIES.items(), "families", transient=True):
        seeds = family.seeds if given.long else min(3, family.seeds)
        runs = family.runs if given.long else min(50, family.runs)
        found = measure(family, seeds, runs)
        rows = [
            (rule, f"{m:.3f} ±{h:.3f}", *_noted(family, rule, (m, h), given.long))
            for rule, (m, h) in found.items()
        ]
        print_table(f"\n{name}: {seeds} instances, {runs} runs each", ("rule", "ratio", "noted", ""), rows)


def _noted(family: Family, rule: str, found: tuple[float, float], strict: bool) -> tuple[str, str]:
    noted = family.noted.get(rule)
    if noted is None:
        return "", ""
    return f"{noted[0]:.3f} ±{noted[1]:.3f}", "as noted" if agrees(found, noted, strict) else "NOT as noted"


if __name__ == "__main__":
    main()
