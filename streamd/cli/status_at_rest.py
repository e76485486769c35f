"""What the store holds of the shards while no daemon runs: for `streamd status`, and for `streamd check`."""

from collections.abc import Iterator, Mapping, Sequence

from streamd import snapshot, wiring
from streamd.cli.status_shard import PipelineStatus, ShardStatus, SnapshotStatus
from streamd.config import Config
from streamd.errors import StateError
from streamd.ports import LogClient, Store
from streamd.restore import foreign, shard_name
from streamd.snapshot import Manifest
from streamd.views import TaskView


def stored(config: Config, name: str, client: LogClient, store: Store) -> PipelineStatus:
    """One pipeline as of its newest snapshots: exactly there after a drain; after a kill it goes on from its
    journal, ahead of them."""
    known = client.topics()
    ends = {topic: client.ends(topic) for topic in config.pipeline[name].inputs if topic in known}
    shards = [
        _shard(config, name, partition, ends, store)
        for partition in range(max((len(end) for end in ends.values()), default=0))
    ]
    return PipelineStatus(name, False, ["not running"], shards)


def _shard(
    config: Config, name: str, partition: int, ends: Mapping[str, Sequence[tuple[int, int]]], store: Store
) -> ShardStatus:
    newest, manifest, shown, reason = newest_of(config, name, partition, store)
    positions = {} if manifest is None else manifest.positions
    waiting = {
        topic: end[partition][1] - max(positions.get(topic, 0), end[partition][0])
        for topic, end in ends.items()
        if partition < len(end)
    }
    found = ShardStatus(
        partition=partition,
        phase="stopped",
        reason=reason,
        sequence=newest.sequence if newest else 0,
        waiting=waiting,
        positions=positions,
        snapshot=newest,
        memory=0 if manifest is None else snapshot.memory(manifest),
    )
    return found if shown is None else found.with_task(shown, config.pipeline[name].task)


def newest_of(
    config: Config, name: str, partition: int, store: Store
) -> tuple[SnapshotStatus | None, Manifest | None, TaskView | None, str]:
    """A shard's newest snapshot, what its task shows, and why that cannot be seen, if so."""
    identity, fresh = wiring.shards(config, name)
    kept = store.list(identity(partition).name)
    if not kept:
        return None, None, None, "no snapshot"
    newest = SnapshotStatus(kept[0].sequence, kept[0].bytes, kept[0].written / 1000)
    try:
        raw, chunks = store.load(identity(partition).name, kept[0].sequence)
        manifest = snapshot.read_manifest(raw)
        if reason := foreign(manifest, identity(partition)):
            return newest, manifest, None, reason
        shard = fresh(partition)
        state = snapshot.decode(manifest, chunks)
        shard.restore(state, manifest.sequence, manifest.positions, manifest.journal_offset)
    except StateError as error:
        return newest, None, None, str(error)
    return newest, manifest, shard.task.show(), ""


def partitions_kept(config: Config, name: str, store: Store) -> Iterator[int]:
    """The partitions of which the store holds something."""
    start = shard_name(config.group, name, 0).removesuffix("0")
    numbers = (shard.removeprefix(start) for shard in store.shards() if shard.startswith(start))
    yield from sorted(int(number) for number in numbers if number.isdigit())
