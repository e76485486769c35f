"""`streamd snapshot`: what is kept of the shards, what is in it, and going back to it."""

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import Struct
from rich.table import Table

from streamd import wiring
from streamd.cli.operating import Done as Report
from streamd.cli.operating import Partition, Urls, Workers, addresses, carry_out, partitions, report
from streamd.cli.options import ConfigFile, Json, console, existing, load, moment, print_json
from streamd.config import Config
from streamd.errors import Refused, StateError
from streamd.operating import exported
from streamd.operating.commanded import digest
from streamd.operating.inside import changes, inside
from streamd.operating.mailbox import Command
from streamd.ports import SnapshotInfo, Store
from streamd.restore import foreign, shard_name
from streamd.snapshot import Manifest

snapshots = typer.Typer(
    name="snapshot", help="What is kept of the shards, what is in it, and going back.", no_args_is_help=True
)

Pipeline = Annotated[str, typer.Argument(help="The pipeline.")]
One = Annotated[int, typer.Option("--partition", "-p", min=0, help="The shard.")]
Epoch = Annotated[int | None, typer.Option("--epoch", "-e", help="Which snapshot. [default: the newest]")]


class Kept(Struct, frozen=True):
    """A snapshot in the store. written: seconds since 1970."""

    pipeline: str
    partition: int
    epoch: int
    bytes: int
    written: float


class Shown(Struct, frozen=True):
    """What is in a snapshot."""

    shard: str
    pipeline: str
    epoch: int
    model: str
    configuration: str  # a digest of how the shard worked
    positions: dict[str, int]
    inside: dict[str, Any]


class Changed(Struct, frozen=True):
    """What changed from one snapshot to another: path -> [before, after]."""

    shard: str
    before: int
    after: int
    changes: dict[str, list[Any]]


@snapshots.command("list")
def list_snapshots(config: ConfigFile = None, json: Json = False) -> None:
    """List the snapshots that are kept, the newest of each shard first."""
    loaded = existing(load(config))
    store = wiring.store(loaded)
    try:
        found = list(_kept(loaded, store))
    finally:
        store.close()
    if json:
        print_json(found)
        return
    table = Table(box=None, pad_edge=False)
    for name in ("pipeline", "partition", "epoch", "bytes", "age"):
        table.add_column(name, justify="left" if name == "pipeline" else "right")
    for one in found:
        age = timedelta(seconds=round(time.time() - one.written))
        table.add_row(one.pipeline, str(one.partition), f"{one.epoch:,}", f"{one.bytes:,}", str(age))
    console().print(table)


def _kept(config: Config, store: Store) -> Iterator[Kept]:
    for name in config.pipeline:
        start = shard_name(config.group, name, 0).removesuffix("0")
        numbers = [shard.removeprefix(start) for shard in store.shards() if shard.startswith(start)]
        for number in sorted(int(number) for number in numbers if number.isdigit()):
            for info in store.list(f"{start}{number}"):
                yield Kept(name, number, info.sequence, info.bytes, info.written / 1000)


