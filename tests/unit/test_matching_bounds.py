"""Bounds, certificates, promises: in their order, and as published."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd.errors import BadRecord
from streamd.matching import balance, bounds, certificate, replay
from streamd.matching.instance import Instance, instance
from streamd.matching.rules import Rule, promise

EDGES = st.lists(st.tuples(st.integers(0, 3), st.floats(0.05, 1.0)), max_size=4, unique_by=lambda edge: edge[0])
SMALL = st.lists(EDGES, min_size=1, max_size=8).map(
    lambda arrivals: instance(arrivals, [1.0, 2.0, 1.0, 0.5], [1.0] * 4)
)


@given(SMALL)
def test_the_bounds_come_in_their_order(stream: Instance) -> None:
    exact, stochastic, matching = bounds.exact(stream), bounds.stochastic_lp(stream), bounds.matching_lp(stream)

    assert exact is not None
    assert stochastic is not None
    assert exact <= stochastic + 1e-7
    assert stochastic <= matching + 1e-7


@given(SMALL, st.sampled_from(["auto", "greedy", "gu", "ranking", "perturbed_greedy", "random"]))
def test_no_rule_beats_the_exact_optimum(stream: Instance, name: str) -> None:
    """In the mean of 400 runs, within five standard errors."""
    coins = np.random.default_rng(1).random((400, len(stream.starts) - 1))
    ranks = np.random.default_rng(2).random((400, 4, 1))

    runs = replay.simulate(stream, replay.ALL[name], coins, ranks)

    exact = bounds.exact(stream)
    assert exact is not None
    assert runs.reward.mean() <= exact + 5 * runs.reward.std() / math.sqrt(400) + 0.02


def test_one_edge_is_worth_its_probability() -> None:
    stream = instance([[(0, 0.25)]], [4.0], [1.0])

    assert bounds.exact(stream) == pytest.approx(1.0)
    assert bounds.stochastic_lp(stream) == pytest.approx(1.0)
    assert bounds.matching_lp(stream) == pytest.approx(1.0)


def test_bounds_that_cannot_be_had_are_none() -> None:
    large = instance([[(u, 0.5)] for u in range(40)], np.ones(40), np.full(40, 2.0))

    assert bounds.exact(large) is None
    assert bounds.stochastic_lp(large) is None
    assert bounds.matching_lp(instance([], [1.0], [1.0])) == 0.0
    assert bounds.stochastic_lp(instance([], [1.0], [1.0])) == 0.0


def test_a_stream_with_foreign_edges_is_refused() -> None:
    with pytest.raises(BadRecord):
        instance([[(1, 0.5)]], [1.0], [1.0])
    with pytest.raises(BadRecord):
        instance([[(0, 1.5)]], [1.0], [1.0])


@pytest.mark.parametrize(
    ("f", "equal", "bound", "ratio"),
    [
        ("hz", True, "matching LP", 0.57610),
        ("greedy", True, "matching LP", 0.5),
        ("hzu", False, "matching LP", 0.5736),
        ("sc", True, "non-clairvoyant", 2 - 2 * math.log(2)),
        ("scu", False, "non-clairvoyant", 0.6126),
        ("exp", True, "matching LP", 0.446),
    ],
)
def test_the_certificates_reproduce_the_published_ratios(
    f: str, equal: bool, bound: certificate.Bound, ratio: float
) -> None:
    assert certificate.certified(f, equal=equal, bound=bound, n=600) == pytest.approx(ratio, abs=4e-4)


def test_hz_reaches_its_ratio() -> None:
    assert round(certificate.certified("hz", equal=True, bound="matching LP", end=4.0, n=2000), 5) == 0.57610
    assert round(balance.value("hz", 0.0), 5) == 0.57610


def test_k_b_rises_with_the_capacity_to_its_limit() -> None:
    at_rest = [balance.value("k_b", 0.0, float(b)) for b in (1, 2, 10, 100, 1000, 2000, 4096, 10**6)]
    assert at_rest == sorted(at_rest)
    assert at_rest[-1] == pytest.approx(1.0 - math.exp(-1.0), abs=1e-3)


def test_gu_is_k_b_of_one_unit() -> None:
    for load in (0.0, 0.3, 1.0, 4.0, 20.0):
        assert balance.value("k_b", load, 1.0) == pytest.approx(balance.value("gu", load), abs=1e-8)


@given(
    st.sampled_from(balance.NAMES), st.floats(0.0, 80.0), st.floats(0.0, 5.0), st.sampled_from([1.0, 7.0, 300.0])
)
def test_every_balance_function_falls(name: str, load: float, more: float, capacity: float) -> None:
    here, there = balance.value(name, load, capacity), balance.value(name, load + more, capacity)

    assert 0.0 <= there <= here + 1e-9
    assert here <= 1.0


def test_a_promise_names_its_assumptions() -> None:
    assert promise(Rule()).ratio == 0.613
    several = promise(Rule(), capacity=20.0)
    assert several.ratio == pytest.approx(0.6259, abs=1e-4)
    assert several.source == "derived here, not published"
    assert promise(Rule(consume="attempt")).ratio is None
    assert promise(Rule(f="gu", adaptive=False)).ratio is None
    assert promise(Rule("random")).ratio is None


def test_a_report_ranks_the_rules_and_names_the_bounds() -> None:
    rng = np.random.default_rng(0)
    stream = instance([[(int(u), 0.3) for u in rng.permutation(6)[:3]] for _ in range(25)], np.ones(6), np.ones(6))

    report = replay.score(stream, replay.ALL, runs=200)

    assert {score.rule for score in report.scores} == set(replay.ALL)
    rewards = [score.reward for score in report.scores]
    assert rewards == sorted(rewards, reverse=True)
    assert report.exact is not None
    assert report.stochastic_lp is not None
    assert all(score.interval > 0.0 for score in report.scores)
    assert all(score.ratio_exact is not None and score.ratio_exact < 1.05 for score in report.scores)
    assert replay.score(stream, replay.ALL, runs=200) == report
