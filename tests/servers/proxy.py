"""A TCP proxy that can fail at a chosen request: lose it, cut it in half, lose its answer, hold it back.

It understands as much of Kafka's protocol as that takes: a frame's length, a request's kind and number. Without
that (Redis) whatever arrives at once from a client is a request. The proxy is a process of its own, so that
whoever starts it may fork; orders are lines of JSON on its standard input, each answered by a line.
"""

import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tests.servers.process import die_with_parent, free_port, kill, listens, wait_until

Protocol = Literal["kafka", "raw"]
Fault = Literal["lost", "half", "unanswered", "late"]
FAULTS: tuple[Fault, ...] = ("lost", "half", "unanswered", "late")
ANY = "request"  # the kind of every request that is not Kafka's
KINDS = {
    0: "Produce", 1: "Fetch", 2: "ListOffsets", 3: "Metadata", 8: "OffsetCommit", 9: "OffsetFetch",
    10: "FindCoordinator", 11: "JoinGroup", 12: "Heartbeat", 13: "LeaveGroup", 14: "SyncGroup",
    15: "DescribeGroups", 18: "ApiVersions", 19: "CreateTopics", 21: "DeleteRecords", 22: "InitProducerId",
    24: "AddPartitionsToTxn", 25: "AddOffsetsToTxn", 26: "EndTxn", 28: "TxnOffsetCommit", 37: "CreatePartitions",
    75: "DescribeTopicPartitions",
}  # fmt: skip


class Rule(NamedTuple):
    """What happens to the nth request of a kind from now on: it is lost or cut in half and the connection with
    it, its answer is lost so, or it is forwarded `seconds` late. Once."""

    kind: str
    nth: int
    fault: Fault
    seconds: float = 0.0


class Proxy:
    """The handle. `port` is where clients connect."""

    def __init__(self, target: int, protocol: Protocol, folder: Path) -> None:
        self.port = free_port()
        log = folder / f"proxy-{self.port}.log"
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.servers.proxy", str(self.port), str(target), protocol],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=Path(__file__).parents[2],
                preexec_fn=die_with_parent,
            )
        wait_until(lambda: listens("127.0.0.1", self.port), self._process, log, 20)

    def arm(self, rule: Rule) -> None:
        self._order("arm", rule._asdict())

    def fired(self) -> bool:
        """Whether what was armed last has happened."""
        return bool(self._order("fired"))

    def disarm(self) -> None:
        self._order("disarm")

    def seen(self) -> Counter[str]:
        """How many requests of each kind have passed."""
        return Counter(self._order("seen"))

    def cut(self) -> None:
        """Cut all connections that are open."""
        self._order("cut")

    def hold(self, seconds: float) -> None:
        """Let nothing through, in either direction, for so long."""
        self._order("hold", seconds)

    def stop(self) -> None:
        kill(self._process)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _order(self, what: str, given: object = None) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([what, given]).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


# --- the process


class Switch:
    """What all connections share: the rule, the counts, the open connections."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self._lock = threading.Lock()
        self._rule: Rule | None = None
        self._left = 0
        self._fired = False
        self._seen: Counter[str] = Counter()
        self._held_until = 0.0
        self._open: set[Connection] = set()

    def obey(self, what: str, given: Any) -> object:
        with self._lock:
            if what == "arm":
                self._rule = Rule(**given)
                self._left, self._fired = self._rule.nth, False
            elif what == "disarm":
                self._rule = None
            elif what == "hold":
                self._held_until = time.monotonic() + given
            elif what == "cut":
                for connection in list(self._open):
                    connection.cut()
            return {"fired": self._fired, "seen": self._seen}.get(what)

    def fault(self, kind: str) -> Rule | None:
        """Count a request; the rule if it is this one's turn."""
        with self._lock:
            self._seen[kind] += 1
            if self._rule is None or self._rule.kind != kind:
                return None
            self._left -= 1
            if self._left > 0:
                return None
            rule, self._rule, self._fired = self._rule, None, True
            return rule

    def wait(self) -> None:
        time.sleep(max(0.0, self._held_until - time.monotonic()))

    def opened(self, connection: "Connection") -> None:
        with self._lock:
            self._open.add(connection)

    def closed(self, connection: "Connection") -> None:
        with self._lock:
            self._open.discard(connection)


class Connection:
    """One client's, with a thread for each direction."""

    def __init__(self, client: socket.socket, server: socket.socket, switch: Switch) -> None:
        self._client, self._server, self._switch = client, server, switch
        self._unanswered: set[int] = set()
        switch.opened(self)
        for pump in (self._requests, self._answers):
            threading.Thread(target=self._guarded, args=(pump,), daemon=True).start()

    def cut(self) -> None:
        for end in (self._client, self._server):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def _guarded(self, pump: Any) -> None:
        try:
            pump()
        except OSError:
            pass
        finally:
            self.cut()
            self._switch.closed(self)

    def _requests(self) -> None:
        for message in _messages(self._client, self._switch.protocol):
            kind, number = _request(message, self._switch.protocol)
            rule = self._switch.fault(kind)
            self._switch.wait()
            if rule is not None and rule.fault == "lost":
                return
            if rule is not None and rule.fault == "half":
                return self._server.sendall(message[: len(message) // 2])
            if rule is not None and rule.fault == "unanswered":
                self._unanswered.add(number)
            if rule is not None and rule.fault == "late":
                time.sleep(rule.seconds)
            self._server.sendall(message)

    def _answers(self) -> None:
        for message in _messages(self._server, self._switch.protocol):
            self._switch.wait()
            if self._unanswered and _answered(message, self._switch.protocol) in self._unanswered:
                return
            self._client.sendall(message)


def _messages(end: socket.socket, protocol: Protocol) -> Iterator[bytes]:
    if protocol == "raw":
        while data := end.recv(1 << 20):
            yield data
        return
    with end.makefile("rb") as stream:
        while len(size := stream.read(4)) == 4:
            body = stream.read(struct.unpack(">i", size)[0])
            yield size + body


def _request(message: bytes, protocol: Protocol) -> tuple[str, int]:
    """Its kind and number."""
    if protocol == "raw":
        return ANY, 0
    api, _, number = struct.unpack_from(">hhi", message, 4)
    return KINDS.get(api, f"api {api}"), number


def _answered(message: bytes, protocol: Protocol) -> int:
    """The number of the request that this is the answer to."""
    return 0 if protocol == "raw" else int(struct.unpack_from(">i", message, 4)[0])


def serve(port: int, target: int, protocol: Protocol) -> None:
    switch = Switch(protocol)
    door = socket.create_server(("127.0.0.1", port))
    threading.Thread(target=_accept, args=(door, target, switch), daemon=True).start()
    for line in sys.stdin:
        print(json.dumps(switch.obey(*json.loads(line))), flush=True)


def _accept(door: socket.socket, target: int, switch: Switch) -> None:
    while True:
        client, _ = door.accept()
        try:
            server = socket.create_connection(("127.0.0.1", target), timeout=5)
        except OSError:
            client.close()
            continue
        for end in (client, server):
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Connection(client, server, switch)


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), "raw" if sys.argv[3] == "raw" else "kafka")
