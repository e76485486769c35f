"""What a daemon on Kafka is held against: loops that read the same events and write as often, until killed.

    python -m tests.bench.kafka_peers KIND CONFIG

bare: our log with the configured client, the bytes of a prediction out for every event: the client's limit.
codec: the same, the event decoded and a prediction encoded.
hand: kafka-python, json and river, in transactions: what one writes by hand.
"""

import sys
import time
from collections.abc import Callable, Sequence

from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import OffsetAndMetadata

from streamd import config as configuration
from streamd import records as codec
from streamd import wiring
from streamd.config import Config, KafkaLog
from streamd.ports import Epoch, Output, Record, ShardEpoch
from tests.bench import river_answer
from tests.bench.running import PIPELINE

BATCH = 4096  # records of a poll, as the engine's
WHY = [["marital-status=Never-married", 0.5570186142016909], ["occupation=Other-service", 0.5627066967121209]]
P = {"<=50K": 0.9685048683850588, ">50K": 0.03149513161494121}
Answer = Callable[[str, Sequence[Record]], list[Output]]


def constant(topic: str, records: Sequence[Record]) -> list[Output]:
    return [Output(topic, r.key, CONSTANT, r.timestamp, r.partition) for r in records]


def coded(topic: str, records: Sequence[Record]) -> list[Output]:
    return [Output(topic, r.key, _prediction(r), r.timestamp, r.partition) for r in records]


def _prediction(record: Record) -> bytes:
    event = codec.decode_event(record.value)
    return codec.encode(_told(event.id, record.timestamp))


def _told(event: str, ts: int) -> codec.Prediction:
    return codec.Prediction(event, label="<=50K", p=P, why=WHY, model="linear/01234567", ts=ts)


CONSTANT = codec.encode(_told("123456", 1_700_000_000_000))


def loop(config: Config, answer: Answer) -> None:
    """Poll and commit as the engine does, in epochs of the configured length."""
    pipeline, pacing = config.pipeline[PIPELINE], config.epoch
    log = wiring.log(config, PIPELINE)
    log.open()
    positions: dict[int, dict[str, int]] = {}
    sequences: dict[int, int] = {}
    outputs: list[Output] = []
    moved: set[int] = set()
    began = time.monotonic()
    while True:
        wait = max(0.0, began + pacing.interval - time.monotonic()) if outputs else pacing.interval
        polled = log.poll(min(BATCH, max(1, pacing.max_records - len(outputs))), wait)
        for partition in polled.assigned:
            log.seek(partition, {})
            positions[partition], sequences[partition] = dict.fromkeys(pipeline.inputs, 0), 0
        if polled.records and not outputs:
            began = time.monotonic()
        outputs += answer(pipeline.predictions_topic, polled.records)
        for record in polled.records:
            positions[record.partition][record.topic] = record.offset + 1
            moved.add(record.partition)
        full = len(outputs) >= pacing.max_records or time.monotonic() - began >= pacing.interval
        if outputs and full:
            for partition in moved:
                sequences[partition] += 1
            log.commit(Epoch(outputs, [ShardEpoch(p, sequences[p], positions[p], b"") for p in moved]))
            outputs, moved = [], set()


def by_hand(config: Config) -> None:
    """kafka-python, json and river."""
    assert isinstance(config.log, KafkaLog)
    pipeline, brokers = config.pipeline[PIPELINE], list(config.log.brokers)
    consumer = KafkaConsumer(
        pipeline.events,
        bootstrap_servers=brokers,
        group_id=config.group,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    name = f"{config.group}-{config.worker.name}"
    producer = KafkaProducer(bootstrap_servers=brokers, transactional_id=name, linger_ms=5)
    producer.init_transactions()
    model = river_answer.model()
    while True:
        began, ends = time.monotonic(), {}
        producer.begin_transaction()
        while time.monotonic() - began < config.epoch.interval:
            for where, batch in consumer.poll(timeout_ms=50, max_records=500).items():
                for record in batch:
                    value = river_answer.answer_bytes(model, record.value)
                    producer.send(pipeline.predictions_topic, value, record.key, partition=where.partition)
                ends[where] = OffsetAndMetadata(batch[-1].offset + 1, "", -1)
        if ends:
            producer.send_offsets_to_transaction(ends, consumer.group_metadata())
        producer.commit_transaction()


def main(kind: str, path: str) -> None:
    config = configuration.load(path)
    if kind == "hand":
        by_hand(config)
    else:
        loop(config, {"bare": constant, "codec": coded}[kind])


if __name__ == "__main__":
    main(*sys.argv[1:])
