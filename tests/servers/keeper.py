"""One broker for all test processes: the first one starts it, it ends when the last one is gone.

Every user holds a shared lock on the file `users`, which the kernel gives back however the user ends. A keeper
process owns the broker; when it gets that lock exclusively, nobody is left, and it stops. The lock `gate`
orders arrivals and the end, so nobody is handed a broker that is about to stop.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO

from tests.servers import kafka
from tests.servers.process import listens

ROOT = Path(__file__).parent.parent.parent


class SharedBroker:
    """A seat at the one broker of this checkout. `address` is host:port."""

    def __init__(self) -> None:
        place = f"streamd-tests-{os.getuid()}-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}"
        self.directory = Path(tempfile.gettempdir()) / place
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self._users = (self.directory / "users").open("w")
        kafka.java_command(), kafka.fetch_jars()
        with (self.directory / "gate").open("w") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            fcntl.flock(self._users, fcntl.LOCK_SH)
            self.address = self._running() or self._start()

    def _running(self) -> str | None:
        file = self.directory / "address"
        if not file.exists():
            return None
        address = file.read_text()
        host, _, port = address.partition(":")
        return address if listens(host, int(port)) else None

    def _start(self) -> str:
        (self.directory / "address").unlink(missing_ok=True)
        log = self.directory / "keeper.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.servers.keeper", str(self.directory)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        while not (address := self._running()):
            if process.poll() is not None:
                raise RuntimeError(f"the broker did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.02)
        process.returncode = 0  # the keeper outlives this process on purpose: no warning about it
        return address

    def stop(self) -> None:
        self._users.close()

    def __enter__(self) -> "SharedBroker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()


def _alone(gate: IO[str], users: IO[str]) -> bool:
    """Whether no user is left; if so, the gate stays closed until this process is gone."""
    try:
        fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False  # somebody is arriving
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(gate, fcntl.LOCK_UN)
        return False
    return True


def keep(directory: Path) -> None:
    broker = kafka.start(Path(tempfile.mkdtemp(prefix="broker-", dir=directory)))
    address = directory / "address"
    try:
        (directory / "address.new").write_text(broker.address)
        (directory / "address.new").rename(address)
        with (directory / "gate").open("w") as gate, (directory / "users").open("w") as users:
            while not _alone(gate, users) and broker.process.poll() is None:
                time.sleep(0.5)
            address.unlink(missing_ok=True)
            broker.stop()
    finally:
        broker.stop()


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
