"""Compiled inner loops: pure functions over arrays, each beside its learner or rule by name."""

from streamd.kernels import groupwise, linear, quality, querying


def load() -> None:
    """Compile every kernel, or load it from numba's cache; seconds the first time, so do it before readiness.

    Not SS3's, which takes a minute the first time: its learner does that when it is made, so that only who uses it
    waits.
    """
    groupwise.load()
    linear.load()
    quality.load()
    querying.load()
