"""Compiled inner loops: pure functions over arrays, each beside its learner or rule by name."""

from collections.abc import Collection
from importlib import import_module

OF_LEARNERS = ("groupwise", "linear")


def load(kinds: Collection[str] | None = None) -> None:
    """Compile, or load, what these kinds of learners need, or every kernel; seconds the first time.

    Not SS3's, which takes a minute the first time: its learner does that when it is made.
    """
    wanted = [kind for kind in OF_LEARNERS if kinds is None or kind in kinds]
    for name in ("quality", *(("querying",) if kinds is None else ()), *wanted):
        import_module(f"streamd.kernels.{name}").load()
