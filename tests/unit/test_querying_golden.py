"""Decisions recorded from scikit-activeml 1.0.1: ours must be the same, event by event."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamd.querying.biqf import BIQF
from streamd.querying.budgets import Count, MovingWindow
from streamd.querying.cogdqs import CogDQS
from streamd.querying.dbalstream import DBALStream
from streamd.querying.decision import Budget, Candidate, Strategy
from streamd.querying.fixed import Fixed
from streamd.querying.gain import expected_gain
from streamd.querying.periodic import Periodic
from streamd.querying.random_sampling import RandomSampling
from streamd.querying.random_variable import RandomVariable
from streamd.querying.split import Split
from streamd.querying.variable import Variable

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "active_skactiveml.json").read_text())


class Recorded:
    """The order in which scikit-activeml draws: a normal number is looked at, then one uniform number is taken."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.RandomState(seed)

    def uniform(self, purpose: str) -> float:
        return self._random.random_sample()

    def normal(self, purpose: str) -> float:
        before = self._random.get_state()
        value = self._random.normal()
        self._random.set_state(before)
        return value

    def advance(self) -> None:
        self._random.random_sample()


def run(strategy: Strategy, events: Iterable[Candidate], draws: Recorded, advance: bool) -> list[int]:
    asked = []
    for i, event in enumerate(events):
        decision = strategy.decide(event, draws)
        strategy.apply(event, decision)
        if decision.ask:
            asked.append(i)
        if advance:
            draws.advance()
    return asked


def manager(name: str, params: Mapping[str, Any]) -> Strategy:
    given = {key: value for key, value in params.items() if key not in ("budget", "w", "random_state")}
    window: Budget = MovingWindow(params["budget"], params.get("w", 100))
    match name:
        case "FixedUncertaintyBudgetManager":
            return Fixed(window, given["classes"])
        case "VariableUncertaintyBudgetManager":
            return Variable(window, **given)
        case "SplitBudgetManager":
            return Split(window, **given)
        case "RandomVariableUncertaintyBudgetManager":
            return RandomVariable(window, **given)
        case "RandomBudgetManager":
            return RandomSampling(window, at_most=True)
        case "DensityBasedSplitBudgetManager":
            return RandomVariable(Count(params["budget"]), **given)
    assert name == "BalancedIncrementalQuantileFilter"
    return BIQF(Count(params["budget"], soft=True), params["w"], given["w_tol"])


def name(case: Mapping[str, Any]) -> str:
    params = ",".join(f"{key}={value}" for key, value in case["params"].items())
    return f"{case.get('manager', case.get('strategy'))}({params}){case.get('utilities', '')}"


ADVANCING = ("RandomVariableUncertaintyBudgetManager", "DensityBasedSplitBudgetManager")


@pytest.mark.parametrize("case", [c for c in GOLDEN["budget_manager_cases"] if c["chunk"] == 1], ids=name)
def test_budget_manager(case: Mapping[str, Any]) -> None:
    strategy = manager(case["manager"], case["params"])
    utilities = GOLDEN["utilities"][case["utilities"]]
    events = [Candidate(str(i), u) for i, u in enumerate(utilities)]
    draws = Recorded(case["params"].get("random_state", 0))

    asked = run(strategy, events, draws, case["manager"] in ADVANCING)

    assert asked == case["queried"]
    assert traced(strategy) == pytest.approx(dict(zip(case["state"], case["trace"][-1][1:], strict=True)))


def traced(strategy: Strategy) -> dict[str, float]:
    """The state at the end under scikit-activeml's names."""
    found: dict[str, float] = {}
    if isinstance(strategy, Variable):
        found["theta_"] = strategy.theta
    budget = strategy.budget
    if isinstance(budget, MovingWindow):
        found["u_t_"] = budget.u_t
    elif isinstance(budget, Count):
        names = ("queried_samples_", "observed_samples_") if budget.soft else ("u_", "t_")
        found |= dict(zip(names, (budget.spent, budget.seen), strict=True))
    return found


@pytest.mark.parametrize("case", GOLDEN["baseline_cases"], ids=name)
def test_baseline(case: Mapping[str, Any]) -> None:
    params = case["params"]
    budget = Count(params["budget"], soft=True)
    strategy: Strategy = Periodic(budget)
    if case["strategy"] == "StreamRandomSampling":
        strategy = RandomSampling(budget, limited=not params["allow_exceeding_budget"])
    events = [Candidate(str(i), 0.0) for i in range(GOLDEN["n"])]

    assert run(strategy, events, Recorded(params.get("random_state", 0)), False) == case["queried"]


def tables() -> Sequence[tuple[str, list[list[float]], Mapping[str, Any]]]:
    masses: dict[int, list[list[float]]] = {}
    found = []
    for table in GOLDEN["cost_reduction"]:
        if not isinstance(table["k_vec"], str):
            masses[table["classes"]] = table["k_vec"]
        found.append((f"{table['classes']}-{table['m_max']}", masses[table["classes"]], table))
    return found


@pytest.mark.parametrize(("k", "table"), [t[1:] for t in tables()], ids=[t[0] for t in tables()])
def test_cost_reduction(k: list[list[float]], table: Mapping[str, Any]) -> None:
    gains = expected_gain(k, table["prior"], table["m_max"])

    assert np.abs(gains - np.array(table["utility"])).max() <= 5e-13


def seed_of_manager(seed: int) -> int:
    """The strategies draw a seed for their budget manager from their own generator."""
    return int(np.random.RandomState(seed).randint(2**31 - 1))


def dual(name: str, params: Mapping[str, Any]) -> Strategy:
    window = MovingWindow(params["budget"])
    kind = name.removeprefix("CognitiveDualQueryStrategy")
    inner: Strategy
    match kind:
        case "Ran":
            inner = RandomSampling(window, at_most=True)
        case "RanVarUn":
            inner = RandomVariable(window)
        case "VarUn":
            inner = Variable(window)
        case _:
            inner = Fixed(window, len(params["classes"]))
    keys = ("force_full_budget", "density_threshold", "cognition_window_size")
    return CogDQS(inner, **{key: params[key] for key in keys if key in params})


@pytest.mark.parametrize("case", GOLDEN["density_cases"], ids=name)
def test_density(case: Mapping[str, Any]) -> None:
    stream, params = GOLDEN["density_stream"], case["params"]
    draws = Recorded(seed_of_manager(params["random_state"]))
    p1 = stream["p1"]
    if case["strategy"] == "StreamDensityBasedAL":
        strategy: Strategy = DBALStream(Count(params["budget"]), params["window_size"])
        utilities = [1 - abs(p - (1 - p)) for p in p1]
        advance = lambda event: draws.advance()  # noqa: E731
    else:
        strategy = dual(case["strategy"], params)
        utilities = [1 - max(p, 1 - p) for p in p1]
        assert isinstance(strategy, CogDQS)
        inner, memory = strategy.strategy, strategy.memory
        threshold = strategy.density_threshold

        def advance(event: Candidate) -> None:
            assert event.x is not None
            if isinstance(inner, RandomVariable) and memory.density(event.x) >= threshold:
                draws.advance()

    asked = []
    for i, (x, u) in enumerate(zip(stream["X"], utilities, strict=True)):
        event = Candidate(str(i), u, x=np.array(x))
        decision = strategy.decide(event, draws)
        advance(event)
        strategy.apply(event, decision)
        if decision.ask:
            asked.append(i)

    assert asked == case["queried"]
