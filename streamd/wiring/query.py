"""From the keys of `[pipeline.NAME.query]` to a query stage. Every refusal names the key."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from streamd import config as configuration
from streamd import querying
from streamd.config import Pipeline, Query
from streamd.errors import ConfigError
from streamd.learners import Learner
from streamd.learners.bagged import Bagged
from streamd.querying import Asker, Budget, Keyed, Strategy
from streamd.querying.annotators import Annotators
from streamd.querying.budgets import Count, MovingWindow, TokenBucket
from streamd.querying.equitable import Equitable
from streamd.querying.measures import OF_CLASSES, OF_MEMBERS, OF_VALUES, Measure
from streamd.querying.queries import Queries
from streamd.querying.sketch import Sketch
from streamd.stages.querying import Asks, Querying

SHARE = 0.05  # labels per event, where the budget is not given

BAGGED = ("linear", "river")  # what corrects by learning on top, and has memos that need no members

UTILITY: Mapping[str, str] = {"classify": "least_confident", "text": "ss3", "regress": "d_optimal"}


def build(name: str, pipeline: Pipeline, group: str, partition: int, partitions: int) -> Querying:
    """A fresh query stage of one partition of a pipeline that has one. Raises ConfigError."""
    where, query = f"pipeline.{name}.query", pipeline.query
    assert query is not None
    if pipeline.task not in UTILITY:
        raise ConfigError(where, f"task {pipeline.task} has no query stage")
    measure = _measure(where, pipeline.task, query)
    rule = _strategy(where, query, _budget(where, query, partitions))
    asker = Asker(
        rule,
        Keyed(query.seed, f"{group}/{name}/{partition}"),
        query.rho,
        query.deadline.milliseconds,
        query.answers,
        query.discount,
        _annotators(query),
        Queries(query.max_pending, query.remember),
        query.drift_delta,
        pipeline.quality.fading,
    )
    compares = query.discount > 0 or measure.compares or query.strategy in querying.COMPARING
    return Querying(_asks(name, pipeline, query), asker, measure, Sketch() if compares else None, partition)


def check_several(name: str, query: Query) -> None:
    """What a query stage cannot do where an event has several labels. Raises ConfigError."""
    where, one = f"pipeline.{name}.query", "for a learner of one label per event"
    if query.utility not in (None, "ss3"):
        raise ConfigError(f"{where}.utility", f"{query.utility} is {one}; expected ss3")
    if query.kind != "label":
        raise ConfigError(f"{where}.kind", f"{query.kind} is {one}; expected label")
    if query.strategy == "self_labelling":
        raise ConfigError(f"{where}.strategy", f"self_labelling is {one}")
    if query.gold:
        raise ConfigError(f"{where}.gold", f"gold questions are {one}")


def committee(name: str, query: Query | None, kind: str, make: Callable[[], Learner]) -> Callable[[], Learner]:
    """A maker of learners of this kind with a committee beside them, where the utility asks one. ConfigError
    where there can be none."""
    if query is None or query.utility is None:
        return make
    key = f"pipeline.{name}.query.utility"
    return asked_by(key, query.utility, kind, make, query.committee, query.seed)


def asked_by(
    key: str, utility: str, kind: str, make: Callable[[], Learner], size: int, seed: int = 0
) -> Callable[[], Learner]:
    """The same for a utility by its name; key: who named it, size: members of the committee."""
    if utility not in OF_MEMBERS or kind == "groupwise":
        return make
    if kind not in BAGGED:
        raise ConfigError(key, f"{utility} needs a learner of kind {', '.join(BAGGED)} or groupwise")
    return partial(Bagged, make, size, seed)


def _asks(name: str, pipeline: Pipeline, query: Query) -> Asks:
    assert pipeline.queries is not None
    assert pipeline.labels is not None
    form = (query.strategy, query.parameters, query.accounting, query.groups, query.utility, query.density > 0)
    return Asks(
        pipeline=name,
        strategy=query.strategy,
        queries=pipeline.queries,
        reply=pipeline.labels,
        outcomes=pipeline.outcomes,
        pool=pipeline.pool,
        kind=query.kind,
        answers=query.answers,
        needs=query.needs,
        gold=query.gold,
        kept=msgspec.json.encode(form, order="sorted").decode(),
    )


def _measure(where: str, task: str, query: Query) -> Measure:
    known = OF_VALUES if task == "regress" else OF_CLASSES
    utility = query.utility or UTILITY[task]
    if utility not in known:
        raise ConfigError(f"{where}.utility", f"expected one of {', '.join(known)} for task {task}")
    return Measure(utility, query.density)


def _budget(where: str, query: Query, partitions: int) -> Budget:
    share = query.budget if query.budget is not None else 0.0 if query.per_hour else SHARE
    if query.accounting == "window":
        return MovingWindow(share, query.window)
    if query.accounting == "count":
        return Count(share)
    try:
        if query.groups is not None:
            return Equitable(
                share,
                query.groups,
                query.capacity,
                min(1.0, query.capacity),
                query.floor,
                weights=query.group_weights,
            )
        price = _price(query)
        start = None if share or query.per_hour else 0.0  # nothing is not to begin with something
        return TokenBucket(share, query.capacity, start, query.per_hour, partitions, price)
    except ConfigError as error:
        raise ConfigError(f"{where}.{'costs' if error.key == 'price' else error.key}", error.expected) from None


def _price(query: Query) -> float:
    """What a query is debited before it is known who answers: the pool's mean."""
    return query.answers * Annotators(query.annotators, query.costs).mean_price() if query.costs else 1.0


def _annotators(query: Query) -> Annotators | None:
    """None where nobody is told apart: one answer by whoever reads the query, or whom the pool finds."""
    if query.annotators or query.costs or query.answers > 1:
        return Annotators(query.annotators, query.costs)
    return None


def _strategy(where: str, query: Query, budget: Budget) -> Strategy:
    known = querying.registry()
    if query.strategy not in known:
        raise ConfigError(f"{where}.strategy", f"expected one of {', '.join(sorted(known))}")
    parameters = querying.parameters(query.strategy)
    given: dict[str, Any] = {}
    for key, value in query.parameters.items():
        if key not in parameters:
            has = ", ".join(parameters) or "no parameters"
            raise ConfigError(f"{where}.parameters.{key}", f"no such key; {query.strategy} has {has}")
        given[key] = configuration.convert(value, parameters[key].annotation, f"{where}.parameters.{key}")
    try:
        return querying.strategy(query.strategy, budget, **given)
    except ConfigError as error:
        raise ConfigError(f"{where}.parameters.{error.key}", error.expected) from None
