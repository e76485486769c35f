"""What comes in wrong, late, twice or from nowhere, and what the pool says to it."""

from typing import Any

import numpy as np
import pytest

from streamd import snapshot
from streamd.errors import BadRecord, ConfigError
from streamd.matching.arrivals import Arrival, Edge, Limits, Outcome
from streamd.matching.pool import Late, Pool
from streamd.matching.probabilities import Source
from streamd.matching.resources import Offer, Rate, Refill
from streamd.matching.rules import Rule


def pool_of(*names: str, capacity: float = 1.0, **more: Any) -> Pool:
    pool = Pool(more.pop("rule", Rule()), more.pop("source", None), timeout=100, **more)
    for name in names:
        pool.put(name, Offer(capacity), now=0)
    return pool


def ask(pool: Pool, name: str, *edges: tuple[Any, ...], now: int = 0, **more: Any) -> str:
    """The resource an arrival gets, or why it gets none."""
    decision = pool.best(Arrival(name, edges=[Edge(*edge) for edge in edges], **more), now)
    return decision.resource or decision.reason


def test_edges_to_unknown_resources_are_passed_over_and_counted() -> None:
    pool = pool_of("ann")

    assert ask(pool, "q1", ("nobody", 0.9), ("ann", 0.1)) == "ann"
    assert ask(pool, "q2", ("nobody", 0.9)) == "no resource is known"
    assert pool.counts["unknown_edges"] == 2


@pytest.mark.parametrize("p", [-0.1, 1.0001, float("nan"), float("inf"), None])
def test_a_probability_outside_0_to_1_is_refused(p: float | None) -> None:
    pool = pool_of("ann")
    before = snapshot.digest(pool.state())

    with pytest.raises(BadRecord):
        ask(pool, "q", ("ann", p))

    assert snapshot.digest(pool.state()) == before


@pytest.mark.parametrize(
    "offer",
    [
        Offer(-1.0),
        Offer(float("nan")),
        Offer(float("inf")),
        Offer(1.0, weight=0.0),
        Offer(1.0, weight=float("nan")),
        Offer(1.0, cost=-1.0),
        Offer(1.0, concurrent=-1),
        Offer(1.0, refill=Refill(-1.0)),
        Offer(1.0, refill=Refill(1.0, every=0)),
        Offer(1.0, rate=Rate(0, 10)),
        Offer(1.0, pace="even"),
        Offer(1.0, pace="fast"),
        Offer(1.0, needs=tuple(f"skill {i}" for i in range(64))),
    ],
)
def test_an_impossible_resource_is_refused_and_changes_nothing(offer: Offer) -> None:
    pool = pool_of("ann")
    before = snapshot.digest(pool.state())

    with pytest.raises(BadRecord):
        pool.put("ben", offer, now=1)

    assert snapshot.digest(pool.state()) == before


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 513])
def test_an_id_that_cannot_be_kept_is_refused(name: str) -> None:
    with pytest.raises(BadRecord):
        pool_of("ann").put(name, Offer(1.0), now=0)


def test_an_outcome_of_an_unknown_match_is_refused() -> None:
    pool = pool_of("ann")
    ask(pool, "q1", ("nobody", 0.5))

    for outcome in (Outcome("q9", True), Outcome("q9/1", True), Outcome("q1", True)):
        with pytest.raises(BadRecord):
            pool.settle(outcome, now=0)


def test_an_outcome_of_another_resource_is_refused() -> None:
    pool = pool_of("ann", "ben")
    ask(pool, "q1", ("ann", 0.5))

    with pytest.raises(BadRecord):
        pool.settle(Outcome("q1/1", True, resource="ben"), now=0)
    assert pool.settle(Outcome("q1/1", True, resource="ann"), now=0) == "settled"


def test_no_eligible_resource_is_an_explicit_answer() -> None:
    pool = pool_of("ann", limits=Limits(open=1))
    pool.put("ben", Offer(1.0, needs=("german",)), now=0)

    assert ask(pool, "q1", ("ann", 0.5), needs=("german",)) == "no resource is eligible"
    assert ask(pool, "q2", ("ann", 0.5), needs=("klingon",)) == "no resource is eligible"
    assert ask(pool, "q3", ("ann", 0.5), exclude=("ann",)) == "no resource is eligible"
    assert ask(pool, "q4") == "there are no edges"
    assert ask(pool, "q5", ("ann", 0.5), deadline=0) == "the deadline has passed"
    assert ask(pool, "q6", ("ben", 0.5), needs=("german",)) == "ben"
    assert ask(pool, "q7", ("ann", 0.5)) == "too many attempts are open"
    pool.settle(Outcome("q6", True), now=0)
    assert ask(pool, "q8", ("ben", 0.5)) == "no resource has room"
    pool.leave("ann")
    assert ask(pool, "q9", ("ann", 0.5)) == "every resource has left"


