"""A pool's last arrivals in hindsight: the window is the stream, its bound the stream's, and it moves on."""

import msgspec
import numpy as np
import pytest

from streamd import snapshot
from streamd.matching.arrivals import Arrival, Edge, Outcome
from streamd.matching.bounds import matching_lp
from streamd.matching.hindsight import judge
from streamd.matching.instance import instance
from streamd.matching.pool import Pool
from streamd.matching.probabilities import Source
from streamd.matching.resources import Offer, Refill
from streamd.matching.rules import Rule
from streamd.matching.window import Window
from streamd.stages.matching import Matching
from streamd.views import HindsightView
from tests.unit.test_matching_stage import SETTINGS, Stream

T, N = 60, 12


def stream(seed: int = 0) -> list[list[tuple[int, float]]]:
    rng = np.random.default_rng(seed)
    return [[(int(u), float(rng.uniform(0.05, 0.6))) for u in rng.choice(N, 4, replace=False)] for _ in range(T)]


def played(pool: Pool, arrivals: list[list[tuple[int, float]]], **more: object) -> None:
    """All arrivals, each with its outcome at once."""
    coins = np.random.default_rng(7).random(len(arrivals))
    for t, edges in enumerate(arrivals):
        arrival = Arrival(str(t), edges=[Edge(f"r{u:02}", p) for u, p in edges], **more)  # type: ignore[arg-type]
        decision = pool.best(arrival, t)
        if decision.resource is not None:
            pool.settle(Outcome(str(t), success=bool(coins[t] < decision.p)), t)


def pool_of(capacity: float, window: Window, rule: Rule | None = None) -> Pool:
    pool = Pool(rule or Rule(), window=window)
    for u in range(N):
        pool.put(f"r{u:02}", Offer(capacity, weight=1.0 + u % 3), 0)
    return pool


def test_a_window_over_the_whole_stream_is_the_stream() -> None:
    arrivals = stream()
    given = instance(arrivals, [1.0 + u % 3 for u in range(N)], [2.0] * N)
    pool = pool_of(2.0, window := Window(T, 10_000))
    played(pool, arrivals)

    recent = window.take(pool, T)

    assert recent is not None
    assert recent.instance.capacity.tolist() == [2.0] * N
    assert matching_lp(recent.instance) == pytest.approx(matching_lp(given), abs=1e-9)
    # and the rules, run over it, are compared under the same outcomes
    found = judge(recent, pool.rule, {"random": Rule("random"), "same": pool.rule}, 50)
    acting, random, same = found.rules
    assert acting.ratio == same.ratio > random.ratio
    assert (found.certified, found.against) == (pytest.approx(0.6046, abs=1e-4), "non-clairvoyant")
    assert 0.5 < found.ratio < 1.5


def test_a_window_moves_on_and_what_was_given_before_it_is_gone() -> None:
    pool = pool_of(5.0, window := Window(20, 10_000))
    played(pool, stream())
    recent = window.take(pool, T)
    assert recent is not None
    assert len(recent.instance.starts) - 1 == 20
    # what is left at its end and what its own attempts took is what there was at its start
    used = [pool.used(name) for name in recent.instance.names]
    within = [
        sum(
            kept.status == "success" and kept.decision.resource == name and kept.at >= T - 20
            for kept in pool.attempts.closed.values()
        )
        for name in recent.instance.names
    ]
    assert recent.instance.capacity.tolist() == [5.0 - u + w for u, w in zip(used, within, strict=True)]
    # few edges, too
    pool = pool_of(5.0, window := Window(1000, 40))
    played(pool, stream())
    recent = window.take(pool, T)
    assert recent is not None
    assert len(recent.instance.p) == 40


def test_what_could_not_be_taken_is_no_edge() -> None:
    pool = Pool(Rule(), window=(window := Window(10, 100)))
    pool.put("ann", Offer(1.0, needs=("german",)), 0)
    pool.put("ben", Offer(1.0), 0)
    edges = [Edge("ann", 0.5), Edge("ben", 0.5), Edge("nobody", 0.5)]
    pool.best(Arrival("a", edges=edges, needs=("german",)), 0)
    pool.best(Arrival("b", edges=edges, exclude=("ann",)), 1)
    pool.best(Arrival("c", edges=[Edge("nobody", 0.5)]), 2)
    recent = window.take(pool, 2)
    assert recent is not None
    assert np.diff(recent.instance.starts).tolist() == [1, 1, 0]
    assert recent.open == 2
    assert recent.reward == 1.0


