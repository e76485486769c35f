"""Backfill: a new pipeline learns from what the log still holds before it serves what comes.

Where the history begins and ends is fixed when the shard begins, by its first epoch, the command `backfill`; so a
crash in the middle goes on with the same history, and the stream is joined where it ended, each record taken once.
Of history nothing is answered: predictions, alerts and queries are not written, or to a topic of their own, and no
label is asked for. Records that are refused become dead letters as ever.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from streamd.errors import Refused
from streamd.ports import LogClient, Output, Record

COMMAND = "backfill"


class Span(Struct, frozen=True):
    """The payload of the command, in JSON: per input topic the first record's offset, and that after the last."""

    start: dict[str, int]
    until: dict[str, int]


def read(payload: bytes, sequence: int) -> Span:
    """Raises Refused where it is not a shard's first epoch."""
    if sequence:
        raise Refused("a backfill is the first thing a shard does; give the pipeline another name to begin anew")
    try:
        return msgspec.json.decode(payload, type=Span)
    except msgspec.MsgspecError as error:
        raise Refused(f"backfill: {error}") from None


def cut(records: Sequence[Record], until: Mapping[str, int]) -> Iterator[tuple[bool, Sequence[Record]]]:
    """Runs of records, and whether they are history. A tick is not: it comes when nothing is left to take."""
    if not until:
        yield False, records
        return
    runs = groupby(records, key=lambda record: record.offset < until.get(record.topic, 0))
    yield from ((past, list(run)) for past, run in runs)


def left(until: Mapping[str, int], positions: Mapping[str, int]) -> int:
    """How many offsets of history are still ahead."""
    return sum(max(0, end - positions.get(topic, 0)) for topic, end in until.items())


def unanswered(outputs: Sequence[Output], dead: str, topic: str | None) -> list[Output]:
    """What is written of the answers to history. topic: where they go instead; None: nowhere."""
    kept = [output for output in outputs if output.topic == dead or topic is not None]
    return [output if output.topic == dead else replace(output, topic=topic or "") for output in kept]


def span(
    client: LogClient,
    partition: int,
    inputs: Sequence[str],
    since: int,
    offsets: Mapping[str, int],
) -> Span:
    """The history of one partition, up to now. since: milliseconds since 1970; offsets: of topics, instead.

    An offset that is no longer kept is the oldest that is.
    """
    start, until = {}, {}
    for topic in inputs:
        oldest, end = client.ends(topic)[partition]
        at = (
            offsets.get(topic, 0)
            if topic in offsets
            else _first_since(client, topic, partition, oldest, end, since)
        )
        start[topic], until[topic] = min(max(at, oldest), end), end
    return Span(start, until)


def _first_since(client: LogClient, topic: str, partition: int, low: int, high: int, since: int) -> int:
    """The first offset whose record is not older than `since`, where times do not go back."""
    while since and low < high:
        middle = (low + high) // 2
        found = client.read(topic, partition, middle, 1)
        if found and found[0].timestamp < since:
            low = found[0].offset + 1
        else:
            high = middle
    return low


Begin = Callable[[int], bytes]
"""The payload of a partition's backfill, as of now."""
