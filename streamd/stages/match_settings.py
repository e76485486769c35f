"""What the configuration says of a matching pipeline, as its stage needs it: plain values, no config object."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from streamd.matching.arrivals import Limits
from streamd.matching.pool import Late, Pool
from streamd.matching.probabilities import Source
from streamd.matching.rules import Rule
from streamd.matching.window import Window


class Settings(Struct, frozen=True):
    """One pipeline's.

    attempts: how often an arrival may be tried in all; after a time-out it is written to `arrivals` again without
    who failed. window: arrivals of a pool judged in hindsight, 0 for none, with so many edges at most; every: how
    often; shadows: rules scored beside the acting one. partitions: of the inputs, to refuse a pool on a partition
    that is not its own; 0: not checked. wait: which arrivals are kept if nobody is free for them, of each pool
    `waiting` at most.
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
    wait: Literal["queries", "all", "none"] = "queries"
    waiting: int = 10_000
    partitions: int = 0
    window: int = 0
    window_edges: int = 20_000
    every: int = 250
    shadows: Mapping[str, Rule] = {}
    record_bytes: int = 1 << 20
    ahead: int = 300_000

    def keeps(self, query: bool) -> bool:
        """Whether an arrival that nobody is free for may wait. query: whether it is one."""
        return self.wait == "all" or (query and self.wait == "queries")

    def pool(self) -> Pool:
        """A new pool."""
        window = Window(self.window, self.window_edges) if self.window else None
        return Pool(
            self.rule,
            self.source,
            timeout=self.timeout,
            late=self.late,
            shares=self.shares,
            limits=self.limits,
            window=window,
        )
