"""What the journal costs: processor time of all threads, per event of 180 bytes.

    python -m tests.bench.kafka_journal [--epochs 30] [--rounds 5]

Epochs of 4,000 events are collected and encoded as a shard does it; then committed with each client, against the
same commits with an empty entry. The aim is 2 µs in all.
"""

import argparse
import random
import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial

from streamd import wiring
from streamd.journal import EntryBuilder
from streamd.ports import Epoch, Log, Record, ShardEpoch
from streamd.records import encode
from tests.bench.kafka_running import CLIENTS, Group, Servers, make_topic, servers, topics
from tests.bench.rounds import print_table
from tests.bench.running import PIPELINE

SIZE = 180  # bytes of an event
EPOCH = 4_000  # events
MEMO = 26  # bytes, of a prediction of `linear`
EVENTS = "journal-events"


def records(epochs: int) -> list[list[Record]]:
    """Epochs of events, each SIZE bytes."""
    draw = random.Random(1)
    made = []
    for number in range(epochs * EPOCH):
        features = {"amount": round(draw.random() * 1000, 2), "hour": draw.randrange(24), "job": draw.choice(JOBS)}
        told = {"id": str(number), "features": features, "label": draw.choice(("yes", "no"))}
        padding = {"note": "x" * (SIZE - len(encode(told)) - len(',"note":""'))}
        value = encode({**told, **padding})
        made.append(Record(EVENTS, 0, number, 1_700_000_000_000 + number, b"%d" % number, value))
    return [made[i : i + EPOCH] for i in range(0, len(made), EPOCH)]


JOBS = ("clerical", "manager", "service", "craft", "sales")


def encoded(epochs: Sequence[Sequence[Record]]) -> list[bytes]:
    """The entries of these epochs, their records in two batches each."""
    draw, found = random.Random(2), []
    builder = EntryBuilder([EVENTS])
    memos = [draw.randbytes(MEMO) for _ in range(EPOCH)]
    for sequence, epoch in enumerate(epochs, 1):
        for half in (slice(0, EPOCH // 2), slice(EPOCH // 2, EPOCH)):
            builder.add(epoch[half], {}, memos[half])
        found.append(builder.encode(sequence))
        builder.clear()
    return found


def commit(log: Log, entries: Sequence[bytes], after: int) -> float:
    """Processor seconds of these commits."""
    began = time.process_time()
    for number, entry in enumerate(entries, after + 1):
        log.commit(Epoch([], [ShardEpoch(0, number, {EVENTS: 0}, entry)]))
    return time.process_time() - began


def produced(servers: Servers, client: str, entries: Sequence[bytes], rounds: int) -> float:
    """Microseconds per event that the entries add to the commits; the median of the rounds."""
    group = Group(servers, f"journal-{client}", client, EVENTS, 1)
    with topics(group), closing(_Seat(wiring.log(group.config(), PIPELINE))) as seat:
        empty, taken, done = [b""] * len(entries), [], 0
        for number in range(rounds + 1):
            full = commit(seat.log, entries, done)
            bare = commit(seat.log, empty, done + len(entries))
            done += 2 * len(entries)
            if number:
                taken.append((full - bare) / (len(entries) * EPOCH) * 1e6)
    return statistics.median(taken)


class _Seat:
    """A log that has its partition."""

    def __init__(self, log: Log) -> None:
        self.log = log
        log.open()
        while 0 not in log.poll(1, 0.1).assigned:
            pass
        log.seek(0, {})
        self.close = partial(log.close, leave=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    epochs = records(given.epochs)
    taken, entries = [], encoded(epochs)
    for _ in range(given.rounds):
        began = time.process_time()
        entries = encoded(epochs)
        taken.append((time.process_time() - began) / (len(epochs) * EPOCH) * 1e6)
    encoding = statistics.median(taken)
    size = sum(map(len, entries)) / (len(epochs) * EPOCH)
    rows = []
    with servers() as found:
        make_topic(found, EVENTS, 1)
        for client in CLIENTS:
            sending = produced(found, client, entries, given.rounds)
            rows.append((client, f"{encoding:.2f}", f"{sending:.2f}", f"{encoding + sending:.2f}", f"{size:.0f}"))
    columns = ("", "encode µs", "produce µs", "together", "bytes in the journal")
    print_table(f"\nthe journal, per event of {SIZE} bytes", columns, rows)


if __name__ == "__main__":
    main()
