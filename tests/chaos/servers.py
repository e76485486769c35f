"""A broker and a Redis of this run's own, each behind a proxy as well: they can be killed, emptied, cut off."""

import socket
from pathlib import Path

from tests.servers import kafka, redis
from tests.servers.process import free_port
from tests.servers.proxy import Proxy


class OwnBroker:
    """Two listeners: workers that come through the proxy are told to stay there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "kafka"
        self._port, behind = free_port(), free_port()
        self.proxy = Proxy(behind, "kafka", folder)
        ports = {"PLAINTEXT": self._port, "PROXIED": behind}
        self._settings = kafka.listeners(ports, advertised={"PROXIED": self.proxy.port})
        self.address = f"127.0.0.1:{self._port}"
        self.proxied = f"127.0.0.1:{self.proxy.port}"
        self.start()

    def start(self) -> None:
        self._broker = kafka.start(self._folder, self._port, self._settings)

    def end(self, gently: bool) -> None:
        """Stop the broker; its files stay."""
        if gently:
            self._broker.process.terminate()
        else:
            self._broker.process.kill()
        self._broker.process.wait()

    def stop(self) -> None:
        self.proxy.stop()
        self.end(gently=False)


class OwnRedis:
    """A server without persistence: it comes back empty."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "redis"
        self._kind = "valkey" if "valkey" in redis.binaries() else "redis"
        self._server = redis.start(self._kind, self._folder)
        self.proxy = Proxy(self._server.port, "raw", folder)
        self.url = self._server.url
        self.proxied = f"redis://127.0.0.1:{self.proxy.port}/0"

    def start(self) -> None:
        self._server = redis.start(self._kind, self._folder, port=self._server.port)

    def end(self) -> None:
        self._server.stop()

    def order(self, *words: str) -> None:
        """One command, whose answer must not be an error."""
        with socket.create_connection(("127.0.0.1", self._server.port), timeout=10) as connection:
            connection.sendall(" ".join(words).encode() + b"\r\n")
            answer = connection.recv(4096)
            if not answer.startswith(b"+"):
                raise RuntimeError(f"{words}: {answer!r}")

    def stop(self) -> None:
        self.proxy.stop()
        self._server.stop()
