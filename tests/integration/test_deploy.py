"""What deploy/ holds, as far as it can be checked without the machines it is for."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import typer

from connectors.redis_store import RedisStore
from streamd import config, wiring
from streamd.cli import command_line
from streamd.config import Config, KafkaLog
from streamd.config import RedisStore as RedisKeys
from streamd.errors import EXIT_CONFIG, EXIT_STATE, EXIT_USAGE
from tests.servers import Unavailable
from tests.servers.fixtures import missing, valkey_url  # noqa: F401

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "streamd.service"
CONFIGS = [DEPLOY / "docker" / "streamd.toml", DEPLOY / "kubernetes" / "streamd.toml"]
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def documents(path: Path) -> list[Any]:
    """A YAML file, read by the system's Python, where Debian's package python3-yaml is."""
    program = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)"
    for python in ("/usr/bin/python3", shutil.which("python3") or ""):
        if python and run(python, "-c", "import yaml").returncode == 0:
            done = subprocess.run(
                [python, "-c", program], input=path.read_bytes(), capture_output=True, check=False
            )
            assert done.returncode == 0, done.stderr.decode()
            return list(json.loads(done.stdout))
    missing(Unavailable("no python3 with PyYAML (Debian's package python3-yaml has it)"))


def read(path: Path, tmp_path: Path) -> Config:
    """A configuration of deploy/ with its secrets' files in `tmp_path`."""
    text, found = re.subn(r'"/run/secrets/(?:streamd/)?(\w+)"', rf'"{tmp_path}/\1"', path.read_text())
    assert found
    for name in re.findall(rf'"{tmp_path}/(\w+)"', text):
        (tmp_path / name).write_text("secret")
    (tmp_path / "streamd.toml").write_text(text)
    return config.load(tmp_path / "streamd.toml")


# --- the configurations


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parent.name)
def test_the_configuration_is_accepted_once_its_secrets_are_there(path: Path, tmp_path: Path) -> None:
    found = read(path, tmp_path)
    wiring.check(found)
    assert isinstance(found.log, KafkaLog)
    assert found.log.client == "confluent"
    assert config.secret(found.http.token_file) == "secret"


# --- Redis


