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
    groups = np.frombuffer(memo[len(memo) - 8 * (n + 2) : -16], np.int64).tolist()
    return view(np.frombuffer(memo, np.float64), 0, groups, known, e, j)


def view(words: NDArray[np.float64], at: int, groups: Sequence[int], known: int, experts: int, heads: int) -> Memo:
    """What lies in `words` from `at` on, not copied."""
    if not known:
        return NOTHING
    n, z = len(groups), at + known + HEAD
    p = z + n * known
    return Memo(
        words[at : at + known],
        float(words[at + known]),
        bool(words[at + known + 1]),
        words[z:p].reshape(n, known),
        words[p : p + experts * heads].reshape(experts, heads),
        groups,
    )


def _foreign() -> StateError:
    return StateError("a memo of this length is none of this learner's")
