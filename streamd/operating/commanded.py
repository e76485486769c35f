"""What the operator's commands have made of a shard, beside its task: records to skip, what was done,
and how it works, which a reload changes.

A part of the shard's state, under a name of its own; a snapshot without it was made where there was none.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from streamd.errors import Refused, StateError
from streamd.operating import exported
from streamd.operating.history import Span
from streamd.operating.skips import Skips
from streamd.snapshot import Manifest, State

PART = "operator"
Apply = Callable[[], Sequence[bytes]]
"""Carries a command out; returns the memos to be journalled."""


class Commanded:
    """Of one shard."""

    def __init__(self, state: State | None = None) -> None:
        kept = {} if state is None else state.document.get(PART, {})
        self.skips = Skips(kept.get("skips", ()))
        self.done: dict[str, int] = dict(kept.get("done", {}))  # command -> how often
        self.history: dict[str, int] = dict(kept.get("history", {}))  # where the backfill ends
        self.begun: int = kept.get("begun", 0)  # the epoch that began after a former state's last, or 0
        self.live: bytes = kept.get("live", b"")  # how the task works, if that is known

    def begin(self, span: Span, epoch: int) -> None:
        """A backfill, carried out in this epoch."""
        self.history = dict(span.until)
        self.skips = Skips(span.skips)
        self.begun = epoch if span.again else 0

    def skip(self, payload: bytes, inputs: Sequence[str], positions: Mapping[str, int]) -> Apply:
        add = self.skips.add(payload, inputs, positions)

        def apply() -> Sequence[bytes]:
            add()
            return ()

        return apply

    def count(self, command: str) -> None:
        self.done[command] = self.done.get(command, 0) + 1

    def beside(self, thaw: Callable[[], State]) -> Callable[[], State]:
        """A task's state with this in it."""
        part: dict[str, Any] = {"skips": self.skips.document(), "done": dict(self.done), "live": self.live}
        if self.history:
            part["history"] = dict(self.history)
        if self.begun:
            part["begun"] = self.begun

        def whole() -> State:
            state = thaw()
            return State(state.arrays, {**state.document, PART: part})

        return whole


def digest(live: bytes) -> str:
    """Eight hexadecimal digits that name how a shard works; empty if that is not known."""
    return hashlib.blake2b(live, digest_size=4).hexdigest() if live else ""


def task_part(state: State) -> State:
    """A state without what is here."""
    return State(state.arrays, {name: part for name, part in state.document.items() if name != PART})


def exported_state(payload: bytes, fits: Callable[[Manifest], str], model: str = "") -> State:
    """A task's state from an exported snapshot. Raises Refused.

    fits: why it cannot be continued here. model: the digest of the one that must have been live in it, if any.
    """
    try:
        manifest, state = exported.unpack(payload)
    except StateError as error:
        raise Refused(str(error)) from None
    if reason := fits(manifest):
        raise Refused(f"the snapshot of {manifest.shard} at epoch {manifest.sequence} does not fit: {reason}")
    if model and manifest.model != model:
        raise Refused(
            f"at epoch {manifest.sequence} another model was live: {manifest.model}, now {model}; promote that "
            "one first, or import the snapshot as a whole"
        )
    return task_part(state)
