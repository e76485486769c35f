"""What happens to the servers and to the way there. Every scenario leaves them well, and no worker behind."""

import signal
import time

from tests.chaos.lives import Plan, until
from tests.chaos.play import Play
from tests.servers.proxy import ANY, FAULTS, Rule

OPENING = {"ApiVersions", "FindCoordinator", "InitProducerId", "JoinGroup", "ListOffsets", "Metadata"}
OPENING |= {"OffsetFetch", "SyncGroup"}  # requests of a worker's first moments, rare later
AWAY = 120.0  # seconds


def broker_restarted(play: Play) -> None:
    """Killed or stopped gently under load, away for a moment; the worker lives on."""
    gently = play.rng.random() < 0.5
    play.count("broker restarted", "gently" if gently else "killed")
    life = play.begin()
    play.idle(life)
    play.feed()
    time.sleep(play.rng.uniform(0, 0.2))
    play.broker.end(gently)
    time.sleep(play.rng.uniform(0, 3))
    play.broker.start()
    play.feed()
    play.idle(life)
    play.drain(life)


def redis_restarted(play: Play) -> None:
    """It comes back empty, while the worker runs."""
    play.count("redis restarted")
    life = play.begin()
    play.idle(life)
    play.feed()
    play.redis.end()
    play.redis.start()
    play.feed()
    play.idle(life)
    play.drain(life)


def redis_emptied(play: Play) -> None:
    """FLUSHALL again and again, between any two requests of the snapshot writer."""
    play.count("redis emptied")
    life = play.begin()
    for _ in range(3):
        play.feed()
        for _ in range(40):
            play.redis.order("FLUSHALL")
            time.sleep(play.rng.uniform(0, 0.02))
    play.idle(life)
    if play.rng.random() < 0.5:
        life.kill()
        life = play.begin()
        play.idle(life)
    play.drain(life)


def redis_full(play: Play) -> None:
    """OOM at every write, also through a restart of the worker."""
    play.count("redis full")
    play.redis.order("CONFIG", "SET", "maxmemory-policy", "noeviction")
    life = play.begin()
    play.idle(life)
    play.redis.order("CONFIG", "SET", "maxmemory", "1")
    play.feed()
    play.idle(life)
    life.kill()
    life = play.begin()
    play.feed()
    play.idle(life)
    play.redis.order("CONFIG", "SET", "maxmemory", "0")
    play.feed()
    play.idle(life)
    play.drain(life)


def redis_slow(play: Play) -> None:
    """Answers that come after the time-out, at a restore and at snapshots."""
    play.count("redis slow")
    play.redis.order("CLIENT", "PAUSE", "3000", "ALL")
    life = play.begin()
    play.feed()
    play.idle(life)
    play.redis.order("CLIENT", "PAUSE", "2500", "ALL")
    play.feed()
    play.idle(life)
    play.drain(life)


def redis_away(play: Play) -> None:
    """Away for minutes, while the stream goes on and a worker dies; then back."""
    play.count("redis away")
    life = play.begin()
    play.idle(life)
    play.redis.end()
    back = time.monotonic() + AWAY
    play.feed()
    play.idle(life)
    life.kill()
    life = play.begin()
    play.feed()
    play.idle(life)
    while time.monotonic() < back:
        time.sleep(5)
        play.feed()
        play.idle(life)
    play.redis.start()
    play.feed()
    play.idle(life)
    play.drain(life)


def redis_cut(play: Play) -> None:
    """A request to Redis is lost, cut in half, unanswered or late."""
    place = play.least("redis request", list(FAULTS))
    play.count("redis request", place)
    fault = next(fault for fault in FAULTS if fault == place)
    play.redis.proxy.arm(Rule(ANY, play.rng.randint(1, 40), fault, 2.0))
    life = play.begin(world=play.through)
    play.feed()
    play.idle(life)
    play.drain(life)
    play.redis.proxy.disarm()


def request_cut(play: Play) -> None:
    """A request to the broker is lost, cut in half, unanswered or late: at the start of a worker or later."""
    play.requests += play.broker.proxy.seen()
    kinds = sorted(play.requests) or ["EndTxn"]
    place = play.least("broker request", [f"{kind}, {fault}" for kind in kinds for fault in FAULTS])
    play.count("broker request", place)
    kind, _, fault = place.partition(", ")
    nth = 1 if kind in OPENING else play.rng.randint(1, 3)
    rule = Rule(kind, nth, next(f for f in FAULTS if f == fault), 3.0)
    early = kind in OPENING or play.rng.random() < 0.5
    if early:
        play.broker.proxy.arm(rule)
    life = play.begin(world=play.through)
    if not early:
        play.idle(life)
        play.broker.proxy.arm(rule)
    play.feed()
    until(lambda: play.broker.proxy.fired() or play.is_idle(life), f"{place} happened, or w0 is idle")
    play.feed()
    play.idle(life)
    play.drain(life)
    if not play.broker.proxy.fired():
        play.count("broker request that never came", kind)
    play.broker.proxy.disarm()


def answer_of_a_commit_lost(play: Play) -> None:
    """The broker ends the transaction, and the worker never hears of it."""
    play.count("answer of a commit lost")
    life = play.begin(world=play.through)
    play.idle(life)
    play.broker.proxy.arm(Rule("EndTxn", play.rng.randint(1, 3), "unanswered"))
    play.feed()
    until(play.broker.proxy.fired, "an answer to EndTxn is lost")
    play.feed()
    play.idle(life)
    play.drain(life)


def everything_cut(play: Play) -> None:
    """All connections of a worker at once, again and again, while it works."""
    play.count("everything cut")
    life = play.begin(world=play.through)
    for _ in range(4):
        play.feed()
        time.sleep(play.rng.uniform(0, 0.5))
        play.broker.proxy.cut()
        play.redis.proxy.cut()
    play.idle(life)
    play.drain(life)


def network_stalled(play: Play) -> None:
    """Nothing passes for longer than the session lasts, then all of it at once."""
    play.count("network stalled")
    life = play.begin(world=play.through)
    play.idle(life)
    play.feed()
    play.broker.proxy.hold(play.rng.uniform(1, 7))
    play.feed()
    play.idle(life)
    play.drain(life)


def transaction_timed_out(play: Play) -> None:
    """The worker stands still in a transaction until the broker has aborted it, but keeps its seat."""
    play.count("transaction timed out", "stopped")
    world = play.direct._replace(session="20s", request="2s")
    life = play.begin(plan=Plan("commit: offsets sent", play.rng.randint(1, 3), signal.SIGSTOP), world=world)
    play.feed()
    until(life.stopped, "w0 stops in a transaction")
    time.sleep(4)
    life.signal(signal.SIGCONT)
    play.feed()
    play.idle(life)
    play.drain(life)


def transaction_late(play: Play) -> None:
    """The request that ends a transaction reaches the broker when worker and broker have given it up."""
    play.count("transaction timed out", "its end came late")
    life = play.begin(world=play.through._replace(session="20s", request="2s"))
    play.idle(life)
    play.broker.proxy.arm(Rule("EndTxn", play.rng.randint(1, 2), "late", 4.0))
    play.feed()
    until(play.broker.proxy.fired, "an EndTxn is late")
    play.feed()
    play.idle(life)
    play.drain(life)