@snapshots.command()
def show(
    pipeline: Pipeline,
    partition: One = 0,
    epoch: Epoch = None,
    file: Annotated[Path | None, typer.Option(help="Of an exported file instead.")] = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Say what is in a snapshot, in the words of its method."""
    loaded = load(config)
    found = described(loaded, pipeline, read(file) if file else taken(loaded, pipeline, partition, epoch))
    if json:
        print_json(found)
        return
    print(f"shard {found.shard}, epoch {found.epoch:,}, model {found.model}, configuration {found.configuration}")
    print(f"next offsets: {', '.join(f'{topic} {offset:,}' for topic, offset in found.positions.items())}")
    for line in _lines(found.inside, ""):
        print(line)


@snapshots.command()
def diff(
    pipeline: Pipeline,
    before: Annotated[int, typer.Argument(help="The epoch of the earlier snapshot.")],
    after: Annotated[int | None, typer.Argument(help="Of the later one. [default: the newest]")] = None,
    partition: One = 0,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Say what changed between two snapshots of a shard."""
    loaded = load(config)
    first, last = (described(loaded, pipeline, taken(loaded, pipeline, partition, e)) for e in (before, after))
    told = {"positions": first.positions, **first.inside}, {"positions": last.positions, **last.inside}
    found = Changed(first.shard, first.epoch, last.epoch, changes(*told))
    if json:
        print_json(found)
        return
    print(f"shard {found.shard}, from epoch {found.before:,} to {found.after:,}")
    for path, (then, now) in found.changes.items():
        print(f"  {path}: {_value(then)} -> {_value(now)}")


@snapshots.command()
def export(
    pipeline: Pipeline,
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    partition: One = 0,
    epoch: Epoch = None,
    config: ConfigFile = None,
) -> None:
    """Write a snapshot to one file, the same from every store."""
    loaded = load(config)
    packed = taken(loaded, pipeline, partition, epoch)
    file.write_bytes(packed)
    manifest, _ = exported.unpack(packed)
    print(f"{manifest.shard} at epoch {manifest.sequence:,}: {len(packed):,} bytes in {file}")


@snapshots.command("import")
def import_file(
    pipeline: Pipeline,
    file: Annotated[Path, typer.Argument(help="A file that `snapshot export` wrote.")],
    partition: One = 0,
    at_offsets: Annotated[
        list[str] | None,
        typer.Option(help="TOPIC=OFFSET, of every input: start a new shard there, while no daemon runs."),
    ] = None,
    config: ConfigFile = None,
    url: Urls = None,
    workers: Workers = 1,
    json: Json = False,
) -> None:
    """Make an exported state that of a shard: an epoch in its journal, so it survives any crash.

    The shard's place in its inputs stays. With --at-offsets a shard that has no state yet starts at these
    positions: for a move to another cluster, where the old positions mean nothing.
    """
    loaded = load(config)
    packed = checked(loaded, pipeline, partition, read(file))
    if at_offsets:
        outcome = wiring.at_rest(loaded, pipeline).start(partition, packed, _offsets(at_offsets))
        report(Report(pipeline, "import", True, [], [outcome], []), json)
        return
    command = Command("import", packed, partition)
    report(carry_out(loaded, pipeline, [command], addresses(loaded, url, workers)), json)


@snapshots.command()
def rollback(
    pipeline: Pipeline,
    partition: Partition = None,
    epoch: Annotated[int | None, typer.Option("--epoch", "-e", help="To this snapshot of the shard.")] = None,
    before: Annotated[
        str | None,
        typer.Option(help="To the newest snapshot before this: a time (RFC 3339), or how long ago, as 2h or 3d."),
    ] = None,
    config: ConfigFile = None,
    url: Urls = None,
    workers: Workers = 1,
    json: Json = False,
) -> None:
    """Put what was learned back to a snapshot: an epoch in the journal, so it survives any crash.

    The place in the inputs, event time, what waits for labels and what was spent stay as they are. A match
    pipeline goes back whole, for its loads, promises and estimates mean nothing apart.
    """
    loaded = existing(load(config))
    if (epoch is None) == (before is None):
        raise Refused("say how far back: --epoch N, or --before TIME")
    count = partitions(loaded, pipeline)
    wanted = range(count) if partition is None else [partition]
    if epoch is not None and len(wanted) > 1:
        raise Refused("--epoch is of one shard; name it with --partition, or use --before")
    commands = []
    for one in wanted:
        target = epoch if before is None else _before(loaded, pipeline, one, moment(before))
        packed = checked(loaded, pipeline, one, taken(loaded, pipeline, one, target))
        commands.append(Command("rollback", packed, one))
    report(carry_out(loaded, pipeline, commands, addresses(loaded, url, workers)), json)


# --- reading


def read(file: Path) -> bytes:
    """An exported file. Raises Refused."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise Refused(f"{file} cannot be read: {error.strerror}") from None


def taken(config: Config, pipeline: str, partition: int, epoch: int | None) -> bytes:
    """A snapshot from the store, as an exported file. Raises Refused if there is none."""
    if pipeline not in config.pipeline:
        raise Refused(f"there is no pipeline {pipeline}; there are {', '.join(config.pipeline)}")
    name = shard_name(config.group, pipeline, partition)
    store = wiring.store(existing(config))
    try:
        kept = store.list(name)
        wanted = _chosen(name, kept, epoch)
        return exported.pack(*store.load(name, wanted))
    finally:
        store.close()


def _chosen(name: str, kept: Sequence[SnapshotInfo], epoch: int | None) -> int:
    if not kept:
        raise Refused(f"there is no snapshot of {name}")
    if epoch is None:
        return kept[0].sequence
    if epoch not in (known := [info.sequence for info in kept]):
        raise Refused(f"there is no snapshot of {name} at epoch {epoch}; there are {', '.join(map(str, known))}")
    return epoch


def checked(config: Config, pipeline: str, partition: int, packed: bytes) -> bytes:
    """An exported snapshot that this pipeline could continue. Raises Refused where it could not: before it is
    sent, so that a long way is not gone for nothing; the engine checks it again."""
    if pipeline not in config.pipeline:
        raise Refused(f"there is no pipeline {pipeline}; there are {', '.join(config.pipeline)}")
    try:
        manifest, _ = exported.unpack(packed)
    except StateError as error:
        raise Refused(str(error)) from None
    identity, _ = wiring.shards(config, pipeline)
    if reason := foreign(manifest, identity(partition)):
        raise Refused(f"the snapshot of {manifest.shard} at epoch {manifest.sequence} does not fit: {reason}")
    return packed


def described(config: Config, pipeline: str, packed: bytes) -> Shown:
    """What is in an exported snapshot."""
    packed = checked(config, pipeline, 0, packed)
    manifest, state = exported.unpack(packed)
    _, fresh = wiring.shards(config, pipeline)
    shard = fresh(0)
    shard.restore(state, manifest.sequence, manifest.positions, manifest.journal_offset)
    commands = {"commands": dict(shard.commands)} if shard.commands else {}
    return Shown(
        manifest.shard,
        manifest.pipeline,
        manifest.sequence,
        manifest.model,
        digest(shard.live),
        manifest.positions,
        {**inside(shard.task), **commands, "arrays": _arrays(manifest)},
    )


def _arrays(manifest: Manifest) -> dict[str, Any]:
    """How much there is of what, by part."""
    parts: dict[str, int] = {}
    for name, entry in manifest.arrays.items():
        part = name.partition("/")[0]
        parts[part] = parts.get(part, 0) + sum(chunk.bytes for chunk in entry.chunks)
    return {"format": manifest.format, "digest": manifest.digest, "compressed bytes": parts}


def _before(config: Config, pipeline: str, partition: int, moment: float) -> int:
    name = shard_name(config.group, pipeline, partition)
    store = wiring.store(config)
    try:
        kept = store.list(name)
    finally:
        store.close()
    found = [info.sequence for info in kept if info.written / 1000 <= moment]
    if not found:
        raise Refused(f"there is no snapshot of {name} from before that; `streamd snapshot list` shows those kept")
    return found[0]


def _offsets(given: Sequence[str]) -> dict[str, int]:
    found = {}
    for one in given:
        topic, equals, offset = one.partition("=")
        if not equals or not offset.isdigit():
            raise Refused(f"--at-offsets: {one} is not TOPIC=OFFSET")
        found[topic] = int(offset)
    return found


# --- for people


def _lines(found: Any, indent: str) -> Iterator[str]:
    for key, value in found.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{key}"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{key}: {_value(value)}"


def _value(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
