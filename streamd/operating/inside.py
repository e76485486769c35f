"""What a shard's state holds, in the words of its method, as plain data: for `streamd snapshot show`, `diff`."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from streamd.learners import Learner
from streamd.shard import Task
from streamd.stages.predicting import Predicting

if TYPE_CHECKING:
    from streamd.matching.pool import Pool

TOP = 10  # of what there may be very many


def inside(task: Task) -> dict[str, Any]:
    """Of a task that was restored: counts, what waits, quality, and what its parts hold."""
    shown = msgspec.to_builtins(task.show())
    found: dict[str, Any] = {"event time": task.now}
    found["counts"] = {name: count for name, count in shown.pop("counts").items() if count}
    found["quality"] = shown.pop("quality")
    shown.pop("delay", None)
    found |= {name: value for name, value in shown.items() if value not in (None, {}, [])}
    if isinstance(task, Predicting):
        found["learner"] = of_learner(task.learner)
    if task.show().matching is not None:
        from streamd.stages.matching import Matching  # only here, for scipy's sake: other verbs start without it

        assert isinstance(task, Matching)
        found["pools"] = {name: _pool(pool) for name, pool in task.pools.items()}
    return found


def of_learner(learner: Learner) -> dict[str, Any]:
    """What a learner has learned."""
    found: dict[str, Any] = {"kind": type(learner).__name__}
    if learner.classes:
        found["classes"] = list(learner.classes)
    describe = _DESCRIBED.get(type(learner).__name__.removesuffix("Classifier").removesuffix("Regressor"))
    return found | (describe(learner) if describe else {})


def _linear(learner: Any) -> dict[str, Any]:
    """Weights by feature: their length over the classes, the largest first."""
    index = learner._index
    names = {slot: name for table in (index.numbers, index.booleans) for name, slot in table.items()}
    names |= {slot: f"{name}={value}" for name, table in index.categories.items() for value, slot in table.items()}
    lengths = np.sqrt(np.square(learner._W[: index.size]).sum(axis=1))
    order = [slot for slot in np.argsort(-lengths, kind="stable").tolist() if slot in names][:TOP]
    weights = {names[slot]: float(lengths[slot]) for slot in order}
    return {"features": len(names), "hashed features": index.hashed, "largest weights": weights}


def _ss3(learner: Any) -> dict[str, Any]:
    """Per category: documents, terms, and the terms with the largest confidence value."""
    categories: dict[str, Any] = {}
    counts = learner._store
    numbers = learner.numbers()
    values = learner.term_values(numbers) if numbers else np.zeros((0, 6, len(learner.classes)))
    names = list(numbers.values())
    for c, category in enumerate(learner.classes):
        fr, cv = values[:, 0, c], values[:, 5, c]
        best = [i for i in np.argsort(-cv, kind="stable").tolist()[:TOP] if cv[i] > 0.0]
        categories[category] = {
            "documents": float(counts.docs[c] / counts.x[0]),
            "terms": int(np.count_nonzero(fr)),
            "strongest terms": {names[i]: float(cv[i]) for i in best},
        }
    return {"terms": learner.terms, "evicted terms": learner.evicted, "categories": categories}


def _groupwise(learner: Any) -> dict[str, Any]:
    """Per group: how often it was awake, its labels, mean losses, regret against its bound."""
    from streamd.learners.groupwise.view import groups_view

    kept = ("seen", "labels", "loss", "everyone", "own", "R", "bound")
    view = groups_view(learner)
    groups = {group.name: {name: getattr(group, name) for name in kept} for group in view.groups}
    return {"groups": groups, "born": view.born, "retired": view.retired}


def _river(learner: Any) -> dict[str, Any]:
    return {"model": repr(learner.model)[:2000]}


_DESCRIBED: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "Linear": _linear,
    "SS3": _ss3,
    "Groupwise": _groupwise,
    "River": _river,
}


def _pool(pool: "Pool") -> dict[str, Any]:
    """Resources with what they can take, have taken, and their load."""
    names, table = pool.resources.names, pool.resources.table
    resources = {}
    for slot in range(names.size):
        if names.length[slot] >= 0 and table[slot]["present"]:
            row = table[slot]
            resources[names.name(slot)] = {name: float(row[name]) for name in ("capacity", "used", "load")}
    return {"open attempts": len(pool.attempts.open), "resources": resources}


def changes(before: Any, after: Any, path: str = "") -> dict[str, list[Any]]:
    """What differs between two such descriptions: path -> [before, after]; None for what is not there."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        found: dict[str, list[Any]] = {}
        for key in [*before, *(key for key in after if key not in before)]:
            found |= changes(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
        return found
    return {} if before == after else {path: [before, after]}
