"""What the kernels that read JSON from its bytes share."""

from numba import njit


@njit(cache=True)
def skip(raw, at, end):  # type: ignore[no-untyped-def]
    """Past white space."""
    while at < end and (raw[at] == 32 or raw[at] == 10 or raw[at] == 13 or raw[at] == 9):
        at += 1
    return at
