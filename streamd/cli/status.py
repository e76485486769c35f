"""`streamd status`: what the running workers show, or else what the log and the store hold of it."""

import time
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import typer
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from streamd import wiring
from streamd.cli.operating import Reached, Urls, Workers, addresses, partitions, request
from streamd.cli.options import ConfigFile, Json, console, existing, load, note, print_json
from streamd.cli.status_at_rest import stored
from streamd.cli.status_groups import groups_table
from streamd.cli.status_pools import pools_table
from streamd.cli.status_querying import annotators_table, querying_lines
from streamd.cli.status_shard import PipelineStatus, ShardStatus, SnapshotStatus, live
from streamd.cli.status_text import text_lines
from streamd.config import Config, secret
from streamd.errors import EXIT_FAILURE, Transient
from streamd.http.app import Pipelines
from streamd.views import EngineView

TIMEOUT = 3.0  # seconds


class Status(Struct, frozen=True):
    """source: `daemon` if it runs and was asked; `store` if it does not: then as of the newest snapshots.

    worker: whoever answered. workers: all that were asked. missing: per pipeline the partitions that none of them
    has; looked for where more than one was asked.
    """

    source: Literal["daemon", "store"]
    group: str
    worker: str
    pipelines: Sequence[PipelineStatus]
    workers: Sequence[Reached] = ()
    missing: Mapping[str, Sequence[int]] = {}


def status(config: ConfigFile = None, url: Urls = None, workers: Workers = 1, json: Json = False) -> None:
    """Show the pipelines: of the running workers, or as the log and the snapshots hold them.

    With several workers exit 1 if one does not answer, or nobody has a partition.
    """
    loaded = load(config)
    where = addresses(loaded, url, workers)
    answers, reached = ask(loaded, where)
    found = of_daemon(loaded, answers, reached) if answers else at_rest(loaded, reached)
    if json:
        print_json(found)
    else:
        _print(found)
    if answers and (len(answers) < len(reached) or found.missing):
        raise typer.Exit(EXIT_FAILURE)


# --- running workers


def ask(config: Config, where: Sequence[str]) -> tuple[list[Pipelines], list[Reached]]:
    """What the workers of this configuration's group show, and who was asked. Raises StreamdError if one refuses
    the token."""
    token = secret(config.http.token_file, key="http.token_file")
    answers: list[Pipelines] = []
    reached: list[Reached] = []
    for one in where:
        try:
            number, body = request(one, "GET", "/v1/pipelines", token, patience=TIMEOUT)
        except Transient as failure:
            reached.append(Reached(one, error=str(failure)))
            continue
        shown = _shown(body)
        if number == 0 or shown is None:
            reached.append(Reached(one, error="" if number == 0 else f"answers {number}; is it streamd?"))
        elif shown.group != config.group:
            reached.append(Reached(one, error=f"is of the group {shown.group}"))
        else:
            answers.append(shown)
            reached.append(Reached(one, shown.worker))
    return answers, reached


def _shown(body: bytes) -> Pipelines | None:
    try:
        return msgspec.json.decode(body, type=Pipelines)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def of_daemon(config: Config, answers: Sequence[Pipelines], reached: Sequence[Reached]) -> Status:
    """The views of running workers, put together."""
    several = len(reached) > 1
    views: dict[str, list[tuple[str, EngineView]]] = {}
    for answer in answers:
        for view in answer.pipelines:
            views.setdefault(view.pipeline, []).append((answer.worker, view))
    pipelines = [_together(name, of, several) for name, of in views.items()]
    missing = {}
    for one in pipelines if several else ():
        held = {shard.partition for shard in one.shards}
        if one.pipeline in config.pipeline and (left := set(range(partitions(config, one.pipeline))) - held):
            missing[one.pipeline] = sorted(left)
    names = ", ".join(answer.worker for answer in answers)
    return Status("daemon", answers[0].group, names, pipelines, reached, missing)


def _together(name: str, views: Sequence[tuple[str, EngineView]], several: bool) -> PipelineStatus:
    reasons = [f"{who}: {reason}" if several else reason for who, view in views for reason in view.reasons]
    shards = sorted((live(view, shard) for _, view in views for shard in view.shards), key=lambda s: s.partition)
    return PipelineStatus(name, all(view.ready for _, view in views), reasons, shards)


# --- a daemon at rest


def at_rest(config: Config, reached: Sequence[Reached] = ()) -> Status:
    """What log and store hold. reached: who gave no answer; nobody at all is none."""
    client, store = wiring.client(existing(config)), wiring.store(config)
    try:
        pipelines = [stored(config, name, client, store) for name in config.pipeline]
    finally:
        store.close()
        client.close()
    silent = [worker for worker in reached if worker.error]
    return Status("store", config.group, config.worker.name, pipelines, silent)


# --- for people


def _print(found: Status) -> None:
    out = console()
    who = "workers" if "," in found.worker else "worker"
    where = f"{who} {found.worker}" if found.source == "daemon" else "not running; as of the newest snapshots"
    out.print(f"group {found.group}, {where}")
    for worker in found.workers:
        if not worker.worker:
            note(f"nobody answers at {worker.url}" if not worker.error else f"{worker.url}: {worker.error}")
    for name, missing in found.missing.items():
        numbers = ", ".join(map(str, missing))
        note(f"nobody that was asked has partitions {numbers} of {name}; name the others with --url or --workers")
    for pipeline in found.pipelines:
        reasons = f": {'; '.join(pipeline.reasons)}" if pipeline.reasons else ""
        out.print(f"\n{pipeline.pipeline} is {'ready' if pipeline.ready else 'not ready'}{reasons}")
        out.print(_table(pipeline.shards))
        for shard in pipeline.shards:
            _print_place(out, shard)
            if shard.phase == "stopped" and shard.snapshot and shard.reason:
                out.print(f"  partition {shard.partition}: {shard.reason}")
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
