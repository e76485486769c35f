"""The budget of a query stage while its partitions move: what is asked is what an untroubled engine asks."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from test_engine import FaultyLog, fill, run, settings

from streamd import wiring
from streamd.config import Config
from streamd.ports import Polled
from streamd.sight import Sight
from streamd.views import EngineView

N, PARTITIONS, CAPACITY = 400, 2, 4.0
SHARE, PER_HOUR = 0.2, 40.0
QUERY = """queries = "queries"
[pipeline.p.query]
rho = 0.2
capacity = {capacity}
{budget}
"""
EVERY = 36_000  # milliseconds between two events: a hundred an hour


def made(folder: Path, budget: str) -> Config:
    config = settings(folder, PARTITIONS, more=QUERY.format(capacity=CAPACITY, budget=budget))
    client = wiring.client(config)
    client.create("queries", PARTITIONS)
    client.close()
    fill(config, 0, N, at=lambda i: 1000 + i * EVERY)
    return config


def asked(config: Config) -> list[list[bytes]]:
    """The query records of each partition, in order."""
    client = wiring.client(config)
    found = [
        [record.value or b"" for record in client.read("queries", partition, 0, 10**6)]
        for partition in range(PARTITIONS)
    ]
    client.close()
    return found


def moving(config: Config, until: Callable[[Sight], bool]) -> EngineView:
    """An engine that has each partition taken away and given back several times."""
    log = FaultyLog(wiring.log(config, "p"))
    moves = {5: 0, 11: 1, 17: 0, 23: 1}

    def give_and_take(n: int) -> Polled | None:
        if n in moves:
            return Polled(revoked=frozenset({moves[n]}))
        return Polled(assigned=frozenset({moves[n - 1]})) if n - 1 in moves else None

    log.on_poll = give_and_take
    return run(config, log, until=until)


@pytest.mark.parametrize("budget", [f"budget = {SHARE}", f"per_hour = {PER_HOUR}"])
def test_a_budget_is_kept_while_partitions_move_and_engines_follow_each_other(tmp_path: Path, budget: str) -> None:
    for name in ("calm", "troubled"):
        (tmp_path / name).mkdir()
    calm, troubled = (made(tmp_path / name, budget) for name in ("calm", "troubled"))
    run(calm)

    half = N // 2
    moving(troubled, lambda sight: sum(shard.counts.get("events", 0) for shard in sight.view.shards) >= half)
    view = moving(troubled, lambda sight: sight.idle)

    assert asked(troubled) == asked(calm)
    hours = N * EVERY / 3_600_000
    for shard, queries in zip(view.shards, asked(troubled), strict=True):
        income = PER_HOUR / PARTITIONS * hours if "per_hour" in budget else SHARE * shard.counts["events"]
        assert shard.querying is not None
        assert shard.querying.counts["asked"] == len(queries)
        assert len({json.loads(query)["event"] for query in queries}) == len(queries)
        least = (
            0.8 * income if "per_hour" in budget else income - 1 - CAPACITY
        )  # a full bucket loses time's income
        assert least <= len(queries) <= income + CAPACITY
    assert sum(shard.counts["events"] for shard in view.shards) == N
