"""Child processes that never outlive whoever started them."""

import ctypes
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def die_with_parent() -> None:
    """To be called in a child: the kernel kills it when the process that started it dies."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def spawn(command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a process, its output in `log`; the kernel kills it when the calling thread's process dies."""
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            preexec_fn=die_with_parent,
        )


def kill(process: "subprocess.Popen[bytes]") -> None:
    """End a process now; these servers hold nothing worth a farewell."""
    process.kill()
    process.wait()


def free_port(count: int = 1) -> int:
    """The first of `count` neighbouring ports that nobody uses.

    Below the ports that the kernel gives to outgoing connections: who asks such a port whether somebody listens
    there, again and again, is at some time given that very port, is connected with itself, and holds it.
    """
    while True:
        first = random.SystemRandom().randrange(12_000, 32_000)
        if all(_is_free(port) for port in range(first, first + count)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def answers_ping(host: str, port: int) -> bool:
    """Whether a Redis serves there: with its event loop, so with every socket it listens on."""
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex((host, port)) != 0:
            return False
        probe.sendall(b"PING\r\n")
        return bool(probe.recv(64))


def wait_until(ready: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path, timeout: float) -> None:
    """Wait for a server to be ready; an early end or the time-out is a RuntimeError with the end of its log."""
    deadline = time.monotonic() + timeout
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            kill(process)
            raise RuntimeError(f"{process.args!r} did not start:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.02)
