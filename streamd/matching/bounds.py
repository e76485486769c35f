"""What could have been reached in hindsight: three upper bounds on the expected reward of any rule.

    matching LP         max sum w p x;  per arrival sum x <= 1;  per resource sum p x <= b;  0 <= x <= 1
    stochastic LP       the stochastic configuration LP (Huang et al. 2023) in a compact form of the same value,
    for
                        one unit of capacity: x_uv + sum of p x_uv' over v' before v <= 1 for every edge, and per
                        arrival sum x <= 1. x is the probability that v is offered to u, which needs u to be alive:
                        it is with probability 1 - sum p x. (That both have one value is derived here, not
                        published.)
    exact optimum       dynamic programming over (arrival, available units), for tiny pools

exact <= stochastic <= matching. A ratio says nothing without the bound it was taken against. Solved by HiGHS;
seconds for tens of thousands of edges, so never on a worker's thread.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array, vstack

from streamd.errors import StreamdError
from streamd.matching.instance import Floats, Instance, Integers

STATES = 1 << 16  # of the exact optimum


def matching_lp(
    given: Instance, units: Floats | None = None, *, money: bool = False, attempts: bool = False
) -> float:
    """The matching LP's value.

    units: (E,) what a success of an edge takes, else 1; money: that is its worth, too; attempts: every attempt
    takes it, successful or not.
    """
    edges = len(given.p)
    if not edges:
        return 0.0
    takes = np.ones(edges) if units is None else units
    worth = takes if money else given.weight[given.slots]
    rows = np.concatenate([given.arrivals, len(given.starts) - 1 + given.slots])
    shape = (len(given.starts) - 1 + given.n, edges)
    use = _c(np.ones(edges), takes if attempts else takes * given.p)
    A = coo_array((use, (rows, np.tile(np.arange(edges), 2))), shape)
    b = np.concatenate([np.ones(len(given.starts) - 1), given.capacity])
    return _solve(worth * given.p, A.tocsr(), b)


def stochastic_lp(given: Instance) -> float | None:
    """The stochastic configuration LP's value; None unless every resource has one unit."""
    edges = len(given.p)
    if not (given.capacity == 1.0).all():
        return None
    if not edges:
        return 0.0
    # With s the sum of p x on a resource so far as one more variable per edge, rows stay short.
    last = _predecessor(given)
    T, e, chained = len(given.starts) - 1, np.arange(edges), last >= 0
    ones, before = np.ones(edges), edges + last[chained]
    offered = coo_array((ones, (given.arrivals, e)), (T, 2 * edges))
    alive = coo_array((np.ones(edges + len(before)), (_c(e, e[chained]), _c(e, before))), (edges, 2 * edges))
    signs = _c(ones, -given.p, -np.ones(len(before)))
    sums = coo_array((signs, (_c(e, e, e[chained]), _c(edges + e, e, before))), (edges, 2 * edges))
    gain = _c(given.weight[given.slots] * given.p, np.zeros(edges))
    A = vstack([offered, alive], format="csr")
    more = {"A_eq": sums.tocsr(), "b_eq": np.zeros(edges)}
    # Interior point: where all p are equal the simplex method takes twenty times as long.
    return _solve(gain, A, np.ones(T + edges), method="highs-ipm", **more)


def _predecessor(given: Instance) -> Integers:
    """(E,): the edge before it on the same resource, -1 for the first."""
    order = np.argsort(given.slots, kind="stable")
    last = np.full(len(order), -1, np.int64)
    same = given.slots[order[1:]] == given.slots[order[:-1]]
    last[order[1:][same]] = order[:-1][same]
    return last


def _c(*parts: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate(parts)


def exact(given: Instance) -> float | None:
    """The best expected reward of any rule that knows arrivals and p; None where it takes too many states."""
    units = given.capacity.astype(np.int64)
    if (units != given.capacity).any() or np.prod(units + 1.0) > STATES:
        return None
    size = int(np.prod(units + 1))
    left = np.stack(np.unravel_index(np.arange(size), tuple(units + 1))) if given.n else np.zeros((0, 1), np.int64)
    stride = np.array([int(np.prod(units[u + 1 :] + 1)) for u in range(given.n)], np.int64)
    value = np.zeros(size)
    here = np.arange(size)
    for t in range(len(given.starts) - 2, -1, -1):
        best = value.copy()
        for e in range(int(given.starts[t]), int(given.starts[t + 1])):
            u, p = int(given.slots[e]), float(given.p[e])
            there = value[np.where(left[u] > 0, here - stride[u], here)]
            offered = p * (given.weight[u] + there) + (1.0 - p) * value
            np.maximum(best, np.where(left[u] > 0, offered, 0.0), out=best)
        value = best
    return float(value[-1])


def _solve(gain: NDArray[np.float64], A: Any, b: NDArray[np.float64], method: str = "highs", **more: Any) -> float:
    found = linprog(-gain, A_ub=A, b_ub=b, bounds=(0.0, 1.0), method=method, **more)
    if not found.success:
        raise StreamdError(f"the linear program was not solved: {found.message}")
    return -float(found.fun)
