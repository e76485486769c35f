"""A snapshot gives back the state bit for bit, or refuses."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from streamd import snapshot
from streamd.errors import StateError
from streamd.snapshot import Manifest, State

dtypes = st.one_of(
    arrays_of.boolean_dtypes(),
    arrays_of.integer_dtypes(),
    arrays_of.unsigned_integer_dtypes(),
    arrays_of.floating_dtypes(sizes=(16, 32, 64)),
    arrays_of.byte_string_dtypes(min_len=1, max_len=20),
)
shapes = arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6)
arrays = dtypes.flatmap(lambda dtype: arrays_of.arrays(dtype, shapes))
values = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(), st.binary())
documents = st.dictionaries(st.text(), st.one_of(values, st.lists(values), st.dictionaries(st.text(), values)))
states = st.builds(State, st.dictionaries(st.text(min_size=1), arrays, max_size=5), documents)


def manifest_of(state: State) -> tuple[Manifest, list[bytes]]:
    entries, document, chunks = snapshot.encode(state)
    manifest = Manifest(
        format=snapshot.FORMAT,
        shard="group.pipeline.0",
        pipeline="pipeline",
        model="abc",
        config={"learner": {"kind": "linear", "eta": 0.1}},
        topics={"events": "id-1"},
        partitions=4,
        positions={"events": 7},
        sequence=3,
        journal_offset=11,
        arrays=entries,
        document=document,
        digest=snapshot.digest(state),
    )
    return manifest, list(chunks)


def round_trip(state: State) -> State:
    manifest, chunks = manifest_of(state)
    read = snapshot.read_manifest(snapshot.write_manifest(manifest))
    assert read == manifest
    return snapshot.decode(read, chunks)


def same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Equal bit for bit, NaN and negative zero included."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def sample() -> State:
    """A state of which one array takes several chunks."""
    rng = np.random.default_rng(5)
    large = rng.standard_normal(snapshot.CHUNK // 8 + 1000)
    return State({"large": large, "small": np.arange(12).reshape(3, 4)}, {"n": 3, "words": ["a", "b"]})


@given(states)
def test_a_state_comes_back_bit_for_bit(state: State) -> None:
    back = round_trip(state)
    assert back.arrays.keys() == state.arrays.keys()
    assert all(same(back.arrays[name], array) for name, array in state.arrays.items())
    assert snapshot.digest(back) == snapshot.digest(state)
    assert msgspec.msgpack.encode(back.document, order="sorted") == msgspec.msgpack.encode(
        state.document, order="sorted"
    )


def test_a_large_array_is_cut_into_chunks_and_comes_back() -> None:
    state = sample()
    manifest, chunks = manifest_of(state)
    assert len(manifest.arrays["large"].chunks) == 2
    assert all(len(chunk) < 8 << 20 for chunk in chunks)
    assert same(round_trip(state).arrays["large"], state.arrays["large"])


@pytest.mark.parametrize("view", [np.asfortranarray, lambda a: a[::2], lambda a: a.T, lambda a: a[:, 1]])
def test_an_array_that_is_not_contiguous_comes_back(view: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    array = view(np.arange(24.0).reshape(4, 6))
    assert same(round_trip(State({"a": array}, {})).arrays["a"], array)


def test_an_array_that_comes_back_can_be_written() -> None:
    back = round_trip(State({"a": np.zeros(3), "empty": np.zeros((0, 4))}, {}))
    back.arrays["a"][1] = 5
    assert back.arrays["a"].tolist() == [0, 5, 0]


@given(states, st.randoms(use_true_random=False))
def test_the_digest_does_not_depend_on_the_order_of_names(state: State, random: Any) -> None:
    names, keys = list(state.arrays), list(state.document)
    random.shuffle(names)
    random.shuffle(keys)
    shuffled = State({n: state.arrays[n] for n in names}, {k: state.document[k] for k in keys})
    assert snapshot.digest(shuffled) == snapshot.digest(state)


def test_the_digest_tells_states_apart() -> None:
    base = State({"a": np.zeros(4)}, {"n": 1})
    others = [
        State({"b": np.zeros(4)}, {"n": 1}),
        State({"a": np.zeros(4, np.int64)}, {"n": 1}),
        State({"a": np.zeros((2, 2))}, {"n": 1}),
        State({"a": np.array([0, 0, 0, -0.0])}, {"n": 1}),
        State({"a": np.zeros(4)}, {"n": 2}),
        State({"a": np.zeros(4)}, {}),
        State({}, {"n": 1}),
    ]
    assert len({snapshot.digest(state) for state in [base, *others]}) == len(others) + 1


@given(st.data())
def test_one_flipped_bit_in_any_chunk_is_a_state_error(data: st.DataObject) -> None:
    manifest, chunks = manifest_of(State({"a": np.arange(50), "b": np.ones((2, 3))}, {"n": 1}))
    which = data.draw(st.integers(0, len(chunks) - 1))
    bit = data.draw(st.integers(0, 8 * len(chunks[which]) - 1))
    damaged = bytearray(chunks[which])
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(StateError, match="damaged"):
        snapshot.decode(manifest, [*chunks[:which], bytes(damaged), *chunks[which + 1 :]])


def test_a_missing_or_shortened_chunk_is_a_state_error() -> None:
    manifest, chunks = manifest_of(sample())
    for count in range(len(chunks)):
        with pytest.raises(StateError, match="missing"):
            snapshot.decode(manifest, chunks[:count])
    with pytest.raises(StateError, match="damaged"):
        snapshot.decode(manifest, [*chunks[:-1], chunks[-1][:-1]])
    with pytest.raises(StateError, match="damaged"):
        snapshot.decode(manifest, chunks[::-1])


@pytest.mark.parametrize("format", [0, snapshot.FORMAT + 1, 99])
def test_another_format_version_is_a_state_error_that_names_it(format: int) -> None:
    manifest, _ = manifest_of(State({}, {}))
    raw = snapshot.write_manifest(msgspec.structs.replace(manifest, format=format))
    with pytest.raises(StateError, match=f"format {format}"):
        snapshot.read_manifest(raw)


def test_a_later_format_is_named_even_if_nothing_else_can_be_read() -> None:
    with pytest.raises(StateError, match="format 7"):
        snapshot.read_manifest(b'{"format": 7, "anything": []}')


@given(st.data())
def test_a_cut_manifest_is_a_state_error(data: st.DataObject) -> None:
    raw = snapshot.write_manifest(manifest_of(State({"a": np.ones(3)}, {}))[0])
    with pytest.raises(StateError):
        snapshot.read_manifest(raw[: data.draw(st.integers(0, len(raw) - 1))])


def test_bytes_that_are_no_manifest_are_a_state_error() -> None:
    for raw in (b"", b"\x80\x04pickle", b"[]", b'{"format": "1"}', b'{"format": 1}'):
        with pytest.raises(StateError):
            snapshot.read_manifest(raw)


def test_arrays_of_objects_and_text_are_refused() -> None:
    for array in (np.array([{}, None], object), np.array(["text"]), np.array([(1, 2.0)], "i4,f8")):
        with pytest.raises(StateError, match="array a of dtype"):
            snapshot.encode(State({"a": array}, {}))


def test_a_manifest_that_names_a_foreign_dtype_is_refused() -> None:
    manifest, chunks = manifest_of(State({"a": np.arange(3)}, {}))
    entry = msgspec.structs.replace(manifest.arrays["a"], dtype="|O")
    with pytest.raises(StateError, match="foreign dtype"):
        snapshot.decode(msgspec.structs.replace(manifest, arrays={"a": entry}), chunks)


def test_a_manifest_whose_shape_does_not_fit_is_refused() -> None:
    manifest, chunks = manifest_of(State({"a": np.arange(4)}, {}))
    for entry in (
        msgspec.structs.replace(manifest.arrays["a"], shape=(5,)),
        msgspec.structs.replace(manifest.arrays["a"], shape=(2, 2)),
        msgspec.structs.replace(manifest.arrays["a"], dtype="<f8"),
    ):
        with pytest.raises(StateError):
            snapshot.decode(msgspec.structs.replace(manifest, arrays={"a": entry}), chunks)


def test_merge_and_split_are_inverse() -> None:
    parts = {
        "learner": State({"weights": np.ones(3), "deep/name": np.zeros(2)}, {"n": 1}),
        "pending": State({}, {"ids": ["a"]}),
        "empty": State({}, {}),
    }
    back = snapshot.split(snapshot.merge(parts))
    assert back.keys() == parts.keys()
    for name, part in parts.items():
        assert back[name].document == part.document
        assert back[name].arrays.keys() == part.arrays.keys()
        assert all(same(back[name].arrays[key], array) for key, array in part.arrays.items())
