"""An independent `read_committed` reader holds three things against each other, per partition:

* the journal: sequence numbers without gaps, every input record exactly once and in order;
* the outputs: what a fresh shard decides over the journal's records, byte for byte and in order;
* the state: that shard's digest, against the newest snapshot in Redis.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from connectors.kafka_journal import read_journal
from connectors.kafka_settings import Security, python_connection
from streamd import snapshot, wiring
from streamd.config import Config
from streamd.journal import Entry, Refusal, decode
from streamd.ports import LogClient, Output, Record, Store
from streamd.snapshot import Manifest
from streamd.stages.predicting import Predicting
from tests.chaos.world import World


def check(world: World, report: Path, partitions: int, paused: int = 0) -> None:
    """Write what is wrong, and how much was looked at. paused: the first so many partitions need not have been
    read to their end, nor have a snapshot of it."""
    config = world.config("checker")
    client, store = wiring.client(config), wiring.store(config)
    found = [_Partition(world, config, p) for p in range(partitions)]
    for partition in found:
        partition.check_journal(store)
        partition.check_outputs(client)
        if partition.number >= paused:
            partition.check_ends(client)
    report.write_text(
        json.dumps(
            {
                "wrong": [line for partition in found for line in partition.wrong],
                "events": sum(partition.task.counts["events"] for partition in found),
                "epochs": sum(partition.shard.sequence for partition in found),
            }
        )
    )


class _Partition:
    def __init__(self, world: World, config: Config, number: int) -> None:
        self.number = number
        self.wrong: list[str] = []
        self._pipeline = pipeline = config.pipeline["risk"]
        self._name = f"{config.group}.risk.{number}"
        self._journal = (python_connection([world.broker], Security()), f"{config.group}.risk.journal")
        self.shard = wiring.shards(config, "risk")[1](number)
        task = self.shard.task
        assert isinstance(task, Predicting)
        self.task = task
        self.shard.positions.update(dict.fromkeys(pipeline.inputs, 0))  # nothing was ever deleted from them
        self._outputs: list[Output] = []
        self._newest = 0

    def check_journal(self, store: Store) -> None:
        """Decide anew over the journal's records; on the way, compare the state with the newest snapshot."""
        newest = self._manifest(store)
        for entry in read_journal(*self._journal, self.number, 0, 0, None, 20.0):
            known = decode(entry.entry, entry.sequence)
            records = known.records(self.number)
            self._check_order(records)
            self.shard.take(records)
            made, moved = self.shard.epoch()
            self._outputs += made
            if _decisions(known) != _decisions(decode(moved.entry, moved.sequence)):
                self._find(f"epoch {entry.sequence} was decided otherwise")
            self.shard.committed(entry.offset)
            if newest is not None and newest.sequence == entry.sequence:
                self._check_state(newest)

    def _manifest(self, store: Store) -> Manifest | None:
        for info in store.list(self._name)[:1]:
            self._newest = info.sequence
            return snapshot.read_manifest(store.load(self._name, info.sequence)[0])
        self._find("no snapshot is left")
        return None

    def _check_order(self, records: list[Record]) -> None:
        expected = dict(self.shard.positions)
        for record in records:
            if not record.topic:
                continue
            if record.offset != expected[record.topic]:
                self._find(f"{record.topic}: {record.offset} where {expected[record.topic]} was next")
            expected[record.topic] = record.offset + 1

    def _check_state(self, manifest: Manifest) -> None:
        if snapshot.digest(self.shard.freeze().thaw()) != manifest.digest:
            self._find(f"the state differs from snapshot {manifest.sequence}")
        if manifest.positions != self.shard.positions:
            self._find(f"snapshot {manifest.sequence} has other positions")

    def check_outputs(self, client: LogClient) -> None:
        for topic in (self._pipeline.predictions_topic, self._pipeline.dead_letters_topic):
            there = [(r.offset, r.key, r.value) for r in client.read(topic, self.number, 0, 10**6)]
            due = [(o.key, o.value) for o in self._outputs if o.topic == topic]
            if (at := _first_difference([record[1:] for record in there], due)) is not None:
                self._find(
                    f"{topic}: {len(there)} records where the journal's lead to {len(due)}, and number {at} is "
                    f"{there[at : at + 1]}, not {due[at : at + 1]}"
                )

    def check_ends(self, client: LogClient) -> None:
        for topic in self._pipeline.inputs:
            position, end = self.shard.positions[topic], client.ends(topic)[self.number][1]
            if position != end:
                self._find(f"{topic}: the journal ends at {position}, the topic at {end}")
        if self._newest != self.shard.sequence:
            self._find(f"the newest snapshot is of {self._newest}, the journal ends at {self.shard.sequence}")

    def _find(self, what: str) -> None:
        self.wrong.append(f"partition {self.number}: {what}")


def _first_difference(a: Sequence[object], b: Sequence[object]) -> int | None:
    if a == b:
        return None
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _decisions(entry: Entry) -> tuple[list[bytes], dict[int, tuple[bool, str]]]:
    return entry.memos, {i: _plain(refusal) for i, refusal in entry.refused.items()}


def _plain(refusal: Refusal) -> tuple[bool, str]:
    return refusal.whole, refusal.reason
