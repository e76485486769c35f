"""River objects as bytes: the one pickle streamd keeps, read by an unpickler that admits next to nothing.

Admitted are classes of river (not its readers of files and networks), containers and numbers of the standard
library, numpy's arrays and generators, and the few functions with which those put themselves together. Everything
else is a StateError before it is called. With a key the bytes carry an HMAC-SHA256, checked before they are read.

Two objects in the same state give the same bytes. Strings, and sets of strings or integers, go into a table beside
the pickle by their value, so neither which strings are one object nor the order of a set matters; and the
generators which river's distributions without a seed hold, and no model draws from, become one. What remains is
Python's own limit: a set that was restored may be iterated in another order, so a model whose predictions depend
on that order is not reproduced bit for bit.
"""

import hmac
import io
import pickle
import random
from types import MethodType
from typing import Any

import msgspec
from river import base

from streamd.errors import StateError

UNSAFE = ("river.api", "river.checks", "river.datasets", "river.evaluate", "river.stream")
ADMITTED: dict[str, frozenset[str]] = {
    "builtins": frozenset(
        {"bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "iter", "list", "object"}
        | {"range", "set", "slice", "str", "tuple"}
    ),
    "collections": frozenset({"Counter", "OrderedDict", "defaultdict", "deque"}),
    "copy": frozenset({"deepcopy"}),
    "copyreg": frozenset({"_reconstructor"}),
    "datetime": frozenset({"date", "datetime", "time", "timedelta", "timezone"}),
    "functools": frozenset({"partial"}),
    "numpy": frozenset({"dtype", "ndarray"}),
    "numpy._core.multiarray": frozenset({"_reconstruct", "scalar"}),
    "numpy._core.numeric": frozenset({"_frombuffer"}),
    "numpy.random._mt19937": frozenset({"MT19937"}),
    "numpy.random._pcg64": frozenset({"PCG64"}),
    "numpy.random._pickle": frozenset({"__bit_generator_ctor", "__generator_ctor", "__randomstate_ctor"}),
    "numpy.random.bit_generator": frozenset({"SeedSequence", "__pyx_unpickle_SeedSequence"}),
    "random": frozenset({"Random"}),
    "river._river_rust.vectordict": frozenset({"VectorDict", "euclidean_distance_tuple"}),
    "river.forest.online_extra_trees": frozenset(
        {"ExtraTrees._detection_mode_all", "ExtraTrees._detection_mode_off"}
    ),
    "river.naive_bayes.gaussian": frozenset({"GaussianNB._make_gaussian"}),
    "river.tree.splitter.ebst_splitter": frozenset(
        {"EBSTNode._update_estimator_univariate", "EBSTNode._update_estimator_multivariate"}
    ),
    "river.tree.splitter.nominal_splitter_reg": frozenset(
        {
            "NominalSplitterReg._update_estimator_univariate",
            "NominalSplitterReg._update_estimator_multivariate",
        }
    ),
    "statistics": frozenset({"NormalDist"}),
}
UNREADABLE = (
    pickle.UnpicklingError,
    msgspec.MsgspecError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Sealed(msgspec.Struct, frozen=True, array_like=True):
    """What the bytes are: an HMAC (empty without a key) of the rest."""

    seal: bytes
    body: bytes


class Frozen(msgspec.Struct, frozen=True, tag=True):
    members: list[str | int]

    def value(self) -> frozenset[str | int]:
        return frozenset(self.members)


class Loose(msgspec.Struct, frozen=True, tag=True):
    members: list[str | int]

    def value(self) -> set[str | int]:
        return set(self.members)


class Body(msgspec.Struct, frozen=True, array_like=True):
    table: list[str | Frozen | Loose]
    pickle: bytes


def dump(thing: Any, key: bytes | None = None) -> bytes:
    """The bytes of a river object, sealed when there is a key."""
    file = io.BytesIO()
    pickler = _Pickler(file, protocol=5)
    pickler.dump(thing)
    body = msgspec.msgpack.encode(Body(pickler.table, file.getvalue()))
    return msgspec.msgpack.encode(Sealed(_seal(body, key), body))


def load(data: bytes, key: bytes | None = None) -> Any:
    """The object back. Raises StateError if the seal is not the key's, or if it asks for what is not admitted."""
    try:
        sealed = msgspec.msgpack.decode(data, type=Sealed)
        if key is not None and not hmac.compare_digest(sealed.seal, _seal(sealed.body, key)):
            raise StateError("this model's state is not signed with the configured key")
        body = msgspec.msgpack.decode(sealed.body, type=Body)
        return _Unpickler(body).load()
    except UNREADABLE as error:
        raise StateError(f"this model's state cannot be read: {type(error).__name__}: {error}") from None


def admitted_module(module: str) -> bool:
    """Whether a module is one of river whose classes may be made from a name."""
    return module.startswith("river.") and not module.startswith(UNSAFE)


def _seal(body: bytes, key: bytes | None) -> bytes:
    return b"" if key is None else hmac.digest(key, body, "sha256")


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, protocol: int) -> None:
        super().__init__(file, protocol)
        self.places: dict[Any, int] = {}
        self.table: list[str | Frozen | Loose] = []
        self.kept: list[Any] = []  # alive until the end, so that no two share an id
        self.unseeded = random.Random(0)

    def persistent_id(self, thing: Any) -> int | None:
        kind = type(thing)
        if kind is str:
            return self._place(thing, thing)
        if kind is frozenset and _plain(thing):
            return self._place(thing, Frozen(sorted(thing)))
        if kind is set and _plain(thing):
            self.kept.append(thing)
            return self._place(id(thing), Loose(sorted(thing)))  # by identity: who shares it, shares it again
        return None

    def _place(self, name: Any, entry: "str | Frozen | Loose") -> int:
        place = self.places.get(name)
        if place is None:
            place = self.places[name] = len(self.table)
            self.table.append(entry)
        return place

    def reducer_override(self, thing: Any) -> Any:
        from river.proba.base import Distribution  # here, for it brings scipy.stats along

        if not isinstance(thing, Distribution) or thing.seed is not None or not hasattr(thing, "_rng"):
            return NotImplemented
        make, arguments, state, *rest = thing.__reduce_ex__(5)
        return make, arguments, {**state, "_rng": self.unseeded}, *rest


class _Unpickler(pickle.Unpickler):
    def __init__(self, body: Body) -> None:
        super().__init__(io.BytesIO(body.pickle))
        self.table = [entry if isinstance(entry, str) else entry.value() for entry in body.table]

    def persistent_load(self, place: Any) -> Any:
        return self.table[place]

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):
            return _method
        if name in ADMITTED.get(module, ()):
            return super().find_class(module, name)
        if admitted_module(module) and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__.startswith("river."):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is not admitted")


def _plain(members: Any) -> bool:
    """All strings or all integers that msgpack can hold."""
    kinds = {type(member) for member in members}
    return kinds <= {str} or (kinds <= {int} and all(-(1 << 63) <= member < 1 << 63 for member in members))


def _method(owner: Any, name: str) -> MethodType:
    """A river object's own method, all that a pickle may ask `getattr` for."""
    method = getattr(owner, name) if isinstance(owner, base.Base) and not name.startswith("__") else None
    if not isinstance(method, MethodType) or method.__self__ is not owner:
        raise pickle.UnpicklingError(f"{name} is not a method that may be asked for")
    return method
