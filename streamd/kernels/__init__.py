"""Compiled inner loops: pure functions over arrays, each beside its learner or rule by name."""

from streamd.kernels import groupwise, linear, quality, querying, ss3


def load() -> None:
    """Compile every kernel, or load it from numba's cache; seconds the first time, so do it before readiness."""
    groupwise.load()
    linear.load()
    quality.load()
    querying.load()
    ss3.load()
