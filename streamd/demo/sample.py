"""The shipped samples as records: UCI Adult and BANKING77 (see `streamd/samples/README.md`)."""

import csv
import gzip
import random
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from msgspec import Struct

from streamd.records import encode

TRUTH = "income"
LEFT_OUT = frozenset({TRUTH, "part"})  # the label, and which half of the benchmark a row belongs to
MISSING = "?"
NUMBERS = frozenset({"age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week"})
SHOWN = ("age", "sex", "race", "education")
SHUFFLE = 77  # the seed of the order of the messages, whose file is sorted by category


class Row(Struct, frozen=True, omit_defaults=True):
    """One event, a person or a message, and the truth, which whoever is asked may tell."""

    id: str
    label: str
    features: dict[str, int | str] | None = None
    text: str | None = None

    @property
    def key(self) -> bytes:
        return self.id.encode()

    @property
    def event(self) -> bytes:
        return encode(self._told())

    @property
    def event_with_label(self) -> bytes:
        return encode(self._told() | {"label": self.label})

    @property
    def label_record(self) -> bytes:
        return encode({"id": self.id, "label": self.label})

    @property
    def about(self) -> str:
        """The event in a few words."""
        if self.features is None:
            return self.text or ""
        return ", ".join(str(self.features[name]) for name in SHOWN if name in self.features)

    def _told(self) -> dict[str, object]:
        return {"id": self.id, **({"text": self.text} if self.features is None else {"features": self.features})}


def configuration() -> str:
    """The configuration of the demo, as TOML."""
    return (files("streamd") / "samples" / "config.toml").read_text()


@cache
def people() -> tuple[Row, ...]:
    """UCI Adult: 48,842 rows in UCI's order; the id is "p" and the number of the row."""
    rows = enumerate(_table("adult.csv.gz"))
    return tuple(Row(f"p{number}", row[TRUTH], features=_features(row)) for number, row in rows)


@cache
def messages() -> tuple[Row, ...]:
    """BANKING77: 10,003 messages in 77 categories, shuffled; the id is "m" and the number in this order."""
    rows = list(_table("banking77.csv.gz"))
    random.Random(SHUFFLE).shuffle(rows)
    return tuple(Row(f"m{number}", row["category"], text=row["text"]) for number, row in enumerate(rows))


def _table(name: str) -> Iterator[dict[str, str]]:
    packed = (files("streamd") / "samples" / name).read_bytes()
    return csv.DictReader(gzip.decompress(packed).decode().splitlines(keepends=True))


def _features(row: dict[str, str]) -> dict[str, int | str]:
    kept = ((name, value) for name, value in row.items() if name not in LEFT_OUT and value != MISSING)
    return {name: int(value) if name in NUMBERS else value for name, value in kept}
