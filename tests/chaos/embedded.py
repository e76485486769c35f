"""Kill the daemon again and again, at every step it has, and see whether anybody could tell.

    python -m tests.chaos.embedded --kills 60 --seed 1

prints a JSON report. The daemon runs in forked children, so a life costs a fraction of a second. A child kills
itself with SIGKILL when it reaches the n-th occurrence of a named step (a statement inside a transaction, a chunk
of a snapshot, an entry of the journal); the next child goes on. After some kills one child runs to the end, and
what the log and the store then hold is compared with what an uninterrupted run left: every prediction, in order,
to the byte; every dead letter; the digest of the whole state.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from streamd import config as configuration
from streamd import wiring
from streamd.config import Config
from streamd.ports import Output
from streamd.sight import Sight
from streamd.snapshot import read_manifest
from tests.chaos.evidence import kept_if_wrong, tell
from tests.chaos.watched import WatchedLog, WatchedStore

EVENTS = 2500
START = 1_700_000_000_000  # milliseconds since 1970

RARE = {"journal entry read": 1, "snapshot chunk loaded": 1}  # only a life after a kill gets there

SETTINGS = """
[log]
path = "log.db"
synchronous = "normal"  # a killed process loses nothing either way; a power cut is not what is tested here
[epoch]
interval = "5ms"
max_records = 50
[snapshot]
interval = "10ms"
keep = 1
work = 1
journal = "1ms"
[http]
enabled = false
[pipeline.risk]
task = "classify"
events = "events"
labels = "labels"
learner = { kind = "linear", eta = 0.2 }
pending = { max_events = 90, max_age = "300s", remember = 50, early_age = "100s" }
quality = { drift = "adwin" }
"""


class Outcome(NamedTuple):
    """What can be seen from outside when all is done."""

    predictions: list[bytes]
    dead_letters: list[tuple[bytes | None, bytes | None, str]]
    epochs: int
    positions: dict[str, int]
    digest: str


def fill(config: Config, seed: int) -> None:
    """A stream with everything in it: labels inside, late, early, repeated, corrected, never; refused records."""
    rng = random.Random(seed)
    client = wiring.client(config)
    for topic in ("events", "labels"):
        client.create(topic, 1)
    owed: list[tuple[int, str, str]] = []
    for i in range(EVENTS):
        ts = START + i * 1000
        age, job = rng.gauss(40, 12), rng.choice(("clerk", "cook", "pilot", f"rare{i % 97}"))
        label = "high" if age + 15 * (job == "pilot") + rng.gauss(0, 5) > 48 else "low"
        event: dict[str, object] = {
            "id": f"e{i}",
            "ts": ts,
            "features": {"age": age, "job": job, "new": i % 2 == 0},
        }
        if i % 5 == 0:
            event["label"] = label
        elif i % 5 != 4:
            owed.append((i + rng.choice((-2, 1, 20, 400)), f"e{i}", label))
        if i % 50 == 49:
            event["features"] = {"age": "forty"}
        client.append("events", [_output("events", f"e{i}", event, ts)])
        for when, name, answer in [o for o in owed if o[0] <= i]:
            labels = [answer, answer, "low"][: rng.choice((1, 1, 1, 2, 3))]
            client.append("labels", [_output("labels", name, {"id": name, "label": y}, ts) for y in labels])
            owed.remove((when, name, answer))
        if i % 70 == 69:
            client.append("labels", [Output("labels", b"x", b"{not json", ts)])
    day_later = START + 86_400_000  # all that waits expires by a record, none by the clock of the machine
    last = {"id": "last", "ts": day_later, "features": {"age": 1.0}}
    client.append("events", [_output("events", "last", last, day_later)])
    client.close()


def _output(topic: str, key: str, value: dict[str, object], ts: int) -> Output:
    return Output(topic, key.encode(), json.dumps(value).encode(), ts)


def live(config: Config, step: str, nth: int, seen: Counter[str] | None = None) -> None:
    """Run until the log is drained, or until the n-th time `step` is reached."""
    lock, left = threading.Lock(), [nth]

    def reach(name: str) -> None:
        with lock:
            if seen is not None:
                seen[name] += 1
            if name == step:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

    sight = Sight("risk", "classify", "", "events", "events-predictions")
    log, store = WatchedLog(wiring.log(config, "risk"), reach), WatchedStore(wiring.store(config), reach)
    engine = wiring.engine(config, "risk", sight, log, store)

    def stop_when_idle() -> None:
        while not sight.idle:
            time.sleep(0.005)
        engine.stop()

    threading.Thread(target=stop_when_idle, daemon=True).start()
    engine.run()
    store.close()


def child(config: Config, step: str, nth: int) -> bool:
    """A life in a process of its own. Says whether it was killed; any other end but a good one is an error."""
    pid = os.fork()
    if pid == 0:
        try:
            live(config, step, nth)
            os._exit(0)
        except BaseException as error:  # noqa: BLE001  the parent must hear of it
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if status != 0:
        raise RuntimeError(f"a child ended with status {status} after it should have died at {step} {nth}")
    return False


def outcome(config: Config) -> Outcome:
    client, store = wiring.client(config), wiring.store(config)
    predictions = [r.value or b"" for r in client.read("events-predictions", 0, 0, 10**6)]
    refused = client.read("events-dead-letters", 0, 0, 10**6)
    letters = [(r.key, r.value, r.headers[-1][1].decode()) for r in refused]
    newest = store.list("streamd.risk.0")[0].sequence
    manifest = read_manifest(store.load("streamd.risk.0", newest)[0])
    client.close()
    store.close()
    return Outcome(predictions, letters, newest, manifest.positions, manifest.digest)


def run(kills: int, per_round: int, seed: int, folder: Path) -> dict[str, object]:
    rng = random.Random(seed)

    def at(name: str) -> Config:
        (folder / name).mkdir()
        return configuration.resolve(configuration.parse(SETTINGS), folder / name)

    full = at("full")
    fill(full, seed=7)
    content = Path(full.log.path).read_bytes()
    steps: Counter[str] = Counter()
    reference = at("reference")
    Path(reference.log.path).write_bytes(content)
    live(reference, "", 0, steps)
    live(reference, "", 0, steps)  # a second life, so that the steps of a restore are known too
    expected = outcome(reference)
    if expected.predictions == [] or expected.dead_letters == []:
        raise RuntimeError("the reference run predicted nothing, or refused nothing")
    steps.update(RARE)
    done: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    rounds, different = 0, []
    while sum(done.values()) < kills or (set(steps) - set(done) and rounds < kills):
        config = at(f"round{rounds}")
        Path(config.log.path).write_bytes(content)
        for life in range(per_round):
            # What is reached in few lives, the first of a file or the first after a kill, is tried more often.
            names = sorted(steps if life else set(steps) - set(RARE))
            step = min(rng.sample(names, len(names)), key=lambda name: 3 * done[name] + tried[name])
            tried[step] += 1
            if not child(config, step, rng.randint(1, max(1, steps[step] // (per_round + 1)))):
                break  # it ran to its end
            done[step] += 1
        child(config, "", 0)
        found = outcome(config)
        fields = ("predictions", "dead_letters", "positions", "digest")
        wrong = [field for field in fields if getattr(found, field) != getattr(expected, field)]
        different += [{"round": rounds, "field": field} for field in wrong]
        if not wrong:
            shutil.rmtree(folder / f"round{rounds}")
        rounds += 1
    return {
        "kills": sum(done.values()),
        "rounds": rounds,
        "steps": dict(sorted(done.items())),
        "steps never killed at": sorted(set(steps) - set(done)),
        "different": different,
        "predictions": len(expected.predictions),
        "dead_letters": len(expected.dead_letters),
        "digest": expected.digest,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--per-round", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with kept_if_wrong() as folder:
        report = run(given.kills, given.per_round, given.seed, folder)
        tell(report, "different")


if __name__ == "__main__":
    main()
