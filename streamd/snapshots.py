"""Snapshots off the path: the engine copies, this thread compresses, writes and deletes.

A snapshot is due when the work since the last one exceeds `work` times what one costs, so that they take a bounded
share of the time whatever the state's size, and recovery stays in proportion to it.
"""

import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from streamd import snapshot
from streamd.errors import StateError, Transient
from streamd.ports import SnapshotInfo, Store, TopicInfo
from streamd.restore import Identity
from streamd.shard import Committed
from streamd.snapshot import Manifest
from streamd.views import SnapshotView


class Policy(Struct, frozen=True):
    """keep: how many; work: see above; interval: seconds, never more often; journal: seconds it is kept.

    budget: bytes that all snapshots of one shard may take in the store; 0: any. The oldest go first, the newest
        never before another is there; one that does not fit beside it is not written.
    hourly, daily: besides, the newest of each of so many hours and days (of UTC) that have one, to go back to.
    """

    keep: int
    work: float
    interval: float
    journal: float
    hourly: int = 0
    daily: int = 0
    budget: int = 0


class Job(Struct, frozen=True):
    """One copy to be written. pause: seconds the copy took."""

    partition: int
    identity: Identity
    topics: Mapping[str, TopicInfo]
    state: Committed
    pause: float


class Written(Struct, frozen=True):
    """The outcome of a job. view is None when the store was away or lost it, or it was `over` the budget, and
    `reason` says why."""

    partition: int
    name: str
    view: SnapshotView | None
    digest: str
    oldest_journal_offset: int  # of the snapshots kept
    cost: float  # seconds, copy and writing
    reason: str
    over: bool = False


class _Account(Struct):
    """What the schedule knows of one shard."""

    last: float  # when the last snapshot was asked for
    work: float = 0.0  # seconds since then
    cost: float = 0.0  # of the last one
    sequence: int = 0  # of the last one written
    writing: bool = False


