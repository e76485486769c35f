"""A matching pipeline on real Kafka whose worker is killed again and again; nobody may be able to tell.

    python -m tests.chaos.matching --client confluent --kills 20 --seed 1

prints a JSON report. Pools on two partitions get arrivals, some of them twice, and outcomes of what was matched,
some of them twice; every third arrival is a query, which waits if nobody is free. Odd seeds learn probabilities,
even ones take them from the edges, so that runs of arrivals are decided at once. The worker is killed with SIGKILL
at random moments and started again; at the end one runs until nothing waits. Then journal, outputs and state are
held against each other: what a fresh shard decides over the journal's records is what was decided and written,
byte for byte; no arrival has two answers, and no resource more successes and open attempts than its capacity (a
success after its time-out is ignored: accepted, it may be one too many).
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from connectors.kafka_journal import read_journal
from connectors.kafka_settings import Security, python_connection
from streamd import config as configuration
from streamd import snapshot, wiring
from streamd.cli.topics import create
from streamd.config import Config
from streamd.journal import decode
from streamd.ports import LogClient, Output
from streamd.snapshot import State
from streamd.stages.matching import Matching
from tests.chaos.evidence import kept_if_wrong, tell
from tests.servers import kafka
from tests.servers.process import free_port, kill

SETTINGS = """
group = "{group}"
[worker]
name = "w"
[log]
kind = "kafka"
brokers = ["{broker}"]
client = "{client}"
session_timeout = "6s"
[store]
kind = "sqlite"
path = "store.db"
[epoch]
interval = "20ms"
max_records = 60
[snapshot]
interval = "50ms"
work = 1
[http]
enabled = false
[pipeline.desk]
task = "match"
events = "{group}-arrivals"
resources = "{group}-resources"
outcomes = "{group}-outcomes"
matches = "{group}-matches"
timeout = "1h"
late = "ignore"
rule = {{ hold = "block", seed = 3 }}
probabilities = {{ {source} }}
hindsight = {{ every = 50 }}
"""
POOLS = ("north", "south", "east", "west")
RESOURCES, CAPACITY = 12, 6
PARTITIONS = 2
EMPTY = np.zeros(0)


class Play:
    """The world of one run: a feeder in this process, a worker in another."""

    def __init__(self, broker: str, client: str, seed: int, folder: Path) -> None:
        self.broker = broker
        self.rng = random.Random(seed)
        self.folder = folder
        group = f"cm-{os.getpid()}-{time.time_ns() % 10**9}"
        self.file = folder / "streamd.toml"
        source = 'kind = "beta", explore = "thompson"' if seed % 2 else 'kind = "event"'
        self.file.write_text(SETTINGS.format(group=group, broker=broker, client=client, source=source))
        self.config: Config = configuration.load(self.file)
        self.pipeline = self.config.pipeline["desk"]
        self.client: LogClient = wiring.client(self.config)
        create(self.config, self.client, PARTITIONS)
        self.arrivals = 0
        self._read = dict.fromkeys(range(PARTITIONS), 0)
        self._resources()

    def _send(self, topic: str, told: list[dict[str, Any]]) -> None:
        now = int(time.time() * 1000)
        self.client.append(topic, [Output("", t["pool"].encode(), json.dumps(t).encode(), now) for t in told])

    def _resources(self) -> None:
        put = [
            {"id": f"r{u:02}", "pool": pool, "capacity": CAPACITY, "refill": {"amount": 2, "every": 4000}}
            for pool in POOLS
            for u in range(RESOURCES)
        ]
        self._send(self.pipeline.inputs[1], put)

    def feed(self) -> None:
        """A few arrivals, and outcomes of what was matched meanwhile."""
        new = range(self.arrivals, self.arrivals + 12)
        self.arrivals += 12
        now = int(time.time() * 1000)
        again = self.rng.sample(range(self.arrivals), 2)
        asked = [
            {
                "id": f"a{i}",
                "pool": POOLS[i % len(POOLS)],
                "kind": str(i % 3),
                "edges": [[f"r{(i * 7 + k) % RESOURCES:02}", 0.2 + 0.13 * k] for k in range(5)],
            }
            | ({"reply": {"topic": "labels", "key": "k"}, "deadline": now + 3000} if i % 3 == 0 else {})
            for i in (*new, *again)
        ]
        self._send(self.pipeline.events, asked)
        self._send(self.pipeline.inputs[2], list(self._outcomes()))

    def _outcomes(self) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        if self.pipeline.answers not in self.client.topics():
            return told
        for partition, offset in self._read.items():
            found = self.client.read(self.pipeline.answers, partition, offset, 1000)
            for record in found:
                self._read[partition] = record.offset + 1  # transactions take offsets, too
                match = json.loads(record.value or b"")
                if "resource" in match and self.rng.random() < 0.8:
                    one = {"id": match["id"], "pool": match["pool"], "success": self.rng.random() < 0.5}
                    told += [one] * self.rng.choice([1, 1, 2])
        return told

    def worker(self, *more: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "streamd.cli", "run", "--config", str(self.file), *more]
        return subprocess.Popen(command, stderr=(self.folder / "said").open("ab"))

    def live(self, kills: int) -> None:
        """Workers that live for a moment, and one that lives to the end."""
        for _ in range(kills):
            process = self.worker()
            before = self._answered()
            while self._answered() == before:  # it has committed something: now it is in the midst
                assert process.poll() is None, (self.folder / "said").read_text()
                self.feed()
            end = time.monotonic() + self.rng.uniform(0.0, 1.5)
            while time.monotonic() < end:
                self.feed()
            process.kill()
            process.wait()
        last = self.worker("--until-idle")
        assert last.wait(120) == 0, (self.folder / "said").read_text()

    def _answered(self) -> int:
        if self.pipeline.answers not in self.client.topics():
            return 0
        return sum(end for _, end in self.client.ends(self.pipeline.answers))


def check(play: Play) -> dict[str, Any]:
    """What is wrong, and how much was looked at."""
    wrong: list[str] = []
    counts: Counter[str] = Counter()
    for partition in range(PARTITIONS):
        _check_partition(play, partition, wrong, counts)
    return {
        "wrong": wrong,
        "arrivals": counts["arrivals"],
        "matched": counts["matched"],
        "waited": counts["waited"],
        "epochs": counts["epochs"],
    }


def _check_partition(play: Play, partition: int, wrong: list[str], counts: "Counter[str]") -> None:
    group, topics = play.config.group, play.pipeline.outputs
    _, fresh = wiring.shards(play.config, "desk")
    shard = fresh(partition)
    shard.positions.update(dict.fromkeys(play.pipeline.inputs, 0))
    store = wiring.store(play.config)
    newest = store.list(f"{group}.desk.{partition}")[0].sequence
    raw, chunks = store.load(f"{group}.desk.{partition}", newest)
    kept = snapshot.decode(snapshot.read_manifest(raw), chunks)
    connection, outputs = python_connection([play.broker], Security()), []
    task = shard.task
    assert isinstance(task, Matching)
    for entry in read_journal(connection, f"{group}.desk.journal", partition, 0, 0, None, 20.0):
        known = decode(entry.entry, entry.sequence)
        shard.take(known.records(partition))
        made, moved = shard.epoch()
        outputs += made
        if decode(moved.entry, moved.sequence).memos != known.memos:
            wrong.append(f"partition {partition}: epoch {entry.sequence} was decided otherwise")
        shard.committed(entry.offset)
        if entry.sequence == newest:
            found = _different(kept, shard.freeze().thaw())
            wrong += [f"partition {partition}: snapshot {newest} has another {name}" for name in found]
    for topic in topics.values():
        exists = topic in play.client.topics()
        there = play.client.read(topic, partition, 0, 10**6) if exists else []
        if [(r.key, r.value) for r in there] != [(o.key, o.value) for o in outputs if o.topic == topic]:
            wrong.append(f"partition {partition}: {topic} is not what the journal leads to ({len(there)} there)")
        if topic == topics["matches"]:
            wrong += _twice([json.loads(record.value or b"") for record in there])
    ends = {topic: play.client.ends(topic)[partition][1] for topic in play.pipeline.inputs}
    if shard.positions != ends:
        wrong.append(f"partition {partition}: the journal ends at {shard.positions}, the topics at {ends}")
    for name, pool in task.pools.items():
        table = pool.resources.table[: pool.resources.names.size]
        if (table["used"] + table["open"] > table["capacity"]).any() or pool.counts["surplus"]:
            wrong.append(f"pool {name}: a resource gave more than it has")
        counts["arrivals"] += pool.counts["arrivals"]
        counts["matched"] += pool.counts["matched"]
    counts["waited"] += task.show().counts["waited"]
    counts["epochs"] += shard.sequence


def _different(one: State, other: State) -> list[str]:
    """The parts of two states that are not the same."""
    if snapshot.digest(one) == snapshot.digest(other):
        return []
    arrays = [
        name
        for name in sorted(one.arrays.keys() | other.arrays.keys())
        if snapshot.digest(State({name: one.arrays.get(name, EMPTY)}, {}))
        != snapshot.digest(State({name: other.arrays.get(name, EMPTY)}, {}))
    ]
    names = sorted(one.document.keys() | other.document.keys())
    documents = [f"{name} (document)" for name in names if one.document.get(name) != other.document.get(name)]
    return [*arrays, *documents]


def _twice(matches: list[dict[str, Any]]) -> list[str]:
    """Arrivals that were answered in two ways."""
    answers: dict[str, set[str]] = {}
    for match in matches:
        said = json.dumps([match.get(key) for key in ("resource", "unmatched", "p", "score", "open_until")])
        answers.setdefault(match["id"], set()).add(said)
    return [f"{name} was answered twice: {said}" for name, said in answers.items() if len(said) > 1]


def run(broker: str, client: str, kills: int, seed: int, folder: Path) -> dict[str, Any]:
    play = Play(broker, client, seed, folder)
    try:
        play.live(kills)
        return {"client": client, "kills": kills, "seed": seed, **check(play)}
    finally:
        play.client.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--client", choices=["kafka-python", "confluent"], default="kafka-python")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--broker", help="host:port; default: one of its own")
    given = parser.parse_args()
    with kept_if_wrong() as folder:
        own = None if given.broker else kafka.start(folder / "kafka", free_port())
        try:
            address = given.broker or own.address  # type: ignore[union-attr]
            report = run(address, given.client, given.kills, given.seed, folder)
        finally:
            if own is not None:
                kill(own.process)
        tell(report)


if __name__ == "__main__":
    main()
