"""What is lost or changed for good: snapshots, committed offsets, the number of partitions."""

from pathlib import Path

from tests.chaos.lives import Life, done
from tests.chaos.play import Play
from tests.chaos.world import PARTITIONS, add_partition, expire_offsets, lose_snapshots


def snapshots_lost(play: Play) -> None:
    """Redis loses the newest snapshots, or all of them, while nobody runs."""
    all_of_them = play.rng.random() < 0.5
    play.count("snapshots lost", "all" if all_of_them else "the newest")
    done(lambda: lose_snapshots(play.direct, all_of_them))
    play.plain()


def offsets_expired(play: Play) -> None:
    """The group's committed offsets are gone, while nobody runs; sometimes the newest snapshots too."""
    snapshots_too = play.rng.random() < 0.5
    play.count("offsets expired", "and the newest snapshots" if snapshots_too else "alone")
    done(lambda: expire_offsets(play.direct))
    if snapshots_too:
        done(lambda: lose_snapshots(play.direct, False))
    play.plain()


def partition_added(play: Play, report: Path) -> None:
    """Inputs and outputs grow while a worker runs: what has state is paused with the reason, for keys have moved
    away from it; the new partition is read from its beginning; a restart changes nothing of that. The play is
    over then."""
    play.count("partition added")
    play.plain()
    life = play.begin()
    play.idle(life)
    play.feed()
    done(lambda: add_partition(play.direct))
    play.feed()
    _see_paused(play, life)
    play.drain(life)
    play.feed()
    life = play.begin()
    _see_paused(play, life)
    play.drain(life)
    play.check(report, PARTITIONS + 1, paused=PARTITIONS)


def _see_paused(play: Play, life: Life) -> None:
    """All is paused but the new partition, which is read to its end."""

    def settled() -> bool:
        play.alive(life)
        seen = life.seen()
        return (
            seen["partitions"] == [PARTITIONS]
            and len(seen["paused"]) == PARTITIONS
            and seen["lag"] == {str(PARTITIONS): 0}
        )

    play.wait(life, settled, f"partitions 0 to {PARTITIONS - 1} are paused and {PARTITIONS} is read to its end")
    reasons = sorted(life.seen()["paused"].values())
    if not all(f"had {PARTITIONS} partitions and has {PARTITIONS + 1}" in reason for reason in reasons):
        raise RuntimeError(f"paused for other reasons: {reasons}")
