"""Reads what the daemon predicted and holds it against the truth, which the daemon cannot."""

from collections import deque
from collections.abc import Mapping

import msgspec

from streamd.demo.sample import Row
from streamd.demo.screen import Said, Truth
from streamd.ports import LogClient
from streamd.records import Prediction

SHOWN = 4  # the last predictions
CHUNK = 20_000  # records of one look

_prediction = msgspec.json.Decoder(Prediction)


class Watch:
    """The predictions of one pipeline, from the first one on. truth: event id -> row."""

    def __init__(self, topic: str, truth: Mapping[str, Row]) -> None:
        self.truth = Truth()
        self.said: deque[Said] = deque(maxlen=SHOWN)
        self._topic = topic
        self._rows = truth
        self._offset = 0

    def look(self, client: LogClient) -> None:
        """Take in what was committed since the last look."""
        if self._topic not in client.topics():
            return
        for record in client.read(self._topic, 0, self._offset, CHUNK):
            self._offset = record.offset + 1
            if record.value is not None:
                self._take(_prediction.decode(record.value))

    def _take(self, prediction: Prediction) -> None:
        row = self._rows[prediction.id]
        self.truth.add(prediction.label == row.label)
        self.said.append(Said(row.about, prediction, row.label))
