"""The label loop: what is asked for, what an answer means, and what is never lost."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from streamd.errors import StateError
from streamd.querying import Answer, Asker, Candidate, Keyed, pack, strategy, unpack
from streamd.querying.annotators import Annotators
from streamd.querying.answer import COUNTS
from streamd.querying.auto import Auto
from streamd.querying.budgets import UNIT, Count, TokenBucket
from streamd.querying.equitable import Equitable
from streamd.querying.periodic import Periodic
from streamd.querying.queries import Queries
from streamd.snapshot import State, digest

CLASSES = ["a", "b", "c"]
WAIT = 100_000


def asker(
    budget: float = 1.0,
    rho: float = 0.0,
    annotators: Annotators | None = None,
    answers: int = 1,
    queries: Queries | None = None,
    price: float = 1.0,
) -> Asker:
    bucket = TokenBucket(budget, capacity=10, price=price)
    return Asker(
        Auto(bucket), Keyed(1, "t"), rho, WAIT, answers, annotators=annotators, queries=queries, delta=0.001
    )


def ask(made: Asker, event: str, now: int = 0, p: Sequence[float] = (0.6, 0.3, 0.1), proposed: str = "") -> None:
    """Whatever the strategy thinks of it."""
    candidate = Candidate(event, 1.0, now, p)
    decision = made.decide(candidate)._replace(own=True, p_ask=1.0)
    assert made.apply(candidate, decision, proposed) is not None


def level(made: Asker) -> float:
    return made.show().level


# --- an answer


def test_an_answer_is_learned_and_the_token_stays_spent() -> None:
    made = asker()
    ask(made, "e")
    before = level(made)

    answer = made.answer("e", "b", 5_000, classes=CLASSES)

    assert answer[:3] == ("learn", "b", 1.0)
    assert level(made) == before
    assert made.counts["asked"] == made.counts["answered"] == 1
    assert made.show().pending == 0


def test_an_answer_for_an_event_never_asked_for_is_a_present() -> None:
    made = asker()
    before = digest(made.strategy.state())

    assert made.answer("stranger", "a", 0, classes=CLASSES) == Answer("unasked", "a")
    assert made.counts["unasked"] == 1
    assert digest(made.strategy.state()) == before


def test_an_expired_query_gives_its_token_back_once() -> None:
    made = asker(0.1)
    ask(made, "e")
    before = level(made)

    assert made.deadline() == WAIT
    assert made.expire(WAIT - 1) == []
    assert [query.event for query in made.expire(WAIT)] == ["e"]
    assert made.expire(WAIT + 1) == []
    assert level(made) == pytest.approx(before + 1)
    assert made.deadline() is None


def test_a_late_answer_is_learned_and_debited_again() -> None:
    made = asker(0.1)
    ask(made, "e")
    before = level(made)
    made.expire(WAIT)

    assert made.answer("e", "b", WAIT + 5, classes=CLASSES).kind == "late"
    assert level(made) == pytest.approx(before)
    assert made.counts["late"] == made.counts["expired"] == 1
    assert made.answer("e", "b", WAIT + 6, classes=CLASSES).kind == "repeated"


def test_the_same_answer_twice_has_no_effect() -> None:
    made = asker()
    ask(made, "e")
    made.answer("e", "b", 1, "ann", CLASSES)
    before = level(made)

    assert made.answer("e", "b", 2, "ann", CLASSES).kind == "repeated"
    assert (level(made), made.counts["repeated"]) == (before, 1)


def test_an_annotator_may_correct_itself() -> None:
    made = asker()
    ask(made, "e")
    made.answer("e", "b", 1, "ann", CLASSES)

    answer = made.answer("e", "c", 2, "ann", CLASSES)

    assert (answer.kind, answer.label, answer.old) == ("correct", "c", "b")
    assert made.counts["corrected"] == 1
    assert made.counts["disagreed"] == 0


def test_annotators_who_disagree_are_weighed() -> None:
    team = Annotators(["ann", "bob", "cid"])
    for name in CLASSES * 10:
        team.gold("ann", name, name)
    made = asker(annotators=team)
    ask(made, "e")
    assert made.answer("e", "b", 1, "bob", CLASSES).label == "b"

    answer = made.answer("e", "a", 2, "ann", CLASSES)

    assert (answer.kind, answer.label, answer.old) == ("correct", "a", "b")
    assert made.counts["disagreed"] == 1


def test_several_answers_are_waited_for_and_their_consensus_is_weighted() -> None:
    made = asker(annotators=Annotators(["ann", "bob", "cid"]), answers=3)
    ask(made, "e")

    assert made.answer("e", "a", 1, "ann", CLASSES).kind == "waiting"
    assert made.answer("e", "a", 2, "bob", CLASSES).kind == "waiting"
    answer = made.answer("e", "b", 3, "cid", CLASSES)

    assert (answer.kind, answer.label) == ("learn", "a")
    assert 0.5 < answer.weight < 1.0
    assert made.counts["disagreed"] == 1


def test_without_annotators_the_majority_decides() -> None:
    made = asker(answers=3)
    ask(made, "e")
    for i, label in enumerate(["b", "a"]):
        made.answer("e", label, i, f"who{i}", CLASSES)
    answer = made.answer("e", "a", 3, "who3", CLASSES)
    assert (answer.label, answer.weight) == ("a", pytest.approx(2 / 3))


def test_numbers_agree_on_their_median() -> None:
    made = asker(answers=3)
    ask(made, "e", p=(4.0,))
    for i, value in enumerate([1.0, 9.0]):
        made.answer("e", value, i, f"who{i}")
    assert made.answer("e", 3.0, 3, "who3").label == 3.0


def test_a_skip_goes_to_the_next_and_in_the_end_closes() -> None:
    made = asker(annotators=Annotators(["ann", "bob"]))
    ask(made, "e")
    before = level(made)

    first = made.answer("e", None, 1, "ann")
    second = made.answer("e", None, 2, "bob")

    assert (first.kind, first.next) == ("reask", "bob")
    assert second.kind == "closed"
    assert level(made) == pytest.approx(before + 1)
    assert made.show().pending == 0
    assert [(who.load, who.skips) for who in made.show().annotators] == [(0, 1), (0, 1)]


def test_a_skip_without_a_list_of_annotators_is_the_pools_business() -> None:
    made = asker()
    ask(made, "e")
    assert made.answer("e", None, 1, "ann").kind == "reask"
    assert made.show().pending == 1
    assert made.answer("e", "a", 2, "bob", CLASSES).kind == "learn"
    assert made.answer("e", None, 3, "ann").kind == "repeated"
    assert made.answer("stranger", None, 3, "ann").kind == "unasked"


def test_yes_and_no_to_a_proposed_label() -> None:
    made = asker()
    for event in ("yes", "two", "many"):
        ask(made, event, proposed="a")

    assert made.answer("yes", "yes", 1, classes=CLASSES).label == "a"
    assert made.answer("two", "no", 1, classes=["a", "b"]).label == "b"
    refuted = made.answer("many", "no", 1, "ann", CLASSES)
    assert (refuted.kind, refuted.next) == ("reask", "ann")
    assert made.answer("many", "c", 2, "ann", CLASSES)[:2] == ("learn", "c")
    assert made.counts["refuted"] == 1


def test_a_class_nobody_knew_is_learned() -> None:
    made = asker(annotators=Annotators(["ann"]))
    ask(made, "e")
    assert made.answer("e", "zebra", 1, "ann", CLASSES)[:2] == ("learn", "zebra")


def test_an_unknown_annotator_is_heard_and_counted() -> None:
    team = Annotators(["ann"], most=2)
    made = asker(annotators=team)
    for i, name in enumerate(["x", "y", "z"]):
        ask(made, f"e{i}")
        assert made.answer(f"e{i}", "a", 1, name, CLASSES).kind == "learn"
    assert team.unknown == 3
    assert [who.name for who in team.standings()] == ["(others)", "ann", "x"]


def test_an_event_is_asked_for_once() -> None:
    made = asker()
    ask(made, "e")
    assert not made.decide(Candidate("e", 1.0, 5)).ask
    made.answer("e", "a", 6, classes=CLASSES)
    assert not made.decide(Candidate("e", 1.0, 7)).ask


def test_labels_are_debited_at_the_mean_price_and_corrected_by_the_annotators() -> None:
    team = Annotators(["ann", "bob"], cost={"ann": 1.0, "bob": 3.0})
    made = asker(0.5, annotators=team, price=2.0)
    before = level(made)
    ask(made, "e")
    assert level(made) == pytest.approx(before + 0.5 - 2.0)

    made.answer("e", "a", 1, "bob", CLASSES)
    assert level(made) == pytest.approx(before + 0.5 - 3.0)
    made.answer("e", "b", 2, "ann", CLASSES)  # a second one, unasked for, is paid as well
    assert level(made) == pytest.approx(before + 0.5 - 4.0)


def test_pending_queries_are_bounded_and_the_oldest_expires() -> None:
    made = asker(queries=Queries(most=3, remember=2))
    for i in range(5):
        ask(made, f"e{i}", now=i)
        made.expire(i)
    assert sorted(made.queries.pending) == ["e2", "e3", "e4"]
    made.expire(WAIT + 10)
    assert len(made.queries.closed) == 2
    assert made.counts["expired"] == 5
    assert made.answer("e0", "a", WAIT + 11, classes=CLASSES).kind == "unasked"


# --- the budget, whatever comes

steps = st.lists(
    st.tuples(
        st.sampled_from(["event", "event", "event", "answer", "skip", "time"]),
        st.integers(0, 30),
        st.sampled_from(["", "ann", "bob", "eve"]),
        st.sampled_from(CLASSES),
    ),
    max_size=150,
)


def play(made: Asker, script: list[tuple[str, int, str, str]], first: int = 0) -> list[str]:
    """Events in order; answers to earlier ones. Returns what happened."""
    said = []
    for i, (step, number, who, label) in enumerate(script, first):
        now = i * 5_000
        if step == "event":
            candidate = Candidate(f"{i}", 0.3 + number / 60, now, (0.7, 0.2, 0.1), near=(number % 3,))
            decision = made.decide(candidate)
            made.apply(candidate, decision)
            said.append(pack(decision).hex())
        elif step == "time":
            said.append(f"{len(made.expire(now + number * 1000))}")
        else:
            answer = made.answer(f"{number}", label if step == "answer" else None, now, who, CLASSES)
            said.append(answer.kind)
    return said


def team() -> Annotators:
    return Annotators(["ann", "bob"])


@given(steps)
def test_spent_means_answered_plus_pending(script: list[tuple[str, int, str, str]]) -> None:
    made = asker(0.3, annotators=team())
    bucket = made.budget
    assert isinstance(bucket, TokenBucket)
    events = 0
    for i, step in enumerate(script):
        play(made, [step], i)
        events += step[0] == "event"
        count = made.counts
        answered = count["answered"] + count["late"]
        assert bucket.spent / 3_600_000_000_000 == pytest.approx(answered + len(made.queries.pending))
        assert count["asked"] == count["answered"] + count["expired"] + len(made.queries.pending)
        in_time = count["answered"] + len(made.queries.pending)
        assert in_time <= 0.3 * events + 5 + 1e-9


@given(steps, st.integers(0, 150))
def test_snapshot_and_restore_anywhere_continue_identically(
    script: list[tuple[str, int, str, str]], cut: int
) -> None:
    whole, first, second = (asker(0.3, 0.3, team(), 2) for _ in range(3))
    expected = play(whole, script)
    said = play(first, script[:cut])
    second.restore(first.state())
    said += play(second, script[cut:], cut)

    assert said == expected
    assert digest(second.state()) == digest(whole.state())


@given(steps)
def test_a_journal_of_decisions_replays(script: list[tuple[str, int, str, str]]) -> None:
    live, again = asker(0.3, 0.3, team()), asker(0.3, 0.3, team())
    said = play(live, script)
    for i, ((step, number, who, label), told) in enumerate(zip(script, said, strict=True)):
        if step == "event":
            candidate = Candidate(f"{i}", math.nan, i * 5_000, (0.7, 0.2, 0.1), near=(number % 3,))
            again.apply(candidate, unpack(bytes.fromhex(told)))
        else:
            play(again, [(step, number, who, label)], i)
    assert digest(again.state()) == digest(live.state())


@given(steps)
def test_no_answer_is_lost_silently(script: list[tuple[str, int, str, str]]) -> None:
    made = asker(0.3, annotators=team(), answers=2)
    said = play(made, script)
    kinds = {"learn", "late", "repeated", "correct", "waiting", "reask", "closed", "unasked"}
    for (step, *_), told in zip(script, said, strict=True):
        assert step not in ("answer", "skip") or told in kinds


# --- the random slice


def test_the_slice_is_drawn_at_its_rate_and_never_refused() -> None:
    bucket = TokenBucket(0.1, capacity=1, start=0)
    made = Asker(strategy("fixed", bucket, theta=1e-9), Keyed(2, "t"), rho=0.5, wait=1 << 50, discount=0)
    for i in range(20_000):
        candidate = Candidate(f"{i}", 0.0, i, (1.0, 0.0))
        decision = made.decide(candidate)
        assert decision.p_ask == pytest.approx(0.05)
        made.apply(candidate, decision)
    assert made.counts["asked"] == made.counts["drawn"] == pytest.approx(1000, abs=100)


def test_the_strategy_pays_back_what_the_slice_overdraws() -> None:
    made = Asker(Auto(TokenBucket(0.1)), Keyed(2, "t"), rho=0.5, wait=1 << 50)
    rng = np.random.default_rng(0)
    for i, u in enumerate(rng.random(20_000) * 0.5):
        candidate = Candidate(f"{i}", float(u), i, (1 - u, u))
        made.apply(candidate, made.decide(candidate))
    assert made.counts["asked"] == pytest.approx(2000, abs=11)
    assert made.counts["drawn"] > 700


def test_quality_weighted_by_the_probability_of_asking_is_unbiased_and_raw_is_not() -> None:
    rng = np.random.default_rng(1)
    made = Asker(Auto(TokenBucket(0.1, 100)), Keyed(4, "t"), rho=0.3, wait=1 << 50, fading=1.0)
    right = 0
    n = 30_000
    for i, u in enumerate(rng.random(n) * 0.5):
        label = "a" if rng.random() > u else "b"
        right += label == "a"
        candidate = Candidate(f"{i}", float(u), i, (1 - u, u))
        if made.apply(candidate, made.decide(candidate)) is not None:
            made.answer(f"{i}", label, i, classes=["a", "b"])
    quality = made.show().quality
    truth = right / n
    assert quality.raw < truth - 0.1
    assert quality.weighted == pytest.approx(truth, abs=0.03)
    assert quality.holdout == pytest.approx(truth, abs=4 * quality.error)
    assert quality.drawn < quality.effective < quality.answers


def test_an_overdraft_is_spent_first_however_large() -> None:
    made = asker(0.1)
    made.budget.debit(50.0)
    for i in range(400):
        candidate = Candidate(f"{i}", 1.0, i, (0.5, 0.5))
        assert not made.decide(candidate).own
        made.apply(candidate, made.decide(candidate))


# --- delay and drift


def test_a_utility_is_discounted_where_queries_are_pending_nearby() -> None:
    made = asker(1.0)
    candidate = Candidate("q", 0.4, 10, (0.6, 0.4), near=(3, 9))
    alone = made.decide(candidate).utility
    for i in range(3):
        near = Candidate(f"{i}", 1.0, 0, near=(3, 9) if i < 2 else (3,))
        made.apply(near, made.decide(near)._replace(own=True, p_ask=1.0))

    assert made.decide(candidate).utility == pytest.approx(alone / 3, abs=1e-5)
    for i in range(3):
        made.answer(f"{i}", "a", 20, classes=CLASSES)
    assert made.decide(candidate).utility == pytest.approx(alone, abs=1e-5)


@given(
    runs=st.lists(
        st.tuples(
            st.lists(st.floats(0, 1) | st.sampled_from([0.5, 1.0, math.nan]), min_size=1, max_size=60),
            st.integers(0, 20),
            st.booleans(),
        ),
        max_size=12,
    ),
    parameters=st.fixed_dictionaries(
        {"w": st.sampled_from([1, 2, 5, 40, 300]), "rest": st.sampled_from([0.0, 5.0]), "alert": st.just(30)}
    ),
    budget=st.sampled_from([0.05, 0.3, 1.0]),
    capacity=st.sampled_from([1.0, 10.0, 5000.0]),
    rho=st.sampled_from([0.0, 0.3, 1.0]),
)
@limits(max_examples=40, deadline=None)
def test_many_events_are_decided_on_as_they_would_be_one_by_one(
    runs: list[tuple[list[float], int, bool]],
    parameters: dict[str, float],
    budget: float,
    capacity: float,
    rho: float,
) -> None:
    """Bit by bit, with answers, expiry and alarms between the runs; the bucket's state in between included."""
    single, many = (
        Asker(Auto(TokenBucket(budget, capacity), **parameters), Keyed(3, "t"), rho, 90) for _ in range(2)
    )
    n = now = 0
    for utilities, answers, alarm in runs:
        events = [f"e{n + i}" for i in range(len(utilities))]
        times = [now + i for i in range(len(utilities))]
        n, now = n + len(utilities), times[-1] + 7
        packed = []
        for event, utility, at in zip(events, utilities, times, strict=True):
            single.expire(at)
            candidate = Candidate(event, utility, at, (0.6, 0.4))
            packed.append(pack(decision := single.decide(candidate)))
            single.apply(candidate, decision)
        run = many.decide_run(events, np.array(utilities), times)
        if run is None:  # something would expire in between: then it changed nothing
            for raw, event, at in zip(packed, events, times, strict=True):
                many.expire(at)
                many.apply(Candidate(event, 0.0, at, (0.6, 0.4)), unpack(raw))
        else:
            assert run.packed() == packed
            for i, asked in run.asked():
                many.ask(Candidate(events[i], asked.utility, times[i], (0.6, 0.4)), asked)
        for made in (single, many):
            made.expire(times[-1])
            for event in list(made.queries.pending)[:answers]:
                made.answer(event, "a", times[-1], classes=CLASSES)
            if alarm:
                made.alarm()
        assert digest(many.state()) == digest(single.state())


