"""Early decisions: one alert a subject, whatever the policy; bounded; the measures against known values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd.errors import BadRecord, ConfigError
from streamd.snapshot import digest
from streamd.stages.early import KINDS, EarlyDecisions, Policy, deviation
from streamd.stages.early_evaluation import Decision, erde, evaluate, lc, penalty
from tests.bench.early import decided, messages, said, subjects, trained

POSTS = st.lists(
    st.tuples(st.sampled_from("abc"), st.floats(0, 3), st.floats(0, 3), st.integers(0, 50)), max_size=40
)
POLICIES = st.sampled_from([Policy(kind, min_posts=2, window=3, theta=0.6, gamma=0.5) for kind in KINDS])


@given(POSTS, POLICIES)
def test_a_subject_is_alerted_about_once_and_a_restored_state_goes_on_the_same(
    posts: list[tuple[str, float, float, int]], policy: Policy
) -> None:
    whole, cut = EarlyDecisions(policy), EarlyDecisions(policy)
    alerts = []
    for subject, positive, negative, ts in posts:
        again = EarlyDecisions(policy)
        again.restore(cut.state())
        cut = again

        alert = whole.add(subject, positive, negative, ts)

        assert cut.add(subject, positive, negative, ts) == alert
        assert digest(cut.state()) == digest(whole.state())
        alerts += [alert.subject] if alert is not None else []
    assert len(alerts) == len(set(alerts))


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=30))
def test_the_limit_of_the_global_policy_is_the_median_and_the_mean_deviation_of_all_scores(
    scores: list[float],
) -> None:
    early = EarlyDecisions(Policy("global", gamma=2.0))
    for i, score in enumerate(scores):
        early.add(f"s{i}", max(score, 0.0), max(-score, 0.0), ts=0)

    ordered, middle = sorted(scores), len(scores) // 2
    apart = sorted(abs(score - ordered[middle]) for score in scores)

    assert deviation(ordered, ordered[middle], middle) == apart[middle]
    assert early.limit() == ordered[middle] + 2.0 * apart[middle]


def test_policies_wait_for_what_they_ask() -> None:
    strong = [(0.9, 0.1)] * 6
    moments = {}
    for policy in (
        Policy("above"),
        Policy("above", min_posts=3),
        Policy("threshold", theta=0.8, min_posts=2),
        Policy("history", theta=0.8, window=4),
    ):
        early = EarlyDecisions(policy)
        alerts = [early.add("ann", positive, negative, ts=0, post="p") for positive, negative in strong]
        moments[policy.kind, policy.min_posts] = next(alert.posts for alert in alerts if alert is not None)

    assert moments == {("above", 1): 1, ("above", 3): 3, ("threshold", 2): 2, ("history", 1): 4}


def test_slope_sees_a_turn_that_the_totals_hide() -> None:
    posts = [(0.0, 1.0)] * 10 + [(1.0, 0.0)] * 3
    slope, above = EarlyDecisions(Policy("slope", window=3)), EarlyDecisions(Policy("above"))

    assert [slope.add("ann", *post, ts=0) is not None for post in posts].index(True) == 11
    assert not any(above.add("ann", *post, ts=0) for post in posts)


def test_an_alert_that_no_longer_holds_is_corrected_once_and_may_come_again() -> None:
    early = EarlyDecisions(Policy("above"))
    assert early.add("ann", 1.0, 0.0, ts=1) is not None

    corrected = early.revise("ann", -1.0, 1.0, ts=2)

    assert corrected is not None
    assert not corrected.stands
    assert early.revise("ann", 0.0, 0.0, ts=3) is None
    again = early.add("ann", 5.0, 0.0, ts=4)
    assert again is not None
    assert again.stands
    assert early.revise("nobody", 1.0, 1.0, ts=5) is None


def test_subjects_are_bounded_and_forgotten_by_event_time() -> None:
    early = EarlyDecisions(Policy("global"), max_subjects=2, max_age=100)
    for subject, ts in (("a", 0), ("b", 10), ("a", 20), ("c", 30)):
        early.add(subject, 1.0, 0.0, ts)
    assert list(early.subjects) == ["a", "c"]

    assert early.advance(120) == 1

    assert list(early.subjects) == ["c"]
    assert early.forgotten == 2
    assert early.advance(0) == 0


@pytest.mark.parametrize(
    ("subject", "positive"), [("", 1.0), (None, 1.0), ("s" * 300, 1.0), ("a", -1.0), ("a", float("nan"))]
)
def test_posts_that_do_not_fit_change_nothing(subject: str, positive: float) -> None:
    early = EarlyDecisions(Policy())
    before = digest(early.state())

    with pytest.raises(BadRecord):
        early.add(subject, positive, 0.0, ts=9)

    assert digest(early.state()) == before


def test_policies_out_of_range_are_refused() -> None:
    for wrong in ({"kind": "magic"}, {"theta": 2.0}, {"window": 0}, {"min_posts": 0}, {"gamma": float("nan")}):
        with pytest.raises(ConfigError):
            Policy(**wrong)  # type: ignore[arg-type]


def test_the_measures_have_their_published_values() -> None:
    assert round(lc(1, 5), 6) == 0.017986
    assert lc(50, 50) == 0.5
    assert penalty(1) == 0.0
    decisions = [
        Decision(True, True, 1),
        Decision(True, False, 9),
        Decision(False, True, 2),
        Decision(False, False, 9),
    ]
    assert erde(decisions, 5) == pytest.approx((lc(1, 5) + 1 + 0.5) / 4)
    measured = evaluate(decisions)
    assert (measured.precision, measured.recall, measured.f1, measured.f_latency) == (0.5, 0.5, 0.5, 0.5)
    assert evaluate([]).f1 == 0.0


@pytest.mark.parametrize("policy", [Policy("slope", window=5), Policy("threshold", theta=0.2, min_posts=5)])
def test_on_generated_subjects_early_decisions_beat_both_constants(policy: Policy) -> None:
    rows = messages()
    half = len(rows) // 2

    written = subjects(rows[half:], 400, seed=11)
    found = decided(written, said(trained(rows[:half]), written), policy)

    assert found.nobody.erde[50] == pytest.approx(0.130)
    assert found.everyone.erde[50] == pytest.approx(0.1131, abs=1e-4)
    assert found.decided.erde[50] < 0.07
    assert found.decided.f1 > 0.5