def test_a_floor_and_a_rate_are_named() -> None:
    pool = pool_of("ann", rule=Rule(min_p=0.2))
    pool.put("ben", Offer(100.0, rate=Rate(1, 50)), now=0)

    assert ask(pool, "q1", ("ann", 0.1)) == "every score is below the floor"
    assert ask(pool, "q2", ("ben", 0.5)) == "ben"
    assert ask(pool, "q3", ("ben", 0.5), now=49) == "every rate is used up"
    assert ask(pool, "q4", ("ben", 0.5), now=50) == "ben"


def test_a_segment_that_is_not_known_is_an_explicit_answer() -> None:
    pool = pool_of("ann")
    pool.put_segment("all", [Edge("ann", 0.5), Edge("later", 0.9)])

    assert pool.best(Arrival("q1", segment="none"), 0).reason == "the segment is not known"
    assert pool.best(Arrival("q2", segment="all"), 0).resource == "ann"
    pool.put("later", Offer(1.0), now=0)
    assert pool.best(Arrival("q3", segment="all"), 0).resource == "later"


def test_segments_and_resources_beyond_their_limits_are_refused() -> None:
    pool = pool_of("ann", "ben", limits=Limits(resources=2, segments=1, segment_edges=2, edges=2))

    with pytest.raises(BadRecord):
        pool.put("cleo", Offer(1.0), now=0)
    pool.put_segment("s", [Edge("ann", 0.5)])
    with pytest.raises(BadRecord):
        pool.put_segment("t", [Edge("ann", 0.5)])
    with pytest.raises(BadRecord):
        pool.put_segment("s", [Edge("ann", 0.5)] * 3)
    with pytest.raises(BadRecord):
        ask(pool, "q", *[("ann", 0.5)] * 3)
    with pytest.raises(BadRecord):
        pool.put_segment("s", [Edge("ann", 1.5)])


def test_who_left_longest_ago_makes_room() -> None:
    pool = pool_of("ann", "ben", limits=Limits(resources=2), source=Source("beta"))
    ask(pool, "q1", ("ann", None))
    pool.leave("ann")
    with pytest.raises(BadRecord):  # its attempt is open
        pool.put("cleo", Offer(1.0), now=0)

    pool.settle(Outcome("q1", False), now=0)
    pool.put("cleo", Offer(1.0), now=0)

    assert ask(pool, "q2", ("ann", None)) == "no resource is known"
    fresh = pool.best(Arrival("q3", edges=[Edge("cleo")]), 0)
    assert (fresh.resource, fresh.p) == ("cleo", 0.5)


def test_a_repeated_arrival_gets_the_same_answer() -> None:
    pool = pool_of("ann", "ben")
    arrival = Arrival("q", edges=[Edge("ann", 0.5), Edge("ben", 0.4)])
    first = pool.best(arrival, 0)

    assert pool.best(arrival, 5) == first
    pool.settle(Outcome("q", True), now=6)
    assert pool.best(arrival, 7) == first
    assert (pool.counts["matched"], pool.counts["repeated_arrivals"]) == (1, 2)
    assert pool.load("ann") == 0.5


def test_repeated_and_contradicting_outcomes_change_nothing() -> None:
    pool = pool_of("ann", capacity=5.0)
    ask(pool, "q", ("ann", 0.5))
    assert pool.settle(Outcome("q", True), now=1) == "settled"

    assert pool.settle(Outcome("q", True), now=2) == "repeated"
    assert pool.settle(Outcome("q", False), now=3) == "contradicted"

    assert pool.used("ann") == 1.0
    assert (pool.counts["repeated_outcomes"], pool.counts["contradictions"]) == (1, 1)


@pytest.mark.parametrize(
    ("late", "used", "p"), [("ignore", 0.0, 1 / 3), ("accept", 1.0, 1 / 3), ("correct", 1.0, 2 / 3)]
)
def test_a_success_after_the_time_out(late: Late, used: float, p: float) -> None:
    pool = pool_of("ann", capacity=5.0, source=Source("beta", shrinkage=0.0), late=late)
    ask(pool, "q", ("ann",), now=0)
    assert [kept.arrival for kept in pool.advance(100)] == ["q"]
    assert pool.counts["timeouts"] == 1

    pool.settle(Outcome("q", True), now=101)

    assert pool.used("ann") == used
    assert pool.best(Arrival("q2", edges=[Edge("ann")]), 102).p == pytest.approx(p)


def test_a_skip_frees_and_teaches_nothing() -> None:
    pool = pool_of("ann", source=Source("beta"))
    ask(pool, "q1", ("ann",))
    pool.settle(Outcome("q1", False, skip=True), now=1)

    assert pool.best(Arrival("q2", edges=[Edge("ann")]), 2).p == 0.5


