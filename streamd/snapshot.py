"""A shard's state as bytes: named numpy arrays and one small msgpack document; a manifest written last.

The same bytes are the export file, whatever the store. Nothing in the format can execute code: arrays are raw
little-endian memory with dtype and shape, the document is msgpack, the manifest JSON. Every chunk carries a
BLAKE2b checksum; a flipped bit is a `StateError` that names the array.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from streamd.errors import StateError

FORMAT = 1
READABLE = (1,)  # this version reads formats N and N-1
CHUNK = 4 << 20  # bytes of an array before compression
KINDS = "biufS"  # booleans, integers, floats, fixed bytes: what can be read back without executing anything


class State(NamedTuple):
    """What a shard, or a part of it, must keep. Names use `/` for parts: `learner/weights`."""

    arrays: dict[str, NDArray[Any]]
    document: dict[str, Any]


class Chunk(msgspec.Struct, frozen=True):
    bytes: int
    checksum: str


class ArrayEntry(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    chunks: tuple[Chunk, ...]


class Manifest(msgspec.Struct, frozen=True):
    format: int
    shard: str
    pipeline: str
    model: str  # digest of the part of the configuration that gives the state its meaning
    config: dict[str, Any]  # that part, so that a refusal can say which keys differ
    topics: dict[str, str]  # input topic -> id
    partitions: int
    positions: dict[str, int]
    sequence: int
    journal_offset: int  # where `Log.journal` finds the entry after `sequence`
    arrays: dict[str, ArrayEntry]
    document: Chunk
    digest: str  # of the whole state, see `digest`


def merge(parts: Mapping[str, State]) -> State:
    """One state of several, each under its name."""
    arrays = {f"{name}/{key}": array for name, part in parts.items() for key, array in part.arrays.items()}
    return State(arrays, {name: part.document for name, part in parts.items()})


def split(state: State) -> dict[str, State]:
    """The inverse of `merge`."""
    parts: dict[str, State] = {name: State({}, document) for name, document in state.document.items()}
    for path, array in state.arrays.items():
        name, _, key = path.partition("/")
        parts[name].arrays[key] = array
    return parts


def digest(state: State) -> str:
    """A hash of the state that does not depend on the order of names: two equal states, one digest."""
    total = hashlib.blake2b(digest_size=16)
    for name in sorted(state.arrays):
        array = state.arrays[name]
        total.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        for piece in _pieces(array):
            total.update(piece)
    total.update(_pack(state.document))
    return total.hexdigest()


def encode(state: State) -> tuple[dict[str, ArrayEntry], Chunk, Iterator[bytes]]:
    """Compress a state: (entries of the arrays, entry of the document, all chunks: document first)."""
    document = zstandard.compress(_pack(state.document), 3)
    chunks = [document]
    entries = {}
    for name in sorted(state.arrays):
        array = state.arrays[name]
        if array.dtype.kind not in KINDS:
            raise StateError(f"array {name} of dtype {array.dtype} cannot be kept in a snapshot")
        packed = [zstandard.compress(piece, 3) for piece in _pieces(array)]
        chunks += packed
        entries[name] = ArrayEntry(array.dtype.str, array.shape, tuple(map(_chunk, packed)))
    return entries, _chunk(document), iter(chunks)


def decode(manifest: Manifest, chunks: Iterable[bytes]) -> State:
    """The state back from its chunks. Raises StateError where a chunk is missing or damaged."""
    source = iter(chunks)
    document = msgspec.msgpack.decode(_unpack("document", manifest.document, source), strict=False)
    arrays = {}
    for name in sorted(manifest.arrays):
        entry = manifest.arrays[name]
        dtype = np.dtype(entry.dtype)
        if dtype.kind not in KINDS:
            raise StateError(f"snapshot of {manifest.shard}: array {name} has the foreign dtype {entry.dtype}")
        raw, at = np.empty(dtype.itemsize * math.prod(entry.shape), np.uint8), 0
        for chunk in entry.chunks:
            piece = np.frombuffer(_unpack(name, chunk, source), np.uint8)
            if at + len(piece) <= len(raw):
                raw[at : at + len(piece)] = piece
            at += len(piece)
        if at != len(raw):
            raise StateError(f"snapshot of {manifest.shard}: array {name}: {at} bytes, not {len(raw)}")
        arrays[name] = raw.view(dtype).reshape(entry.shape)
    state = State(arrays, document)
    if digest(state) != manifest.digest:
        raise StateError(f"snapshot of {manifest.shard} at {manifest.sequence}: the digest does not match")
    return state


def read_manifest(raw: bytes) -> Manifest:
    """Parse a manifest. Raises StateError for another format version or damage."""
    try:
        version = msgspec.json.decode(raw, type=_Version).format
    except msgspec.MsgspecError as error:
        raise StateError(f"not a snapshot manifest: {error}") from None
    if version not in READABLE:
        raise StateError(f"snapshot format {version}; this version of streamd reads {READABLE}")
    try:
        return msgspec.json.decode(raw, type=Manifest)
    except msgspec.MsgspecError as error:
        raise StateError(f"damaged snapshot manifest: {error}") from None


def memory(manifest: Manifest) -> int:
    """Bytes of a state's arrays, uncompressed."""
    return sum(np.dtype(entry.dtype).itemsize * math.prod(entry.shape) for entry in manifest.arrays.values())


def write_manifest(manifest: Manifest) -> bytes:
    return msgspec.json.encode(manifest)


class _Version(msgspec.Struct):
    format: int


def _pack(document: dict[str, Any]) -> bytes:
    return msgspec.msgpack.encode(document, order="sorted")


def _pieces(array: NDArray[Any]) -> Iterator[memoryview]:
    """Its bytes, about a CHUNK at a time: one that is not contiguous is never copied whole."""
    if not array.nbytes:
        return
    rows = array.reshape(1) if array.ndim == 0 else array
    step = max(1, CHUNK * len(rows) // array.nbytes)
    for i in range(0, len(rows), step):
        yield np.ascontiguousarray(rows[i : i + step]).reshape(-1).view(np.uint8).data


def _chunk(data: bytes) -> Chunk:
    return Chunk(len(data), hashlib.blake2b(data, digest_size=16).hexdigest())


def _unpack(name: str, entry: Chunk, source: Iterator[bytes]) -> bytes:
    data = next(source, None)
    if data is None or _chunk(data) != entry:
        raise StateError(f"snapshot: a chunk of {name} is {'missing' if data is None else 'damaged'}")
    return zstandard.decompress(data)
