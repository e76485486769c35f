"""The daemon on real Kafka and Redis: killed, frozen, joined, left, doubled, robbed of snapshots; then checked.

    python -m tests.chaos.kafka --client confluent --kills 20 --seed 1

prints a JSON report. Workers are forked children that say what they see in a status file; this process touches
neither Kafka nor Redis, so that forking stays safe. At the end one worker runs until nothing waits, and an
independent `read_committed` reader holds three things against each other, per partition:

* the journal: sequence numbers without gaps, every input record exactly once and in order;
* the outputs: what a fresh shard decides over the journal's records, byte for byte and in order;
* the state: that shard's digest, against the newest snapshot in Redis.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from connectors import kafka_log
from connectors.kafka_journal import read_journal
from connectors.kafka_settings import Security, python_connection
from streamd import config as configuration
from streamd import kernels, snapshot, wiring
from streamd.config import Config
from streamd.errors import EXIT_BUG, EXIT_CONFIG, StreamdError
from streamd.journal import Refusal, decode
from streamd.ports import Output
from streamd.shard import Shard
from streamd.sight import Sight
from streamd.stages.predicting import Predicting
from tests.chaos.watched import WatchedLog, WatchedStore

PARTITIONS = 2
START = 1_700_000_000_000
PATIENCE = 60.0  # seconds a condition is waited for before the run is given up as stuck

SETTINGS = """
group = "{group}"
[log]
kind = "kafka"
brokers = ["{broker}"]
client = "{client}"
session_timeout = "3s"
transaction_timeout = "5s"
request_timeout = "5s"
[store]
kind = "redis"
url = "{redis}"
[epoch]
interval = "20ms"
max_records = 60
[snapshot]
interval = "50ms"
work = 1
keep = 2
[worker]
name = "{worker}"
give_up = "60s"
[pipeline.risk]
task = "classify"
events = "{group}-events"
labels = "{group}-labels"
learner = {{ kind = "linear", eta = 0.2 }}
pending = {{ max_events = 200, max_age = "600s", remember = 100, early_age = "30d" }}
quality = {{ drift = "adwin" }}
"""


class World(NamedTuple):
    """What a run is about. folder: for the workers' status files."""

    broker: str
    redis: str
    client: str
    group: str
    folder: Path

    def config(self, worker: str) -> Config:
        text = SETTINGS.format(worker=worker, **self._asdict())
        return configuration.resolve(configuration.parse(text), self.folder)