class SnapshotWriter:
    """Decides when, and writes one at a time in a thread of its own. All methods are the engine's."""

    def __init__(self, store: Store, policy: Policy) -> None:
        self.policy = policy
        self._store = store
        self._accounts: dict[int, _Account] = {}
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Written | BaseException] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)
        self._thread.start()

    def watch(self, partition: int, sequence: int) -> None:
        """A shard has been restored from, or was just written to, the snapshot of this sequence number."""
        self._accounts[partition] = _Account(time.monotonic(), sequence=sequence)

    def worked(self, partition: int, seconds: float) -> None:
        self._accounts[partition].work += seconds

    def due(self, partition: int) -> bool:
        account = self._accounts[partition]
        return (
            not account.writing
            and account.work > self.policy.work * account.cost
            and time.monotonic() - account.last >= self.policy.interval
        )

    def stale(self, partition: int, sequence: int) -> bool:
        """Whether a shard at this sequence number is ahead of its newest snapshot."""
        return sequence > self._accounts[partition].sequence

    def submit(self, job: Job) -> None:
        account = self._accounts[job.partition]
        account.writing, account.work, account.last = True, 0.0, time.monotonic()
        self._jobs.put(job)

    def finished(self) -> list[Written]:
        """What was written since the last call. Raises what the thread died of."""
        done = []
        while not self._done.empty():
            written = self._done.get()
            if isinstance(written, BaseException):
                raise written
            account = self._accounts[written.partition]
            account.writing, account.cost = False, written.cost
            if written.view is not None:
                account.sequence = max(account.sequence, written.view.sequence)
            done.append(written)
        return done

    def close(self) -> None:
        """Write what waits, then end the thread. May be called twice."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                self._done.put(self._write(job))
                del job  # it holds a copy of the state, until the next one otherwise
        except BaseException as error:  # noqa: BLE001  handed over: the engine raises it in its own thread
            self._done.put(error)

    def _write(self, job: Job) -> Written:
        began, spent = time.monotonic(), 0.0
        name, view, digest, oldest, reason, over = job.identity.name, None, "", 0, "", False
        try:
            made = encode(job)
            spent = time.monotonic() - began
            reason = self._make_room(name, job.state.sequence, made.size)
            over = bool(reason)
            if not over:
                self._store.put(name, job.state.sequence, made.raw, made.chunks)
                kept, oldest = self._forget(name, job.state)
                digest, wrote = made.manifest.digest, time.monotonic() - began
                view = SnapshotView(
                    sequence=job.state.sequence,
                    bytes=made.size,
                    written=time.time(),
                    pause=job.pause,
                    seconds=wrote,
                    kept=kept,
                    memory=snapshot.memory(made.manifest),
                )
        except (Transient, StateError) as error:  # what a store loses costs recovery time, never the process
            view, reason = None, str(error)
        else:
            spent = time.monotonic() - began
        # Waiting for a store in vain is no work: it does not put the next attempt off.
        return Written(job.partition, name, view, digest, oldest, job.pause + spent, reason, over)

    def _make_room(self, name: str, own: int, size: int) -> str:
        """Delete the oldest snapshots until one more of this size stays within the budget. Why it cannot, although
        nothing but the newest stayed; empty where it fits."""
        budget = self.policy.budget
        if not budget:
            return ""
        kept = [info for info in self._store.list(name) if info.sequence != own]
        stays = kept[0].bytes if kept else 0
        if size + stays > budget:
            return f"{size} bytes, beside {stays} that stay until it is there, exceed snapshot.budget, {budget}"
        taken = size + sum(info.bytes for info in kept)
        while taken > budget and kept[-1].sequence < own:
            oldest = kept.pop()
            self._store.delete(name, oldest.sequence)
            taken -= oldest.bytes
        return ""

    def _forget(self, name: str, state: Committed) -> tuple[int, int]:
        """Delete what the rule does not keep and is older than our own; the newest of a former state stays.

        Returns the bytes kept, and the journal offset of the oldest of the last `keep`: what is kept beyond them
        is to go back to, and needs none.
        """
        kept, own = list(self._store.list(name)), state.sequence
        wanted = retained(kept, self.policy)
        wanted.update([info.sequence for info in kept if info.sequence < state.begun][:1])
        size = 0
        for info in kept:
            if info.sequence < own and info.sequence not in wanted:
                self._store.delete(name, info.sequence)
            else:
                size += info.bytes
        if not kept:
            raise StateError(f"snapshot {own} of {name}: lost by the store as soon as it was written")
        raw, _ = self._store.load(name, kept[: self.policy.keep][-1].sequence)
        return size, snapshot.read_manifest(raw).journal_offset


def retained(kept: Sequence[SnapshotInfo], policy: Policy) -> set[int]:
    """The sequence numbers that the rule keeps. kept: newest first."""
    wanted = {info.sequence for info in kept[: policy.keep]}
    for period, count in ((3_600_000, policy.hourly), (86_400_000, policy.daily)):
        newest: dict[int, int] = {}
        for info in kept:
            newest.setdefault(info.written // period, info.sequence)
        wanted.update(list(newest.values())[:count])
    return wanted


class Encoded(Struct, frozen=True):
    """A snapshot ready to be written. size: bytes of everything."""

    manifest: Manifest
    raw: bytes
    chunks: Iterator[bytes]
    size: int


def encode(job: Job) -> Encoded:
    """Compress the state and describe it."""
    identity, state = job.identity, job.state
    content = state.thaw()
    entries, document, chunks = snapshot.encode(content)
    manifest = Manifest(
        format=snapshot.FORMAT,
        shard=identity.name,
        pipeline=identity.pipeline,
        model=identity.model,
        config=dict[str, Any](identity.meaning),
        topics={topic: info.id for topic, info in job.topics.items()},
        partitions=max(info.partitions for info in job.topics.values()),
        positions=state.positions,
        sequence=state.sequence,
        journal_offset=state.journal_offset,
        arrays=entries,
        document=document,
        digest=snapshot.digest(content),
    )
    raw = snapshot.write_manifest(manifest)
    size = len(raw) + document.bytes + sum(c.bytes for entry in entries.values() for c in entry.chunks)
    return Encoded(manifest, raw, chunks, size)


def put(store: Store, job: Job) -> None:
    """Write one snapshot, now."""
    made = encode(job)
    store.put(job.identity.name, job.state.sequence, made.raw, made.chunks)
