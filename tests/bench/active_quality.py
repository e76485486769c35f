"""Label efficiency: prequential accuracy at a budget, cold start, against the strategies of the literature.

    python -m tests.bench.active_quality                    # a part, some minutes: LR, 5 %, two streams
    python -m tests.bench.active_quality --full             # all: both base learners, four budgets, delays, noise
                                                            # (random with late labels: ten seeds)
    STREAMD_STREAMS=... names the directory of the real streams; without it only generated ones are run.

LR: river's StandardScaler | LogisticRegression with SGD 0.05 (spam: no scaler, 0.1); HT: HoeffdingTreeClassifier.
random and biqf count their budget, var has scikit-activeml's moving window of 100 (so it spends 1.43 times 1 %,
1.08 times 5 %); auto is streamd's default, with its token bucket, its random slice and its hard limit. Real
streams are run with several seeds where a strategy draws; generated streams are three, by seed.
"""

import argparse
import json
import os
import statistics
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from rich.progress import track

from streamd.querying import Asker, Keyed, Strategy
from streamd.querying.auto import Auto
from streamd.querying.biqf import BIQF
from streamd.querying.budgets import Count, MovingWindow, TokenBucket
from streamd.querying.random_sampling import RandomSampling
from streamd.querying.simulation import simulate
from streamd.querying.split import Split
from streamd.querying.variable import Variable
from tests.bench.active_streams import GENERATED, REAL, folder, generated, model, real
from tests.bench.rounds import print_table

STREAMS = {
    "LR": ("elec2", "noaa", "spam", "sea", "hyperplane"),
    "HT": ("elec2", "noaa", "sea", "hyperplane", "agrawal", "rbf"),
}
DELAYED = ("elec2", "noaa", "sea", "hyperplane")
BUDGETS = (0.01, 0.05, 0.10, 0.20)
DELAYS = (100, 500, 2000)
NOISES = (0.1, 0.3)
LATE_SEEDS = 10  # of random sampling with late labels, whose deviation is a measure
STRATEGIES = ("random", "var", "split", "biqf", "auto")
CERTAIN = ("var", "biqf")  # no draws: one run of a real stream is all there is


class Job(NamedTuple):
    base: str
    stream: str
    strategy: str
    budget: float
    delay: int
    noise: float
    seed: int


class Outcome(NamedTuple):
    """accuracy in %, spent as a multiple of the budget."""

    accuracy: float
    spent: float
    weighted: float
    ahead: float


def asker(name: str, budget: float, seed: int) -> Asker:
    keyed = Keyed(seed, "bench")
    forever = 1 << 50
    if name == "auto":
        return Asker(Auto(TokenBucket(budget)), keyed, wait=forever)
    made: dict[str, Strategy] = {
        "random": RandomSampling(Count(budget, soft=True)),
        "var": Variable(MovingWindow(budget)),
        "split": Split(MovingWindow(budget)),
        "biqf": BIQF(Count(budget, soft=True)),
        "random_bucket": RandomSampling(TokenBucket(budget)),
    }
    return Asker(made[name], keyed, rho=0.0, wait=forever, discount=0.0)


def run(job: Job) -> Outcome:
    rows = generated(job.stream, job.seed) if job.stream in GENERATED else real(job.stream)
    made = asker(job.strategy, job.budget, job.seed)
    found = simulate(
        rows, model(job.base, job.stream, rows), made, delay=job.delay, noise=job.noise, seed=job.seed
    )
    return Outcome(100 * found.accuracy, found.share / job.budget, 100 * found.weighted, found.ahead)


def jobs(
    base: str,
    streams: Iterable[str],
    strategies: Iterable[str],
    budget: float,
    delay: int,
    noise: float,
    seeds: int,
    seeds_random: int | None = None,
) -> list[Job]:
    found = []
    for stream in streams:
        if stream in REAL and folder() is None:
            continue
        for strategy in strategies:
            once = stream in REAL and strategy in CERTAIN and not noise
            several = seeds_random or seeds if strategy == "random" else seeds
            for seed in range(1, 2 if once else several + 1):
                found.append(Job(base, stream, strategy, budget, delay, noise, seed))
    return found


