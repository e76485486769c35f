"""An exported snapshot: what it brings back, and that no damage passes."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd import snapshot
from streamd.errors import StateError
from streamd.operating import exported
from streamd.ports import SnapshotInfo
from streamd.snapshot import Manifest, State
from streamd.snapshots import Policy, retained

STATE = State(
    {"learner/w": np.arange(6.0).reshape(2, 3), "learner/n": np.array([b"ab", b"c"]), "pending/none": np.zeros(0)},
    {"learner": {"classes": ["a"]}, "pending": {}},
)


def manifest(state: State = STATE) -> tuple[bytes, list[bytes]]:
    entries, document, chunks = snapshot.encode(state)
    made = Manifest(
        snapshot.FORMAT, "g.p.0", "p", "abc", {}, {"t": "1"}, 1, {"t": 7}, 3, 4, entries, document,
        snapshot.digest(state),
    )  # fmt: skip
    return snapshot.write_manifest(made), list(chunks)


PACKED = exported.pack(*manifest())


def test_what_was_packed_comes_back() -> None:
    found, state = exported.unpack(PACKED)
    assert (found.sequence, found.positions) == (3, {"t": 7})
    assert snapshot.digest(state) == snapshot.digest(STATE)


@given(st.integers(0, len(PACKED) * 8 - 1))
def test_one_flipped_bit_is_refused(bit: int) -> None:
    changed = bytearray(PACKED)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(StateError):
        exported.unpack(bytes(changed))


@given(st.integers(0, len(PACKED) - 1))
def test_a_file_that_was_cut_short_is_refused(length: int) -> None:
    with pytest.raises(StateError):
        exported.unpack(PACKED[:length])


def test_another_format_version_is_refused_with_its_number() -> None:
    raw, chunks = manifest()
    later = json.dumps({**json.loads(raw), "format": 99}).encode()
    with pytest.raises(StateError, match="snapshot format 99; this version of streamd reads"):
        exported.pack(later, chunks)


def test_the_rule_keeps_the_last_and_the_newest_of_hours_and_days() -> None:
    hour = 3_600_000
    kept = [SnapshotInfo(n, 1, n * hour // 2) for n in range(200, 0, -1)]  # two an hour
    policy = Policy(keep=3, work=1, interval=1, journal=1, hourly=3, daily=2)
    assert sorted(retained(kept, policy), reverse=True) == [200, 199, 198, 197, 191]