class Life(NamedTuple):
    """A worker process."""

    worker: str
    pid: int
    status: Path

    def seen(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.status.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {"partitions": [], "idle": False}
        return found

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def ended(self) -> int | None:
        """The exit code, negative for a signal, or None while it lives."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def wait(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


# --- children


def fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 0
    try:
        work()
    except StreamdError as error:
        code = error.exit_code
        print(f"child: {error!r}", file=sys.stderr, flush=True)
    except BaseException:  # noqa: BLE001  the parent must hear of it
        traceback.print_exc()
        code = EXIT_BUG
    os._exit(code)


def done(work: Callable[[], None]) -> None:
    """Do something with Kafka or Redis in a child, to its end."""
    _, status = os.waitpid(fork(work), 0)
    if status:
        raise RuntimeError(f"a child failed with status {status}")


def begin(world: World, worker: str, step: str = "", nth: int = 0) -> Life:
    """Start a worker; it kills itself at the nth time it reaches a step. SIGTERM drains it."""
    status = world.folder / f"{worker}-{time.monotonic_ns()}.json"
    return Life(worker, fork(lambda: live(world.config(worker), step, nth, status)), status)


def live(config: Config, step: str, nth: int, status: Path) -> None:
    lock, left, steps = threading.Lock(), [nth], Counter[str]()

    def reach(name: str) -> None:
        with lock:
            steps[name] += 1
            if name == step:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

    sight = Sight("risk", "classify", "", "events", "predictions")
    real = wiring.log(config, "risk")
    watch_commit(real, reach)
    store = WatchedStore(wiring.store(config), reach)
    engine = wiring.engine(config, "risk", sight, WatchedLog(real, reach), store)
    signal.signal(signal.SIGTERM, lambda *_: engine.stop())
    over = threading.Event()

    def tell() -> None:
        while not over.is_set():
            shards = [s.partition for s in sight.view.shards if s.phase == "running"]
            seen = {"partitions": shards, "idle": sight.idle, "epochs": sight.view.epochs, "steps": dict(steps)}
            draft = status.with_suffix(".draft")
            draft.write_text(json.dumps(seen))
            draft.rename(status)
            over.wait(0.02)

    threading.Thread(target=tell, daemon=True).start()
    engine.run()
    over.set()


def watch_commit(log: Any, reach: Callable[[str], None]) -> None:
    """Name the steps inside a commit, as far as the client library lets one."""

    def after(owner: Any, method: str, step: str) -> None:
        inner = getattr(owner, method)

        def outer(*args: Any, **kwargs: Any) -> Any:
            answer = inner(*args, **kwargs)
            reach(step)
            return answer

        setattr(owner, method, outer)

    after(log, "_send", "commit: output handed over")
    after(log, "_send_entry", "commit: journal handed over")
    if isinstance(log, kafka_log.KafkaLog):
        producer = kafka_log.BoundedProducer
        after(producer, "send_offsets_to_transaction", "commit: offsets sent")
        after(producer, "commit_transaction", "commit: answered")


def append(world: World, first: int, last: int) -> None:
    """Events first to last with their labels: inside, late, early, corrected, refused."""
    config = world.config("feeder")
    pipeline = config.pipeline["risk"]
    client = wiring.client(config)
    rng = random.Random(first)
    events, labels = [], []
    for i in range(first, last):
        ts, key = START + i * 1000, b"k%d" % (i % 40)
        age = rng.gauss(40, 12)
        y = "high" if age + rng.gauss(0, 5) > 45 else "low"
        event: dict[str, object] = {"id": f"e{i}", "ts": ts, "features": {"age": age, "job": rng.choice("abc")}}
        if i % 4 == 0:
            event["label"] = y
        if i % 40 == 39:
            event["features"] = "none"
        events.append(Output("", key, json.dumps(event).encode(), ts))
        if i % 4 == 1:
            labels.append(Output("", key, json.dumps({"id": f"e{i}", "label": y}).encode(), ts))
        if i % 4 == 2:
            late = max(first, i - 30)
            labels.append(
                Output("", b"k%d" % (late % 40), json.dumps({"id": f"e{late}", "label": y}).encode(), ts)
            )
    client.append(pipeline.events, events)
    client.append(pipeline.labels or "", labels)
    client.close()


def make_topics(world: World) -> None:
    from streamd.cli.topics import create

    config = world.config("feeder")
    client = wiring.client(config)
    create(config, client, PARTITIONS)
    client.close()


def lose_snapshots(world: World, all_of_them: bool) -> None:
    store = wiring.store(world.config("feeder"))
    for shard in store.shards():
        if shard.startswith(world.group):
            for info in list(store.list(shard))[: None if all_of_them else 1]:
                store.delete(shard, info.sequence)
    store.close()


def check(world: World, report: Path) -> None:
    config = world.config("checker")
    pipeline = config.pipeline["risk"]
    client, store = wiring.client(config), wiring.store(config)
    wrong: list[str] = []
    events = epochs = 0
    for partition in range(PARTITIONS):
        newest = store.list(f"{config.group}.risk.{partition}")[0].sequence
        manifest = snapshot.read_manifest(store.load(f"{config.group}.risk.{partition}", newest)[0])
        task = Predicting(wiring.settings(config, pipeline), wiring.learner("risk", pipeline), partition)
        shard = Shard(partition, pipeline.inputs, task)
        outputs: list[Output] = []
        connection = python_connection([world.broker], Security())
        journal = f"{config.group}.risk.journal"
        for entry in read_journal(connection, journal, partition, 0, 0, newest, 20.0):
            records = decode(entry.entry, entry.sequence).records(partition)
            expected = dict(shard.positions)
            for record in records:
                if record.topic and record.offset != expected[record.topic]:
                    wrong.append(
                        f"{record.topic} {partition}: {record.offset} where {expected[record.topic]} was next"
                    )
                if record.topic:
                    expected[record.topic] = record.offset + 1
            shard.take(records)
            made, moved = shard.epoch()
            outputs += made
            known = decode(entry.entry, entry.sequence)
            again = decode(moved.entry, moved.sequence)
            if (known.memos, _plain(known.refused)) != (again.memos, _plain(again.refused)):
                wrong.append(f"partition {partition} epoch {entry.sequence}: decided otherwise")
            shard.committed(entry.offset)
        for topic in pipeline.inputs:
            end = client.ends(topic)[partition][1]
            if shard.positions[topic] != end:
                wrong.append(
                    f"{topic} {partition}: the journal ends at {shard.positions[topic]}, the topic at {end}"
                )
        for topic in (pipeline.predictions_topic, pipeline.dead_letters_topic):
            there = [(r.key, r.value) for r in client.read(topic, partition, 0, 10**6)]
            if there != [(o.key, o.value) for o in outputs if o.topic == topic]:
                wrong.append(f"{topic} {partition}: not what the journal's records lead to ({len(there)} there)")
        if snapshot.digest(task.freeze()()) != manifest.digest:
            wrong.append(f"partition {partition}: the state differs from the newest snapshot")
        events += task.counts["events"]
        epochs += newest
    report.write_text(json.dumps({"wrong": wrong, "events": events, "epochs": epochs}))


def _plain(refused: dict[int, Refusal]) -> dict[int, tuple[bool, str]]:
    return {i: (refusal.whole, refusal.reason) for i, refusal in refused.items()}


# --- the parent


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {PATIENCE:g} s in vain until {what}")
        time.sleep(0.02)


class Run:
    """The scenarios, each leaving no worker behind."""

    def __init__(self, world: World, seed: int, chunk: int) -> None:
        self.world = world
        self.rng = random.Random(seed)
        self.chunk = chunk
        self.fed = 0
        self.counts: Counter[str] = Counter()
        self.steps: Counter[str] = Counter()  # seen
        self.killed: Counter[str] = Counter()

    def feed(self) -> None:
        first, self.fed = self.fed, self.fed + self.chunk
        done(lambda: append(self.world, first, first + self.chunk))

    def drain(self, life: Life) -> None:
        life.signal(signal.SIGTERM)
        code = life.wait()
        if code != 0:
            raise RuntimeError(f"{life.worker} ended with {code} when drained")

    def idle(self, life: Life, partitions: int = PARTITIONS) -> None:
        def reached() -> bool:
            if (code := life.ended()) is not None:
                raise RuntimeError(f"{life.worker} ended with {code}")
            seen = life.seen()
            self.steps.update(seen.get("steps", {}).keys())
            return len(seen["partitions"]) == partitions and bool(seen["idle"])

        until(reached, f"{life.worker} is idle on {partitions} partitions")

    def plain(self) -> None:
        """One untroubled life."""
        self.feed()
        life = begin(self.world, "w0")
        self.idle(life)
        self.drain(life)

    def kill_at_step(self) -> None:
        """SIGKILL at a step, chosen among those killed at least."""
        self.feed()
        names = self.rng.sample(sorted(self.steps), len(self.steps))
        step = min(names, key=self.killed.__getitem__)
        self.killed[step] += 1
        life = begin(self.world, "w0", step, self.rng.randint(1, 3))
        code: list[int] = []

        def over() -> bool:
            if (ended := life.ended()) is not None:
                code.append(ended)
            return bool(code) or (len(life.seen()["partitions"]) == PARTITIONS and life.seen()["idle"])

        until(over, f"w0 dies at {step}, or is idle")
        if not code:
            life.signal(signal.SIGKILL)
            code.append(life.wait())
        if code[0] != -signal.SIGKILL:
            raise RuntimeError(f"w0 ended with {code[0]} instead of being killed at {step}")
        self.counts["killed at a step"] += 1

    def kill_any_time(self) -> None:
        """SIGKILL by another process, at no step in particular."""
        self.feed()
        life = begin(self.world, "w0")
        moments = self.rng.randint(1, 60)
        for _ in range(moments):
            if life.ended() is not None:
                raise RuntimeError("w0 ended by itself")
            time.sleep(0.03)
        life.signal(signal.SIGKILL)
        life.wait()
        self.counts["killed at any time"] += 1

    def zombie(self) -> None:
        """SIGSTOP until the partitions have moved, then SIGCONT: what it does then must change nothing."""
        first = begin(self.world, "w0")
        until(lambda: len(first.seen()["partitions"]) == PARTITIONS, "w0 has all partitions")
        second = begin(self.world, "w1")
        until(lambda: len(second.seen()["partitions"]) == 1, "w1 has its share")
        self.feed()
        first.signal(signal.SIGSTOP)
        self.feed()
        self.idle(second)
        first.signal(signal.SIGCONT)
        self.feed()
        until(lambda: len(first.seen()["partitions"]) == 1 or first.ended() is not None, "w0 is back or gone")
        self.feed()
        self.idle(second, 1)
        self.drain(second)
        self.idle(first)
        self.drain(first)
        self.counts["zombies"] += 1

    def join_and_leave(self) -> None:
        """A second and a third worker come under load, one is killed for good, one drains."""
        lives = [begin(self.world, "w0")]
        self.feed()
        for name in ("w1", "w2"):
            lives.append(begin(self.world, name))
            self.feed()
            until(lambda: sum(len(life.seen()["partitions"]) for life in lives) >= PARTITIONS, "all is assigned")
        lives[0].signal(signal.SIGKILL)
        lives[0].wait()
        self.feed()
        self.drain(lives[1])
        self.idle(lives[2])
        self.drain(lives[2])
        self.counts["joins and leaves"] += 1

    def two_of_one_name(self) -> None:
        """The second worker of a name takes the seat; the first ends with 78 and does not come back."""
        self.feed()
        first = begin(self.world, "w0")
        until(lambda: len(first.seen()["partitions"]) == PARTITIONS, "w0 has all partitions")
        second = begin(self.world, "w0")
        codes: dict[int, int] = {}

        def one_left() -> bool:
            for life in (first, second):
                if life.pid not in codes and (code := life.ended()) is not None:
                    codes[life.pid] = code
            return bool(codes)

        until(one_left, "one of two w0 is refused")
        if set(codes.values()) != {EXIT_CONFIG} or len(codes) != 1:
            raise RuntimeError(f"two of one name ended with {sorted(codes.values())}, not with one {EXIT_CONFIG}")
        survivor = second if first.pid in codes else first
        self.idle(survivor)
        self.drain(survivor)
        self.counts["names doubled"] += 1

    def robbed(self) -> None:
        """Redis loses the newest snapshots, or all of them, while nobody runs."""
        done(lambda: lose_snapshots(self.world, self.rng.random() < 0.5))
        self.plain()
        self.counts["snapshots lost"] += 1


def run(world: World, kills: int, rounds: int, seed: int) -> dict[str, object]:
    """kills: of each kind; rounds: of each other scenario."""
    done(lambda: make_topics(world))
    this = Run(world, seed, chunk=200)
    this.plain()
    plan = [this.kill_at_step] * kills + [this.kill_any_time] * kills
    plan += [this.zombie, this.join_and_leave, this.two_of_one_name, this.robbed] * rounds
    this.rng.shuffle(plan)
    for scenario in plan:
        scenario()
    this.plain()
    file = world.folder / "report.json"
    done(lambda: check(world, file))
    found = json.loads(file.read_text())
    return {
        "client": world.client,
        "fed": this.fed,
        **found,
        **this.counts,
        "steps": dict(sorted(this.killed.items())),
    }


def main() -> None:
    from tests.servers import redis
    from tests.servers.keeper import SharedBroker

    parser = argparse.ArgumentParser()
    parser.add_argument("--client", choices=("kafka-python", "confluent"), default="kafka-python")
    parser.add_argument("--broker", help="host:port; default: one is started")
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    kernels.load()
    folder = Path(tempfile.mkdtemp(prefix="streamd-chaos-"))
    server = redis.start("valkey", folder / "redis")
    broker = None if given.broker else SharedBroker()
    try:
        group = f"chaos-{os.getpid()}-{time.time_ns() % 10**9}"
        world = World(given.broker or (broker.address if broker else ""), server.url, given.client, group, folder)
        report = run(world, given.kills, given.rounds, given.seed)
    finally:
        server.stop()
        if broker is not None:
            broker.__exit__(None, None, None)
        shutil.rmtree(folder, ignore_errors=True)
    json.dump(report, sys.stdout, indent=1)
    print()
    sys.exit(1 if report["wrong"] else 0)


if __name__ == "__main__":
    main()
