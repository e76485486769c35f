"""From what the log and the store hold to a shard that can go on: the newest usable snapshot, then the journal.

The log is the judge: its committed sequence number says where the shard is; where it has forgotten that (offsets
expire after a long stop), the journal's end does. A store that is away, or has lost its newest snapshots, costs
time; only where the journal no longer reaches back to a snapshot is there no way on.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from streamd import snapshot
from streamd.errors import StateError, Transient
from streamd.journal import Entry, decode
from streamd.operating.choices import CAUTIOUS, Choices
from streamd.operating.commanded import PART
from streamd.ports import Log, Store, TopicInfo
from streamd.shard import Shard
from streamd.snapshot import Manifest

logger = logging.getLogger("streamd")

ACCEPT = (
    "; `streamd run --on-grown-topic accept` goes on, for keys whose later records may be on another partition"
)


class Paused(Struct, frozen=True):
    """The shard must not go on, and why; the process does."""

    reason: str


class Changed(Paused, frozen=True):
    """Its state was learned under another configuration. live: how it worked then, as the journal keeps it."""

    live: bytes


class Restored(Struct, frozen=True):
    """A shard at the log's committed position, and how it got there.

    lost: epochs whose learning is missing in it. accepted: the growth of the inputs that the operator accepted.
    After either, a snapshot must be written before the shard goes on, so that the next restart need not ask again.
    """

    shard: Shard
    snapshot: Manifest | None
    snapshot_bytes: int
    snapshot_written: int
    replayed: int  # journal entries
    lost: int = 0
    accepted: str = ""


class Identity(Struct, frozen=True):
    """Whose state it is, and what makes it usable.

    meant: what gave a state its meaning that worked as the journal's `live` says; None if that cannot be told.
    """

    name: str  # of the shard in the store
    pipeline: str
    model: str
    meaning: Mapping[str, Any]  # the configuration behind `model`
    others: Mapping[str, Mapping[str, Any]] = {}  # models that may be live instead, by promotion
    meant: Callable[[bytes], Mapping[str, Any] | None] = lambda live: None

    def of(self, model: str) -> "Identity":
        """The same shard, with this one of its models live."""
        meaning = self.others.get(model)
        return self if meaning is None else replace(self, model=model, meaning=meaning)

    def differs(self, live: bytes) -> str:
        """Why a state that begins so cannot be continued; empty if it can, or that cannot be told."""
        then = self.meant(live)
        if then is None or then == self.meaning or then in self.others.values():
            return ""
        return _otherwise(then, self.meaning)


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
    choices: Choices = CAUTIOUS,
) -> Restored | Paused:
    """Bring a fresh shard to the committed position. Touches nothing outside.

    topics: the inputs as they are now. progress: called after every journal entry. choices: the operator's. Raises
    Transient when the log is away, or the store is and the journal alone does not reach back; StateError when
    journal and snapshots do not meet and the operator has not said how to go on.
    """
    shard = fresh()
    if reason := unfit(shard.inputs, topics):
        return Paused(reason)
    topics = {topic: topics[topic] for topic in shard.inputs}
    committed = log.committed(shard.partition)
    through = committed.sequence or None
    found, away = _newest(store, identity.name, through)
    replay = Replay(identity, fresh, shard)
    if found is not None:
        replay.start(found.manifest, found.state)
    shard, lost = _catch_up(log, replay, fresh, identity.name, through, away, progress, choices)
    if replay.changed is not None:
        change = changed(_still(_former(shard, None if found is None else found.manifest, topics), topics), topics)
        return Paused(change) if change and choices.on_grown_topic != "accept" else replay.changed
    shard.positions.update(committed.positions)
    if through is None and shard.sequence:
        facts = {"shard": identity.name, "sequence": shard.sequence, "positions": dict(shard.positions)}
        logger.warning("no committed offsets: going on from the journal's end", extra={"facts": facts})
    if replay.began:
        found = None  # what it holds is of before
    former = _former(shard, None if found is None else found.manifest, topics)
    change = changed(former, topics)
    if change and not _only_grown(former, topics):
        return Paused(change)
    if change and choices.on_grown_topic != "accept":
        return Paused(change + ACCEPT)
    shard.partitions = topics[shard.inputs[0]].partitions
    if found is None:
        return Restored(shard, None, 0, 0, replay.entries, lost, change)
    return Restored(shard, found.manifest, found.size, found.written, replay.entries, lost, change)


class Replay:
    """A shard on its way through the journal, from a snapshot or from nothing.

    An epoch may begin the state anew: what was before does not matter then, also if this configuration could not
    continue it. changed: it cannot continue what is there now. began: it began after the snapshot. entries: those
    applied.
    """

    def __init__(self, identity: Identity, fresh: Callable[[], Shard], shard: Shard) -> None:
        self.shard = shard
        self.changed: Changed | None = None
        self.began = False
        self.entries = 0
        self._identity = identity
        self._fresh = fresh

    def start(self, manifest: Manifest, state: snapshot.State) -> None:
        """From a snapshot."""
        if reason := foreign(manifest, self._identity):
            self.changed = Changed(reason, state.document.get(PART, {}).get("live", b""))
            self.shard.place(manifest.sequence, manifest.positions, manifest.journal_offset, manifest.partitions)
            return
        self.shard.restore(state, manifest.sequence, manifest.positions, manifest.journal_offset)
        self.shard.partitions = manifest.partitions

    def follow(self, entry: Entry, offset: int) -> None:
        """Apply the next epoch. offset: of its entry."""
        if entry.live:
            self._begin(entry, offset)
        if self.changed is None:
            self.shard.replay(entry)
            self.entries += 1
        else:
            self.shard.place(entry.sequence, entry.positions, offset, entry.partitions or self.shard.partitions)
        self.shard.journal_offset = offset

    def _begin(self, entry: Entry, offset: int) -> None:
        if reason := self._identity.differs(entry.live):
            self.changed = Changed(reason, entry.live)
        else:
            self.changed = None
        if not self.shard.blank:
            partitions = self.shard.partitions
            self.shard = self._fresh()
            self.shard.partitions = partitions
        self.shard.place(entry.sequence - 1, {}, offset, self.shard.partitions)
        self.began = self.began or entry.sequence > 1


def _catch_up(
    log: Log,
    replay: Replay,
    fresh: Callable[[], Shard],
    name: str,
    through: int | None,
    away: bool,
    progress: Callable[[], None],
    choices: Choices,
) -> tuple[Shard, int]:
    """A shard behind the last epoch committed, and how many epochs are missing in it."""
    try:
        _replay(log, replay, through, progress)
    except StateError as error:
        shard = replay.shard
        if replay.changed is not None:
            return shard, 0
        if away:
            raise Transient(f"the store is away and the journal alone does not reach back: {error}") from error
        reason = _lost(name, shard, through, error)
        if choices.on_lost_state == "stop" or (choices.on_lost_state == "older" and not shard.sequence):
            raise StateError(reason) from error
        logger.warning("going on without what was lost", extra={"facts": {"reason": reason}})
        return _without(log, fresh() if choices.on_lost_state == "afresh" else shard, through)
    return replay.shard, 0


def _lost(name: str, shard: Shard, through: int | None, error: StateError) -> str:
    older = f"`older` goes on from the state at {shard.sequence}, " if shard.sequence else ""
    return (
        f"{name}: the log is at epoch {through or 'unknown'}, the newest state to be had at {shard.sequence}, "
        f"and the journal does not lead from one to the other ({error}). Possible: bring lost snapshots or the "
        f"journal topic back; or `streamd run --on-lost-state`: {older}`afresh` with an empty one, both after "
        "the last epoch committed. Nothing was deleted or reset"
    )


def _without(log: Log, shard: Shard, through: int | None) -> tuple[Shard, int]:
    """Put a shard behind the last epoch committed, so that nothing is answered twice, without what was learned in
    between: also how many epochs that is. Where the log has forgotten its number, the rest of the journal tells.
    """
    had, last = shard.sequence, through or shard.sequence
    if through is None:
        for entry in log.journal(shard.partition, 0, None, None):
            if entry.sequence > had:
                last = entry.sequence
                shard.positions.update(decode(entry.entry, entry.sequence).positions)
    shard.sequence = last
    shard.journal_offset = log.journal_end(shard.partition)
    return shard, last - had


class _Found(Struct, frozen=True):
    """A snapshot that can be read."""

    manifest: Manifest
    size: int
    written: int
    state: snapshot.State


def _newest(store: Store, name: str, through: int | None) -> tuple[_Found | None, bool]:
    """The newest snapshot at or below a sequence number, if one is given, that can be read; and whether the store
    was away."""
    try:
        for info in store.list(name):
            if through is not None and info.sequence > through:
                continue
            try:
                raw, chunks = store.load(name, info.sequence)
                manifest = snapshot.read_manifest(raw)
                return _Found(manifest, info.bytes, info.written, snapshot.decode(manifest, chunks)), False
            except StateError as error:
                facts = {"shard": name, "sequence": info.sequence, "reason": str(error)}
                logger.warning("snapshot unusable, trying an older one", extra={"facts": facts})
    except Transient as error:
        logger.warning("store away at restore", extra={"facts": {"shard": name, "reason": str(error)}})
        return None, True
    return None, False


def _replay(log: Log, replay: Replay, through: int | None, progress: Callable[[], None]) -> None:
    """Apply the journal through this sequence number, or to its end."""
    shard = replay.shard
    if shard.sequence != through:
        for sequence, raw, offset in log.journal(shard.partition, shard.journal_offset, shard.sequence, through):
            replay.follow(decode(raw, sequence), offset)
            progress()


def unfit(inputs: Sequence[str], topics: Mapping[str, TopicInfo]) -> str:
    """Why no state can be learned from these topics as they are; empty if one can."""
    if missing := [topic for topic in inputs if topic not in topics]:
        return f"the topic {missing[0]} does not exist any more"
    counts = {topic: topics[topic].partitions for topic in inputs}
    if len(set(counts.values())) > 1:
        return f"the input topics must have as many partitions each, and have {counts}: add the missing ones"
    return ""


def _former(shard: Shard, manifest: Manifest | None, topics: Mapping[str, TopicInfo]) -> dict[str, TopicInfo]:
    """The topics that a restored state was learned from, as far as snapshot and journal tell."""
    ids = {topic: topics[topic].id for topic in shard.inputs} if manifest is None else manifest.topics
    return {
        topic: TopicInfo(id, shard.partitions or topics[shard.inputs[0]].partitions) for topic, id in ids.items()
    }


def _still(former: Mapping[str, TopicInfo], now: Mapping[str, TopicInfo]) -> dict[str, TopicInfo]:
    """Those of the topics that are inputs still."""
    return {topic: info for topic, info in former.items() if topic in now}


def _only_grown(former: Mapping[str, TopicInfo], now: Mapping[str, TopicInfo]) -> bool:
    """Whether nothing but more partitions is different."""
    return all(
        topic in now and now[topic].id == info.id and now[topic].partitions >= info.partitions
        for topic, info in former.items()
    )


def foreign(manifest: Manifest, identity: Identity) -> str:
    """Why this configuration cannot continue a snapshot's state, wherever it was made; empty if it can."""
    if manifest.model == identity.model or manifest.model in identity.others:
        return ""
    return _otherwise(manifest.config, identity.meaning)


def _otherwise(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    keys = sorted(different_keys("", then, now))
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
