"""How the constants of `auto` were chosen: on generated streams only, never on the real ones of the tables.

    python -m tests.bench.active_tuning [--patience 1,2,3,6,20] [--w 300] [--base LR] [--delays 0,100,500,2000]

Six streams, of seeds the quality tables do not use: SEA and hyperplane as there; a fast drifting RBF; `market`,
where labels repeat and the concept wanders; `season`, overlapping classes with a yearly shift; `switch`, events in
blocks of like ones and a new concept every 2,500. Each cell is the mean accuracy over streams at 5 %; `regret` is
the largest loss against random sampling on any stream at any delay: the constants are those that keep it small.
"""

import argparse
import functools
from collections.abc import Sequence

import numpy as np
from river.datasets import synth

from streamd.querying import Asker, Keyed, Strategy
from streamd.querying.auto import Auto
from streamd.querying.budgets import Count, TokenBucket
from streamd.querying.random_sampling import RandomSampling
from streamd.querying.simulation import simulate
from tests.bench.active_streams import EVENTS, Row, generated, model
from tests.bench.rounds import print_table

BUDGET = 0.05
SEED = 31


def _named(x: Sequence[float], y: bool) -> Row:
    return {f"x{j}": float(value) for j, value in enumerate(x)}, str(y)


def market(seed: int) -> list[Row]:
    rng = np.random.default_rng(seed)
    x, w, level, rows = np.zeros(6), rng.normal(size=6), 0.0, []
    for i in range(EVENTS):
        x = 0.95 * x + 0.31 * rng.normal(size=6)
        w = 0.9995 * w + 0.03 * rng.normal(size=6)
        pull = 0.9 * np.sin(2 * np.pi * (i % 48) / 48) + x @ w / (np.linalg.norm(w) + 0.1)
        level = 0.8 * level + 0.5 * pull + 0.3 * rng.normal()
        rows.append(_named([*x, (i % 48) / 48], level > 0))
    return rows


def season(seed: int) -> list[Row]:
    rng, rows = np.random.default_rng(seed), []
    for i in range(EVENTS):
        phase = 2 * np.pi * i / 365
        x = rng.normal(size=8) + np.array([np.sin(phase), np.cos(phase), 0, 0, 0, 0, 0, 0])
        z = x[0] * np.cos(i / 4000) + x[1] * np.sin(i / 4000) + 0.5 * x[2] - 1.0 + 0.9 * rng.logistic()
        rows.append(_named(x, z > 0))
    return rows


def switch(seed: int) -> list[Row]:
    rng, rows = np.random.default_rng(seed), []
    w, centre = rng.normal(size=5), rng.normal(size=5)
    for i in range(EVENTS):
        if i % 2500 == 0:
            w = rng.normal(size=5)
        if i % 150 == 0:
            centre = rng.normal(size=5)
        x = centre + 0.6 * rng.normal(size=5)
        rows.append(_named(x, x @ w + 0.3 * rng.normal() > 0))
    return rows


def fast_rbf(seed: int) -> list[Row]:
    made = synth.RandomRBFDrift(
        seed_model=seed,
        seed_sample=seed,
        n_classes=2,
        n_features=8,
        n_centroids=15,
        n_drift_centroids=15,
        change_speed=0.002,
    )
    return [({str(name): value for name, value in x.items()}, str(y)) for x, y in made.take(EVENTS)]


OWN = {"market": market, "season": season, "switch": switch, "fast_rbf": fast_rbf}
STREAMS = ("sea", "hyperplane", *OWN)


@functools.lru_cache(maxsize=len(STREAMS))
def rows_of(name: str) -> list[Row]:
    return OWN[name](SEED) if name in OWN else generated(name, SEED)


def accuracies(strategy: Strategy, rho: float, base: str, name: str, delay: int) -> float:
    asker = Asker(strategy, Keyed(SEED, "tuning"), rho=rho, wait=1 << 50)
    rows = rows_of(name)
    return 100 * simulate(rows, model(base, name, rows), asker, delay=delay).accuracy


def line(make: str, base: str, delays: Sequence[int]) -> np.ndarray:
    """(delays, streams) accuracies in %. make: "random", or "w patience"."""
    found = []
    for delay in delays:
        for name in STREAMS:
            if make == "random":
                found.append(accuracies(RandomSampling(Count(BUDGET, soft=True)), 0.0, base, name, delay))
                continue
            w, patience = make.split()
            strategy = Auto(TokenBucket(BUDGET), w=int(w), patience=float(patience))
            found.append(accuracies(strategy, 0.1, base, name, delay))
    return np.array(found).reshape(len(delays), len(STREAMS))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patience", default="1,2,3,6,20")
    parser.add_argument("--w", default="300")
    parser.add_argument("--base", default="LR")
    parser.add_argument("--delays", default="0,100,500,2000")
    given = parser.parse_args(arguments)
    delays = [int(part) for part in given.delays.split(",")]
    plain = line("random", given.base, delays)
    rows = [("random", *(f"{value:.2f}" for value in plain.mean(axis=1)), "")]
    for w in given.w.split(","):
        for patience in given.patience.split(","):
            found = line(f"{w} {patience}", given.base, delays)
            regret = f"{(plain - found).max():.2f}"
            rows.append((f"w {w}, patience {patience}", *(f"{v:.2f}" for v in found.mean(axis=1)), regret))
    print_table(f"{given.base}, 5 %", ("", *(f"delay {delay}" for delay in delays), "regret"), rows)


if __name__ == "__main__":
    main()
