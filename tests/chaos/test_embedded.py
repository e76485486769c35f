"""Nobody can tell how often the daemon was killed: the short form; `make chaos` runs a longer one."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_sigkill_at_every_step_changes_nothing_that_can_be_seen() -> None:
    command = [sys.executable, "-m", "tests.chaos.embedded", "--kills", "100", "--seed", "1"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    report = json.loads(finished.stdout)
    assert report["kills"] >= 100
    assert report["different"] == []
    assert report["steps never killed at"] == []
