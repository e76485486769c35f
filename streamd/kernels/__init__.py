"""Compiled inner loops: pure functions over arrays, each beside its learner or rule by name."""

import sys
from collections.abc import Collection
from importlib import import_module

WHERE_NEEDED = ("groupwise", "linear", "querying")


def load(kinds: Collection[str] | None = None) -> None:
    """Compile, or load, what these kinds of learners (or `querying`) need, or every kernel.

    It takes seconds the first time. Not SS3's, which takes a minute: its learner does that when it is made.
    """
    _import_compiler()
    wanted = [kind for kind in WHERE_NEEDED if kinds is None or kind in kinds]
    beside = ("features",) if "linear" in wanted else ()
    for name in ("quality", *wanted, *beside):
        import_module(f"streamd.kernels.{name}").load()


def _import_compiler() -> None:
    """With its first kernel numba imports SciPy's linear algebra, half of what loading takes, for products of
    matrices that no kernel here has. Where there seems to be none it goes without."""
    absent = "scipy.linalg"
    if absent in sys.modules:
        return
    sys.modules[absent] = None  # type: ignore[assignment]
    try:
        import_module("numba.np.arraymath")
    finally:
        del sys.modules[absent]
