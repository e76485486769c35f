"""What every scenario needs: the world, workers that are begun, watched and drained, and what was counted."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.chaos.check import check
from tests.chaos.lives import Life, Plan, begin, done, until
from tests.chaos.servers import OwnBroker, OwnRedis
from tests.chaos.world import PARTITIONS, World, append, make_topics

CHUNK = 200  # events fed at once


class Play:
    """One world and its servers. `direct` is how workers reach them, `through` the same by way of the proxies."""

    def __init__(self, direct: World, broker: OwnBroker, redis: OwnRedis, rng: random.Random) -> None:
        self.direct = direct
        self.through = direct._replace(broker=broker.proxied, redis=redis.proxied)
        self.broker = broker
        self.redis = redis
        self.rng = rng
        self.fed = 0
        self.steps: Counter[str] = Counter()  # seen
        self.requests: Counter[str] = Counter()  # kinds seen by the broker's proxy
        self.awake: Life | None = None  # is woken whenever it is found stopped
        self.done: dict[str, Counter[str]] = {}  # kind of fault -> where -> how often
        done(lambda: make_topics(direct))

    def count(self, kind: str, where: str = "") -> None:
        self.done.setdefault(kind, Counter())[where] += 1

    def least(self, kind: str, places: list[str]) -> str:
        """The place where this kind of fault was tried least, chosen among equals by the seed."""
        tried = self.done.get(kind, Counter())
        return min(self.rng.sample(places, len(places)), key=tried.__getitem__)

    def feed(self) -> None:
        first, self.fed = self.fed, self.fed + CHUNK
        done(lambda: append(self.direct, first, first + CHUNK))

    def begin(self, worker: str = "w0", plan: Plan | None = None, world: World | None = None) -> Life:
        return begin(world or self.direct, worker, plan)

    def alive(self, life: Life) -> None:
        if self.awake is not None and self.awake.stopped():
            self.awake.signal(signal.SIGCONT)
        if (code := life.ended()) is not None:
            raise RuntimeError(f"{life.worker} ended with {code}")

    def assigned(self, life: Life, partitions: int = PARTITIONS) -> None:
        def reached() -> bool:
            self.alive(life)
            return len(life.seen()["partitions"]) == partitions

        until(reached, f"{life.worker} has {partitions} partitions")

    def is_idle(self, life: Life, partitions: int = PARTITIONS) -> bool:
        self.alive(life)
        seen = life.seen()
        self.steps.update(seen["steps"].keys())
        return len(seen["partitions"]) == partitions and bool(seen["idle"])

    def idle(self, life: Life, partitions: int = PARTITIONS) -> None:
        self.wait(
            life, lambda: self.is_idle(life, partitions), f"{life.worker} is idle on {partitions} partitions"
        )

    def wait(self, life: Life, condition: Callable[[], bool], what: str) -> None:
        """Until something is true of a worker; if it never is, the worker says where it stands."""
        try:
            until(condition, what)
        except RuntimeError as error:
            self.alive(life)
            life.signal(signal.SIGUSR1)  # it says where its threads stand
            time.sleep(1)
            raise RuntimeError(f"{error}; it sees {life.seen()}") from error

    def drain(self, life: Life) -> None:
        life.signal(signal.SIGTERM)
        while self.awake is life and life.ended() is None:
            self.alive(life)
            time.sleep(0.05)
        if (code := life.wait()) != 0:
            raise RuntimeError(f"{life.worker} ended with {code} when drained")

    def plain(self) -> None:
        """One untroubled life."""
        self.feed()
        life = self.begin()
        self.idle(life)
        self.drain(life)

    def check(self, report: Path, partitions: int = PARTITIONS, paused: int = 0) -> None:
        done(lambda: check(self.direct, report, partitions, paused))
