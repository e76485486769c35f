"""`streamd replay --verify`: the journal decided anew, every output compared with what was written."""

from collections.abc import Callable, Sequence
from functools import partial

import typer
from msgspec import Struct

from streamd import wiring
from streamd.cli.options import console, existing, note, print_json
from streamd.config import Config
from streamd.errors import EXIT_FAILURE, Refused
from streamd.operating.verifying import Verified, Verifier
from streamd.ports import LogClient, Store


class Verification(Struct, frozen=True):
    """Of one pipeline."""

    pipeline: str
    partitions: Sequence[Verified]


def verify(config: Config, pipeline: str, progress: Callable[[int], None]) -> list[Verification]:
    """Verify a pipeline, or all of them. progress: told the records done. Raises Refused, StateError."""
    if pipeline and pipeline not in config.pipeline:
        raise Refused(f"there is no pipeline {pipeline}; there are {', '.join(config.pipeline)}")
    client, store = wiring.client(existing(config)), wiring.store(config)
    try:
        names = [pipeline] if pipeline else list(config.pipeline)
        found, done = list[Verification](), 0
        for name in names:
            found.append(_verify(config, name, client, store, partial(_told, progress, done)))
            done += sum(one.records for one in found[-1].partitions)
        return found
    finally:
        store.close()
        client.close()


def _verify(
    config: Config, name: str, client: LogClient, store: Store, progress: Callable[[int], None]
) -> Verification:
    own = config.pipeline[name]
    others = [one for other, one in config.pipeline.items() if other != name]
    shared = frozenset(topic for one in others for topic in (*one.outputs.values(), *one.inputs))
    identity, fresh = wiring.shards(config, name)
    verifier = Verifier(client, store, wiring.journal(config, name), identity, fresh, shared)
    known = client.topics()
    count = known[own.events].partitions if own.events in known else 0
    verified, done = list[Verified](), 0
    for partition in range(count):
        verified.append(verifier.verify(partition, partial(_told, progress, done)))
        done += verified[-1].records
    return Verification(name, verified)


def _told(progress: Callable[[int], None], before: int, done: int) -> None:
    progress(before + done)


def report(found: Sequence[Verification], json: bool) -> None:
    """Say what was found; exit 1 if anything differs."""
    if json:
        print_json(found)
    else:
        _print(found)
    if problems := [one for pipeline in found for one in pipeline.partitions if one.problem]:
        note(f"{len(problems)} shards differ from their journal")
        raise typer.Exit(EXIT_FAILURE)


def _print(found: Sequence[Verification]) -> None:
    out = console()
    for pipeline in found:
        for one in pipeline.partitions:
            what = f"epochs {one.after + 1:,} to {one.through:,}, {one.records:,} records, {one.outputs:,} outputs"
            gone = f" ({one.deleted:,} are no longer kept)" if one.deleted else ""
            verdict = f"DIFFERS: {one.problem}" if one.problem else "the same, byte for byte"
            out.print(f"{pipeline.pipeline} partition {one.partition}: {what}{gone}: {verdict}", soft_wrap=True)
