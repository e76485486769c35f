"""Stream-based active learning: which events to ask a label for, within a budget, and what becomes of the queries.

Everything here is a pure state machine: no clock, no I/O, no global randomness, no configuration. `Asker` is the
whole loop of one shard; a strategy, its budget, the table of queries and the annotators are its parts.

What the query stage does, in order of the stream:

    asker = Asker(strategy("auto", TokenBucket(0.05)), Keyed(seed, "tickets/0"), wait=7_200_000)

    event     features predicted: p, the row of probabilities as far as classes are known (a list of floats)
              candidate = Candidate(event.id, utility, now, p, x, near, groups)
                  utility   `utilities.worth(p)`, or what is configured; 1 with fewer than two classes known
                  now       event time in milliseconds, after the event moved it on
                  x, near   `sketch.vector(features)` and `sketch.near(x)`; x only for strategies that compare
                            events (dbalstream, cogdqs, bbq, forgetting), near for the pending discount; both may
                            be left out. `sketch.observe(features)` after the decision
                  groups    the groups awake, for budgets by group
              for query in asker.expire(now): outcomes of failure, if a pool asks for them
              decision = asker.decide(candidate)       # pure: ask, utility, threshold, p_ask
              own = asker.own_label(candidate, decision) # (class, weight) to learn at once, with "self_labelling"
              query = asker.apply(candidate, decision) # None, or what the query record is written from
    events    the same at once where only utilities matter: run = asker.decide_run(ids, utilities, times),
              then `asker.ask` for each of `run.asked()`; None where they must go one by one
    label     for query in asker.expire(now): the same
              answer = asker.answer(id, label or None, now, annotator, learner.classes, confidence)
                  "learn", "late", "unasked"   steps.learn(row, answer.label, memo, answer.weight)
                  "correct"                    steps.correct(row, answer.old, answer.label, memo)
                  "reask"                      another query record, for `answer.next` or whoever there is
                  "waiting", "repeated", "closed"  nothing is learned
    tick      asker.expire(now); `asker.deadline()` says when the next is due
    drift     asker.alarm(), where somebody else watches the predictions

Journalled is, for each event, `pack(decision)`: 9 bytes, 25 where the label is asked for. A replay makes the
candidate anew from the record and the memo of its prediction, takes the decision from the journal with `unpack`,
and calls `apply`; labels and ticks are applied as at first. `decide` is never called in a replay, and nothing but
`decide` draws. The candidate's utility is not used by `apply`, which takes the decision's; its p, x, near, groups
and now are.

A label of an event that expired in the stage's own table of pending labels should still be given to `answer`: the
two tables have their own deadlines.
"""

import inspect
from collections.abc import Callable
from typing import Any

from streamd.querying.answer import Answer, Standings
from streamd.querying.asker import Asker
from streamd.querying.auto import Auto
from streamd.querying.bbq import BBQ
from streamd.querying.biqf import BIQF
from streamd.querying.calmid import CALMID
from streamd.querying.cogdqs import CogDQS
from streamd.querying.dbalstream import DBALStream
from streamd.querying.decision import Budget, Candidate, Decision, Strategy, pack, unpack
from streamd.querying.draws import Keyed
from streamd.querying.fixed import Fixed
from streamd.querying.forgetting_simulating import ForgettingSimulating, parzen
from streamd.querying.iwal import IWAL
from streamd.querying.periodic import Periodic
from streamd.querying.random_sampling import RandomSampling
from streamd.querying.random_variable import RandomVariable
from streamd.querying.selective_sampling import SelectiveSampling
from streamd.querying.self_labelling import SelfLabelling
from streamd.querying.split import Split
from streamd.querying.variable import Variable

__all__ = [
    "COMPARING",
    "Answer",
    "Asker",
    "Budget",
    "Candidate",
    "Decision",
    "Keyed",
    "Standings",
    "Strategy",
    "pack",
    "parameters",
    "registry",
    "strategy",
    "unpack",
]


def registry() -> dict[str, Callable[..., Strategy]]:
    """Name -> constructor, called with the budget and the strategy's own parameters.

    In the dual strategy `random_variable` decides, in forgetting and simulating the quantile filter, over a kernel
    density model of the events' sketches.
    """
    return {
        "auto": Auto,
        "random": RandomSampling,
        "periodic": Periodic,
        "fixed": Fixed,
        "variable": Variable,
        "random_variable": RandomVariable,
        "split": Split,
        "selective_sampling": SelectiveSampling,
        "bbq": BBQ,
        "biqf": BIQF,
        "dbalstream": DBALStream,
        "cogdqs": lambda budget, **given: CogDQS(RandomVariable(budget), **given),
        "iwal": IWAL,
        "calmid": CALMID,
        "forgetting_simulating": _forgetting_simulating,
        "self_labelling": lambda budget, **given: SelfLabelling(Auto(budget), **given),
    }


def _forgetting_simulating(
    budget: Budget,
    classes: int = 2,
    delay: int = 100,
    w_train: int = 500,
    simulate: str = "fuzzy",
    K: int = 2,
    gamma: float = 0.1,
) -> Strategy:
    return ForgettingSimulating(BIQF(budget), parzen(gamma), classes, delay, w_train, simulate, K)


COMPARING = ("bbq", "cogdqs", "dbalstream", "forgetting_simulating")
"""Strategies that need an event's sketch, `Candidate.x`."""


def parameters(name: str) -> dict[str, inspect.Parameter]:
    """A strategy's own parameters, by their names. Raises KeyError if there is none of that name."""
    made = {"cogdqs": CogDQS, "self_labelling": SelfLabelling}.get(name, registry()[name])
    found = inspect.signature(made, eval_str=True).parameters
    return dict(list(found.items())[1:])


def strategy(name: str, budget: Budget, **parameters: Any) -> Strategy:
    """Raises KeyError if there is none of that name."""
    return registry()[name](budget, **parameters)
