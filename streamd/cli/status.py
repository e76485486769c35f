"""`streamd status`: what the running daemon shows, or else what the log and the store hold of it."""

import http.client
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from streamd import snapshot, wiring
from streamd.cli.options import ConfigFile, Json, console, existing, load, print_json
from streamd.cli.status_groups import groups_table
from streamd.cli.status_pools import pools_table
from streamd.cli.status_querying import annotators_table, querying_lines
from streamd.cli.status_text import text_lines
from streamd.config import Config, secret
from streamd.errors import StreamdError
from streamd.http.app import Pipelines
from streamd.ports import LogClient, Store
from streamd.restore import shard_name
from streamd.views import (
    AlertsView,
    EngineView,
    GroupsView,
    MatchingView,
    QueryingView,
    ShadowsView,
    ShardView,
    VocabularyView,
)
from streamd.waits import waits

TIMEOUT = 3.0  # seconds
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where a server that listens everywhere is asked


class SnapshotStatus(Struct, frozen=True):
    """written: seconds since 1970."""

    sequence: int
    bytes: int
    written: float


class ShardStatus(Struct, frozen=True):
    """waiting: records not yet processed, per input topic. positions: next offsets; when stopped, of the newest
    snapshot. last_epoch: seconds since 1970, 0 if none here yet. memory: of its state. waits: what waits for what.
    """

    partition: int
    phase: str
    reason: str
    sequence: int
    waiting: Mapping[str, int]
    positions: Mapping[str, int] | None
    events: int | None
    labels: int | None
    pending: int | None
    quality: Mapping[str, float]
    snapshot: SnapshotStatus | None
    groups: GroupsView | None = None  # of a groupwise learner that runs
    alerts: AlertsView | None = None
    vocabulary: VocabularyView | None = None  # of SS3
    matching: MatchingView | None = None
    shadows: ShadowsView | None = None
    fading: Mapping[str, float] = {}  # the quality over the fading window
    querying: QueryingView | None = None
    last_epoch: float = 0.0
    memory: int = 0
    waits: Sequence[str] = ()


class PipelineStatus(Struct, frozen=True):
    pipeline: str
    ready: bool
    reasons: Sequence[str]
    shards: Sequence[ShardStatus]


class Status(Struct, frozen=True):
    """source: `daemon` if it runs and was asked; `store` if it does not: then as of the newest snapshots."""

    source: Literal["daemon", "store"]
    group: str
    worker: str
    pipelines: Sequence[PipelineStatus]


def status(config: ConfigFile = None, json: Json = False) -> None:
    """Show the pipelines: of the running daemon, or as its log and its snapshots hold them."""
    loaded = load(config)
    running = ask(loaded)
    found = of_daemon(running) if running else at_rest(loaded)
    if json:
        print_json(found)
    else:
        _print(found)


# --- a running daemon


