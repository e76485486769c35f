"""What the tables of the configuration are made of: units, names, and what every pipeline has."""

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct

NAME = r"^[a-z][a-z0-9_-]{0,62}$"
TOPIC = r"^[a-zA-Z0-9._-]{1,200}$"

Topic = Annotated[str, Meta(pattern=TOPIC, description="the name of a topic")]
Positive = Annotated[int, Meta(gt=0)]
Share = Annotated[float, Meta(gt=0, lt=1)]


class Duration(float):
    """Seconds, written as "200ms", "5s", "10m", "2h" or "7d"."""

    @property
    def milliseconds(self) -> int:
        return round(self * 1000)


class Size(int):
    """Bytes, written as "512B", "64KB", "1MB" or "2GB"."""


class Keys(Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the configuration: an unknown key is refused."""


class AnyPipeline:
    """What `[pipeline.NAME]` has, whatever its task."""

    __slots__ = ()

    task: str
    events: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """The topics it reads."""
        raise NotImplementedError

    @property
    def outputs(self) -> Mapping[str, str]:
        """What it writes -> the topic; the answers to the events first."""
        raise NotImplementedError

    @property
    def kind(self) -> str:
        """The kind of its learner or rule."""
        raise NotImplementedError

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of all its learners, or of its rule."""
        return (self.kind,)

    @property
    def answers(self) -> str:
        """The topic of the answers to the events."""
        return next(iter(self.outputs.values()))

    def meaning(self) -> dict[str, Any]:
        """The part that gives the state its meaning: a snapshot of another one is refused."""
        raise NotImplementedError