def measure(work: Sequence[Job], processes: int, cache: Path | None = None) -> dict[Job, Outcome]:
    """Every job's outcome. cache: a file of JSON lines, for what was run before and is the same now."""
    known = _cached(cache)
    # Jobs of one stream follow each other, so that a process reads it once.
    ordered = sorted(set(work) - set(known), key=lambda job: (job.stream, job.seed, job.base))
    with ProcessPoolExecutor(processes) as pool:
        results = track(pool.map(run, ordered), "runs", total=len(ordered), transient=True)
        for job, outcome in zip(ordered, results, strict=True):
            known[job] = outcome
            if cache is not None:
                with cache.open("a") as file:
                    file.write(json.dumps([job, outcome]) + "\n")
    return {job: known[job] for job in work}


def _cached(cache: Path | None) -> dict[Job, Outcome]:
    if cache is None or not cache.exists():
        return {}
    lines = map(json.loads, cache.read_text().splitlines())
    return {Job(*job): Outcome(*outcome) for job, outcome in lines}


def show(title: str, found: dict[Job, Outcome]) -> None:
    """A row for each strategy: accuracy (spent) by stream, and the mean; for random the deviation over seeds."""
    streams = list(dict.fromkeys(job.stream for job in found))
    rows = []
    for strategy in dict.fromkeys(
        job.strategy for job in sorted(found, key=lambda j: STRATEGIES.index(j.strategy))
    ):
        cells, means, spent = [], [], []
        for stream in streams:
            cell = [out for job, out in found.items() if (job.stream, job.strategy) == (stream, strategy)]
            accuracies = [out.accuracy for out in cell]
            means.append(statistics.mean(accuracies))
            spent.append(statistics.mean(out.spent for out in cell))
            spread = f"±{statistics.stdev(accuracies):.1f}" if strategy == "random" and len(cell) > 1 else ""
            cells.append(f"{means[-1]:.1f}{spread}")
        rows.append((strategy, *cells, f"{statistics.mean(means):.1f}", f"{min(spent):.2f}-{max(spent):.2f}"))
    print_table(title, ("", *streams, "mean", "spent / budget"), rows)


def tables(given: argparse.Namespace) -> list[tuple[str, list[Job]]]:
    bases = given.bases.split(",")
    names = given.strategies.split(",")
    found = []
    for base in bases:
        for budget in map(float, filter(None, given.budgets.split(","))):
            streams = given.streams.split(",") if given.streams else STREAMS[base]
            title = f"{base}, {budget:.0%} of the labels, at once"
            found.append((title, jobs(base, streams, names, budget, 0, 0.0, given.seeds)))
        for delay in filter(None, map(int, filter(None, given.delays.split(",")))):
            title = f"{base}, 5 %, labels {delay} events late"
            most = max(given.seeds, LATE_SEEDS if given.full else 0)
            found.append((title, jobs(base, DELAYED, names, 0.05, delay, 0.0, given.seeds, most)))
        for noise in filter(None, map(float, filter(None, given.noises.split(",")))):
            title = f"{base}, 5 %, {noise:.0%} of the labels wrong"
            found.append((title, jobs(base, STREAMS[base], names, 0.05, 0, noise, given.seeds)))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="every table of the README")
    parser.add_argument("--bases", default="LR")
    parser.add_argument("--streams", default="sea,hyperplane")
    parser.add_argument("--budgets", default="0.05")
    parser.add_argument("--delays", default="500")
    parser.add_argument("--noises", default="0")
    parser.add_argument("--strategies", default="random,var,biqf,auto")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--json", type=Path, help="write every run here")
    parser.add_argument("--cache", type=Path, help="runs kept from before; to be removed when a rule has changed")
    given = parser.parse_args(arguments)
    if given.full:
        given.bases, given.streams = "LR,HT", ""
        given.budgets, given.delays, given.noises = "0.01,0.05,0.1,0.2", "100,500,2000", "0.1,0.3"
    kept = []
    for title, work in tables(given):
        found = measure(work, given.processes, given.cache)
        show(f"\n{title}", found)
        kept += [job._asdict() | out._asdict() for job, out in found.items()]
    if given.json:
        given.json.write_text(json.dumps(kept))


if __name__ == "__main__":
    main()
