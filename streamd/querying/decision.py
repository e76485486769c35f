"""What a strategy sees of an event, what it decides, and what every strategy and budget is.

`decide` changes nothing; `apply` is the only mutator and takes what was decided, so a replay applies without
deciding. A decision has two parts that are drawn apart: `own`, what the strategy wants, and `drawn`, whether the
event fell into the random slice. The label is asked for if either holds.
"""

import math
import struct
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from streamd.errors import StateError
from streamd.snapshot import State

Floats = NDArray[np.float64]

REFUSED, RULE, RANDOM, FORCED = range(4)
"""Which part of a strategy spoke: no budget was left; its rule; its own random part; the bucket was full."""

_FLAGS = struct.Struct("<Bd")
_PLAIN = np.dtype([("flags", "u1"), ("utility", "<f8")])  # the same, of many
_ASKED = struct.Struct("<Bddd")


class Candidate(NamedTuple):
    """One event, as a strategy may see it.

    utility: how much its label is worth, in [0, 1]; 1 where the model knows nothing; NaN: not to be asked by rule.
    p: (C,) probabilities of the classes known. x: (d,) a dense sketch of the features, for strategies that compare
    events. near: the hash buckets of its neighbourhood. now: event time, milliseconds.
    """

    event: str
    utility: float
    now: int = 0
    p: Sequence[float] = ()
    x: NDArray[np.float64] | None = None
    near: Sequence[int] = ()
    groups: Sequence[str] = ()


class Decision(NamedTuple):
    """What is journalled for each event. threshold: the utility above which the rule would have asked.

    p_ask: the probability with which the event was asked for, over all draws made for it alone; above 0 if asked.
    """

    own: bool
    branch: int
    utility: float
    threshold: float
    p_ask: float
    drawn: bool = False

    @property
    def ask(self) -> bool:
        return self.own or self.drawn


def pack(decision: Decision) -> bytes:
    """For the journal: 9 bytes, or 25 where the label is asked for. What was not asked keeps its utility only."""
    flags = decision.own | decision.drawn << 1 | decision.branch << 2
    if decision.ask:
        return _ASKED.pack(flags, decision.utility, decision.threshold, decision.p_ask)
    return _FLAGS.pack(flags, decision.utility)


def unpack(raw: bytes) -> Decision:
    """The inverse of `pack`, as far as `apply` needs it. Raises StateError for other bytes."""
    if len(raw) == _FLAGS.size and not raw[0] & 3:
        flags, utility = _FLAGS.unpack(raw)
        return Decision(False, flags >> 2, utility, math.nan, 0.0)
    if len(raw) == _ASKED.size and raw[0] & 3:
        flags, utility, threshold, p_ask = _ASKED.unpack(raw)
        return Decision(bool(flags & 1), flags >> 2, utility, threshold, p_ask, bool(flags & 2))
    raise StateError(f"{len(raw)} bytes are no decision of a query strategy")


class Run(NamedTuple):
    """Decisions on n events. flags: (n,) own + 2 drawn + 4 branch; told: (n, 3) utility, threshold, p_ask."""

    flags: NDArray[np.int64]
    told: Floats

    def asked(self) -> list[tuple[int, Decision]]:
        """What the label is asked for, by its number."""
        numbers = np.flatnonzero(self.flags & 3)
        told = zip(numbers.tolist(), self.flags[numbers].tolist(), self.told[numbers].tolist(), strict=True)
        return [
            (i, Decision(bool(flag & 1), flag >> 2, utility, threshold, p_ask, bool(flag & 2)))
            for i, flag, (utility, threshold, p_ask) in told
        ]

    def packed(self) -> list[bytes]:
        """As `pack`, of all."""
        plain = np.empty(len(self.flags), _PLAIN)
        plain["flags"], plain["utility"] = self.flags, self.told[:, 0]
        raw, size = plain.tobytes(), _PLAIN.itemsize
        packed = [raw[start : start + size] for start in range(0, len(raw), size)]
        for i, decision in self.asked():
            packed[i] = pack(decision)
        return packed


class Draws(Protocol):
    """The random numbers of one event. The same purpose gives the same number."""

    def uniform(self, purpose: str) -> float:
        """In [0, 1)."""

    def normal(self, purpose: str) -> float:
        """Of mean 0 and deviation 1."""


class Budget(Protocol):
    """How many labels may be asked for. Amounts are labels, or what they cost."""

    @property
    def share(self) -> float:
        """Labels per event, b."""

    def left(self, candidate: Candidate) -> bool:
        """Whether this event, the next, may be asked for."""

    def balance(self, candidate: Candidate) -> float:
        """Labels by which the spending lies behind (above 0) or ahead of the plan, this event's share included."""

    def full(self, candidate: Candidate) -> bool:
        """Whether income is about to be lost, so that the event should be asked for whatever it is worth."""

    def apply(self, candidate: Candidate, asked: bool) -> int:
        """One event has gone by. Returns the number of the account that pays for it."""

    def debit(self, amount: float = 1.0, payer: int = 0) -> None:
        """Spend without being asked: the random slice, an answer after expiry, a dearer annotator."""

    def refund(self, amount: float = 1.0, payer: int = 0) -> None:
        """A query expired: its token comes back."""

    def state(self) -> State: ...

    def restore(self, state: State) -> None: ...


class Strategy:
    """What strategies share: the budget is asked before the rule and told after it."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget

    def decide(self, candidate: Candidate, draws: Draws) -> Decision:
        """Whether to ask for the label. Pure."""
        raise NotImplementedError

    def apply(self, candidate: Candidate, decision: Decision) -> int:
        """Go on to the next event. Returns the account that pays if this one was asked for."""
        self.moved(candidate, decision)
        return self.budget.apply(candidate, decision.own)

    def moved(self, candidate: Candidate, decision: Decision) -> None:
        """Change the strategy's own state; the budget is as it was when deciding."""

    def taught(self, p: Sequence[float], label: int, decision: Decision) -> float:
        """A label came: the number of its class, for an event that had these probabilities and this decision.

        Returns the weight with which the strategy would have it learned.
        """
        return 1.0

    def closed(self) -> None:
        """A query is no longer pending: answered, skipped or expired. Called once for each that was asked."""

    def alarm(self) -> None:
        """Drift was noticed."""

    def state(self) -> State:
        """Of the strategy; the budget's is its own."""
        return State({}, {})

    def restore(self, state: State) -> None: ...


def refused(candidate: Candidate) -> Decision:
    """No budget is left."""
    return Decision(False, REFUSED, candidate.utility, math.inf, 0.0)


def ruled(candidate: Candidate, ask: bool, threshold: float) -> Decision:
    """A rule without chance."""
    return Decision(ask, RULE, candidate.utility, threshold, float(ask))


def numbers(state: State, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """An array of a stored state, copied. Raises StateError unless it has this shape (-1: any length)."""
    array = state.arrays.get(name)
    if array is None or array.ndim != len(shape):
        raise StateError(f"the state of a query strategy has no {name} of {len(shape)} dimensions")
    if any(want not in (-1, have) for want, have in zip(shape, array.shape, strict=True)):
        raise StateError(f"the state of a query strategy has {name} of shape {array.shape}, not {shape}")
    return np.array(array, np.float64)
