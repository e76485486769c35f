"""What is remembered of a prediction until its label comes.

Eight bytes a word: the numbers predicted (K, in units of the declared range), the interval's half-width, 1.0 if
all weights were 0, z (n, K), p (E, J); then as integers the identities of the n awake groups, n, and K. A
prediction made when no class was known is empty.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamd.errors import StateError
from streamd.kernels.groupwise import HEAD


class Memo(NamedTuple):
    """A memo, read. numbers: (K,); z: (n, K); p: (E, J); groups: identities, see `groups.identity`."""

    numbers: NDArray[np.float64]
    half_width: float
    fallback: bool
    z: NDArray[np.float64]
    p: NDArray[np.float64]
    groups: Sequence[int]


NOTHING = Memo(np.zeros(0), 0.0, False, np.zeros((0, 0)), np.zeros((0, 1)), ())


def write(buffer: NDArray[np.float64], groups: Sequence[int], known: int) -> bytes:
    """buffer: the prediction as the kernel left it."""
    if not known:
        return b""
    return buffer.tobytes() + np.array([*groups, len(groups), known], np.int64).tobytes()


def read(memo: bytes, experts: Callable[[int], int], heads: Callable[[int], int]) -> Memo:
    """experts: how many n awake groups have; heads: weights per expert for K numbers. Raises StateError."""
    if not memo:
        return NOTHING
    if len(memo) % 8 or len(memo) < 8 * (HEAD + 2):
        raise _foreign()
    n, known = np.frombuffer(memo[-16:], np.int64).tolist()
    if not (0 <= n <= len(memo) and 0 < known <= len(memo)):
        raise _foreign()
    head, e, j = known + HEAD, experts(n), heads(known)
    if len(memo) != 8 * (head + n * known + e * j + n + 2):
        raise _foreign()
    words = np.frombuffer(memo, np.float64)
    z = words[head : head + n * known].reshape(n, known)
    p = words[head + n * known : head + n * known + e * j].reshape(e, j)
    groups = np.frombuffer(memo[len(memo) - 8 * (n + 2) : -16], np.int64).tolist()
    return Memo(words[:known], float(words[known]), bool(words[known + 1]), z, p, groups)


def _foreign() -> StateError:
    return StateError("a memo of this length is none of this learner's")
