"""The daemon on real Kafka and Redis: workers, servers and the network fail; nobody may be able to tell.

    python -m tests.chaos.kafka --client confluent --rounds 2 --seed 1

prints a JSON report. A broker and a Redis are started for the run. Every scenario of this package is played
`rounds` times, kills and restarts of the broker more often, in an order chosen by the seed; at the end one worker
runs until nothing waits and `check` holds journal, outputs and state against each other.
"""

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from streamd import kernels
from tests.chaos import losses, outages, workers
from tests.chaos.evidence import kept_if_wrong, tell
from tests.chaos.play import Play
from tests.chaos.servers import OwnBroker, OwnRedis
from tests.chaos.world import World

Scenario = Callable[[Play], None]

OFTEN: Sequence[Scenario] = (
    workers.killed_at_a_step,
    workers.killed_at_any_time,
    outages.request_cut,
    outages.broker_restarted,  # nothing else has found as much
)
ONCE: Sequence[Scenario] = (
    workers.zombie,
    workers.zombie_at_a_snapshot,
    workers.joins_and_leaves,
    workers.two_of_one_name,
    outages.redis_restarted,
    outages.redis_emptied,
    outages.redis_full,
    outages.redis_slow,
    outages.redis_away,
    outages.redis_cut,
    outages.answer_of_a_commit_lost,
    outages.everything_cut,
    outages.network_stalled,
    outages.transaction_timed_out,
    outages.transaction_late,
    losses.snapshots_lost,
    losses.offsets_expired,
)
SCENARIOS = {scenario.__name__: scenario for scenario in (*OFTEN, *ONCE)}
GROWTH = "partition_added"
KILLS = 6  # of each kind in a round


def run(client: str, plan: list[Scenario], growth: bool, seed: int, folder: Path) -> dict[str, Any]:
    """Play this plan on servers of its own: the report."""
    rng = random.Random(seed)
    redis = OwnRedis(folder)
    try:
        broker = OwnBroker(folder)
        try:
            rng.shuffle(plan)
            return _play(client, plan, growth, rng, broker, redis, folder)
        finally:
            broker.stop()
    finally:
        redis.stop()


def _play(
    client: str,
    plan: Sequence[Scenario],
    growth: bool,
    rng: random.Random,
    broker: OwnBroker,
    redis: OwnRedis,
    folder: Path,
) -> dict[str, Any]:
    def world(name: str) -> World:
        group = f"{name}-{os.getpid()}-{time.time_ns() % 10**9}"
        return World(broker.address, redis.url, client, group, folder)

    play = Play(world("chaos"), broker, redis, rng)
    play.plain()
    for scenario in plan:
        began = time.monotonic()
        try:
            scenario(play)
        except RuntimeError as error:
            raise RuntimeError(f"{scenario.__name__}: {error}") from error
        print(f"{scenario.__name__}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
    play.plain()
    report = folder / "report.json"
    play.check(report)
    found = {"client": client, "fed": play.fed, **json.loads(report.read_text()), "scenarios": play.done}
    if growth:
        grown = Play(world("growth"), broker, redis, rng)
        losses.partition_added(grown, report)
        found["wrong"] += json.loads(report.read_text())["wrong"]
        found["scenarios"] |= grown.done
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--client", choices=("kafka-python", "confluent"), default="kafka-python")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--kills", type=int, default=KILLS, help="in a round, of each kind; cuts, restarts")
    parser.add_argument("--only", nargs="*", choices=(*SCENARIOS, GROWTH), help="these, once each in a round")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if given.only is not None:
        plan = [SCENARIOS[name] for name in given.only if name != GROWTH] * given.rounds
    else:
        plan = [*OFTEN] * given.kills * given.rounds + [*ONCE] * given.rounds
    kernels.load()
    growth = given.only is None or GROWTH in given.only
    with kept_if_wrong() as folder:
        report = run(given.client, plan, growth, given.seed, folder)
        tell(report)


if __name__ == "__main__":
    main()
