"""What only the operator may decide, for one run: by default streamd stops, or pauses the shard, and says why."""

from typing import Literal

from msgspec import Struct

OffsetGapChoice = Literal["stop", "nearest"]
LostStateChoice = Literal["stop", "older", "afresh"]
GrownTopicChoice = Literal["pause", "accept"]
ChangedModelChoice = Literal["pause", "backfill"]


class Choices(Struct, frozen=True):
    """Given on the command line of `streamd run`, never in the configuration: they are for one occasion.

    on_offset_gap: records were deleted before they were read, or a topic lost some that had been.
        `nearest`: go on with the nearest record that is kept.
    on_lost_state: journal and snapshots do not meet. `older`: go on from the newest state that can be had,
        `afresh`: with an empty one; either way at the committed positions, so that nothing is answered twice.
    on_grown_topic: the inputs have more partitions than when a state was learned. `accept`: go on, although a
        key's later records may go to another partition than its earlier ones.
    on_changed_model: a state was learned under another configuration. `backfill`: learn a new one from what the
        log still holds, answer nothing of that, and go on where the former one ended.
    """

    on_offset_gap: OffsetGapChoice = "stop"
    on_lost_state: LostStateChoice = "stop"
    on_grown_topic: GrownTopicChoice = "pause"
    on_changed_model: ChangedModelChoice = "pause"


CAUTIOUS = Choices()
"""The default: stop or pause."""