@pytest.mark.redis
def test_the_rights_of_the_readme_suffice_and_end_at_the_keys(valkey_url: str) -> None:  # noqa: F811
    found = re.search(r"`ACL SETUSER streamd (on >PASSWORD [^`]*)`", (DEPLOY / "README.md").read_text())
    assert found
    # given a user with just these rights
    with redis.Redis.from_url(valkey_url) as admin:
        admin.execute_command("ACL", "SETUSER", "streamd", *found[1].split())
    # then a store does all its work as this user
    store = RedisStore(valkey_url, username="streamd", password="PASSWORD")
    for sequence in (1, 2):
        store.put("shard", sequence, b"manifest", [b"one", b"two"])
    assert store.shards() == ["shard"]
    manifest, chunks = store.load("shard", 2)
    assert (manifest, list(chunks)) == (b"manifest", [b"one", b"two"])
    store.delete("shard", 1)
    assert [info.sequence for info in store.list("shard")] == [2]
    store.close()
    # and the user may do no more
    with redis.Redis.from_url(valkey_url, username="streamd", password="PASSWORD") as user:
        for command in (("FLUSHALL",), ("GET", "other"), ("CONFIG", "GET", "*")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                user.execute_command(*command)


# --- systemd


def unit() -> dict[str, list[str]]:
    lines = (line.partition("=") for line in UNIT.read_text().splitlines() if line[:1] not in ("", "#", "["))
    found: dict[str, list[str]] = {}
    for key, _, value in lines:
        found.setdefault(key, []).append(value)
    return found


def systemd_analyze(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Let it look at the unit; the program that the unit starts is replaced by one that is here."""
    if shutil.which("systemd-analyze") is None:
        missing(Unavailable("no systemd-analyze on the PATH (Debian's package systemd has it)"))
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/streamd/bin/streamd", "/bin/true"))
    return run("systemd-analyze", "--no-pager", *arguments, str(copy))


def test_systemd_accepts_the_unit_without_a_word(tmp_path: Path) -> None:
    done = systemd_analyze(tmp_path, "verify", "--man=no")
    own = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, own) == (0, [])


def test_systemd_finds_the_service_confined(tmp_path: Path) -> None:
    done = systemd_analyze(tmp_path, "security", "--offline=true", "--threshold=15")
    assert done.returncode == 0, done.stdout[-500:]


def test_the_supervisor_knows_the_exit_codes_and_waits_for_the_drain() -> None:
    found = unit()
    assert found["Restart"] == ["on-failure"]
    assert set(map(int, found["RestartPreventExitStatus"][0].split())) == {EXIT_USAGE, EXIT_STATE, EXIT_CONFIG}
    assert int(found["TimeoutStopSec"][0]) > config.Worker().drain
    assert "MemoryDenyWriteExecute" not in found  # kernels are compiled at run time


# --- the image


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (DEPLOY / "docker" / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines) if name]


def of(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def test_the_image_has_known_instructions_and_two_stages() -> None:
    known = {"ARG", "FROM", "COPY", "RUN", "ENV", "USER", "WORKDIR", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in instructions()} <= known
    assert len(of("FROM")) == 2


def test_the_image_ends_as_a_user_without_rights_and_checks_its_life() -> None:
    names = [name for name, _ in instructions()]
    (user,) = of("USER")
    assert int(user.split(":")[0]) > 0
    assert names.index("USER") < names.index("ENTRYPOINT")
    (health,) = of("HEALTHCHECK")
    assert "/livez" in health
    for exec_form in (*of("ENTRYPOINT"), *of("CMD"), health.partition("CMD ")[2]):
        assert all(isinstance(part, str) for part in json.loads(exec_form))


def test_the_image_compiles_its_kernels() -> None:
    (line,) = (rest for rest in of("RUN") if rest.startswith("python -m streamd"))
    done = run(sys.executable, *line.split()[1:])
    assert done.returncode == 0, done.stderr


def test_the_images_health_check_tells_life_from_death() -> None:
    (health,) = of("HEALTHCHECK")
    _, *command = json.loads(health.partition("CMD ")[2])
    server = HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
    (alive := Thread(target=server.serve_forever)).start()
    try:
        here = [part.replace("8080/livez", f"{server.server_port}/") for part in command]
        assert run(sys.executable, *here).returncode == 0
    finally:
        server.shutdown()
        alive.join()
        server.server_close()
    assert run(sys.executable, *here).returncode


def sent_to_the_build() -> Sequence[str]:
    """The paths that .dockerignore lets through."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line[1:] for line in lines if line.startswith("!")]


def test_what_the_image_copies_exists_and_is_sent_to_the_build() -> None:
    sources = [s for rest in of("COPY") if "--from" not in rest for s in rest.split()[:-1]]
    assert set(sources) == set(sent_to_the_build())
    assert all((ROOT / source).exists() for source in sources)


def test_the_image_installs_pinned_hashes_and_nothing_else() -> None:
    installs = [part for rest in of("RUN") for part in rest.split("&&") if "pip install" in part]
    assert all("--require-hashes" in part or "--no-deps" in part for part in installs)


def pins(path: Path) -> dict[str, frozenset[str]]:
    """Requirement (with its marker) -> hashes."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        requirement, _, hashes = line.partition("--hash=")
        found[requirement.strip()] = frozenset(part.strip() for part in hashes.split("--hash="))
    return found


def test_the_images_pins_are_those_of_the_lock_file() -> None:
    """If not: make deploy/docker/requirements.lock anew, by the command at its top."""
    image, all_pins = pins(DEPLOY / "docker" / "requirements.lock"), pins(ROOT / "requirements.lock")
    versions = {requirement.partition(" ")[0]: hashes for requirement, hashes in all_pins.items()}
    for requirement, hashes in image.items():
        assert versions[requirement.partition(" ")[0]] == hashes, requirement
    names = {requirement.partition("==")[0] for requirement in image}
    assert {"confluent-kafka", "kafka-python", "numba", "redis", "river"} <= names
    assert not names & {"pytest", "mypy", "hypothesis"}


# --- compose


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    (document,) = documents(DEPLOY / "compose.yaml")
    assert isinstance(document["services"], dict)
    return document["services"]


def test_the_services_that_are_waited_for_exist(services: dict[str, Any]) -> None:
    assert set(services) == {"kafka", "valkey", "topics", "streamd", "generator", "prometheus"}
    for service in services.values():
        for other, how in service.get("depends_on", {}).items():
            assert other in services
            assert how["condition"] != "service_healthy" or "healthcheck" in services[other]


def test_the_files_that_are_mounted_exist(services: dict[str, Any]) -> None:
    mounts = [mount.split(":")[0] for service in services.values() for mount in service.get("volumes", [])]
    assert all((DEPLOY / mount).exists() for mount in mounts if mount.startswith("."))


def test_the_daemon_of_compose_reaches_its_services(services: dict[str, Any], tmp_path: Path) -> None:
    found = read(CONFIGS[0], tmp_path)
    assert isinstance(found.log, KafkaLog)
    assert {broker.split(":")[0] for broker in found.log.brokers} <= set(services)
    assert isinstance(found.store, RedisKeys)
    assert urlsplit(found.store.url).hostname in services
    sends = services["generator"]["command"]
    (pipeline,) = found.pipeline.values()
    assert (sends[0], sends[1], f"--labels={pipeline.labels}" in sends) == ("send", pipeline.events, True)
    assert seconds(services["streamd"]["stop_grace_period"]) > found.worker.drain


def test_compose_accepts_its_file() -> None:
    docker = shutil.which("docker")
    if docker is None or run(docker, "compose", "version").returncode:
        pytest.skip("no docker with compose here; it needs no engine, and Debian has it from trixie on")
    done = run(docker, "compose", "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_line_takes_what_the_services_and_the_image_ask_of_it(services: dict[str, Any]) -> None:
    sample = "/opt/streamd/lib/python3.11/site-packages/"
    asked = [services[name]["command"] for name in ("topics", "generator")]
    for command in (*asked, *map(json.loads, of("CMD"))):
        left = [part.replace(sample, f"{ROOT}/") for part in command]
        verb: Any = typer.main.get_command(command_line(left[:1]))
        context = verb.make_context("streamd", left)
        while hasattr(verb, "resolve_command"):
            _, verb, left = verb.resolve_command(context, [*context._protected_args, *context.args])
            context = verb.make_context(verb.name, left, parent=context)
        assert not context.args


def test_a_service_that_may_not_write_is_given_its_secrets_as_files(services: dict[str, Any]) -> None:
    """Compose copies any other secret into the container, and refuses to where that is read-only."""
    (document,) = documents(DEPLOY / "compose.yaml")
    read_only = [service for service in services.values() if service.get("read_only")]
    assert read_only
    for service in read_only:
        assert all(document["secrets"][name].keys() == {"file"} for name in service["secrets"])


def test_nothing_of_compose_is_reached_from_outside(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


# --- Kubernetes


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_says_what_it_is(path: Path) -> None:
    for document in documents(path):
        assert {"apiVersion", "kind"} <= document.keys()


def test_a_pod_has_time_to_drain_is_probed_and_confined(tmp_path: Path) -> None:
    (workers,) = documents(DEPLOY / "kubernetes" / "statefulset.yaml")
    pod = workers["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > read(CONFIGS[1], tmp_path).worker.drain
    assert pod["securityContext"]["runAsNonRoot"]
    (container,) = pod["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    for each in (container, *pod["initContainers"]):
        assert each["securityContext"]["readOnlyRootFilesystem"]
        assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"requests", "limits"} <= each["resources"].keys()
        assert {mount["name"] for mount in each["volumeMounts"]} <= {volume["name"] for volume in pod["volumes"]}


def test_a_worker_keeps_its_name() -> None:
    (workers,) = documents(DEPLOY / "kubernetes" / "statefulset.yaml")
    (service,) = documents(DEPLOY / "kubernetes" / "service.yaml")
    assert workers["kind"] == "StatefulSet"  # pods with stable host names, from which worker.name is made
    assert "name" not in tomllib.loads(CONFIGS[1].read_text())["worker"]
    assert service["spec"]["clusterIP"] == "None"
    assert workers["spec"]["serviceName"] == service["metadata"]["name"]
    assert service["spec"]["selector"].items() <= workers["spec"]["template"]["metadata"]["labels"].items()


# --- Grafana


def test_the_dashboards_panels_ask_for_something_and_do_not_overlap() -> None:
    board = json.loads((DEPLOY / "grafana" / "streamd.json").read_text())
    cells: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert all(target["expr"] for target in panel["targets"])
        place = panel["gridPos"]
        own = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert max(x for x, _ in own) < 24
        assert not own & cells
        cells |= own
