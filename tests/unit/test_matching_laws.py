"""The laws of a pool: whatever comes, in whatever order, nothing is promised twice or beyond what there is."""

import math
import random
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamd import snapshot
from streamd.errors import BadRecord
from streamd.matching.arrivals import Arrival, Edge, Limits, Outcome
from streamd.matching.attempts import Decision
from streamd.matching.balance import value
from streamd.matching.pool import Pool
from streamd.matching.probabilities import Source
from streamd.matching.resources import Offer, Rate, Refill
from streamd.matching.rules import Rule

NAMES = [f"r{u}" for u in range(5)]
KINDS = ["stochastic_balance", "greedy", "ranking", "perturbed_greedy", "msvv", "random"]

CHANCES = st.sampled_from([0.0, 0.2, 0.5, 1.0])

offers = st.builds(
    Offer,
    capacity=st.sampled_from([0.0, 1.0, 2.0, 3.0, 7.0]),
    weight=st.sampled_from([0.5, 1.0, 2.0]),
    concurrent=st.sampled_from([0, 0, 1, 2]),
    groups=st.sampled_from([(), ("a",), ("a", "b")]),
    needs=st.sampled_from([(), ("german",), ("german", "french")]),
    refill=st.sampled_from([None, None, Refill(2.0, 20), Refill(3.0, 30, reset=True)]),
    rate=st.sampled_from([None, None, Rate(2, 10)]),
)
puts = st.tuples(st.just("put"), st.sampled_from(NAMES), offers)
leaves = st.tuples(st.just("leave"), st.sampled_from(NAMES), st.none())
arrivals = st.tuples(
    st.just("arrival"),
    st.integers(0, 30),
    st.builds(
        dict,
        edges=st.lists(st.tuples(st.sampled_from([*NAMES, "stranger"]), CHANCES), max_size=5),
        attempt=st.sampled_from([1, 1, 1, 2]),
        kind=st.sampled_from([None, "x", "y"]),
        needs=st.sampled_from([(), (), ("german",)]),
        exclude=st.sampled_from([(), (), ("r0", "r1")]),
        distinct=st.sampled_from([None, None, "e"]),
    ),
)  # fmt: skip
outcomes = st.tuples(st.just("outcome"), st.integers(0, 30), st.sampled_from(["success", "failure", "skip"]))
passing = st.tuples(st.just("pass"), st.integers(1, 15), st.none())
steps = st.lists(st.one_of(puts, arrivals, arrivals, outcomes, outcomes, leaves, passing), max_size=60)
rules = st.builds(
    Rule,
    kind=st.sampled_from(KINDS),
    f=st.sampled_from(["auto", "least", "gu", "k_b", "exp"]),
    consume=st.sampled_from(["success", "success", "attempt"]),
    load=st.sampled_from(["expected", "hazard", "realised"]),
    hold=st.sampled_from(["auto", "block", "expected", "optimistic"]),
    max_overdelivery=st.sampled_from([0.0, 0.5, math.inf]),
).filter(lambda rule: rule.kind != "msvv" or rule.f in ("auto", "k_b", "exp"))
sources = st.builds(
    Source,
    kind=st.just("beta"),
    half_life=st.sampled_from([0, 25]),
    explore=st.sampled_from(["none", "thompson", "ucb", "epsilon"]),
) | st.sampled_from([Source(), Source("logistic", bits=6), Source("logistic", bits=6, explore="thompson")])