def ask(config: Config) -> Pipelines | None:
    """What the daemon of this configuration shows; None if nothing, or another group's daemon, answers there.

    Raises StreamdError if it refuses the token.
    """
    if not config.http.enabled or config.http.port == 0:
        return None
    token = secret(config.http.token_file, key="http.token_file")
    host = ANYWHERE.get(config.http.host, config.http.host)
    connection = http.client.HTTPConnection(host, config.http.port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/v1/pipelines", headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    if answer.status == 401:
        raise StreamdError(f"the daemon at {host}:{config.http.port} refuses the token of http.token_file")
    return _shown(body, config)


def _shown(body: bytes, config: Config) -> Pipelines | None:
    try:
        shown = msgspec.json.decode(body, type=Pipelines)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return shown if shown.group == config.group else None


def of_daemon(shown: Pipelines) -> Status:
    """The views of a running daemon, as status."""
    pipelines = [
        PipelineStatus(view.pipeline, view.ready, view.reasons, [_live(view, shard) for shard in view.shards])
        for view in shown.pipelines
    ]
    return Status("daemon", shown.group, shown.worker, pipelines)


def _live(view: EngineView, shard: ShardView) -> ShardStatus:
    newest = shard.snapshot
    return ShardStatus(
        partition=shard.partition,
        phase=shard.phase,
        reason=shard.reason,
        sequence=shard.sequence,
        waiting={lag.topic: lag.records for lag in view.lag if lag.partition == shard.partition},
        positions=shard.positions,
        events=shard.counts.get("arrivals" if view.task == "match" else "events", 0),
        labels=shard.quality.labels,
        pending=shard.pending,
        quality=shard.quality.total,
        snapshot=None if newest is None else SnapshotStatus(newest.sequence, newest.bytes, newest.written),
        groups=shard.groups,
        alerts=shard.alerts,
        vocabulary=shard.vocabulary,
        matching=shard.matching,
        shadows=shard.shadows,
        fading=shard.quality.fading,
        last_epoch=shard.last_epoch,
        memory=0 if newest is None else newest.memory,
        waits=tuple(waits(view, shard)),
        querying=shard.querying,
    )


# --- a daemon at rest


def at_rest(config: Config) -> Status:
    """What log and store hold. A daemon that was drained is exactly there; one that was killed goes on from its
    journal, ahead of its newest snapshot."""
    client, store = wiring.client(existing(config)), wiring.store(config)
    try:
        pipelines = [
            PipelineStatus(name, False, ["not running"], list(_stored(config, name, client, store)))
            for name in config.pipeline
        ]
    finally:
        store.close()
        client.close()
    return Status("store", config.group, config.worker.name, pipelines)


def _stored(config: Config, name: str, client: LogClient, store: Store) -> Iterator[ShardStatus]:
    known = client.topics()
    ends = {topic: client.ends(topic) for topic in config.pipeline[name].inputs if topic in known}
    for partition in range(max((len(end) for end in ends.values()), default=0)):
        newest, positions = _snapshot(store, shard_name(config.group, name, partition))
        waiting = {
            topic: end[partition][1] - max(positions.get(topic, 0), end[partition][0])
            for topic, end in ends.items()
            if partition < len(end)
        }
        yield ShardStatus(
            partition=partition,
            phase="stopped",
            reason="" if newest else "no snapshot",
            sequence=newest.sequence if newest else 0,
            waiting=waiting,
            positions=positions,
            events=None,
            labels=None,
            pending=None,
            quality={},
            snapshot=newest,
        )


def _snapshot(store: Store, shard: str) -> tuple[SnapshotStatus | None, Mapping[str, int]]:
    kept = store.list(shard)
    if not kept:
        return None, {}
    raw, _ = store.load(shard, kept[0].sequence)
    newest = SnapshotStatus(kept[0].sequence, kept[0].bytes, kept[0].written / 1000)
    return newest, snapshot.read_manifest(raw).positions


# --- for people


def _print(found: Status) -> None:
    out = console()
    where = f"worker {found.worker}" if found.source == "daemon" else "not running; as of the newest snapshots"
    out.print(f"group {found.group}, {where}")
    for pipeline in found.pipelines:
        reasons = f": {'; '.join(pipeline.reasons)}" if pipeline.reasons else ""
        out.print(f"\n{pipeline.pipeline} is {'ready' if pipeline.ready else 'not ready'}{reasons}")
        out.print(_table(pipeline.shards))
        for shard in pipeline.shards:
            _print_place(out, shard)
            for line in text_lines(shard.partition, shard.vocabulary, shard.alerts):
                out.print(line)
        for shard in pipeline.shards:
            if shard.groups is not None:
                out.print(groups_table(shard.partition, shard.groups))
        for shard in pipeline.shards:
            if shard.matching is not None:
                out.print(pools_table(shard.partition, shard.matching))
        for shard in pipeline.shards:
            if shard.querying is not None:
                out.print("\n".join(querying_lines(shard.partition, shard.querying)))
                if shard.querying.annotators:
                    out.print(annotators_table(shard.querying))
        if any(shard.shadows for shard in pipeline.shards):
            out.print(_shadows(pipeline.shards))


def _print_place(out: Console, shard: ShardStatus) -> None:
    """Where a shard is in its inputs, what it takes in memory, its last epoch's age, and what waits."""
    places = [f"{topic} {offset:,}" for topic, offset in (shard.positions or {}).items()]
    told = [f"next offsets {', '.join(places)}"] if places else []
    told += [f"{shard.memory / 1024:,.0f} KB of state"] if shard.memory else []
    told += [f"last epoch {time.time() - shard.last_epoch:,.0f} s ago"] if shard.last_epoch else []
    for line in filter(None, ["; ".join(told), *shard.waits]):
        out.print(f"  partition {shard.partition}: {line}")


def _table(shards: Sequence[ShardStatus]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("partition", "phase", "epochs", "waiting", "events", "labels", "pending", "quality", "snapshot"):
        table.add_column(name, justify="left" if name in ("phase", "quality", "snapshot") else "right")
    for shard in shards:
        table.add_row(
            str(shard.partition),
            shard.phase,
            f"{shard.sequence:,}",
            f"{sum(shard.waiting.values()):,}",
            *(("" if count is None else f"{count:,}") for count in (shard.events, shard.labels, shard.pending)),
            _measures(shard.quality),
            _age(shard.snapshot),
        )
    return table


def _shadows(shards: Sequence[ShardStatus]) -> Table:
    """The fading quality of the live model and of its shadows, side by side."""
    table = Table(box=None, pad_edge=False)
    for name in ("partition", "model", "", "labels", "refused", "fading quality"):
        table.add_column(name, justify="right" if name in ("partition", "labels", "refused") else "left")
    for shard in shards:
        if shard.shadows is None:
            continue
        live = (shard.shadows.live, "live", f"{shard.labels or 0:,}", "", _measures(shard.fading))
        table.add_row(str(shard.partition), *live)
        for shadow in shard.shadows.shadows:
            counts = (f"{shadow.labels:,}", f"{shadow.refused:,}")
            table.add_row("", shadow.model, f"shadow {shadow.shadow}", *counts, _measures(shadow.fading))
    return table


def _measures(quality: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in quality.items())


def _age(newest: SnapshotStatus | None) -> str:
    if newest is None:
        return "none"
    return f"epoch {newest.sequence:,}, {newest.bytes / 1024:,.0f} KB, {time.time() - newest.written:,.0f} s old"
