"""Groupwise learning: events a second, predict and learn, on one core.

Run as `python -m tests.bench.groupwise`, or with one size, `... 32 10`. For each, the fastest of several runs, in
processor time of the thread, of

    kernel      the compiled learner, from arrays
    oracles     a compiled loop that does the oracles' arithmetic and nothing else
    learner     the learner as the daemon drives it: features and tags in, memos and reasons out
    reference   the plain numpy version of the test suite

Aims: kernel at 100,000 events/s for d = 32 with 10 awake, and kernel / oracles never under 0.5.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamd.learners.groupwise import GroupwiseRegressor
from streamd.learners.groupwise.steps import GroupwiseSteps, Run
from tests.unit.groupwise_reference import Reference

REPEATS = 15


@njit(cache=True, error_model="numpy")
def oracles_only(X, y, awake, P, W, z):  # type: ignore[no-untyped-def]
    """Ridge in RLS form for every awake group: X (T, d), awake (T, n), P (S, d, d), W (S, d), z (n,)."""
    d = X.shape[1]
    Px = np.empty(d)
    for t in range(X.shape[0]):
        x = X[t]
        for i in range(awake.shape[1]):
            s = awake[t, i]
            M, w = P[s], W[s]
            answer = 0.0
            for k in range(d):
                answer += w[k] * x[k]
                Px[k] = 0.0
            z[i] = answer
            for j in range(d):
                v = x[j]
                row = M[j]
                for k in range(d):
                    Px[k] += v * row[k]
            spread = 0.0
            for k in range(d):
                spread += x[k] * Px[k]
            step = (y[t] - answer) / (1.0 + spread)
            for k in range(d):
                w[k] += step * Px[k]
            for j in range(d):
                v = Px[j] / (1.0 + spread)
                row = M[j]
                for k in range(d):
                    row[k] -= v * Px[k]


class Stream:
    """T events of d numbers, each in n of 2n groups, everyone first."""

    def __init__(self, T: int, d: int, n: int) -> None:
        rng = np.random.default_rng(1)
        self.X = rng.uniform(-1, 1, (T, d))
        self.y = np.clip(0.5 + 0.2 * self.X @ rng.normal(size=d) / np.sqrt(d) + 0.05 * rng.normal(size=T), 0, 1)
        rest = np.array([np.sort(rng.choice(2 * n - 1, n - 1, replace=False)) for _ in range(T)]).reshape(T, n - 1)
        self.awake = np.hstack([np.zeros((T, 1), np.int64), rest + 1])
        self.names = ["everyone", *(f"g{i}" for i in range(1, 2 * n))]
        self.tags = [[self.names[g] for g in row[1:]] for row in self.awake.tolist()]
        self.rows = [{f"x{j}": v for j, v in enumerate(row)} for row in self.X.tolist()]

    def learner(self) -> GroupwiseRegressor:
        groups = [f"#{name}" for name in self.names[1:]]
        return GroupwiseRegressor((0.0, 1.0), groups, standardise=False, intercept=False)

    def steps(self, learner: GroupwiseRegressor) -> GroupwiseSteps:
        steps = learner.steps()
        for i, (x, tags, y) in enumerate(zip(self.rows, self.tags, self.y.tolist(), strict=True)):
            row = steps.row(x, tags)
            steps.predict(row)
            steps.observe(row)
            steps.learn(row, y, i)
        return steps


def seconds(work: Callable[[Any], object], prepare: Callable[[], Any], repeats: int = REPEATS) -> float:
    taken = []
    for _ in range(repeats):
        given = prepare()
        start = time.thread_time()
        work(given)
        taken.append(time.thread_time() - start)
    return min(taken)


def kernel(stream: Stream) -> float:
    caught: list[Run] = []
    learner = stream.learner()
    learner.run = caught.append  # type: ignore[method-assign]
    stream.steps(learner).execute()
    run = caught[0]

    def fresh() -> GroupwiseRegressor:
        made = stream.learner()
        made.index = learner.index
        run.buffer[:] = 0.0
        made._grow()
        return made

    return seconds(lambda made: made.run(run), fresh)


def oracles(stream: Stream) -> float:
    d, groups, n = stream.X.shape[1], len(stream.names), stream.awake.shape[1]

    def fresh() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.tile(np.eye(d), (groups, 1, 1)), np.zeros((groups, d))

    z = np.zeros(n)
    return seconds(lambda state: oracles_only(stream.X, stream.y, stream.awake, *state, z), fresh)


def whole(stream: Stream) -> float:
    def work(learner: GroupwiseRegressor) -> None:
        predictions = stream.steps(learner).execute()
        predictions.memos()
        predictions.whys()

    return seconds(work, stream.learner, 3)


def reference(stream: Stream, T: int) -> float:
    awake = stream.awake.tolist()

    def work(plain: Reference) -> None:
        for x, y, here in zip(stream.X[:T], stream.y, awake, strict=False):
            plain.learn(x, here, y, plain.play(x, here))

    return seconds(work, lambda: Reference(stream.X.shape[1], [1.0] * len(stream.names), floor=1e-6), 3)


def main() -> None:
    print(f"{'d':>4} {'awake':>5} {'kernel/s':>10} {'oracles/s':>10} {'ratio':>6} {'learner/s':>10}"
          f" {'reference/s':>11} {'ratio':>7}")  # fmt: skip
    sizes = [(d, n) for d in (8, 32, 100) for n in (4, 10, 50)]
    oracles(Stream(10, 8, 4))
    kernel(Stream(10, 8, 4))
    for d, n in sizes if len(sys.argv) < 3 else [(int(sys.argv[1]), int(sys.argv[2]))]:
        T = max(200, min(20_000, 40_000_000 // (d * d * n)))
        few = max(50, min(T, 1500 // n))
        stream = Stream(T, d, n)
        fast, bare = T / kernel(stream), T / oracles(stream)
        driven, slow = T / whole(stream), few / reference(stream, few)
        print(f"{d:4} {n:5} {fast:10,.0f} {bare:10,.0f} {fast / bare:6.2f} {driven:10,.0f}"
              f" {slow:11,.0f} {fast / slow:7.0f}")  # fmt: skip


if __name__ == "__main__":
    main()
