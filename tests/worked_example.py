"""The worked example of README, made by running it: a bad configuration is caught, deployed, seen, rolled back.

`python -m tests.worked_example` runs every command for real, in a temporary folder, and rewrites the part of
README.md between its two markers; a test holds them equal, except for what depends on the machine's speed.
"""

import contextlib
import csv
import gzip
import io
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from streamd.cli import main

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
BEGIN, END = "<!-- worked example: begin -->", "<!-- worked example: end -->"
DAY = 2000  # events

CONFIG = """\
[http]
port = {port}

[pipeline.churn]
task = "classify"
events = "churn-events"
labels = "churn-labels"

[pipeline.churn.learner]
kind = "linear"
eta = 0.1
"""

BOLD = """
[pipeline.churn.shadow.bold]
kind = "linear"
eta = 5.0
max_features_per_event = 15
"""

SENT = "--labels churn-labels --delay 50"
STEPS: Sequence[tuple[str, Sequence[str]]] = (
    (
        "Somebody wants to learn faster (`eta = 5.0`) and to cap the features of an event. A replay of Monday "
        "through both configurations catches it: the interval of the difference does not hold 0.",
        ("streamd replay monday.jsonl -c streamd.toml -c bold.toml --delay 50",),
    ),
    (
        "They are not convinced. The new learner goes along as a shadow, `[pipeline.churn.shadow.bold]`, while "
        "the old one serves Monday.",
        (
            "streamd run &",
            f"streamd send churn-events monday.jsonl {SENT}",
            "streamd status",
        ),
    ),
    (
        "It is deployed anyway. Tuesday comes; some events now have one feature more.",
        (
            "streamd promote churn bold",
            f"streamd send churn-events tuesday.jsonl {SENT}",
            "streamd status",
            "streamd dead-letters list",
        ),
    ),
    (
        "The former learner, a shadow now, does better, and it would have refused nothing. So back to it; it has "
        "learned all the while. What was refused is given again, and at last the journal is checked.",
        (
            "streamd promote churn bold",
            "streamd dead-letters retry --everything",
            "streamd status",
            "streamd replay --verify",
        ),
    ),
)


def prepare(folder: Path) -> None:
    """The files of the example: Monday and Tuesday from UCI Adult, and two configurations."""
    bold = re.sub(r'kind = "linear"\neta = 0.1\n', BOLD.partition("bold]\n")[2], CONFIG)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    (folder / "bold.toml").write_text(bold.format(port=port))
    (folder / "streamd.toml").write_text(CONFIG.format(port=port) + BOLD)
    with gzip.open(ROOT / "streamd/samples/adult.csv.gz", "rt") as source:
        rows = csv.DictReader(source)
        for day in ("monday", "tuesday"):
            lines = list(events(day, islice(rows, DAY)))
            (folder / f"{day}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def events(day: str, rows: Iterator[dict[str, str]]) -> Iterator[dict[str, object]]:
    """On Tuesday every fortieth event has a feature more than the fifteen there are."""
    for i, row in enumerate(rows):
        label = row.pop("income")
        features = {name: int(cell) if cell.isdecimal() else cell for name, cell in row.items() if cell != "?"}
        if day == "tuesday" and i % 40 == 0:
            features = {**dict.fromkeys(row, "unknown"), **features, "campaign": "winter"}
        yield {"id": f"{day}-{i}", "features": features, "label": label}


def transcript() -> str:
    """The example as Markdown: what is done and why, the commands, and what they printed."""
    parts, home = [], Path.cwd()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as end:
        prepare(Path(name))
        os.chdir(name)
        end.callback(os.chdir, home)
        for why, commands in STEPS:
            lines = [line for command in commands for line in (f"$ {command}", *_printed(command, end))]
            parts.append(f"{why}\n\n```\n" + "\n".join(lines) + "\n```\n")
    return "\n".join(parts)


def _printed(command: str, end: contextlib.ExitStack) -> list[str]:
    arguments = command.split()[1:]
    if arguments[-1] == "&":
        daemon = subprocess.Popen(
            [sys.executable, "-m", "streamd.cli", *arguments[:-1]], stderr=subprocess.DEVNULL
        )
        end.callback(_stop, daemon)
        _wait(ready=True)
        return []
    if arguments[0] == "status":
        _wait()
    code, out, err = _run(arguments)
    assert code == 0, f"{command}: {err}"
    return [line.rstrip() for line in (*out.splitlines(), *err.splitlines())]


def _run(arguments: Sequence[str]) -> tuple[int, str, str]:
    """A verb, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as ended:
            return int(ended.code or 0), out.getvalue(), err.getvalue()


def _wait(ready: bool = False) -> None:
    """Until the daemon runs, and has nothing left to do."""
    calm = 0
    for _ in range(1200):
        _, out, _ = _run(["status", "--json"])
        found = json.loads(out) if out else {"source": "", "pipelines": ()}
        shards = [shard for pipeline in found["pipelines"] for shard in pipeline["shards"]]
        idle = all(pipeline["ready"] for pipeline in found["pipelines"]) and not any(
            sum(shard["waiting"].values()) for shard in shards
        )
        calm = calm + 1 if found["source"] == "daemon" and idle else 0
        if calm == (1 if ready else 3):
            return
        time.sleep(0.3)
    raise AssertionError("the daemon does not come to rest")


def _stop(daemon: "subprocess.Popen[bytes]") -> None:
    daemon.terminate()
    daemon.wait(60)


def rewrite(text: str, made: str) -> str:
    """The page with the example between its markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"README lacks {BEGIN}"
    assert end, f"README lacks {END}"
    return f"{before}{begin}\n{made}{end}{after}"


def timeless(text: str) -> str:
    """Without what depends on the machine: rates, ages, sizes, epochs, the width of columns."""
    text = re.sub(r"records per second.*", "records per second", text)
    text = re.sub(r"(?m)(epoch [\d,]+, [\d,]+ KB, [\d,]+ s old|none)$", "snapshot", text)
    text = re.sub(r"worker \S+", "worker", text)
    text = re.sub(r"(; [\d,]+ KB of state)?; last epoch [\d,.]+ \w+ ago", "; last epoch", text)
    text = re.sub(r"epochs 1 to [\d,]+, [\d,]+ records", "epochs, records", text)
    text = re.sub(r"done in epoch [\d,]+", "done", text)
    text = re.sub(r"(?m)^(\s*\d+  (?:stopped|running)\s+)[\d,]+", r"\1N", text)
    text = re.sub(r"\d{4}-\d\d-\d\d[ T][\d:.]+Z?", "moment", text)
    return re.sub(r"[ ─]+", " ", text)


if __name__ == "__main__":
    README.write_text(rewrite(README.read_text(), transcript()))
