"""A producer of labelled events at a steady rate, whose ids tell when they were sent. A process of its own.

python -m tests.bench.kafka_feeder '{"broker": ..., "topic": ..., "partitions": 2, "rate": 1000, "seconds": 5}'
"""

import itertools
import json
import sys
import time

from confluent_kafka import Producer

from streamd.demo import sample

TICK = 0.002  # seconds
START = b'{"id":"'


def sent(prediction: bytes) -> float:
    """When the event of a prediction was sent, seconds of the monotonic clock."""
    return int(prediction[len(START) : prediction.index(b"-", len(START))]) / 1e9


def feed(broker: str, topic: str, partitions: int, rate: float, seconds: float) -> None:
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 1, "acks": "all"})
    rests = [row.event_with_label.partition(b'","')[2] for row in sample.people()[:5000]]
    turns = itertools.cycle(rests)
    began, number = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        due = int(passed * rate)
        while number < due:
            key = b"%d-%d" % (time.monotonic_ns(), number)
            producer.produce(topic, START + key + b'","' + next(turns), key, number % partitions)
            number += 1
        producer.poll(0)
        time.sleep(TICK)
    producer.flush()


if __name__ == "__main__":
    feed(**json.loads(sys.argv[1]))
