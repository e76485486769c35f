"""Oracles that are river models: one model per group, kept beside the kernel's arrays.

The models see the features by name, as river does, and a value in units of the declared range. What they answer is
held within the range; what is not a number counts as its middle. A label's weight does not reach them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamd.errors import ConfigError, StateError
from streamd.learners import Label, Learner
from streamd.learners.river_model import RiverClassifier, RiverRegressor
from streamd.snapshot import State, merge, split


class Outside:
    """A river model for each slot.

    described: see `streamd.learners.river_build`. Raises ConfigError if it is none, or of the other task.
    """

    def __init__(
        self,
        described: Any,
        classify: bool,
        seed: int,
        max_features: int,
        max_features_per_event: int,
        key: bytes | None,
    ) -> None:
        self._described, self._classify, self._seed, self._key = described, classify, seed, key
        self._sizes = {"max_features": max_features, "max_features_per_event": max_features_per_event}
        self._models: list[Learner] = []
        self.max_classes = getattr(self._fresh(), "max_classes", 0)

    def born(self, slot: int) -> None:
        if slot == len(self._models):
            self._models.append(self._fresh())
        else:
            self._models[slot] = self._fresh()

    def clear(self) -> None:
        self._models = []

    def predict(self, slot: int, x: Mapping[str, Any], classes: Sequence[str]) -> NDArray[np.float64]:
        """(1,) the value, or the probabilities of `classes`; those which this model never met get none."""
        model = self._models[slot]
        p, _why = model.peek(x)
        if not self._classify:
            return np.clip(np.nan_to_num(p, nan=0.5), 0.0, 1.0)
        places = {name: c for c, name in enumerate(model.classes)}
        if not places:
            return np.full(len(classes), 1.0 / len(classes))
        return np.array([p[places[name]] if name in places else 0.0 for name in classes])

    def everybody(self, x: Mapping[str, Any], classes: Sequence[str]) -> NDArray[np.float64] | None:
        """The mean over all groups; None if there are none."""
        if not self._models:
            return None
        return np.asarray(np.mean([self.predict(slot, x, classes) for slot in range(len(self._models))], axis=0))

    def observe(self, slots: Sequence[int], x: Mapping[str, Any]) -> None:
        for slot in slots:
            steps = self._models[slot].steps()
            steps.observe(steps.row(x))
            steps.execute()

    def learn(self, slots: Sequence[int], x: Mapping[str, Any], y: Label) -> None:
        for slot in slots:
            steps = self._models[slot].steps()
            steps.learn(steps.row(x), y, b"")
            steps.execute()

    def state(self) -> State:
        return merge({str(slot): model.state() for slot, model in enumerate(self._models)})

    def restore(self, state: State, slots: int) -> None:
        parts = split(state)
        if set(parts) != {str(slot) for slot in range(slots)}:
            raise StateError(f"the state has {len(parts)} models for {slots} groups")
        self._models = [self._fresh() for _ in range(slots)]
        for name, part in parts.items():
            self._models[int(name)].restore(part)

    def _fresh(self) -> Learner:
        made: Learner
        try:
            if self._classify:
                made = RiverClassifier(self._described, seed=self._seed, key=self._key, **self._sizes)
            else:
                made = RiverRegressor(self._described, seed=self._seed, key=self._key, **self._sizes)
        except ConfigError as error:
            raise ConfigError(f"oracle.{error.key}", error.expected) from None
        return made
