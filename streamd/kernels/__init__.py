"""Compiled inner loops: pure functions over arrays, each beside its learner or rule by name."""

from collections.abc import Collection

from streamd.kernels import groupwise, linear, quality, querying

OF_LEARNERS = {"groupwise": groupwise.load, "linear": linear.load}


def load(kinds: Collection[str] | None = None) -> None:
    """Compile, or load, what these kinds of learners need, or every kernel; seconds the first time.

    Not SS3's, which takes a minute the first time: its learner does that when it is made.
    """
    quality.load()
    if kinds is None:
        querying.load()
    for kind, kernel in OF_LEARNERS.items():
        if kinds is None or kind in kinds:
            kernel()
