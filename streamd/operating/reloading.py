"""Reload: what of a changed configuration file can change while the daemon runs, and what needs a restart.

What decides in a shard (a learner's parameters of `LIVE`, what waits for how long, what is refused at the door) is
changed by an epoch of its own in the journal, so replay knows it; the rest (how often is committed, how many
snapshots are kept, how much is logged) is this process's alone. Nothing stops meanwhile.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from streamd import config as configuration
from streamd.config import Config, MatchPipeline
from streamd.errors import ConfigError, Refused, Transient
from streamd.learners import constructor_of
from streamd.restore import different_keys

PIPELINE = ("top", "echo", "pending", "early")  # of a pipeline: what is answered and remembered from now on
MATCH = ("timeout", "late", "attempts", "rule", "probabilities", "limits")
QUERY = (
    *("budget", "per_hour", "capacity", "group_weights", "floor", "deadline"),
    *("kind", "answers", "needs", "max_pending", "remember"),
)
SNAPSHOT = ("keep", "hourly", "daily", "work", "interval", "journal")
WORKER = ("drain", "stall", "give_up")


class Reloaded(Struct, frozen=True):
    """What became, or would become, of the keys that differ. error: why the file is refused as a whole."""

    applied: Sequence[str] = ()
    refused: Sequence[str] = ()
    error: str = ""


def mixed(old: Config, new: Config) -> Config:
    """The running configuration with what can change live as the new one has it."""
    return replace(
        old,
        epoch=new.epoch,
        limits=new.limits,
        log_level=new.log_level,
        snapshot=_with(old.snapshot, new.snapshot, SNAPSHOT),
        worker=_with(old.worker, new.worker, WORKER),
        pipeline={
            name: _pipeline(pipeline, new.pipeline[name]) if name in new.pipeline else pipeline
            for name, pipeline in old.pipeline.items()
        },
    )


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> Reloaded:
    """What a reload would do, from the running configuration to another, both as `configuration.written` has them.

    Raises ConfigError if one of them is none, as of another version."""
    running, wanted = configuration.reread(old), configuration.reread(new)
    before, between, after = map(configuration.written, (running, mixed(running, wanted), wanted))
    return Reloaded(sorted(different_keys("", before, between)), sorted(different_keys("", between, after)))


def _with(old: Any, new: Any, names: Sequence[str]) -> Any:
    return replace(old, **{name: getattr(new, name) for name in names if hasattr(old, name)})


def _pipeline(old: Any, new: Any) -> Any:
    if type(old) is not type(new) or old.task != new.task:
        return old
    if isinstance(old, MatchPipeline):
        return _meaning_the_same(old, new, MATCH)
    changed = _meaning_the_same(old, new, PIPELINE)
    if old.query is not None and new.query is not None:
        changed = replace(changed, query=_with(old.query, new.query, QUERY))
    unseen = {
        name: _learner(old.task, keys, new.shadow[name]) if name in new.shadow else keys
        for name, keys in old.shadow.items()
    }
    return replace(changed, learner=_learner(old.task, old.learner, new.learner), shadow=unseen)


def _meaning_the_same(old: Any, new: Any, names: Sequence[str]) -> Any:
    """The old pipeline with what of these keys leaves the meaning of its state as it is."""
    changed = old
    for name in names:
        candidate = _with(changed, new, [name])
        if (getattr(old, name) is None) == (getattr(new, name) is None) and candidate.meaning() == old.meaning():
            changed = candidate
    return changed


def _learner(task: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The learner's keys, those of its `LIVE` as the new file has them."""
    live: frozenset[str] = getattr(constructor_of(f"{old['kind']}/{task}"), "LIVE", frozenset())
    if new.get("kind") != old["kind"]:
        return dict(old)
    kept = {name: value for name, value in old.items() if name not in live}
    return kept | {name: value for name, value in new.items() if name in live}


class Reloader:
    """Of one process. Any thread may call `reload`.

    read: the file, as this process reads it; check: raises ConfigError for what cannot work; apply: makes the
    process work by the new configuration, and returns when it does.
    """

    def __init__(
        self,
        config: Config,
        read: Callable[[], Config],
        check: Callable[[Config], None],
        apply: Callable[[Config], None],
    ) -> None:
        self.config = config
        self._read = read
        self._check = check
        self._apply = apply
        self._turn = threading.Lock()

    def reload(self) -> Reloaded:
        """Read the file again, and work by what of it can change. Raises nothing: a broken file is the answer."""
        with self._turn:
            try:
                new = self._read()
                self._check(new)
                found = compare(configuration.written(self.config), configuration.written(new))
                live = mixed(self.config, new)
                self._check(live)
                if found.applied:
                    self._apply(live)
            except (ConfigError, Refused, Transient) as error:
                return Reloaded(error=str(error))
            self.config = live
            return found
