"""Forks of a warm process: they begin with everything there, and share nothing that two must not share."""

import subprocess
import sys
from pathlib import Path

BEGIN = """
import os, random, signal, sys, threading, uuid
import numpy
from streamd.cli.forks import fork, hold_back, let_in
from streamd.errors import ConfigError

def code(work):
    return os.waitstatus_to_exitcode(os.waitpid(fork(work), 0)[1])

hold_back()
"""

DRAW = """
def draw():
    print(random.random(), numpy.random.random(), uuid.uuid4())
    return 7

print("unsaid", end=" ")  # waits in a buffer, which must not be written twice
print([code(draw) for _ in range(2)])
"""

SIGNALS = """
def late():
    heard = []
    os.kill(os.getpid(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    let_in()
    return len(heard)

print(code(late))
"""

ENDS = """
def refuse():
    raise ConfigError("log.kind", "is no such thing")

def fail():
    sys.exit("a bug")

print(code(refuse), code(fail))
"""

THREADS = """
threading.Thread(target=threading.Event().wait, name="holder", daemon=True).start()
try:
    fork(lambda: 0)
except RuntimeError as error:
    print(error)
"""

WARM = """
import os, sys, threading
from pathlib import Path
import numba
from streamd import config, wiring

told = config.load(Path(sys.argv[1]))
wiring.warm(told)
sockets = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
print([os.readlink(f"/proc/self/fd/{fd}") for fd in sockets if "socket" in os.readlink(f"/proc/self/fd/{fd}")])
print(threading.enumerate() == [threading.main_thread()])
try:
    print(numba.threading_layer())
except ValueError:
    print("no threading layer")
there = set(sys.modules)
wiring.build(told)
for name in told.pipeline:
    wiring.log(told, name)
wiring.store(told)
print(sorted(set(sys.modules) - there))
"""

CONFIG = """
[log]
kind = "kafka"
brokers = ["nowhere:9092"]
[store]
kind = "redis"
url = "redis://nowhere:6379/0"
[pipeline.p]
task = "classify"
events = "e"
learner = { kind = "linear" }
labels = "l"
queries = "q"
outcomes = "o"
pool = "m"
[pipeline.p.query]
strategy = "auto"
budget = 0.1
[pipeline.g]
task = "regress"
events = "g"
learner = { kind = "groupwise", range = [0, 10], groups = ["member=*"] }
[pipeline.m]
task = "match"
events = "a"
resources = "r"
outcomes = "o"
rule = { kind = "greedy" }
"""


def said(script: str, *arguments: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_children_draw_numbers_of_their_own_and_end_with_their_code() -> None:
    first, *rest = said(BEGIN + DRAW)
    draws = [first.removeprefix("unsaid ").split(), rest[0].split()]
    assert first.startswith("unsaid ")
    assert rest[1:] == ["[7, 7]"]
    assert all(one != other for one, other in zip(*draws, strict=True))


def test_a_signal_waits_for_the_child_s_handler() -> None:
    assert said(BEGIN + SIGNALS) == ["1"]


def test_a_child_that_fails_ends_with_the_code_of_its_failure() -> None:
    assert said(BEGIN + ENDS) == ["78 70"]


def test_a_process_with_threads_is_not_forked() -> None:
    assert said(BEGIN + THREADS) == ["a process with threads cannot be forked: holder"]


def test_what_is_warm_has_nothing_open_and_lacks_nothing(tmp_path: Path) -> None:
    (tmp_path / "streamd.toml").write_text(CONFIG)
    assert said(WARM, str(tmp_path / "streamd.toml")) == ["[]", "True", "no threading layer", "[]"]
