"""The command line as a user has it: `streamd ...` in a directory, its exit code and what it printed."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from streamd import config, wiring
from streamd.cli import main
from streamd.ports import Output, Record

CONFIG = """
group = "test"
[worker]
name = "w"
[log]
kind = "sqlite"
partitions = {partitions}
[http]
enabled = false
[pipeline.a]
task = "classify"
events = "events"
labels = "labels"
learner = {{kind = "linear"}}
"""


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class Terminal:
    """A directory with a configuration, and the command line in it."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capture = capture
        self.configure(1)

    def configure(self, partitions: int, extra: str = "") -> None:
        (self.folder / "streamd.toml").write_text(CONFIG.format(partitions=partitions) + extra)

    def __call__(self, *arguments: str) -> Done:
        """Run a verb in this process."""
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        code = ended.value.code
        assert code is None or isinstance(code, int)
        captured = self._capture.readouterr()
        return Done(code or 0, captured.out, captured.err)

    def file(self, name: str, content: bytes | str) -> str:
        (self.folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    def records(self, topic: str) -> list[Record]:
        """All records of a topic, partition by partition."""
        client = wiring.client(config.load(self.folder / "streamd.toml"))
        try:
            if topic not in client.topics():
                return []
            return [
                record
                for partition, (first, end) in enumerate(client.ends(topic))
                for record in client.read(topic, partition, first, end - first)
            ]
        finally:
            client.close()

    def append(self, topic: str, outputs: Sequence[Output]) -> None:
        client = wiring.client(config.load(self.folder / "streamd.toml"))
        try:
            if topic not in client.topics():
                client.create(topic, 1 + max((output.partition or 0 for output in outputs), default=0))
            client.append(topic, outputs)
        finally:
            client.close()


def spawn(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "streamd.cli", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
