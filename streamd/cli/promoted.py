"""What the state has to say to a configuration file: it remembers a promotion, which the file does not, and may
have been learned by a model that the file does not know."""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from streamd import config as configuration
from streamd import wiring
from streamd.cli.status_shard import PipelineStatus
from streamd.config import Config, Pipeline
from streamd.recovery import ANEW
from streamd.views import EngineView


class Promoted(Struct, frozen=True):
    """On these partitions what the file calls this shadow is live. model: its name."""

    pipeline: str
    shadow: str
    model: str
    partitions: Sequence[int]


def together(found: Iterable[Promoted]) -> list[Promoted]:
    """Those of several workers, each once."""
    partitions: dict[tuple[str, str, str], set[int]] = {}
    for one in found:
        partitions.setdefault((one.pipeline, one.shadow, one.model), set()).update(one.partitions)
    return [Promoted(*what, sorted(those)) for what, those in partitions.items()]


def promoted(config: Config, views: Iterable[EngineView | PipelineStatus]) -> list[Promoted]:
    """Where the shards' live model is one of the file's shadows."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for view in views:
        pipeline = config.pipeline.get(view.pipeline)
        if not isinstance(pipeline, Pipeline):
            continue
        roles = _roles(view.pipeline, pipeline)
        for shard in view.shards:
            live = "" if shard.shadows is None else shard.shadows.live
            if shadow := roles.get(live, ""):
                found.setdefault((view.pipeline, shadow, live), []).append(shard.partition)
    return [Promoted(*what, sorted(partitions)) for what, partitions in found.items()]


class Otherwise(Struct, frozen=True):
    """The state of these partitions was learned by a model that the file does not know. model: its name."""

    pipeline: str
    model: str
    partitions: Sequence[int]


def otherwise(config: Config, views: Iterable[EngineView]) -> list[Otherwise]:
    """Which running shards a restart with this file would pause."""
    found: dict[tuple[str, str], list[int]] = {}
    for view in views:
        if view.pipeline not in config.pipeline:
            continue
        identity = wiring.shards(config, view.pipeline)[0](0)
        for shard in view.shards:
            live = view.model if shard.shadows is None else shard.shadows.live
            digest = live.rpartition("/")[2].partition("+")[0]
            if digest not in (identity.model, *identity.others):
                found.setdefault((view.pipeline, live), []).append(shard.partition)
    return [Otherwise(*what, sorted(partitions)) for what, partitions in found.items()]


def pauses(config: Config, found: Otherwise) -> str:
    """What a restart would do to them, and how to go on."""
    where = ", ".join(map(str, found.partitions))
    anew = ANEW if isinstance(config.pipeline[found.pipeline], Pipeline) else ""
    return (
        f"a restart with this file would pause pipeline {found.pipeline}, partitions {where}: what they "
        f"have learned is another model's ({found.model}){anew}"
    )


def _roles(name: str, pipeline: Pipeline) -> dict[str, str]:
    """Of each model, as a running shard shows it: its shadow's name in the file, empty for the learner's."""
    told = {"": pipeline.learner, **pipeline.shadow}
    models = {
        shadow: (f"{keys['kind']}/{configuration.digest(wiring.meaning(pipeline, shadow or None))}", keys)
        for shadow, keys in told.items()
    }
    names = [model for model, _ in models.values()]
    return {
        model if names.count(model) == 1 else f"{model}+{configuration.digest(keys)}": shadow
        for shadow, (model, keys) in models.items()
    }


def exchange(pipeline: str, shadow: str) -> str:
    """How to make the file say what is."""
    return (
        f"the state remembers this. To make the file say so, exchange [pipeline.{pipeline}.learner] and "
        f"[pipeline.{pipeline}.shadow.{shadow}]"
    )


def sentence(found: Promoted) -> str:
    where = ", ".join(map(str, found.partitions))
    what = (
        f"the shadow {found.shadow} of pipeline {found.pipeline} was promoted ({found.model}, partitions {where})"
    )
    return f"{what}; {exchange(found.pipeline, found.shadow)}"