def test_refills_count_when_they_are_due() -> None:
    pool = Pool(Rule(), window=(window := Window(10, 100)))
    pool.put("ann", Offer(1.0, refill=Refill(3.0, 10)), 0)
    pool.best(Arrival("a", edges=[Edge("ann", 0.5)]), 1)
    for now, units in ((5, 1.0), (10, 4.0), (35, 10.0)):
        recent = window.take(pool, now)
        assert recent is not None
        assert recent.instance.capacity.tolist() == [units]


def test_money_and_attempts_have_their_own_bound() -> None:
    pool = Pool(Rule("msvv"), window=(window := Window(10, 100)))
    pool.put("ann", Offer(10.0, weight=4.0), 0)
    for i in range(4):
        pool.best(Arrival(str(i), edges=[Edge("ann", 0.5, bid=8.0 if i else None)]), i)
    recent = window.take(pool, 9)
    assert recent is not None
    assert recent.units.tolist() == [4.0, 8.0, 8.0, 8.0]
    assert judge(recent, pool.rule, {}, 2).bound == pytest.approx(10.0)  # of 14 expected, the budget
    assert matching_lp(recent.instance, recent.units, money=True, attempts=True) == pytest.approx(5.0)


@pytest.mark.parametrize("kind", ["beta", "logistic"])
def test_learned_probabilities_are_those_known_at_the_end(kind: str) -> None:
    pool = Pool(Rule(), Source(kind), window=(window := Window(10, 100)))  # type: ignore[arg-type]
    pool.put("ann", Offer(100.0), 0)
    before = snapshot.digest(pool.state())
    for i in range(8):
        pool.best(Arrival(str(i), features={"x": 1.0}, kind="k"), i)
        pool.settle(Outcome(str(i), success=True), i)
    state = snapshot.digest(pool.state())
    recent = window.take(pool, 9)
    assert recent is not None
    assert len(set(recent.instance.p.tolist())) == 1
    assert recent.instance.p[0] > 0.55
    assert snapshot.digest(pool.state()) == state != before


@pytest.mark.parametrize("source", [Source(), Source("beta")], ids=lambda source: source.kind)
@pytest.mark.parametrize("at", [0, 50, 90])
def test_the_bound_after_a_kill_is_that_of_an_uninterrupted_run(source: Source, at: int) -> None:
    # given arrivals and outcomes, the window smaller than the stream
    chosen = msgspec.structs.replace(SETTINGS, source=source, rule=Rule("random"), window=T // 2, timeout=40)
    records = Stream()
    for u in range(N):
        records.annotator(f"r{u:02}", 3.0, needs=["german"] if u % 2 else [])
    for t, edges in enumerate(stream()):
        more = {"kind": "bank", "needs": ["german"]} if t % 3 else {"exclude": ["r01"]}
        records.query(f"q{t}", *([f"r{u:02}", p] for u, p in edges), **more)
        records.outcome(f"q{t - 5}", t % 2 == 0)
    whole = Matching(chosen, 0)
    whole.take(records.records)
    # when a worker is killed and another goes on from the snapshot and the journal
    live, restored = Matching(chosen, 0), Matching(chosen, 0)
    live.take(records.records[:at])
    kept = live.freeze()()
    taken = live.take(records.records[at:])
    restored.restore(kept)
    restored.replay(records.records[at:], taken.refused, taken.memos)
    # then what is shown of its last arrivals is the same
    found = [judged(task) for task in (whole, restored)]
    assert found[0] == found[1]
    assert found[0].arrivals == T // 2
    assert snapshot.digest(whole.freeze()()) == snapshot.digest(restored.freeze()())


def judged(task: Matching) -> HindsightView:
    pool = task.pools["desk"]
    assert pool.window is not None
    recent = pool.window.take(pool, task.now)
    assert recent is not None
    return judge(recent, pool.rule, {"greedy": Rule("greedy")}, 20)
