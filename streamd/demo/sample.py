"""The shipped sample as records: UCI Adult, in its order (see `streamd/samples/README.md`)."""

import csv
import gzip
from functools import cache
from importlib.resources import files

from msgspec import Struct

from streamd.records import encode

TRUTH = "income"
LEFT_OUT = frozenset({TRUTH, "part"})  # the label, and which half of the benchmark a row belongs to
MISSING = "?"
NUMBERS = frozenset({"age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week"})


class Row(Struct, frozen=True):
    """One person: what is known, and the label that comes later."""

    id: str
    features: dict[str, int | str]
    label: str

    @property
    def key(self) -> bytes:
        return self.id.encode()

    @property
    def event(self) -> bytes:
        return encode({"id": self.id, "features": self.features})

    @property
    def event_with_label(self) -> bytes:
        return encode({"id": self.id, "features": self.features, "label": self.label})

    @property
    def label_record(self) -> bytes:
        return encode({"id": self.id, "label": self.label})


def configuration() -> str:
    """The configuration of the demo, as TOML."""
    return (files("streamd") / "samples" / "config.toml").read_text()


@cache
def rows() -> tuple[Row, ...]:
    """All 48,842 rows; the id is the number of the row."""
    packed = (files("streamd") / "samples" / "adult.csv.gz").read_bytes()
    table = csv.DictReader(gzip.decompress(packed).decode().splitlines())
    return tuple(Row(str(number), _features(row), row[TRUTH]) for number, row in enumerate(table))


def _features(row: dict[str, str]) -> dict[str, int | str]:
    kept = ((name, value) for name, value in row.items() if name not in LEFT_OUT and value != MISSING)
    return {name: int(value) if name in NUMBERS else value for name, value in kept}
