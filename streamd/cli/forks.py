"""Processes forked from a warm one: they begin where it stands, with its modules and compiled kernels, and share
its pages as long as nobody writes to them."""

import gc
import logging
import os
import random
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable

from streamd.errors import EXIT_BUG, StreamdError

HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


def hold_back() -> None:
    """Let what was made so far stay for ever, uncollected and shared, and every signal wait for who asks for it.

    For the process that will fork, once it is warm and before its first `fork`. What it holds back is held back in
    its children until they call `let_in`: none is lost, or ends them, before they have their own handlers.
    """
    gc.collect()
    gc.freeze()
    signal.pthread_sigmask(signal.SIG_BLOCK, (*HEARD, signal.SIGCHLD))


def let_in() -> None:
    """Let the signals come that were held back, if they were. For a thread that has handlers for all of them."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)


def fork(work: Callable[[], int]) -> int:
    """A child process that does the work, and ends with the exit code that it returns. Returns its process id.

    The child is no part of what this process was doing: nothing of it is unwound or closed at its end. It has
    a process group of its own, for a terminal signals everybody in one and what it says is passed on besides.
    Raises RuntimeError where this process has threads of Python: what they hold would be held for ever.
    """
    if others := [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]:
        raise RuntimeError(f"a process with threads cannot be forked: {', '.join(others)}")
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        # Python 3.12 warns of any thread, and BLAS has some, which know of forks.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _be_child(work)
    return pid


def _be_child(work: Callable[[], int]) -> None:
    code = EXIT_BUG
    try:
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))
        _draw_anew()
        code = work()
    except StreamdError as error:
        print("streamd:", error, file=sys.stderr)
        code = error.exit_code
    except BaseException:  # noqa: BLE001  the outermost place of this process
        traceback.print_exc()
    finally:
        try:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _draw_anew() -> None:
    """Two children must not draw the same numbers: waits that are spread at random would meet. What draws for
    a model draws from its own seed; `uuid4` and OpenSSL see to it themselves."""
    random.seed()
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed()
