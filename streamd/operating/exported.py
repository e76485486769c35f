"""A snapshot as one file: the same manifest and chunks that a store holds, one after the other, and a checksum.

    "streamd snapshot\\n"   length of the manifest (8 bytes, little endian)   manifest   chunks   BLAKE2b (32)

The checksum is of all before it, so a file that was cut short or changed in a single bit is refused before
anything of it is looked at. Nothing in it can execute code; see `streamd.snapshot`.
"""

import hashlib
from collections.abc import Iterable, Iterator

from streamd import snapshot
from streamd.errors import StateError
from streamd.snapshot import Chunk, Manifest, State

MAGIC = b"streamd snapshot\n"
SUM = 32  # bytes


def pack(manifest: bytes, chunks: Iterable[bytes]) -> bytes:
    """The file of a snapshot, as `Store.load` gives it. The state in it is checked. Raises StateError."""
    kept = list(chunks)
    snapshot.decode(snapshot.read_manifest(manifest), kept)
    body = b"".join((MAGIC, len(manifest).to_bytes(8, "little"), manifest, *kept))
    return body + _sum(body)


def unpack(file: bytes) -> tuple[Manifest, State]:
    """The inverse. Raises StateError for what is damaged, cut short, foreign, or of another format version."""
    if not file.startswith(MAGIC):
        raise StateError("this is not a snapshot that streamd exported")
    body, end = file[:-SUM], file[-SUM:]
    if len(file) < len(MAGIC) + 8 + SUM or _sum(body) != end:
        raise StateError("the exported snapshot is damaged or cut short; export it again, or copy it again")
    start = len(MAGIC) + 8
    length = int.from_bytes(body[len(MAGIC) : start], "little")
    manifest = snapshot.read_manifest(body[start : start + length])
    return manifest, snapshot.decode(manifest, _chunks(manifest, body, start + length))


def _chunks(manifest: Manifest, body: bytes, start: int) -> Iterator[bytes]:
    for chunk in _order(manifest):
        yield body[start : start + chunk.bytes]
        start += chunk.bytes


def _order(manifest: Manifest) -> Iterator[Chunk]:
    """The chunks as `snapshot.encode` gives them: the document's, then those of the arrays by name."""
    yield manifest.document
    for name in sorted(manifest.arrays):
        yield from manifest.arrays[name].chunks


def _sum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=SUM).digest()