class Play:
    """A pool under a sequence of steps, with what was answered and the time."""

    def __init__(self, rule: Rule, source: Source, shuffle: int | None = None) -> None:
        limits = Limits(resources=4, open=6, remember=12, segments=2, segment_edges=8)
        self.pool = Pool(rule, source, timeout=25, late="correct", shares={"a": 0.4}, limits=limits)
        self.now = 0
        self.answers: list[tuple[str, int, Decision, bool]] = []
        self._order = random.Random(shuffle) if shuffle is not None else None
        for name, capacity in zip(NAMES, (1.0, 2.0, 3.0), strict=False):
            self.pool.put(name, Offer(capacity), 0)

    def step(self, step: tuple[str, Any, Any]) -> None:
        kind, what, how = step
        self.now += 1
        self.pool.advance(self.now)
        if kind == "pass":
            self.now += what
            self.pool.advance(self.now)
        elif kind == "leave":
            self.pool.leave(what)
        elif kind == "put":
            self._attempt(lambda: self.pool.put(what, how, self.now))
        elif kind == "outcome":
            told = Outcome(f"a{what}", how == "success", skip=how == "skip")
            self._attempt(lambda: self.pool.settle(told, self.now))
        else:
            self._arrive(f"a{what}", how)

    def _arrive(self, name: str, how: dict[str, Any]) -> None:
        edges = [Edge(*edge) for edge in how["edges"]]
        if self._order is not None:
            self._order.shuffle(edges)
        arrival = Arrival(name, **(how | {"edges": edges}), features={"x": 0.5, "c": how["kind"]})
        decision = self.pool.decide(arrival, self.now)
        new = self.pool.apply(arrival, decision, self.now)
        self.answers.append((name, arrival.attempt, decision, new))

    @staticmethod
    def _attempt(call: Any) -> None:
        with suppress(BadRecord):
            call()


def play(rule: Rule, source: Source, taken: list[Any], shuffle: int | None = None) -> Play:
    game = Play(rule, source, shuffle)
    for step in taken:
        game.step(step)
    return game


def digest(game: Play) -> str:
    return snapshot.digest(game.pool.state())


@settings(max_examples=60)
@given(rules, sources, steps)
def test_the_order_of_edges_does_not_matter(rule: Rule, source: Source, taken: list[Any]) -> None:
    straight, shuffled = play(rule, source, taken), play(rule, source, taken, shuffle=3)

    assert straight.answers == shuffled.answers
    assert digest(straight) == digest(shuffled)


@settings(max_examples=60)
@given(rules, sources, steps, st.integers(0, 59))
def test_a_restored_pool_goes_on_identically(rule: Rule, source: Source, taken: list[Any], at: int) -> None:
    whole = play(rule, source, taken)
    first = play(rule, source, taken[:at])

    second = Play(rule, source)
    second.pool.restore(first.pool.state())
    second.now, second.answers = first.now, first.answers
    assert digest(second) == digest(first)
    for step in taken[at:]:
        second.step(step)

    assert second.answers == whole.answers
    assert digest(second) == digest(whole)


@settings(max_examples=60)
@given(rules, sources, steps)
def test_deciding_changes_nothing(rule: Rule, source: Source, taken: list[Any]) -> None:
    game = play(rule, source, taken)
    before = digest(game)

    for edges in ([Edge("r0", 0.5), Edge("r1", 0.2)], [Edge("stranger", 1.0)], []):
        arrival = Arrival("what-if", edges=edges, kind="x", distinct="e")
        assert game.pool.decide(arrival, game.now + 40) == game.pool.decide(arrival, game.now + 40)

    assert digest(game) == before


@settings(max_examples=60)
@given(rules, steps)
def test_a_replay_of_decisions_gives_the_same_state(rule: Rule, taken: list[Any]) -> None:
    """Given decisions as journalled, when a pool that never decides applies them, then it is the same pool."""
    source = Source("beta", explore="thompson")
    game = play(rule, source, taken)
    decided = iter([decision for *_, decision, _ in game.answers])

    again = Play(rule, source)
    again.pool.decide = lambda arrival, now: next(decided)  # type: ignore[method-assign]
    for step in taken:
        again.step(step)

    assert digest(again) == digest(game)


@settings(max_examples=60)
@given(rules, sources, steps)
def test_an_arrival_has_one_answer(rule: Rule, source: Source, taken: list[Any]) -> None:
    known: dict[tuple[str, int], Decision] = {}
    game = Play(rule, source)
    for step in taken:
        kept = {*game.pool.attempts.open, *game.pool.attempts.closed}
        told = len(game.answers)
        game.step(step)
        for name, attempt, decision, new in game.answers[told:]:
            if f"{name}/{attempt}" in kept and not new:
                assert decision == known[name, attempt]
            known[name, attempt] = decision
            assert (decision.resource is None) == bool(decision.reason)


