"""Backfill: a new or changed pipeline learns from what the log still holds before it serves what comes.

Where the history begins and ends is fixed when the state begins, by an epoch of its own, the command `backfill`;
so a crash in the middle goes on with the same history, and the stream is joined where it ended, each record taken
once. Of history nothing is answered: predictions, alerts and queries are not written, or to a topic of their own,
and no label is asked for; labels are learned as they are, without the query stage. Records that are refused become
dead letters as ever.

A state that was learned under another configuration ends where it stands: a new one begins in the epoch after its
last, and its history ends at the former's positions. What the former answered is not answered again, its dead
letters are not written again, and what it asked for and spent is taken over.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from streamd.errors import Refused
from streamd.ports import LogClient, Output, Record
from streamd.snapshot import State

COMMAND = "backfill"


class Span(Struct, frozen=True):
    """The payload of the command, in JSON: per input topic the first record's offset, and that after the last.

    again: it was answered before, by a former state. promised: what that had asked for and spent, `packed`; skips:
    the records ahead of it that were not to be tried.
    """

    start: dict[str, int]
    until: dict[str, int]
    again: bool = False
    promised: bytes = b""
    skips: list[tuple[str, int]] = []


def read(payload: bytes, blank: bool) -> Span:
    """blank: nothing was learned yet. Raises Refused where something was."""
    if not blank:
        raise Refused("a backfill begins a state; this one has begun")
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


def unanswered(outputs: Sequence[Output], again: bool, dead: str, topic: str | None) -> list[Output]:
    """What is written of the answers to history. topic: where they go instead; None: nowhere. again: it was
    answered before, so its dead letters are no exception."""
    dead = "" if again else dead
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
        begun = client.since(topic, partition, since) if since and topic not in offsets else oldest
        at = offsets.get(topic, begun)
        start[topic], until[topic] = min(max(at, oldest), end), end
    return Span(start, until)


def until_there(
    span: Span, positions: Mapping[str, int], promised: State, skips: Sequence[tuple[str, int]]
) -> Span:
    """The same history, but as far as a former state has answered it, where a topic was an input of it."""
    until = {topic: positions.get(topic, end) for topic, end in span.until.items()}
    start = {topic: min(at, until[topic]) for topic, at in span.start.items()}
    return Span(start, until, True, packed(promised), list(skips))


def packed(state: State) -> bytes:
    """A small state in one piece; empty where there is nothing in it."""
    if not state.document:
        return b""
    arrays = {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in state.arrays.items()}
    return msgspec.msgpack.encode((arrays, state.document))


def unpacked(raw: bytes) -> State:
    """The inverse."""
    if not raw:
        return State({}, {})
    arrays, document = msgspec.msgpack.decode(raw, type=tuple[dict[str, Any], dict[str, Any]], strict=False)
    found = {
        name: np.frombuffer(bytearray(data), kind).reshape(shape) for name, (kind, shape, data) in arrays.items()
    }
    return State(found, document)


Begin = Callable[[int], Span]
"""A partition's history, as of now."""
