"""Compiled inner loops: pure functions over arrays, each beside its learner or rule by name."""

from collections.abc import Collection
from importlib import import_module

WHERE_NEEDED = ("groupwise", "linear", "querying")


def load(kinds: Collection[str] | None = None) -> None:
    """Compile, or load, what these kinds of learners (or `querying`) need, or every kernel.

    It takes seconds the first time. Not SS3's, which takes a minute: its learner does that when it is made.
    """
    wanted = [kind for kind in WHERE_NEEDED if kinds is None or kind in kinds]
    for name in ("quality", *wanted):
        import_module(f"streamd.kernels.{name}").load()
