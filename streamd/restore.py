"""From what the log and the store hold to a shard that can go on: the newest usable snapshot, then the journal.

The log is the judge: its committed sequence number says where the shard is; where it has forgotten that (offsets
expire after a long stop), the journal's end does. A store that is away, or has lost its newest snapshots, costs
time; only where the journal no longer reaches back to a snapshot is there no way on.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from streamd import snapshot
from streamd.errors import StateError, Transient
from streamd.journal import decode
from streamd.ports import Log, Store, TopicInfo
from streamd.shard import Shard
from streamd.snapshot import Manifest

logger = logging.getLogger("streamd")


class Paused(Struct, frozen=True):
    """The shard must not go on, and why; the process does."""

    reason: str


class Restored(Struct, frozen=True):
    """A shard at the log's committed position, and how it got there."""

    shard: Shard
    snapshot: Manifest | None
    snapshot_bytes: int
    snapshot_written: int
    replayed: int  # journal entries


class Identity(Struct, frozen=True):
    """Whose state it is, and what makes it usable."""

    name: str  # of the shard in the store
    pipeline: str
    model: str
    meaning: Mapping[str, Any]  # the configuration behind `model`
    others: Mapping[str, Mapping[str, Any]] = {}  # models that may be live instead, by promotion

    def of(self, model: str) -> "Identity":
        """The same shard, with this one of its models live."""
        meaning = self.others.get(model)
        return self if meaning is None else replace(self, model=model, meaning=meaning)


def shard_name(group: str, pipeline: str, partition: int) -> str:
    """The name of a shard in the store."""
    return f"{group}.{pipeline}.{partition}"


def restore(
    log: Log,
    store: Store,
    identity: Identity,
    fresh: Callable[[], Shard],
    topics: Mapping[str, TopicInfo],
    progress: Callable[[], None],
) -> Restored | Paused:
    """Bring a fresh shard to the committed position. Touches nothing outside.

    topics: the inputs as they are now. progress: called after every journal entry. Raises Transient when the log
    is away, or the store is and the journal alone does not reach back; StateError when journal and snapshots do
    not meet.
    """
    shard = fresh()
    committed = log.committed(shard.partition)
    through = committed.sequence or None
    found, away = _newest(store, identity.name, through)
    if found is not None:
        manifest, size, written, state = found
        reason = _differs(manifest, identity, topics, shard)
        if reason:
            return Paused(reason)
        shard.restore(state, manifest.sequence, manifest.positions, manifest.journal_offset)
    start = shard.sequence
    try:
        _replay(log, shard, through, progress)
    except StateError as error:
        if away:
            raise Transient(f"the store is away and the journal alone does not reach back: {error}") from error
        raise StateError(
            f"{identity.name}: the log is at epoch {through or 'unknown'}, the newest usable snapshot at {start}, "
            f"and the journal does not lead from one to the other ({error}). Possible: bring lost snapshots or "
            "the journal topic back; nothing was deleted or reset"
        ) from error
    shard.positions.update(committed.positions)
    if through is None and shard.sequence:
        facts = {"shard": identity.name, "sequence": shard.sequence, "positions": dict(shard.positions)}
        logger.warning("no committed offsets: going on from the journal's end", extra={"facts": facts})
    if found is None:
        return Restored(shard, None, 0, 0, shard.sequence)
    return Restored(shard, manifest, size, written, shard.sequence - start)


def _newest(
    store: Store, name: str, through: int | None
) -> tuple[tuple[Manifest, int, int, snapshot.State] | None, bool]:
    """The newest snapshot at or below a sequence number, if one is given, that can be read; and whether the store
    was away."""
    try:
        for info in store.list(name):
            if through is not None and info.sequence > through:
                continue
            try:
                raw, chunks = store.load(name, info.sequence)
                manifest = snapshot.read_manifest(raw)
                return (manifest, info.bytes, info.written, snapshot.decode(manifest, chunks)), False
            except StateError as error:
                facts = {"shard": name, "sequence": info.sequence, "reason": str(error)}
                logger.warning("snapshot unusable, trying an older one", extra={"facts": facts})
    except Transient as error:
        logger.warning("store away at restore", extra={"facts": {"shard": name, "reason": str(error)}})
        return None, True
    return None, False


def _replay(log: Log, shard: Shard, through: int | None, progress: Callable[[], None]) -> None:
    """Apply the journal through this sequence number, or to its end."""
    if shard.sequence != through:
        for sequence, raw, offset in log.journal(shard.partition, shard.journal_offset, shard.sequence, through):
            shard.replay(decode(raw, sequence))
            shard.journal_offset = offset
            progress()


def _differs(manifest: Manifest, identity: Identity, topics: Mapping[str, TopicInfo], shard: Shard) -> str:
    """Why this snapshot cannot be continued by this configuration on these topics; empty if it can."""
    if reason := foreign(manifest, identity):
        return reason
    inputs = {topic: info for topic, info in topics.items() if topic in shard.inputs}
    return changed({topic: TopicInfo(id, manifest.partitions) for topic, id in manifest.topics.items()}, inputs)


def foreign(manifest: Manifest, identity: Identity) -> str:
    """Why this configuration cannot continue a snapshot's state, wherever it was made; empty if it can."""
    if manifest.model == identity.model or manifest.model in identity.others:
        return ""
    keys = sorted(different_keys("", manifest.config, identity.meaning))
    return f"its state was learned under another configuration; different: {', '.join(keys)}"


def changed(former: Mapping[str, TopicInfo], now: Mapping[str, TopicInfo]) -> str:
    """Why a state learned from some topics cannot go on with what they are now; empty if it can. With other
    partition counts a key's records go elsewhere: its label would miss its event, its pool have two owners."""
    for topic, info in former.items():
        if topic not in now:
            return f"its state was learned from the topic {topic}, which is no longer an input"
        if now[topic].id != info.id:
            return f"the topic {topic} was deleted and made again since its state was learned"
        if now[topic].partitions != info.partitions:
            return f"the topic {topic} had {info.partitions} partitions and has {now[topic].partitions}"
    return ""


def different_keys(path: str, old: Any, new: Any) -> set[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return set().union(
            *(
                different_keys(f"{path}.{key}".lstrip("."), old.get(key), new.get(key))
                for key in old.keys() | new.keys()
            )
        )
    return set() if old == new else {path}
