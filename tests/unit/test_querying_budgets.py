"""The laws of budgets: never above the share plus what the bucket holds, whatever happens in between."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd.errors import ConfigError, StateError
from streamd.querying.auto import Auto
from streamd.querying.budgets import UNIT, Count, MovingWindow, TokenBucket
from streamd.querying.decision import Budget, Candidate
from streamd.querying.draws import Keyed
from streamd.querying.equitable import RULES, Equitable
from streamd.snapshot import State, digest

HOUR = 3_600_000


def at(i: int, *groups: str, step: int = 1000) -> Candidate:
    return Candidate(f"{i}", 0.5, i * step, groups=groups)


def demand(budget: Budget, events: list[Candidate], wants: list[bool] | None = None) -> list[bool]:
    """Ask for every event wanted that may be asked for."""
    asked = []
    for i, event in enumerate(events):
        ask = (wants is None or wants[i]) and budget.left(event)
        budget.apply(event, ask)
        asked.append(ask)
    return asked


@given(
    st.lists(st.booleans(), max_size=400),
    st.integers(0, 1000).map(lambda n: n / 1000),
    st.integers(1, 8),
    st.integers(0, 8),
)
def test_a_bucket_never_gives_more_than_share_plus_start(
    wants: list[bool], b: float, capacity: int, start: int
) -> None:
    bucket = TokenBucket(b, capacity, min(start, capacity))
    asked = np.cumsum(demand(bucket, [at(i) for i in range(len(wants))], wants))
    n = np.arange(1, len(wants) + 1)

    assert (asked <= b * n + min(start, capacity) + 1e-9).all()


@given(st.lists(st.booleans(), min_size=1, max_size=300), st.integers(1, 20), st.data())
def test_any_stretch_of_events_gets_at_most_its_share_plus_the_capacity(
    wants: list[bool], capacity: int, data: st.DataObject
) -> None:
    bucket = TokenBucket(0.1, capacity)
    asked = demand(bucket, [at(i) for i in range(len(wants))], wants)
    a = data.draw(st.integers(0, len(wants)))
    z = data.draw(st.integers(a, len(wants)))

    assert sum(asked[a:z]) <= 0.1 * (z - a) + capacity


@given(st.integers(1, 500), st.integers(1, 10))
def test_under_full_demand_all_is_spent(thousandths: int, capacity: int) -> None:
    bucket = TokenBucket(thousandths / 1000, capacity, 0)
    assert sum(demand(bucket, [at(i) for i in range(2000)])) == 2 * thousandths


@given(st.lists(st.tuples(st.sampled_from(["event", "late", "expired", "slice"]), st.booleans()), max_size=300))
def test_spent_is_answered_plus_pending_whatever_comes(steps: list[tuple[str, bool]]) -> None:
    """Level = start + income - spent, less what overflowed: no token appears from nowhere."""
    bucket = TokenBucket(0.2, 5, 2)
    asked = late = expired = pending = events = 0
    for step, want in steps:
        if step == "event":
            ask = want and bucket.left(at(events))
            bucket.apply(at(events), ask)
            events, asked, pending = events + 1, asked + ask, pending + ask
        elif step == "expired" and pending:
            bucket.refund()
            expired, pending = expired + 1, pending - 1
        elif step == "late" and expired:
            bucket.debit()
            late, expired = late + 1, expired - 1
        elif step == "slice":
            bucket.debit()
            asked, pending = asked + 1, pending + 1
        answered = asked - pending - expired
        assert bucket.spent == (answered + pending) * 3_600_000_000_000
        assert bucket.level <= 2 + 0.2 * events - (answered + pending) + 1e-9
        assert bucket.level <= 5


@given(st.lists(st.integers(0, 2 * HOUR), min_size=1, max_size=60), st.integers(1, 50))
def test_a_budget_per_hour_follows_event_time(gaps: list[int], per_hour: int) -> None:
    bucket = TokenBucket(per_hour=per_hour, capacity=5, start=0)
    now, asked = 0, 0
    for i, gap in enumerate(gaps):
        now += gap if i else 0
        event = Candidate(f"{i}", 1.0, now)
        ask = bucket.left(event)
        bucket.apply(event, ask)
        asked += ask
        assert asked <= per_hour * now / HOUR + 1e-6
    assert 0.0 <= bucket.share <= 1.0


def test_an_hourly_bucket_that_is_about_to_lose_income_is_full() -> None:
    bucket = TokenBucket(per_hour=10, capacity=5, start=5)
    bucket.apply(Candidate("e", 1.0, 0), False)
    assert not bucket.full(Candidate("f", 1.0, 0))
    assert bucket.full(Candidate("f", 1.0, HOUR // 20))
    bucket.apply(Candidate("f", 1.0, HOUR // 20), True)
    assert bucket.level == 4.5  # what it brought could be spent before the rest was cut
    assert not bucket.full(Candidate("g", 1.0, HOUR // 10))


@given(
    gaps=st.lists(st.integers(0, HOUR // 10), min_size=1, max_size=200),
    long=st.sets(st.integers(0, 199), max_size=3),
    capacity=st.sampled_from([1.0, 1.5, 2.0, 10.0]),
    utilities=st.lists(st.floats(0, 1), min_size=200, max_size=200),
)
def test_an_hourly_budget_is_spent_but_for_what_long_gaps_bring_to_a_full_bucket(
    gaps: list[int], long: set[int], capacity: float, utilities: list[float]
) -> None:
    """Ten labels an hour: no gap but the long ones brings more than one label."""
    bucket = TokenBucket(per_hour=10, capacity=capacity)
    rule, keyed = Auto(bucket), Keyed(1, "t")
    start, now, asked, excess = bucket.level, 0, 0, 0.0
    for i, gap in enumerate(gaps):
        gap = 7 * HOUR if i in long else gap
        now += gap if i else 0
        excess += max(0.0, 10 * gap / HOUR - 1) if i else 0.0
        event = Candidate(f"{i}", utilities[i], now)
        decision = rule.decide(event, keyed.of(event.event))
        rule.apply(event, decision)
        asked += decision.own
    income = 10 * now / HOUR
    lost = bucket.lost / UNIT
    assert asked + bucket.level + lost == pytest.approx(start + income)
    assert lost <= excess + 1e-6
    assert income - capacity - excess - 1e-6 <= asked <= start + income + 1e-6


def test_event_time_that_goes_back_brings_nothing() -> None:
    bucket = TokenBucket(per_hour=10, capacity=5, start=0)
    for now in (HOUR, 0, HOUR, 0, HOUR):
        bucket.apply(Candidate("e", 1.0, now), False)
    assert bucket.level == 0


def test_an_absolute_budget_is_divided_over_partitions() -> None:
    parts = [TokenBucket(per_hour=60, capacity=100, start=0, partitions=4) for _ in range(4)]
    asked = sum(sum(demand(part, [at(i, step=10_000) for i in range(3601)])) for part in parts)
    assert asked == 600  # ten hours


def test_the_share_of_an_hourly_budget_is_that_of_the_pace_of_late() -> None:
    bucket = TokenBucket(per_hour=36, capacity=10)
    demand(bucket, [at(i, step=5000) for i in range(3000)])
    assert bucket.share == pytest.approx(0.05)


def test_dear_labels_are_fewer() -> None:
    events = [at(i) for i in range(1000)]
    assert sum(demand(TokenBucket(0.5, 10, 0, price=5.0), events)) == 100
    assert TokenBucket(0.5, 10, price=5.0).share == 0.1


def test_the_price_of_the_label_corrects_what_was_debited() -> None:
    bucket = TokenBucket(0.5, 10, 10, price=2.0)
    bucket.apply(at(0), True)
    level = bucket.level
    bucket.debit(3.5 - 2.0)
    assert bucket.level == pytest.approx(level - 1.5)
    assert bucket.spent / 3_600_000_000_000 == pytest.approx(3.5)


def test_a_full_bucket_says_so_where_income_would_be_lost() -> None:
    bucket = TokenBucket(0.25, 2, 0)
    seen = []
    for i in range(10):
        seen.append(bucket.full(at(i)))
        bucket.apply(at(i), False)
    assert seen.index(True) == 8  # full since the eighth event; the ninth brings 0.25 too much


@pytest.mark.parametrize(
    "make",
    [
        lambda: TokenBucket(0.1, 5, per_hour=3.0),
        lambda: MovingWindow(0.1),
        lambda: Count(0.1),
        lambda: Equitable(0.1, "worst"),
        lambda: Equitable(0.1, "rates"),
    ],
)
@pytest.mark.parametrize("cut", [0, 1, 77])
def test_a_restored_budget_goes_on_as_the_other_would(make, cut: int) -> None:  # type: ignore[no-untyped-def]
    events = [at(i, "ab"[i % 2], "c") if i % 3 else at(i) for i in range(200)]
    whole, first, second = make(), make(), make()
    expected = demand(whole, events)
    asked = demand(first, events[:cut])
    second.restore(first.state())
    assert asked + demand(second, events[cut:]) == expected
    assert digest(second.state()) == digest(whole.state())


def test_parameters_out_of_range_are_refused() -> None:
    for make in (
        lambda: TokenBucket(1.5),
        lambda: TokenBucket(-0.1),
        lambda: TokenBucket(0.1, capacity=0.5),
        lambda: TokenBucket(0.1, start=20),
        lambda: TokenBucket(0.1, partitions=0),
        lambda: TokenBucket(0.1, price=0),
        lambda: MovingWindow(0.1, w=0),
        lambda: Count(2.0),
        lambda: Equitable(0.1, "fair"),
        lambda: Equitable(0.1, capacity=0.0),
    ):
        with pytest.raises(ConfigError):
            make()


@pytest.mark.parametrize("budget", [TokenBucket(0.1), MovingWindow(0.1), Count(0.1), Equitable(0.1)])
def test_a_state_of_something_else_is_refused(budget: Budget) -> None:
    with pytest.raises(StateError):
        budget.restore(State({}, {}))


# --- by group


@given(
    st.sampled_from(RULES),
    st.lists(st.tuples(st.lists(st.sampled_from("abc"), unique=True), st.booleans()), max_size=200),
)
def test_groups_together_never_get_more_than_the_share(rule: str, steps: list[tuple[list[str], bool]]) -> None:
    budget = Equitable(0.2, rule, capacity=3, start=1)
    asked = 0
    for i, (groups, right) in enumerate(steps):
        event = at(i, *groups)
        ask = budget.left(event)
        budget.apply(event, ask)
        if ask:
            budget.judged(groups, float(not right))
        asked += ask
        assert asked <= 0.2 * (i + 1) + 1 + 1e-9
        assert sum(budget.shares().values()) == pytest.approx(1.0)
        assert sum(budget.claims().values()) == pytest.approx(0.0)
        assert max(budget.claims().values()) <= 3
        assert 0 <= budget.level <= 3 + 1


@given(
    st.sampled_from(RULES),
    st.integers(1, 12),
    st.sampled_from((0.0, 0.05, 0.2)),
    st.lists(st.tuples(st.integers(0, 40), st.floats(0, 1), st.booleans()), min_size=1, max_size=400),
)
def test_the_law_of_one_bucket_holds_however_many_groups_there_are(
    rule: str, capacity: int, b: float, steps: list[tuple[int, float, bool]]
) -> None:
    """At every moment within [share - capacity - 1, share + capacity], so at the end, too."""
    budget = Equitable(b, rule, capacity, start=1.0)
    strategy, keyed = Auto(budget), Keyed(1, "t")
    asked = 0
    for i, (number, utility, wrong) in enumerate(steps):
        groups = [f"g{number % 13}"] * (number > 0)
        event = Candidate(f"{i}", utility, i, groups=groups)
        decision = strategy.decide(event, keyed.of(event.event))
        strategy.apply(event, decision)
        if decision.ask:
            budget.judged(groups, float(wrong))
        asked += decision.ask
        assert b * (i + 1) - capacity - 1 - 1e-9 <= asked <= b * (i + 1) + capacity + 1e-9
    assert budget.lost == 0


def test_a_group_that_was_away_finds_a_label_when_it_comes_back() -> None:
    """The others leave it the last one, and what it may claim is bounded."""
    budget = Equitable(0.1, "equal", capacity=5, start=0)
    demand(budget, [at(i, "ab"[i % 2]) for i in range(100)])
    demand(budget, [at(i, "a") for i in range(100, 1000)])
    assert budget.claims()["b"] == 5
    assert demand(budget, [at(1000, "b")]) == [True]
    assert demand(budget, [at(1001 + i, "b") for i in range(200)]).count(True) <= 20 + 5 + 1


def test_what_groups_had_in_buckets_of_their_own_is_poured_together() -> None:
    """The state of before: the remainder, events, what was spent, then level and arrivals of each group."""
    integers = np.array([7, 30, 2, UNIT // 2, UNIT // 4, UNIT, 3 * UNIT // 2, 10, 15, 5], np.int64)
    errors = np.array([[0.0, 0.0], [1.0, 2.0], [0.5, 1.0]])
    budget = Equitable(0.1, "worst", capacity=5)
    budget.restore(State({"integers": integers, "errors": errors}, {"groups": ["", "a", "b"]}))
    assert budget.level == 2.75
    assert budget.claims() == {"": 0.0, "a": 0.0, "b": 0.0}
    again = Equitable(0.1, "worst", capacity=5)
    again.restore(budget.state())
    assert digest(again.state()) == digest(budget.state())


def by_group(rule: str, errors: dict[str, float], arrival: dict[str, float], n: int = 4000) -> dict[str, int]:
    """How many labels each of two groups got, with these errors whatever is learned."""
    rng = np.random.default_rng(5)
    budget = Equitable(0.1, rule, capacity=5, start=0)
    got = dict.fromkeys(arrival, 0)
    for i, name in enumerate(rng.choice(list(arrival), n, p=list(arrival.values()))):
        event = at(i, str(name))
        ask = budget.left(event)
        budget.apply(event, ask)
        if ask:
            got[str(name)] += 1
            budget.judged([str(name)], float(rng.random() < errors[str(name)]))
    return got


def test_equal_shares_do_not_follow_arrival() -> None:
    got = by_group("equal", {"a": 0.2, "b": 0.2}, {"a": 0.8, "b": 0.2})
    assert got["a"] == pytest.approx(200, abs=15)
    assert got["b"] == pytest.approx(200, abs=15)


def test_proportional_shares_do() -> None:
    got = by_group("proportional", {"a": 0.2, "b": 0.2}, {"a": 0.8, "b": 0.2})
    assert got["a"] == pytest.approx(320, abs=15)


def test_the_worst_group_comes_first() -> None:
    got = by_group("worst", {"a": 0.05, "b": 0.4}, {"a": 0.5, "b": 0.5})
    assert got["b"] > 5 * got["a"] > 0


def test_what_a_rare_group_cannot_use_goes_to_the_others() -> None:
    """b alpha / pi above 1 is cut off, and the rest is spread again: nothing of the budget is lost."""
    got = by_group("equal", {"a": 0.2, "b": 0.2}, {"a": 0.99, "b": 0.01})
    assert got["b"] <= 60
    assert sum(got.values()) == pytest.approx(400, abs=11)


def test_shares_by_learning_rate_favour_the_harder_group_less_than_the_worst_rule() -> None:
    got = by_group("rates", {"a": 0.1, "b": 0.4}, {"a": 0.5, "b": 0.5})
    worst = by_group("worst", {"a": 0.1, "b": 0.4}, {"a": 0.5, "b": 0.5})
    assert 2 * got["a"] < got["b"] < worst["b"]


def test_groups_past_the_limit_share_one_account() -> None:
    budget = Equitable(0.1, "equal", max_groups=3)
    demand(budget, [at(i, f"g{i % 10}") for i in range(500)])
    assert len(budget.groups) == 3
