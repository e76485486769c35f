"""The laws of the port `Store`."""

import random
import time
from collections.abc import Iterator, Sequence

import pytest
from harness import StoreHarness, unique

from streamd.errors import StateError
from streamd.ports import Store

CHUNKS = (b"first", b"", b"third" * 1000)


class Died(Exception):
    pass


def dying(chunks: Sequence[bytes]) -> Iterator[bytes]:
    """Chunks of which the last cannot be made."""
    yield from chunks
    raise Died


def loaded(store: Store, shard: str, sequence: int) -> tuple[bytes, list[bytes]]:
    manifest, chunks = store.load(shard, sequence)
    return manifest, list(chunks)


def sequences(store: Store, shard: str) -> list[int]:
    return [info.sequence for info in store.list(shard)]


def test_a_snapshot_comes_back_as_it_was_put(store: Store) -> None:
    shard = unique("shard")
    store.put(shard, 7, b"manifest", CHUNKS)
    assert loaded(store, shard, 7) == (b"manifest", list(CHUNKS))


def test_a_snapshot_without_chunks_comes_back(store: Store) -> None:
    shard = unique("shard")
    store.put(shard, 1, b"manifest", ())
    assert loaded(store, shard, 1) == (b"manifest", [])


def test_list_is_newest_first_with_size_and_time(store: Store) -> None:
    shard = unique("shard")
    for sequence in (3, 20, 100, 9):
        store.put(shard, sequence, b"m%d" % sequence, CHUNKS)
    infos = store.list(shard)
    assert [info.sequence for info in infos] == [100, 20, 9, 3]
    for info in infos:
        assert info.bytes >= sum(map(len, CHUNKS))
        assert abs(info.written - time.time() * 1000) < 3_600_000
    assert store.list(unique("nobody")) == []


def test_shards_names_those_that_have_a_snapshot(store: Store) -> None:
    first, second, third = unique("a.b"), unique("c"), unique("d")
    store.put(first, 1, b"m", CHUNKS)
    store.put(second, 1, b"m", CHUNKS)
    store.put(third, 1, b"m", CHUNKS)
    store.delete(third, 1)
    assert {first, second} <= set(store.shards())
    assert third not in store.shards()
    assert len(store.shards()) == len(set(store.shards()))


def test_shards_do_not_touch_each_other(store: Store) -> None:
    mine, other = unique("shard"), unique("shard")
    store.put(mine, 1, b"mine", CHUNKS)
    store.put(other, 1, b"other", CHUNKS[::-1])
    store.delete(mine, 1)
    assert sequences(store, mine) == []
    assert loaded(store, other, 1) == (b"other", list(CHUNKS[::-1]))


def test_put_is_idempotent(store: Store) -> None:
    shard = unique("shard")
    for _ in range(3):
        store.put(shard, 5, b"manifest", iter(CHUNKS))
    assert sequences(store, shard) == [5]
    assert loaded(store, shard, 5) == (b"manifest", list(CHUNKS))


def test_a_put_that_dies_half_way_leaves_nothing_visible(store: Store) -> None:
    shard = unique("shard")
    store.put(shard, 1, b"whole", CHUNKS)
    with pytest.raises(Died):
        store.put(shard, 2, b"torn", dying(CHUNKS[:2]))
    assert sequences(store, shard) == [1]
    with pytest.raises(StateError):
        loaded(store, shard, 2)
    assert loaded(store, shard, 1) == (b"whole", list(CHUNKS))


def test_after_a_put_that_died_the_next_ones_work(store: Store) -> None:
    shard = unique("shard")
    with pytest.raises(Died):
        store.put(shard, 2, b"torn", dying([b"x" * 100] * 5))
    store.put(shard, 2, b"whole", CHUNKS)
    store.put(shard, 3, b"next", CHUNKS[:1])
    assert loaded(store, shard, 2) == (b"whole", list(CHUNKS))
    assert loaded(store, shard, 3) == (b"next", list(CHUNKS[:1]))


def test_a_shard_that_never_finished_a_put_is_not_listed(store: Store) -> None:
    shard = unique("shard")
    with pytest.raises(Died):
        store.put(shard, 1, b"torn", dying(CHUNKS))
    assert shard not in store.shards()
    assert store.list(shard) == []


def test_a_second_put_that_dies_leaves_the_first_whole(store: Store) -> None:
    shard = unique("shard")
    store.put(shard, 4, b"manifest", CHUNKS)
    with pytest.raises(Died):
        store.put(shard, 4, b"manifest", dying(CHUNKS[:1]))
    assert sequences(store, shard) == [4]
    assert loaded(store, shard, 4) == (b"manifest", list(CHUNKS))


def test_nothing_is_visible_while_a_put_runs_and_loads_go_on(store: Store) -> None:
    shard = unique("shard")
    store.put(shard, 1, b"old", CHUNKS)
    seen = []

    def chunks() -> Iterator[bytes]:
        for chunk in CHUNKS:
            yield chunk
            seen.append((sequences(store, shard), loaded(store, shard, 1)))

    store.put(shard, 2, b"new", chunks())
    assert seen == [([1], (b"old", list(CHUNKS)))] * len(CHUNKS)
    assert sequences(store, shard) == [2, 1]


def test_a_load_goes_on_while_other_snapshots_come_and_go(store: Store) -> None:
    shard = unique("shard")
    for sequence in (1, 2):
        store.put(shard, sequence, b"m%d" % sequence, CHUNKS)
    manifest, chunks = store.load(shard, 2)
    got = [next(chunks)]
    store.put(shard, 3, b"m3", CHUNKS)
    store.delete(shard, 1)
    assert (manifest, got + list(chunks)) == (b"m2", list(CHUNKS))


def test_chunks_of_eight_megabytes_are_intact(store: Store) -> None:
    shard = unique("shard")
    chunks = [random.Random(seed).randbytes((8 << 20) - 1 - seed) for seed in range(3)]
    store.put(shard, 1, b"large", iter(chunks))
    assert loaded(store, shard, 1) == (b"large", chunks)


def test_what_is_not_there_is_a_state_error(store: Store) -> None:
    shard = unique("shard")
    store.put(shard, 1, b"m", CHUNKS)
    for name, sequence in ((shard, 2), (unique("nobody"), 1)):
        with pytest.raises(StateError):
            loaded(store, name, sequence)


def test_a_load_whose_snapshot_is_deleted_is_whole_or_a_state_error(store: Store) -> None:
    shard = unique("shard")
    store.put(shard, 1, b"m", CHUNKS)
    _, chunks = store.load(shard, 1)
    store.delete(shard, 1)
    try:
        assert list(chunks) == list(CHUNKS)
    except StateError:
        assert sequences(store, shard) == []


def test_delete_is_idempotent(store: Store) -> None:
    shard = unique("shard")
    store.delete(shard, 1)
    for sequence in (1, 2):
        store.put(shard, sequence, b"m", CHUNKS)
    for _ in range(2):
        store.delete(shard, 1)
        assert sequences(store, shard) == [2]
    with pytest.raises(StateError):
        loaded(store, shard, 1)
    assert loaded(store, shard, 2) == (b"m", list(CHUNKS))


def test_another_instance_sees_what_was_put(store: Store, store_harness: StoreHarness) -> None:
    shard = unique("shard")
    store.put(shard, 1, b"m", CHUNKS)
    other = store_harness.make_store()
    assert loaded(other, shard, 1) == (b"m", list(CHUNKS))
    other.delete(shard, 1)
    other.close()
    assert store.list(shard) == []
