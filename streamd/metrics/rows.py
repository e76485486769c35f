"""What a metric is, and a sample of one, as `streamd.metrics` collects them."""

from typing import Literal, NamedTuple

Kind = Literal["counter", "gauge", "summary", "histogram", "info"]

PIPELINE = ("pipeline",)
SHARD = ("pipeline", "partition")

Sample = tuple[str, tuple[str, ...], float]
"""(name in the table, label values, value)."""


class Row(NamedTuple):
    """One metric. The exposition adds `_total` to a counter, `_info` to an info, `_count` and `_sum` where due."""

    kind: Kind
    labels: tuple[str, ...]
    help: str
