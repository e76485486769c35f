"""The rules: which available resource an arrival gets, and what each rule promises.

    greedy              the largest w p
    stochastic_balance  the largest w p k(load / b), k by `f`; f = "least": the least load / b, whatever p is
    ranking             the least rank, drawn once per unit of each resource (equal p, no weights)
    perturbed_greedy    the largest w p (1 - e^(rank - 1))
    msvv                the largest bid p (1 - e^(spent / budget - 1)): capacity is money
    random              any, evenly (a yardstick)

Ties go to the lowest resource id; ranks and draws are hashes of (seed, id), never a generator's position. The
ratios hold against the best that knows all arrivals and probabilities but not the outcomes ("non-clairvoyant") or
against the matching LP ("matching LP", which is larger); ratios against different bounds cannot be compared.
"""

from typing import Literal, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamd.errors import ConfigError
from streamd.kernels import matching as kernel
from streamd.matching import balance

Kind = Literal["stochastic_balance", "greedy", "ranking", "perturbed_greedy", "msvv", "random"]
KINDS: tuple[str, ...] = ("stochastic_balance", "greedy", "ranking", "perturbed_greedy", "msvv", "random")
LOADS = {
    "expected": kernel.EXPECTED_LOAD,
    "hazard": kernel.HAZARD_LOAD,
    "realised": kernel.REALISED_LOAD,
}
HOLDS = {"block": kernel.BLOCK, "expected": kernel.EXPECTED, "optimistic": kernel.OPTIMISTIC}
SCORES = {"ranking": kernel.ORDINAL, "random": kernel.DRAW}
UNIT_FUNCTIONS = ("gu", "sc", "hz", "hzu", "scu", "exp")


class Rule(Struct, frozen=True):
    """How to choose. See the module for `kind`.

    f: of stochastic_balance: "auto" (sc at one unit of capacity, k_b above), "least", or a name of
       `streamd.matching.balance.NAMES`; of msvv: "auto" (exp where a bid is below a hundredth of the budget, else
       k_b).
    load: what an attempt adds to its resource's load: p ("expected"), -ln(1 - p) ("hazard"); "realised": the load
    is
       the units used and those the open attempts are expected to use.
    consume: whether a unit of capacity is taken by a success or by an attempt.
    hold: what an open attempt holds: "block" its unit; "expected" its probability; "optimistic" nothing;
       "auto": block at one unit, expected above.
    max_overdelivery: unless it blocks, a resource never has more successes and open attempts than its capacity and
       this share of it.
    min_p, min_score: an edge below them is not taken (off by default: the published rules never decline).
    boost: how much a group that is behind its least share is favoured (score times 1 + boost (least - share) /
    least,
       for the rules whose score is a product).
    adaptive: False only in simulation: outcomes are never looked at.
    Raises ConfigError for what is out of range.
    """

    kind: str = "stochastic_balance"
    f: str = "auto"
    load: str = "expected"
    consume: str = "success"
    hold: str = "auto"
    max_overdelivery: float = 0.5
    min_p: float = 0.0
    min_score: float | None = None
    boost: float = 4.0
    seed: int = 0
    adaptive: bool = True

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, KINDS)
        _one_of("f", self.f, ("auto", "least", *balance.NAMES))
        _one_of("load", self.load, tuple(LOADS))
        _one_of("consume", self.consume, ("success", "attempt"))
        _one_of("hold", self.hold, ("auto", *HOLDS))
        if not self.max_overdelivery >= 0.0:
            raise ConfigError("max_overdelivery", "must be 0 or more")
        if not 0.0 <= self.min_p <= 1.0:
            raise ConfigError("min_p", "must be within 0 and 1")
        if not 0.0 <= self.boost <= 1e6:
            raise ConfigError("boost", "must be within 0 and 1e6")
        if self.min_score is not None and not self.min_score == self.min_score:
            raise ConfigError("min_score", "must be a number")
        if not 0 <= self.seed < 1 << 63:
            raise ConfigError("seed", "must be within 0 and 2^63")

    @property
    def money(self) -> bool:
        return self.kind == "msvv"

    def curve(self, capacity: float, weight: float) -> tuple[str, float]:
        """(name, capacity) of the curve that a resource of this capacity and weight uses."""
        if self.kind == "msvv":
            bids = capacity / weight
            name = ("exp" if bids > 100.0 else "k_b") if self.f == "auto" else self.f
            return name, float(balance.table_capacity(bids)) if name == "k_b" else 0.0
        if self.kind != "stochastic_balance":
            return {"greedy": "one", "random": "one", "ranking": "rank", "perturbed_greedy": "perturbed"}[
                self.kind
            ], 0.0
        name = ("sc" if capacity <= 1.0 else "k_b") if self.f == "auto" else self.f
        return name, float(balance.table_capacity(capacity)) if name == "k_b" else 0.0

    def hold_at(self, capacity: float) -> int:
        """The hold of a resource of this capacity."""
        if self.hold == "auto":
            return kernel.BLOCK if capacity <= 1.0 else kernel.EXPECTED
        return HOLDS[self.hold]

    def modes(self) -> NDArray[np.int64]:
        """The kernel's switches."""
        modes = np.zeros(8, np.int64)
        least = self.kind == "stochastic_balance" and self.f == "least"
        modes[kernel.SCORE] = kernel.ORDINAL if least else SCORES.get(self.kind, kernel.PRODUCT)
        modes[kernel.LOAD] = LOADS[self.load]
        modes[kernel.PER_ATTEMPT] = self.consume == "attempt"
        modes[kernel.MONEY] = self.money
        modes[kernel.ADAPTIVE] = self.adaptive
        modes[kernel.SEED] = self.seed
        modes[kernel.DECLINES] = self.money or (self.kind == "stochastic_balance" and self.f == "exp")
        return modes

    def params(self, fading: float = 0.999) -> NDArray[np.float64]:
        """The kernel's numbers. fading: of the groups' shares, per match."""
        params = np.zeros(6)
        params[kernel.OVER] = self.max_overdelivery
        params[kernel.MIN_P] = self.min_p
        params[kernel.MIN_SCORE] = -np.inf if self.min_score is None else self.min_score
        params[kernel.BOOST] = self.boost
        params[kernel.FADING] = fading
        return params


