"""A small pool, used once in every way, so that the compiled kernels are there before the first arrival."""

import msgspec

from streamd.matching.arrivals import Arrival, Edge, Outcome
from streamd.matching.hindsight import judge
from streamd.matching.pool import Pool
from streamd.matching.probabilities import Source
from streamd.matching.resources import Offer
from streamd.matching.rules import Rule
from streamd.matching.run import Listed, runs
from streamd.matching.window import Window


def warm_up(rule: Rule, source: Source, hindsight: bool) -> None:
    """Compile, or load, what a pool of this rule and source calls; seconds the first time."""
    window = Window(10, 100)
    pool = Pool(rule, source, timeout=10, late="correct", window=window)
    for name in ("a", "b"):
        pool.put(name, Offer(1.0), 0)
    for now, kind in enumerate(("x", "y", "z", None)):
        arrival = Arrival(str(now), edges=[Edge("a", 0.5), Edge("b", 0.5)], kind=kind, features={"x": 1.0})
        pool.best(arrival, now)
    if runs(rule, source):
        pool.run([Listed("r/1", "r", 1, None, 4, 100, msgspec.Raw(b'[["a",0.5]]'))])
    pool.settle(Outcome("0", success=True), 4)
    pool.advance(100)
    pool.settle(Outcome("1", success=True), 100)
    if hindsight and (recent := window.take(pool, 100)) is not None:
        judge(recent, rule, {}, 2)
    pool.leave("a")
    copy = Pool(rule, source)
    copy.restore(pool.state())
