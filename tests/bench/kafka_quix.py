"""The same model as a Quix Streams application, exactly once. Needs quixstreams and river, not streamd.

python -m tests.bench.kafka_quix BROKER GROUP EVENTS PREDICTIONS SECONDS
"""

import logging
import sys
import tempfile

from quixstreams import Application  # type: ignore[import-not-found, unused-ignore]

from tests.bench.river_answer import answer, model


def main(broker: str, group: str, events: str, predictions: str, seconds: str) -> None:
    """seconds: between two commits."""
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as state:
        application = Application(
            broker_address=broker,
            consumer_group=group,
            processing_guarantee="exactly-once",
            auto_offset_reset="earliest",
            commit_interval=float(seconds),
            auto_create_topics=False,
            use_changelog_topics=False,
            state_dir=state,
        )
        source = application.topic(events, value_deserializer="json", key_deserializer="bytes")
        target = application.topic(predictions, value_serializer="json", key_serializer="bytes")
        river = model()
        frame = application.dataframe(source)
        frame.apply(lambda told: answer(river, told)).to_topic(target)
        application.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
