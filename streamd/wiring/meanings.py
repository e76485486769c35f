"""What gives a pipeline's state its meaning, and how its shards work, as the journal keeps it."""

from typing import Any

import msgspec
from msgspec.structs import replace

from streamd import config as configuration
from streamd.config import Config, Pipeline
from streamd.config.keys import AnyPipeline
from streamd.errors import ConfigError
from streamd.learners import constructor_of


def meaning(pipeline: AnyPipeline, shadow: str | None = None) -> dict[str, Any]:
    """What gives a pipeline's state its meaning: all but what its learner can change while it learns.

    shadow: what it would be with this shadow's learner as the live one.
    """
    if not isinstance(pipeline, Pipeline):
        return pipeline.meaning()
    keys = pipeline.learner if shadow is None else pipeline.shadow[shadow]
    constructor = constructor_of(f"{keys['kind']}/{pipeline.task}")
    return pipeline.meaning(getattr(constructor, "LIVE", frozenset()), shadow)


def live(config: Config, name: str) -> bytes:
    """How a pipeline's shards work, as the journal keeps it when that changes: what a fresh task is made of."""
    told = configuration.written(config)
    parts = {"pipeline": told["pipeline"][name], "limits": told["limits"]}
    return msgspec.json.encode(parts, order="sorted")


def meant_by(kind: type[AnyPipeline], works: bytes) -> dict[str, Any] | None:
    """What gave a state its meaning that worked as `live` said; None if this version cannot tell."""
    try:
        return meaning(configuration.convert(msgspec.json.decode(works)["pipeline"], kind, ""))
    except (ConfigError, msgspec.MsgspecError, KeyError):
        return None


def as_it_worked(config: Config, name: str, works: bytes) -> Config:
    """Raises ConfigError, MsgspecError, KeyError."""
    parts = msgspec.json.decode(works)
    pipeline = configuration.convert(parts["pipeline"], type(config.pipeline[name]), f"pipeline.{name}")
    limits = configuration.convert(parts["limits"], type(config.limits), "limits")
    return replace(config, pipeline={**config.pipeline, name: pipeline}, limits=limits)