@settings(max_examples=60)
@given(rules, sources, steps)
def test_holds_keep_what_they_promise(rule: Rule, source: Source, taken: list[Any]) -> None:
    """At each decision: block never offers more than there is; the others never more than the cap beyond it."""
    game = Play(rule, source)
    for step in taken:
        told = len(game.answers)
        before = game.pool.resources.table.copy()
        game.step(step)
        for *_, decision, new in game.answers[told:]:
            if new and decision.resource is not None:
                _check_hold(game.pool, decision, before)


def _check_hold(pool: Pool, decision: Decision, before: np.ndarray) -> None:
    slot = int(pool.resources.names.find([decision.resource or ""])[0])
    row, rule = pool.resources.table[slot], pool.rule
    possible = row["used"] + (0.0 if rule.consume == "attempt" else row["open_units"])
    if rule.consume == "attempt" or row["hold"] == 0:
        assert possible <= row["capacity"] + 1e-9
    else:
        assert possible <= row["capacity"] + np.floor(rule.max_overdelivery * row["capacity"]) + 1e-9
        assert row["used"] < row["capacity"]
    if rule.consume == "success" and row["hold"] == 1:
        assert row["used"] + row["open_load"] - decision.p * decision.units < row["capacity"] + 1e-9
    if row["concurrent"]:
        assert row["open"] <= row["concurrent"]


@settings(max_examples=60)
@given(rules, sources, steps)
def test_what_grows_is_bounded(rule: Rule, source: Source, taken: list[Any]) -> None:
    pool = play(rule, source, taken).pool

    assert len(pool.resources.names) <= pool.limits.resources
    assert len(pool.attempts.open) <= pool.limits.open
    assert len(pool.attempts.closed) <= pool.limits.remember
    assert len(pool.attempts._latest) <= pool.limits.open + pool.limits.remember
    assert len(pool._taken) <= pool.limits.remember


@settings(max_examples=60)
@given(rules, sources, steps)
def test_counts_and_holds_add_up(rule: Rule, source: Source, taken: list[Any]) -> None:
    pool = play(rule, source, taken).pool
    counts, table = pool.counts, pool.resources.table

    assert counts["matched"] + counts["unmatched"] == counts["arrivals"]
    ended = counts["successes"] + counts["failures"] + counts["skipped"] + counts["timeouts"]
    assert counts["matched"] == ended + len(pool.attempts.open)
    assert int(table["open"].sum()) == len(pool.attempts.open)
    expected = sum(kept.decision.p * kept.decision.units for kept in pool.attempts.open.values())
    assert float(table["open_load"].sum()) == pytest.approx(expected)


def test_a_restored_pool_may_follow_another_rule_and_keeps_its_loads() -> None:
    # given a pool that gave under one rule
    old = Pool(Rule(f="gu"))
    for name, capacity in (("ann", 1.0), ("ben", 5.0)):
        old.put(name, Offer(capacity), 0)
    for i in range(3):
        old.best(Arrival(str(i), edges=[Edge("ben", 0.5), Edge("ann", 0.1)]), i)
    # when its state is restored under another
    new = Pool(Rule("stochastic_balance", f="k_b", hold="optimistic"))
    new.restore(old.state())
    # then the loads are the same, and it decides as a pool that always had that rule and these loads
    assert [new.load(name) for name in ("ann", "ben")] == [old.load(name) for name in ("ann", "ben")]
    decision = new.decide(Arrival("x", edges=[Edge("ben", 0.5)]), 9)
    assert decision.k == pytest.approx(value("k_b", old.load("ben"), 5.0), abs=1e-9)


def test_the_calibration_counts_resources_that_are_off_also_after_they_are_forgotten() -> None:
    pool = Pool(Rule(), limits=Limits(resources=2))
    pool.put("ann", Offer(1000.0), 0)
    for i in range(40):
        pool.best(Arrival(str(i), edges=[Edge("ann", 0.9)]), i)
        pool.settle(Outcome(str(i), success=False), i)
    # 36 successes were promised and none came: more than 4 times 6
    assert (pool.expected, pool.succeeded, pool.resources.off) == (pytest.approx(36.0), 0, 1)
    assert pool.resources.miscalibrated().tolist() == [0]
    copy = Pool(Rule(), limits=Limits(resources=2))
    copy.restore(pool.state())
    assert copy.resources.off == 1
    for other in (pool, copy):
        other.leave("ann")
        for name in ("ben", "cyd"):
            other.put(name, Offer(1.0), 99)
        assert other.resources.off == 0
