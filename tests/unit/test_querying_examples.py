"""The examples in the docstrings of the query strategies are executed."""

import doctest
import importlib
import pkgutil

import pytest

from streamd import querying

MODULES = [
    "streamd.learners.bagged",
    *(f"streamd.querying.{found.name}" for found in pkgutil.iter_modules(querying.__path__)),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
