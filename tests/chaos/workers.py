"""What happens to workers: killed, frozen, joined, left, doubled. Every scenario leaves no worker behind."""

import signal
import time

from streamd.errors import EXIT_CONFIG
from tests.chaos.lives import Life, Plan, until
from tests.chaos.play import Play
from tests.chaos.world import PARTITIONS


def killed_at_a_step(play: Play) -> None:
    """SIGKILL at a step, chosen among those killed at least."""
    step = play.least("killed at a step", sorted(play.steps))
    play.count("killed at a step", step)
    play.feed()
    life = play.begin(plan=Plan(step, play.rng.randint(1, 3)))
    until(lambda: life.ended() is not None or play.is_idle(life), f"w0 dies at {step}, or is idle")
    if life.ended() is None:
        life.kill()
    if life.ended() != -signal.SIGKILL:
        raise RuntimeError(f"w0 ended with {life.ended()} instead of being killed at {step}")


def killed_at_any_time(play: Play) -> None:
    """SIGKILL by another process, at no step in particular."""
    play.count("killed at any time")
    play.feed()
    life = play.begin()
    time.sleep(play.rng.uniform(0, 2))
    play.alive(life)
    life.kill()


def zombie(play: Play) -> None:
    """SIGSTOP until the partitions have moved, then SIGCONT: what it does then must change nothing."""
    play.count("zombie")
    first = play.begin()
    play.assigned(first)
    second = play.begin("w1")
    play.assigned(second, 1)
    play.feed()
    first.signal(signal.SIGSTOP)
    play.feed()
    play.idle(second)
    _revive(play, first, second)


def zombie_at_a_snapshot(play: Play) -> None:
    """The same, stopped in the middle of writing or deleting a snapshot."""
    step = play.least("zombie at a snapshot", [step for step in sorted(play.steps) if step.startswith("snapshot")])
    play.count("zombie at a snapshot", step)
    first = play.begin(plan=Plan(step, play.rng.randint(1, 3), signal.SIGSTOP))
    play.feed()
    until(lambda: first.stopped() or play.is_idle(first), f"w0 stops at {step}, or is idle")
    if not first.stopped():
        first.signal(signal.SIGSTOP)
    second = play.begin("w1")
    play.feed()
    play.idle(second)
    _revive(play, first, second)


def _revive(play: Play, first: Life, second: Life) -> None:
    first.signal(signal.SIGCONT)
    play.awake = first  # the step at which it stops by itself may be still to come
    play.feed()
    play.assigned(first, 1)
    play.feed()
    play.idle(second, 1)
    play.drain(second)
    play.idle(first)
    play.drain(first)
    play.awake = None


def joins_and_leaves(play: Play) -> None:
    """A second and a third worker come under load, one is killed for good, one drains."""
    play.count("joins and leaves")
    lives = [play.begin()]
    play.feed()
    for name in ("w1", "w2"):
        lives.append(play.begin(name))
        play.feed()
        until(lambda: sum(len(life.seen()["partitions"]) for life in lives) >= PARTITIONS, "all is assigned")
    lives[0].kill()
    play.feed()
    play.drain(lives[1])
    play.idle(lives[2])
    play.drain(lives[2])


def two_of_one_name(play: Play) -> None:
    """The second worker of a name takes the seat; the first ends with 78 and does not come back."""
    play.count("two of one name")
    play.feed()
    first = play.begin()
    play.assigned(first)
    second = play.begin()
    until(lambda: first.ended() is not None or second.ended() is not None, "one of two w0 is refused")
    codes = [code for life in (first, second) if (code := life.ended()) is not None]
    if codes != [EXIT_CONFIG]:
        raise RuntimeError(f"two of one name ended with {codes}, not with one {EXIT_CONFIG}")
    survivor = second if first.ended() is not None else first
    play.idle(survivor)
    play.drain(survivor)
