"""The image of deploy/docker, run as deploy/compose.yaml runs it, against a real Kafka and a real Valkey.

    python -m tests.image [--engine "podman --root /tmp/store"] [--image streamd]

The containers are on the host's network: port 8080 must be free. Prints what it saw; the first that is not as it
should be is an AssertionError. Podman must be told to keep the health check: BUILDAH_FORMAT=docker at the build.
"""

import argparse
import json
import shlex
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from streamd import config, wiring
from streamd.errors import EXIT_CONFIG
from tests.integration.test_deploy import DEPLOY, documents
from tests.servers import Unavailable, kafka, prometheus, redis

TOKEN, PORT = "secret", 8080
PATIENCE = 300.0  # seconds
SCRAPE = DEPLOY / "prometheus" / "prometheus.yml"
CACHE = "/var/cache/streamd"
MATCH = """
[pipeline.match]
task = "match"
events = "arrivals"
resources = "resources"
outcomes = "outcomes"
"""


class Image:
    """The engine's commands for one image; what is mounted is named here, as in compose.yaml."""

    def __init__(self, engine: str, image: str, folder: Path) -> None:
        self._engine, self._image = shlex.split(engine), image
        self._mounts = [
            *("-v", f"{folder / 'streamd.toml'}:/etc/streamd/streamd.toml:ro"),
            *("-v", f"{folder / 'token'}:/run/secrets/streamd_token:ro"),
        ]
        (self.about,) = json.loads(self.engine("inspect", "--type", "image", image).stdout)

    def engine(self, *arguments: str, fails: bool = False) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([*self._engine, *arguments], capture_output=True, text=True, check=False)
        assert fails or done.returncode == 0, f"{arguments}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
        return done

    def run(
        self, *arguments: str, options: tuple[str, ...] = (), fails: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """A container to its end."""
        mounted = ["run", "--rm", "--network", "host", *self._mounts, *options]
        return self.engine(*mounted, self._image, *arguments, fails=fails)

    def start(self, name: str, *arguments: str, options: tuple[str, ...] = ()) -> None:
        self.engine(
            "run", "-d", "--name", name, "--network", "host", *self._mounts, *options, self._image, *arguments
        )

    def state(self, name: str) -> Any:
        return json.loads(self.engine("inspect", "--type", "container", name).stdout)[0]["State"]

    def says(self, name: str) -> str:
        said = self.engine("logs", name)
        return said.stdout + said.stderr

    def stop(self, name: str, patience: float) -> int:
        self.engine("stop", "-t", str(int(patience)), name)
        return int(self.state(name)["ExitCode"])

    def remove(self, name: str) -> None:
        self.engine("rm", "-f", name, fails=True)


def hardened(service: Any, cache: str) -> tuple[str, ...]:
    """The options of `run` that say what the service's keys say."""
    assert (service["init"], service["read_only"], service["cap_drop"]) == (True, True, ["ALL"])
    safe = [part for option in service["security_opt"] for part in ("--security-opt", option.replace(":true", ""))]
    scratch = [part for path in service["tmpfs"] for part in ("--tmpfs", path)]
    return ("--init", "--read-only", "--cap-drop", "ALL", *safe, *scratch, "-v", f"{cache}:{CACHE}")


def ask(path: str, token: str = TOKEN) -> tuple[int, str]:
    asked = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", headers={"authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, ""
    except OSError:
        return 0, ""


def check_life(
    image: Image, name: str, service: Any, cache: str, predicted: Callable[[], int], folder: Path
) -> None:
    """One daemon from its start to its drain, in a container as the service asks for. cache: volume or folder."""
    image.remove(name)
    before, compiled = predicted(), kernels(image, cache)
    assert compiled
    began = time.monotonic()
    image.start(name, options=hardened(service, cache))
    try:
        while predicted() == before:
            assert image.state(name)["Running"]
            assert time.monotonic() - began < PATIENCE
            time.sleep(0.05)
        print(f"{name}: {time.monotonic() - began:.1f} s from start to first prediction")
        ready = next(line for line in image.says(name).splitlines() if "kernels ready" in line)
        print(f"{name}: {ready}")
        check_inside(image, name)
        check_served()
        check_scraped(folder)
        patience = float(service["stop_grace_period"].removesuffix("s"))
        assert image.stop(name, patience) == 0, image.says(name)[-2000:]
    finally:
        print("\n".join(image.says(name).splitlines()[-3:]))
        image.remove(name)
    new = kernels(image, cache) - compiled
    assert not new, f"compiled in the container: {sorted(new)}"
    print(f"{name}: {len(compiled)} files of kernels, none of them made here")


def check_inside(image: Image, name: str) -> None:
    """The user, what may be written, and the image's own health check."""
    user = image.engine("exec", name, "python", "-c", "import os; print(os.getuid(), os.getgid())").stdout.split()
    assert user == ["10001", "10001"]
    for path, may in ((CACHE, True), ("/tmp", True), ("/", False), ("/var/lib/streamd", False), ("/opt", False)):
        done = image.engine("exec", name, "python", "-c", f"open('{path}/new', 'w').close()", fails=True)
        assert (done.returncode == 0) == may, f"{path}: {done.stderr}"
    image.engine("exec", name, "python", "-c", f"import os; os.remove('{CACHE}/new')")
    kind, *command = image.about.get("Healthcheck", image.about["Config"].get("Healthcheck"))["Test"]
    assert kind == "CMD"
    image.engine("exec", name, *command)


def check_served() -> None:
    assert ask("/livez", token="")[0] == ask("/readyz", token="")[0] == 200
    assert ask("/v1/pipelines", token="wrong")[0] == 401
    status, text = ask("/metrics")
    assert status == 200
    (ready,) = (line for line in text.splitlines() if line.startswith('streamd_ready{pipeline="adult"}'))
    assert float(ready.split()[1]) == 1.0


def check_scraped(folder: Path) -> None:
    """By the Prometheus of deploy/, where one is installed."""
    try:
        given = prometheus.configuration(SCRAPE, f"127.0.0.1:{PORT}", folder / "token", "1s")
        (folder / "alerts.yml").write_text((SCRAPE.parent / "alerts.yml").read_text())
        (folder / "prometheus.yml").write_text(given)
        server = prometheus.start(folder / "prometheus", folder / "prometheus.yml")
    except Unavailable as reason:
        print(reason)
        return
    try:
        server.wait(lambda: server.value('up{job="streamd"}') == 1.0)
        print(f"scraped by Prometheus, {len(server.ask('rules')['groups'])} groups of alert rules loaded")
    finally:
        server.stop()


def kernels(image: Image, cache: str) -> set[str]:
    """The files of compiled kernels in a folder or volume and when each was made; in a new volume the image's."""
    each = "f'{p}@{p.stat().st_mtime_ns}'"
    program = f"import pathlib; print(*({each} for p in pathlib.Path('{CACHE}').rglob('*.nb?')))"
    found = image.run("-c", program, options=("--entrypoint", "python", "-v", f"{cache}:{CACHE}"))
    return set(found.stdout.split())


def check(image: Image, folder: Path) -> None:
    (compose,), (stateful,) = (
        documents(DEPLOY / path) for path in ("compose.yaml", "kubernetes/statefulset.yaml")
    )
    services, settings = compose["services"], config.load(folder / "host.toml")
    predictions = settings.pipeline["adult"].predictions_topic
    print(f"image: {image.about['Size'] / 1e6:.0f} MB, {image.about['Config']['User']}")
    with ExitStack() as stack:
        image.run(*services["topics"]["command"])
        outside = stack.enter_context(closing(wiring.client(settings)))

        def predicted() -> int:
            return sum(end for _, end in outside.ends(predictions))

        image.remove("streamd-generator")
        image.start("streamd-generator", *services["generator"]["command"])
        stack.callback(image.remove, "streamd-generator")
        volume = "streamd-kernels-check"
        image.engine("volume", "rm", "-f", volume, fails=True)
        image.engine("volume", "create", volume)
        stack.callback(image.engine, "volume", "rm", "-f", volume, fails=True)
        check_life(image, "streamd-compose", services["streamd"], volume, predicted, folder)
        (copying,) = stateful["spec"]["template"]["spec"]["initContainers"]
        copied = folder / "copied"
        copied.mkdir(mode=0o777)
        copied.chmod(0o777)
        program, *rest = copying["command"]
        image.run(*rest, options=("--read-only", "-v", f"{copied}:/kernels", "--entrypoint", program))
        check_life(image, "streamd-pod", services["streamd"], str(copied), predicted, folder)
    bad = image.run("run", options=("-e", "STREAMD_CONFIG=/etc/hostname"), fails=True)
    assert bad.returncode == EXIT_CONFIG, bad
    print(f"a wrong configuration: {bad.returncode}, {bad.stderr.strip()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--engine", default="docker")
    parser.add_argument("--image", default="streamd")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        broker = kafka.start(folder / "kafka")
        stack.callback(broker.stop)
        server = redis.start("valkey", folder / "valkey")
        stack.callback(server.stop)
        (folder / "token").write_text(TOKEN)
        text = (DEPLOY / "docker" / "streamd.toml").read_text() + MATCH
        for theirs, ours in (("kafka:9092", broker.address), ("redis://valkey:6379/0", server.url)):
            assert theirs in text
            text = text.replace(theirs, ours)
        (folder / "streamd.toml").write_text(text)
        (folder / "host.toml").write_text(text.replace("/run/secrets/streamd_token", str(folder / "token")))
        check(Image(given.engine, given.image, folder), folder)


if __name__ == "__main__":
    main()