def test_a_bucket_outlives_what_64_bits_can_count() -> None:
    bucket = TokenBucket(1.0)
    bucket.debit(4_000_000.0)
    bucket.refund(4_000_000.0)
    bucket.debit(0.25)
    bucket.spent += 4_000_000 * UNIT
    again = TokenBucket(1.0)
    again.restore(bucket.state())
    assert again.spent == bucket.spent == 4_000_000 * UNIT + UNIT // 4


def test_errors_that_rise_raise_the_alarm() -> None:
    made = asker(1.0)
    for i in range(400):
        ask(made, f"{i}", p=(0.9, 0.1))
        made.answer(f"{i}", "a" if i < 200 else "b", i, classes=["a", "b"])
    assert made.counts["alarms"] == 1


def test_groups_have_their_own_budgets_and_errors() -> None:
    budget = Equitable(0.2, "worst", capacity=5, start=0)
    made = Asker(Periodic(budget), Keyed(1, "t"), rho=0.0, wait=1 << 50)
    got = {"good": 0, "bad": 0}
    for i in range(2000):
        group = ("good", "bad")[i % 2]
        candidate = Candidate(f"{i}", 0.5, i, (0.9, 0.1), groups=(group,))
        if made.apply(candidate, made.decide(candidate)) is not None:
            got[group] += 1
            made.answer(f"{i}", "a" if group == "good" else "b", i, classes=["a", "b"])
    assert got["bad"] > 3 * got["good"] > 0


def test_every_count_has_its_meaning() -> None:
    assert set(asker().show().counts) == set(COUNTS)


def test_a_state_of_queries_that_is_none_is_refused() -> None:
    for state in (State({}, {}), State({"queries": np.array([1, 2], np.uint8)}, {})):
        with pytest.raises(StateError):
            Queries().restore(state)


def test_a_count_budget_works_with_the_loop() -> None:
    made = Asker(strategy("variable", Count(0.2)), Keyed(1, "t"), rho=0.1, wait=1000)
    for i in range(500):
        candidate = Candidate(f"{i}", 0.5, i * 10, (0.5, 0.5))
        made.apply(candidate, made.decide(candidate))
        made.expire(i * 10)
    assert 0 < made.counts["expired"] <= made.counts["asked"]