def test_one_distinct_key_gets_different_resources() -> None:
    pool = pool_of("ann", "ben", capacity=9.0)
    given = [ask(pool, f"q{i}", ("ann", 0.9), ("ben", 0.1), distinct="e") for i in range(3)]

    assert given == ["ann", "ben", "no resource is eligible"]


def test_refills_add_or_reset() -> None:
    pool = Pool(Rule("greedy"))
    pool.put("add", Offer(1.0, refill=Refill(1.0, 100)), now=50)
    pool.put("daily", Offer(1.0, refill=Refill(2.0, 100, reset=True)), now=50)
    for name in ("add", "daily"):
        assert ask(pool, f"{name}1", (name, 1.0), now=60) == name
        pool.settle(Outcome(f"{name}1", True), now=60)
        assert ask(pool, f"{name}2", (name, 1.0), now=99) == "no resource has room"
        assert ask(pool, f"{name}3", (name, 1.0), now=100) == name
    assert (pool.load("add"), pool.load("daily")) == (2.0, 1.0)


def test_a_group_behind_its_share_is_favoured() -> None:
    pool = Pool(Rule("greedy"), shares={"few": 0.3})
    pool.put("many", Offer(1e6), now=0)
    pool.put("one", Offer(1e6, groups=("few",)), now=0)

    given = [ask(pool, f"q{i}", ("many", 0.5), ("one", 0.2)) for i in range(4000)]

    assert given.count("one") / len(given) > 0.15


def test_an_even_pace_spreads_a_period() -> None:
    pool = Pool(Rule("greedy", consume="attempt"))
    pool.put("even", Offer(50.0, refill=Refill(50.0, 1000, reset=True), pace="even"), now=0)
    pool.put("rest", Offer(1e6), now=0)

    given = [ask(pool, f"q{i}", ("even", 0.5), ("rest", 0.4), now=i) for i in range(1000)]

    assert 20 <= given[:500].count("even") <= 35


def test_calibration_raises_its_alarm() -> None:
    pool = pool_of("honest", "boaster", capacity=1e6, rule=Rule("greedy"))
    for i in range(200):
        for name in ("honest", "boaster"):
            ask(pool, f"{name}{i}", (name, 0.5))
            pool.settle(Outcome(f"{name}{i}", success=name == "honest" and i % 2 == 0), now=0)

    assert [pool.resources.names.name(int(slot)) for slot in pool.resources.miscalibrated()] == ["boaster"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rule("best"),
        lambda: Rule(f="linear"),
        lambda: Rule(hold="some"),
        lambda: Rule(max_overdelivery=-1.0),
        lambda: Rule(min_p=float("nan")),
        lambda: Source("guess"),  # type: ignore[arg-type]
        lambda: Source("event", explore="thompson"),
        lambda: Source(floor=0.6, ceiling=0.5),
        lambda: Source("beta", prior=(0.0, 1.0)),
        lambda: Pool(Rule(), timeout=0),
        lambda: Pool(Rule(), late="never"),  # type: ignore[arg-type]
        lambda: Pool(Rule(), shares={"a": 0.7, "b": 0.7}),
    ],
)
def test_settings_out_of_range_are_refused(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()


def test_budgets_are_never_overspent() -> None:
    pool = Pool(Rule("msvv", hold="block"))
    pool.put("ads", Offer(10.0, weight=3.0), now=0)
    rng = np.random.default_rng(0)
    for i in range(20):
        ask(pool, f"q{i}", ("ads", 0.5, float(rng.integers(1, 5))))
        if f"q{i}/1" in pool.attempts.open:
            pool.settle(Outcome(f"q{i}", bool(rng.random() < 0.5)), now=0)

    assert 5.0 < pool.used("ads") <= 10.0
    with pytest.raises(BadRecord):
        ask(pool, "free", ("ads", 0.5, 0.0))


def test_logistic_probabilities_are_learned() -> None:
    pool = pool_of("ann", capacity=1e6, source=Source("logistic", bits=10, eta=0.5), rule=Rule("greedy"))
    for i in range(200):
        kind = "hard" if i % 2 else "easy"
        pool.best(Arrival(f"q{i}", features={"kind": kind, "n": 1.0}, edges=[Edge("ann")]), i)
        pool.settle(Outcome(f"q{i}", success=kind == "easy"), now=i)

    def p(kind: str) -> float:
        return pool.decide(Arrival("?", features={"kind": kind, "n": 1.0}, edges=[Edge("ann")]), 300).p

    assert p("easy") > 0.8
    assert p("hard") < 0.2
    with pytest.raises(BadRecord):
        pool.decide(Arrival("?", features={"n": float("nan")}, edges=[Edge("ann")]), 300)
