"""A window of arrivals in hindsight: the matching LP, the ratio to it, and what other rules would have got.

The LP knows the arrivals, their probabilities and the capacities, and takes expectations for outcomes. Other rules
are run over the window from empty loads with simulated outcomes, the acting one among them, so that the
differences are those between rules. Pure functions; seconds of work for tens of thousands of edges.
"""

from collections.abc import Mapping

import numpy as np

from streamd.matching import bounds, replay
from streamd.matching.instance import Floats
from streamd.matching.rules import Rule, promise
from streamd.matching.window import Recent
from streamd.views import HindsightView, RuleView

ACTING = "acting"


def judge(recent: Recent, rule: Rule, shadows: Mapping[str, Rule], runs: int, seed: int = 0) -> HindsightView:
    """The window's hindsight. shadows: other rules to be scored; money pools have none."""
    given = recent.instance
    attempts = rule.consume == "attempt"
    bound = bounds.matching_lp(given, recent.units, money=rule.money, attempts=attempts)
    told = promise(rule, float(given.capacity.min(initial=np.inf)))
    rules: tuple[RuleView, ...] = ()
    if not rule.money and bound > 0.0:
        rng = np.random.default_rng([seed])
        coins = rng.random((runs, len(given.starts) - 1))
        rules = tuple(
            _scored(name, other, recent, coins, bound) for name, other in {ACTING: rule, **shadows}.items()
        )
    ratio = recent.reward / bound if bound > 0.0 else 0.0
    certificate = (told.ratio, told.bound, told.assumes, told.source)
    return HindsightView(len(given.starts) - 1, len(given.p), bound, recent.reward, ratio, *certificate, rules)


def _scored(name: str, rule: Rule, recent: Recent, coins: Floats, bound: float) -> RuleView:
    found = replay.simulate(recent.instance, rule, coins, delay=recent.open)
    mean = float(found.reward.mean())
    return RuleView(name, mean, mean / bound, replay.interval(found.reward) / bound)
