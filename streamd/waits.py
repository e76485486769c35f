"""What waits for what, in a sentence each: of a shard that runs, from what it shows."""

from collections.abc import Iterator

from streamd.views import EngineView, ShardView


def waits(view: EngineView, shard: ShardView) -> Iterator[str]:
    """The sentences, what stops the shard first."""
    if shard.reason:
        yield f"the shard waits: {shard.reason}"
    for lag in view.lag:
        if lag.partition == shard.partition and lag.records:
            yield f"{lag.records:,} records of {lag.topic} wait to be processed, {lag.seconds:,.0f} s at most"
    if shard.history:
        yield f"the live stream waits for {shard.history:,} offsets of the history"
    if shard.pending:
        yield f"{shard.pending:,} {'matches wait for their outcome' if view.task == 'match' else EVENTS}"
    if shard.early:
        yield f"{shard.early:,} labels wait for their event"
    if shard.querying is not None and shard.querying.pending:
        yield f"{shard.querying.pending:,} queries wait for an answer"


EVENTS = "events wait for their label"
