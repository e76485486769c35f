"""What the configuration says of a matching pipeline, as its stage needs it: plain values, no config object."""

from collections.abc import Mapping

from msgspec import Struct

from streamd.matching.arrivals import Limits
from streamd.matching.pool import Late
from streamd.matching.probabilities import Source
from streamd.matching.rules import Rule


class Settings(Struct, frozen=True):
    """One pipeline's.

    attempts: how often an arrival may be tried in all; after a time-out it is written to `arrivals` again without
    who failed. window: arrivals of a pool judged in hindsight, 0 for none, with so many edges at most; every: how
    often; shadows: rules scored beside the acting one. partitions: of the inputs, to refuse a pool on a partition
    that is not its own; 0: not checked.
    """

    arrivals: str
    resources: str
    outcomes: str
    matches: str
    dead_letters: str
    model: str
    rule: Rule = Rule()
    source: Source = Source()
    timeout: int = 86_400_000
    late: Late = "accept"
    shares: Mapping[str, float] = {}
    limits: Limits = Limits()
    pools: int = 1000
    attempts: int = 1
    partitions: int = 0
    window: int = 0
    window_edges: int = 20_000
    every: int = 250
    shadows: Mapping[str, Rule] = {}
    record_bytes: int = 1 << 20
    ahead: int = 300_000