class Promise(NamedTuple):
    """What a rule is known to reach in the worst case. ratio None: nothing is known."""

    ratio: float | None
    bound: str
    assumes: str
    source: str


VANISHING = "vanishing probabilities"
DERIVED = "derived here, not published"
NOTHING = Promise(None, "", "", "")

_UNIT = {
    "gu": Promise(0.596, "non-clairvoyant", f"{VANISHING}, unit capacities, weights", "Goyal, Udwani, OR 2023"),
    "sc": Promise(0.613, "non-clairvoyant", f"{VANISHING}, all equal, unit capacities", "Huang et al. 2023"),
    "scu": Promise(0.611, "non-clairvoyant", f"{VANISHING}, unit capacities, weights", "Huang et al. 2023"),
    "hz": Promise(0.576, "matching LP", f"{VANISHING}, all equal, unit capacities", "Huang, Zhang, STOC 2020"),
    "hzu": Promise(0.572, "matching LP", f"{VANISHING}, unit capacities, weights", "Huang, Zhang, STOC 2020"),
    "least": Promise(0.613, "non-clairvoyant", f"{VANISHING}, all equal, unit capacities", "Huang et al. 2023"),
}


def promise(rule: Rule, capacity: float = 1.0) -> Promise:
    """The certificate of a rule where every resource has at least this capacity, outcomes known at once."""
    if rule.consume == "attempt" or not rule.adaptive:
        return NOTHING  # assignment without free disposal: no constant ratio
    if rule.kind == "greedy":
        return Promise(0.5, "matching LP", "none", "Mehta, Panigrahi, FOCS 2012")
    if rule.kind == "ranking" and capacity == 1.0:
        return Promise(0.534, "matching LP", "equal probabilities, no weights", "Mehta, Panigrahi, FOCS 2012")
    if rule.kind == "perturbed_greedy":
        return Promise(0.632, "non-clairvoyant", "p is a product p_u p_v, weights", "Goyal, Udwani, OR 2023")
    if rule.kind == "msvv":
        return Promise(
            0.632, "offline", "bids small against budgets, certain to succeed", "Mehta et al., J. ACM 2007"
        )
    if rule.kind != "stochastic_balance" or rule.load == "realised":
        return NOTHING
    return _balance_promise(rule.f, capacity)


def _balance_promise(f: str, capacity: float) -> Promise:
    if f == "auto":
        f = "sc" if capacity <= 1.0 else "k_b"
    if f == "k_b":
        b = float(balance.table_capacity(capacity))
        return Promise(
            balance.value("k_b", 0.0, b), "non-clairvoyant", f"{VANISHING}, weights, b >= {b:g}", DERIVED
        )
    if f == "exp":
        if capacity <= 1.0:
            return Promise(0.446, "non-clairvoyant", f"{VANISHING}, unit capacities, weights", DERIVED)
        return Promise(0.632, "matching LP", "in the limit of large capacities", "Albers, Schubert, SOFSEM 2025")
    return _UNIT[f] if capacity <= 1.0 else NOTHING


def _one_of(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(key, f"expected one of {', '.join(known)}")
