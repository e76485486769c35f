"""Every decision of the golden runs, made through the pool as the daemon makes them, and by the simulation."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from streamd.matching import balance, bounds, replay
from streamd.matching.arrivals import Arrival, Edge, Outcome
from streamd.matching.instance import instance
from streamd.matching.pool import Pool
from streamd.matching.resources import Offer
from streamd.matching.rules import Rule
from streamd.matching.run import Listed

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "matching.json").read_text())
RULES = {
    "greedy": Rule("greedy"),
    "sb_least": Rule(f="least"),
    "sb_exp": Rule(f="exp"),
    "sb_gu": Rule(f="gu"),
    "sb_gub": Rule(f="k_b"),
    "sb_guh": Rule(f="gu", load="hazard"),
    "sb_sc": Rule(f="sc"),
    "sb_hzu": Rule(f="hzu"),
    "sb_scu": Rule(f="scu"),
    "ranking": Rule("ranking"),
    "perturbed": Rule("perturbed_greedy"),
    "nonadaptive_gu": Rule(f="gu", adaptive=False),
}


def _cases() -> list[Any]:
    return [
        pytest.param(instance, run, id="-".join(map(str, (instance["name"], *list(run.values())[:3]))))
        for instance in GOLDEN["instances"]
        for run in instance["runs"]
    ]


def rule_of(run: dict[str, Any]) -> Rule:
    rule = RULES[run["alg"]]
    return msgspec.structs.replace(rule, hold=run["pending"], max_overdelivery=np.inf)


def ranks_of(instance: dict[str, Any]) -> np.ndarray:
    ranks = np.zeros((instance["n"], max(instance["b"])))
    for u, units in enumerate(instance["ranks"]):
        ranks[u, : len(units)] = units
    return ranks


def names_of(instance: dict[str, Any]) -> list[str]:
    return [f"r{u:02}" for u in range(instance["n"])]


def pool_of(instance: dict[str, Any], rule: Rule) -> Pool:
    pool = Pool(rule, ranks=ranks_of(instance))
    for name, weight, capacity in zip(names_of(instance), instance["w"], instance["b"], strict=True):
        pool.put(name, Offer(capacity, weight), now=0)
    return pool


def play(instance: dict[str, Any], run: dict[str, Any], kernel: bool) -> tuple[Pool, list[int], list[bool]]:
    """Given the instance, when its arrivals are matched and their outcomes come after the run's delay.

    kernel: from the edges' JSON on, as runs of arrivals are decided.
    """
    pool, names = pool_of(instance, rule_of(run)), names_of(instance)
    decisions, successes = [], []
    for t, edges in enumerate(instance["arrivals"]):
        past = t - 1 - run["delay"]
        if past >= 0 and decisions[past] >= 0:
            pool.settle(Outcome(str(past), successes[past]), now=t)
        listed = [Edge(names[u], p) for u, p in edges]
        if kernel:
            raw = msgspec.Raw(msgspec.json.encode([(edge.resource, edge.p) for edge in listed]))
            (decision,) = pool.run([Listed(f"{t}/1", str(t), 1, None, t, t + pool.timeout, raw)])
        else:
            decision = pool.best(Arrival(str(t), edges=listed), now=t)
        chosen = -1 if decision.resource is None else names.index(decision.resource)
        decisions.append(chosen)
        successes.append(chosen >= 0 and instance["coins"][t] < dict(map(tuple, edges))[chosen])
    return pool, decisions, successes


@pytest.mark.parametrize("kernel", [False, True], ids=["one by one", "in runs"])
@pytest.mark.parametrize(("instance", "run"), _cases())
def test_a_pool_decides_as_the_reference(instance: dict[str, Any], run: dict[str, Any], kernel: bool) -> None:
    pool, decisions, successes = play(instance, run, kernel)

    assert decisions == run["decision"]
    assert "".join("1" if success else "0" for success in successes) == run["success"]
    assert [pool.load(name) for name in names_of(instance)] == pytest.approx(run["load"], abs=1e-9)
    won = np.bincount(
        [u for u, success in zip(decisions, successes, strict=True) if success], minlength=instance["n"]
    )
    reward = float(np.sum(np.array(instance["w"]) * np.minimum(won, instance["b"])))
    assert reward == pytest.approx(run["reward"], abs=1e-9)


@pytest.mark.parametrize(("given", "run"), _cases())
def test_a_simulation_decides_as_the_reference(given: dict[str, Any], run: dict[str, Any]) -> None:
    stream = instance(given["arrivals"], given["w"], given["b"], names_of(given))

    runs = replay.simulate(stream, rule_of(run), np.array([given["coins"]]), ranks_of(given)[None], run["delay"])

    assert runs.chosen[0].tolist() == run["decision"]
    assert runs.loads[0].tolist() == pytest.approx(run["load"], abs=1e-9)
    assert runs.reward[0] == pytest.approx(run["reward"], abs=1e-9)


@pytest.mark.parametrize("given", GOLDEN["instances"], ids=lambda given: given["name"])
def test_the_bounds_are_the_references(given: dict[str, Any]) -> None:
    stream = instance(given["arrivals"], given["w"], given["b"])

    assert bounds.matching_lp(stream) == pytest.approx(given["lp_matching"], abs=1e-6)
    stochastic = given.get("lp_stochastic_configuration")
    assert bounds.stochastic_lp(stream) == (stochastic and pytest.approx(stochastic, abs=1e-6))


@pytest.mark.parametrize("name", ["exp", "gu", "sc", "hzu", "scu"])
def test_balance_functions_have_their_published_values(name: str) -> None:
    for x, k in GOLDEN["k_values"][name]:
        assert balance.value(name, x) == pytest.approx(k, abs=1e-9)


@pytest.mark.parametrize("b", list(GOLDEN["k_values"]["k_b"]))
def test_the_capacity_aware_function_has_its_values(b: str) -> None:
    for load, k in GOLDEN["k_values"]["k_b"][b]:
        assert balance.value("k_b", load, float(b)) == pytest.approx(k, abs=2e-7)
