"""Throughput of `classify` with `linear` on UCI Adult through the embedded log, exactly once, end to end.

    python -m tests.bench.throughput [--events 48842] [--rounds 5]

Against (a) the loop one would write by hand: river's LogisticRegression behind StandardScaler and OneHotEncoder,
the standard library's json, LogClient reads and appends, no journal, no positions, no reasons; and (b) the limit:
the log's polls and commits with msgspec, and no work in between. All three over the same file, with epochs of the
same length; once with the label in the event, once with labels as records of their own, some events later.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from river import compose, linear_model, preprocessing

from streamd import records as codec
from streamd import wiring
from streamd.config import Config
from streamd.ports import Epoch, LogClient, Output, Record, ShardEpoch
from tests.bench.rounds import Contestant, Timed, Watch, interleaved, print_table, ratio, speed
from tests.bench.running import LABELS, PIPELINE, PREDICTIONS, adult, config, copied, fill, running

BATCH = 4096  # records of a read or poll, as the engine's
POSITIVE = ">50K"


def streamd(config: Config, events: int) -> Timed:
    with running(config) as engine:
        return engine.wait(events)


# --- (a) by hand


def by_hand(config: Config, events: int) -> Timed:
    with closing(wiring.client(config)) as client:
        client.create(PREDICTIONS, 1)
        watch = Watch()
        _river(client, config)
        timed = watch.read()
        assert client.ends(PREDICTIONS)[0][1] == events
        return timed


def _river(client: LogClient, config: Config) -> None:
    numbers = compose.SelectType(int, float) | preprocessing.StandardScaler()
    strings = compose.SelectType(str) | preprocessing.OneHotEncoder()
    model = (numbers + strings) | linear_model.LogisticRegression()
    places = dict.fromkeys(config.pipeline[PIPELINE].inputs, 0)
    waiting: dict[str, dict[str, Any]] = {}
    outputs: list[Output] = []
    began = time.monotonic()
    while True:
        moved = False
        for topic in places:
            found = client.read(topic, 0, places[topic], BATCH)
            for record in found:
                assert record.value is not None
                told = json.loads(record.value)
                if topic == LABELS:
                    model.learn_one(waiting.pop(told["id"]), told["label"] == POSITIVE)
                    continue
                x = told["features"]
                p = model.predict_proba_one(x).get(True, 0.0)
                if "label" in told:
                    model.learn_one(x, told["label"] == POSITIVE)
                else:
                    waiting[told["id"]] = x
                label = POSITIVE if p > 0.5 else "<=50K"
                value = json.dumps({"id": told["id"], "label": label, "p": {POSITIVE: p, "<=50K": 1 - p}})
                outputs.append(Output(PREDICTIONS, record.key, value.encode(), record.timestamp))
                if time.monotonic() - began >= config.epoch.interval:
                    client.append(PREDICTIONS, outputs)
                    outputs, began = [], time.monotonic()
            if found:
                moved = True
                places[topic] = found[-1].offset + 1
        if not moved:
            client.append(PREDICTIONS, outputs)
            return


# --- (b) the limit


def bare(config: Config, events: int) -> Timed:
    log = wiring.log(config, PIPELINE)
    log.open()
    log.poll(1, 0)
    log.seek(0, {})
    positions = dict.fromkeys(config.pipeline[PIPELINE].inputs, 0)
    outputs: list[Output] = []
    sequence, written = 0, 0
    watch = Watch()
    began, taken = time.monotonic(), 0
    while True:
        found = log.poll(min(BATCH, config.epoch.max_records - taken), 0).records
        outputs += _answer(found)
        taken += len(found)
        for record in found:
            positions[record.topic] = record.offset + 1
        full = taken >= config.epoch.max_records or time.monotonic() - began >= config.epoch.interval
        if taken and (full or not found):
            sequence += 1
            log.commit(Epoch(outputs, [ShardEpoch(0, sequence, dict(positions), b"")]))
            written += len(outputs)
            outputs, began, taken = [], time.monotonic(), 0
        if not found:
            break
    timed = watch.read()
    log.close(leave=True)
    assert written == events
    return timed


def _answer(found: Sequence[Record]) -> list[Output]:
    outputs = []
    why = [["marital-status=Never-married", 0.5570186142016909], ["occupation=Other-service", 0.5627066967121209]]
    for record in found:
        if record.topic == LABELS:
            codec.decode_label(record.value)
            continue
        event = codec.decode_event(record.value)
        p = {"<=50K": 0.9685048683850588, POSITIVE: 0.03149513161494121}
        told = codec.Prediction(event.id, label="<=50K", p=p, why=why, model="linear/0", ts=record.timestamp)
        outputs.append(Output(PREDICTIONS, record.key, codec.encode(told), record.timestamp, 0))
    return outputs


# --- the rounds

CONTESTANTS = {"streamd": streamd, "(a) by hand, river": by_hand, "(b) limit": bare}


def measure(folder: Path, labels: bool, events: int, rounds: int) -> None:
    (folder / "source").mkdir(parents=True)
    source = config(folder / "source", labels)
    fill(source, adult(events, labels))

    def contestant(run: Callable[[Config, int], Timed]) -> Contestant:
        return lambda: run(copied(source, folder / "run"), events)

    runs = interleaved({name: contestant(run) for name, run in CONTESTANTS.items()}, rounds)
    ours, hand, limit = runs.values()
    against = ["", f"streamd is {ratio(hand, ours)}", f"streamd is {ratio(limit, ours)}"]
    rows = [(name, *speed(timed, events), what) for (name, timed), what in zip(runs.items(), against, strict=True)]
    which = "labels as later records" if labels else "labels in the events"
    print_table(f"\n{events:,} events, {which}", ("", "events/s", "µs of processor", "of its speed"), rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=48_842)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        for labels in (False, True):
            measure(Path(folder, str(labels)), labels, given.events, given.rounds)


if __name__ == "__main__":
    main()
