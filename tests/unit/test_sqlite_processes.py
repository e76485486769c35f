"""The SQLite log among processes: many writers, a full disk, a kill in the middle of a commit."""

import subprocess
import sys
import textwrap
from pathlib import Path
from random import Random

import pytest

from connectors.sqlite_client import SqliteLogClient
from connectors.sqlite_log import SqliteLog
from streamd.ports import Epoch, Output, ShardEpoch

PRELUDE = """
import resource, sys
from connectors.sqlite_client import SqliteLogClient
from connectors.sqlite_log import SqliteLog
from connectors.sqlite_store import SqliteStore
from streamd.errors import Fenced, StateError
from streamd.ports import Epoch, Output, ShardEpoch
path = sys.argv[1]
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    code = PRELUDE + textwrap.dedent(script)
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def answer(script: str, *arguments: object) -> str:
    """What a process prints, which must end well."""
    process = start(script, *arguments)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return out


def drain_one(log: SqliteLog) -> list[Output]:
    return [Output("out", r.key, r.value or b"", r.timestamp, 0) for r in log.poll(50, 1.0).records]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


APPENDER = """
client = SqliteLogClient(path)
client.create("a", 1)
for start in range(0, 100, 5):
    numbers = range(start, start + 5)
    client.append("a", [Output("", sys.argv[2].encode(), b"%d" % i, i, 0) for i in numbers])
"""


def test_many_processes_append_to_a_new_file_while_one_reads_and_commits(path: Path) -> None:
    appenders = [start(APPENDER, path, name) for name in "abcd"]
    log = SqliteLog(path, group="g", inputs=["a"], journal="g.journal", create=True)
    log.open()
    log.poll(1, 0.0)
    log.seek(0, {})
    sequence = done = 0
    while done < 400:
        if outputs := drain_one(log):
            sequence, done = sequence + 1, done + len(outputs)
            log.commit(Epoch(outputs, (ShardEpoch(0, sequence, {"a": done}, b"entry"),)))
    assert [process.wait(timeout=60) for process in appenders] == [0] * 4
    for process in appenders:
        process.communicate()
    client = SqliteLogClient(path)
    copied = client.read("out", 0, 0, 1000)
    assert [r.key for r in copied] == [r.key for r in client.read("a", 0, 0, 1000)]
    for name in (b"a", b"b", b"c", b"d"):
        assert [r.value for r in copied if r.key == name] == [b"%d" % i for i in range(100)]
    assert log.committed(0).positions == {"a": 400}
    log.close(leave=False)
    client.close()


ENGINE = """
client = SqliteLogClient(path)
client.create("in", 1)
log = SqliteLog(path, group="g", inputs=["in"], journal="g.journal")
log.open()
sequence = log.committed(0).sequence
print("opened", flush=True)
while True:
    sequence += 1
    outputs = [Output(topic, b"%d" % sequence, b"x" * 100, 0, 0) for topic in ("one", "two") for _ in range(300)]
    print(sequence, flush=True)
    log.commit(Epoch(outputs, (ShardEpoch(0, sequence, {"in": 0}, b"%d" % sequence * 20_000),)))
"""


def test_a_process_killed_in_the_middle_of_a_commit_leaves_all_of_it_or_nothing(path: Path) -> None:
    random = Random(3)
    told = 0
    for _ in range(10):
        engine = start(ENGINE, path)
        assert engine.stdout is not None
        for _ in range(random.randrange(2, 8)):
            told = max(told, int(line) if (line := engine.stdout.readline().strip()).isdigit() else 0)
        for _ in range(random.randrange(20_000)):  # let it get somewhere within the commit
            pass
        engine.kill()
        rest, _ = engine.communicate(timeout=60)
        told = max([told, *map(int, rest.split())])
        told = check_whole(path, told)


def check_whole(path: Path, told: int) -> int:
    """Everything is as after one of the last two epochs told: that one's number."""
    client = SqliteLogClient(path)
    log = SqliteLog(path, group="g", inputs=["in"], journal="g.journal")
    log.open()  # the dead process' seat is free
    sequence = log.committed(0).sequence
    assert sequence in (told - 1, told)
    for topic in ("one", "two"):
        wanted = [b"%d" % i for i in range(1, sequence + 1) for _ in range(300)]
        assert [r.key for r in client.read(topic, 0, 0, 1_000_000)] == wanted
    entries = [(entry.sequence, entry.entry) for entry in log.journal(0, 0, 0, sequence)]
    assert entries == [(i, b"%d" % i * 20_000) for i in range(1, sequence + 1)]
    log.close(leave=False)
    client.close()
    return sequence


FULL = """
log = SqliteLog(path, group="g", inputs=["in"], journal="g.journal", create=True)
log.open()
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
sequence = 0
while True:
    outputs = [Output("out", b"%d" % (sequence + 1), b"x" * 1000, 0, 0) for _ in range(100)]
    try:
        log.commit(Epoch(outputs, (ShardEpoch(0, sequence + 1, {"in": 0}, b"entry"),)))
    except StateError as error:
        log.recover()
        assert log.committed(0).sequence == sequence
        print(sequence, error)
        break
    sequence += 1
"""


def test_a_disk_that_refuses_to_grow_is_a_state_error_and_nothing_is_half_written(path: Path) -> None:
    sequence, _, message = answer(FULL, path, 2 << 20).partition(" ")
    assert str(path) in message
    assert int(sequence) > 1
    client = SqliteLogClient(path)
    assert client.ends("out") == [(0, 100 * int(sequence))]
    client.append("out", [Output("", None, b"there is room again", 0, 0)])
    assert client.ends("out") == [(0, 100 * int(sequence) + 1)]
    client.close()


FULL_STORE = """
store = SqliteStore(path)
store.put("shard", 1, b"manifest", [b"x" * 100_000] * 3)
resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, resource.RLIM_INFINITY))
try:
    store.put("shard", 2, b"manifest", [b"x" * 1_000_000] * 5)
except StateError as error:
    print([info.sequence for info in store.list("shard")])
    _, chunks = store.load("shard", 1)
    print(sum(map(len, chunks)))
"""


def test_a_snapshot_that_does_not_fit_on_the_disk_leaves_the_older_ones(path: Path) -> None:
    assert answer(FULL_STORE, path).split("\n")[:2] == ["[1]", "300000"]


LIVE = """
log = SqliteLog(path, group="g", inputs=["in"], journal="g.journal", create=True)
try:
    log.open()
except Fenced:
    print("fenced", flush=True)
else:
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_of_a_group_is_fenced_while_the_first_lives(path: Path) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + LIVE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "open\n"
    second = subprocess.run(
        [sys.executable, "-c", PRELUDE + LIVE, str(path)], input="", stdout=subprocess.PIPE, text=True, check=True
    )
    assert second.stdout == "fenced\n"
    first.kill()
    first.communicate()
    third = subprocess.run(
        [sys.executable, "-c", PRELUDE + LIVE, str(path)], input="", stdout=subprocess.PIPE, text=True, check=True
    )
    assert third.stdout == "open\n"
