"""The groups there are: a slot each, born when declared or when first seen, retired when there are too many.

A closed declaration is one group with a slot from the start, never retired. An open one (`sex=*`, `#*`) has a
group per value, born when `observe` first meets it and awake from then on. When all slots are taken the rarest
born group is retired and its slot begins afresh. How often a group was seen is counted as in Space-Saving
(Metwally, Agrawal, El Abbadi 2005): a newcomer inherits the count of the one it replaces, so that what is frequent
stays however many values pass through once.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamd.errors import BadRecord, ConfigError, StateError
from streamd.learners.features import LONGEST
from streamd.learners.groupwise.predicates import Declaration, parse
from streamd.snapshot import State

EVERYONE = "everyone"
MOST_TAGS = 100  # of one event
COUNTS = ("missing", "mistyped", "retired", "refused", "crowded")
_names = msgspec.json.Decoder(list[str])


class Members(NamedTuple):
    """The groups an event is in, and the declarations whose features were missing or of another type."""

    names: tuple[str, ...]
    masses: tuple[float, ...]
    missing: tuple[int, ...]
    mistyped: tuple[int, ...]
    crowded: int  # groups beyond `max_awake`, left out


class Birth(NamedTuple):
    slot: int
    mass: float


class Groups:
    """The table of groups.

    declared: predicates; as a mapping, name -> predicate. prior: mass by name, else 1; the groups of an open
    declaration have that declaration's each. everyone: slot 0 is a group of every event.
    max_groups: slots; max_awake: groups of one event, the first declared ones.
    All of these raise ConfigError with the key when they do not fit.
    """

    def __init__(
        self,
        declared: Sequence[str] | Mapping[str, str],
        prior: Mapping[str, float],
        everyone: bool,
        max_groups: int,
        max_awake: int,
    ) -> None:
        self.max_groups, self.max_awake, self.everyone = max_groups, max_awake, everyone
        self.declarations = _read(declared)
        self._masses = _masses(prior, [*([EVERYONE] if everyone else []), *(d.text for d in self.declarations)])
        self.fixed = [EVERYONE] if everyone else []
        self.fixed += [d.text for d in self.declarations if not d.open]
        if EVERYONE in self.fixed[1:] or len(set(self.fixed)) < len(self.fixed):
            raise ConfigError("groups", "two groups of one name")
        if not self.fixed and not self.declarations:
            raise ConfigError("groups", "there must be a group, or everyone")
        if len(self.fixed) > max_groups:
            raise ConfigError("max_groups", f"{len(self.fixed)} groups are declared")
        self.clear()

    def clear(self) -> None:
        """Back to the declared groups, all counts 0."""
        self.changes = 0  # births: what `awake` says of an event holds until the next
        self.names: list[str] = []
        self.slots: dict[str, int] = {}
        self.ids: list[int] = []  # slot -> the identity of its name
        self._held: dict[int, int] = {}  # identity -> slot
        self.seen: list[int] = []
        self.missing = [0] * len(self.declarations)
        self.mistyped = [0] * len(self.declarations)
        self.retired = self.refused = self.crowded = 0
        for name in self.fixed:
            self._put(len(self.names), name, 0)

    def mass(self, name: str) -> float:
        """The prior mass of a closed group."""
        return self._masses.get(name, 1.0)

    def members(self, x: Mapping[str, Any], tags: Sequence[str]) -> Members:
        """Which groups an event is in, born or not. Changes nothing. BadRecord for tags that do not fit."""
        if tags:
            _check_tags(tags)
        found: dict[str, float] = {EVERYONE: self.mass(EVERYONE)} if self.everyone else {}
        missing, mistyped = [], []
        for number, declaration in enumerate(self.declarations):
            names, was_missing, was_mistyped = declaration.groups(x, tags)
            for name in names:
                found.setdefault(name, self._masses.get(declaration.text, 1.0))
            if was_missing:
                missing.append(number)
            elif was_mistyped:
                mistyped.append(number)
        names_, crowded = tuple(found), max(len(found) - self.max_awake, 0)
        return Members(
            names_[: self.max_awake],
            tuple(found.values())[: self.max_awake],
            tuple(missing),
            tuple(mistyped),
            crowded,
        )

    def awake(self, members: Members) -> list[int]:
        """The slots of those that are born."""
        slots = self.slots
        return [slots[name] for name in members.names if name in slots]

    def held(self, ids: Sequence[int]) -> list[int]:
        """The slots of remembered groups, -1 for those retired since."""
        return [self._held.get(one, -1) for one in ids]

    def observe(self, members: Members) -> list[Birth]:
        """Count an event in; returns the births, in order. A birth in a slot that was held retires its holder."""
        for number in members.missing:
            self.missing[number] += 1
        for number in members.mistyped:
            self.mistyped[number] += 1
        self.crowded += members.crowded
        births = []
        for name, mass in zip(members.names, members.masses, strict=True):
            slot = self.slots.get(name)
            if slot is None:
                slot = self._room(members.names)
                if slot is None:
                    self.refused += 1
                    continue
                births.append(Birth(slot, mass))
                self._put(slot, name, self.seen[slot] if slot < len(self.seen) else 0)
            self.seen[slot] += 1
        return births

    def state(self) -> State:
        lines = np.frombuffer(msgspec.json.encode(self.names), np.uint8)
        document = {name: getattr(self, name) for name in COUNTS}
        return State({"names": lines, "seen": np.array(self.seen, np.int64)}, document)

    def restore(self, names: NDArray[np.uint8], seen: NDArray[np.int64], document: Mapping[str, Any]) -> None:
        """Raises StateError if the state is that of other declarations."""
        try:
            lines = _names.decode(names.tobytes())
        except msgspec.MsgspecError as error:
            raise StateError(f"the names of the groups cannot be read: {error}") from None
        if lines[: len(self.fixed)] != self.fixed or len(lines) > self.max_groups or len(lines) != len(seen):
            raise StateError("the state has other groups than those declared")
        self.clear()
        for slot, name in enumerate(lines[len(self.fixed) :], len(self.fixed)):
            self._put(slot, name, 0)
        self.seen = seen.tolist()
        for name in COUNTS:
            kept = document[name]
            setattr(self, name, list(kept) if isinstance(kept, list | tuple) else int(kept))

    def _room(self, present: Sequence[str]) -> int | None:
        """A free slot, or that of the rarest born group which is not one of `present`."""
        if len(self.names) < self.max_groups:
            return len(self.names)
        born = [slot for slot in range(len(self.fixed), len(self.names)) if self.names[slot] not in present]
        if not born:
            return None
        slot = min(born, key=self.seen.__getitem__)
        self.retired += 1
        del self.slots[self.names[slot]], self._held[self.ids[slot]]
        return slot

    def _put(self, slot: int, name: str, seen: int) -> None:
        if slot == len(self.names):
            self.names.append(name)
            self.seen.append(seen)
            self.ids.append(0)
        self.changes += 1
        self.names[slot] = name
        self.ids[slot] = identity(name)
        self.slots[name] = self._held[self.ids[slot]] = slot


def identity(name: str) -> int:
    """What a memo remembers of a group: it outlives slots, restarts and retirement."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little", signed=True)


def _read(declared: Sequence[str] | Mapping[str, str]) -> list[Declaration]:
    if isinstance(declared, Mapping):
        return [parse(text, f"groups.{name}")._replace(text=name) for name, text in declared.items()]
    return [parse(text) for text in declared]


def _masses(prior: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    for name, mass in prior.items():
        if name not in names:
            raise ConfigError(f"prior.{name}", "no such group is declared")
        if not 0.0 < mass < 1e100:
            raise ConfigError(f"prior.{name}", "must be above 0")
    return dict(prior)


def _check_tags(tags: Sequence[str]) -> None:
    if len(tags) > MOST_TAGS:
        raise BadRecord(f"groups: {len(tags)} of them, at most {MOST_TAGS} are taken")
    for tag in tags:
        if not isinstance(tag, str) or not 0 < len(tag) <= LONGEST:
            raise BadRecord(f"groups: a tag that is not a string of 1 to {LONGEST} characters")
        try:
            tag.encode()
        except UnicodeEncodeError:
            raise BadRecord("groups: a tag that is not valid Unicode") from None
