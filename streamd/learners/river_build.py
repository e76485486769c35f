"""A river model from its description in a configuration.

    model = ["river.preprocessing.StandardScaler",
             {path = "river.linear_model.LogisticRegression",
              params = {l2 = 0.1, optimizer = {path = "river.optim.SGD", params = {lr = 0.05}}}}]

A list is a pipeline; a table with `path` is an instance of that class with `params` by name and `args` by
position, both described the same way (a list inside them stays a list); a string that starts with "river." is an
instance without parameters. Where a class takes a seed and none is given, it gets the learner's.
"""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from river import compose

from streamd.errors import ConfigError
from streamd.learners.pickled import admitted_module


def build(model: Any, seed: int, key: str = "model") -> Any:
    """Make the model. Raises ConfigError with the key of the part that is wrong."""
    if isinstance(model, list | tuple):
        if not model:
            raise ConfigError(key, "expected at least one step")
        return compose.Pipeline(*(_value(part, seed, f"{key}[{i}]") for i, part in enumerate(model)))
    if not isinstance(model, str | Mapping):
        raise ConfigError(key, "expected a path under river., a table with `path`, or a list of these")
    made = _value(model, seed, key)
    if isinstance(made, str | dict):
        raise ConfigError(key, "expected a path under river., a table with `path`, or a list of these")
    return made


def _value(value: Any, seed: int, key: str) -> Any:
    if isinstance(value, str) and value.startswith("river."):
        return _instance({"path": value}, seed, key)
    if isinstance(value, Mapping) and "path" in value:
        return _instance(value, seed, key)
    if isinstance(value, Mapping):
        return {name: _value(part, seed, f"{key}.{name}") for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_value(part, seed, f"{key}[{i}]") for i, part in enumerate(value)]
    return value


def _instance(table: Mapping[str, Any], seed: int, key: str) -> Any:
    if unknown := set(table) - {"path", "params", "args"}:
        raise ConfigError(f"{key}.{min(unknown)}", "unknown key; a table has `path`, `params` and `args`")
    constructor = _constructor(table["path"], f"{key}.path")
    params, args = table.get("params", {}), table.get("args", [])
    if not isinstance(params, Mapping) or not isinstance(args, list | tuple):
        raise ConfigError(key, "expected a table `params` and a list `args`")
    params = {name: _value(part, seed, f"{key}.params.{name}") for name, part in params.items()}
    args = [_value(part, seed, f"{key}.args[{i}]") for i, part in enumerate(args)]
    try:
        accepted = inspect.signature(constructor).parameters
        if "seed" in accepted and accepted["seed"].default is None:
            params.setdefault("seed", seed)
        return constructor(*args, **params)
    except (TypeError, ValueError, AttributeError, LookupError, AssertionError) as error:
        raise ConfigError(key, f"{table['path']} refuses these parameters: {error}") from None


def _constructor(path: Any, key: str) -> type:
    module, _, name = path.rpartition(".") if isinstance(path, str) else ("", "", "")
    if not admitted_module(module):
        raise ConfigError(key, f"{path!r} is not the path of a class under river.")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        found = None
    if not isinstance(found, type) or not admitted_module(found.__module__) or inspect.isabstract(found):
        raise ConfigError(key, f"there is no class {path} in the installed river")
    return found
