"""Events taken in from their bytes, many at once: the same comes of them as of each taken in by itself."""

import json
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from streamd import snapshot
from streamd.errors import BadRecord
from streamd.kernels.features import ODD
from streamd.learners.feature_table import FeatureTable
from streamd.learners.features import FeatureIndex
from streamd.learners.linear import LinearClassifier
from streamd.ports import Record
from streamd.stages import batch
from streamd.stages.predicting import Predicting, Taken
from streamd.stages.shadows import Model
from tests.unit.test_predicting import SETTINGS

laws = settings(max_examples=60, deadline=None, derandomize=True, database=None)

NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**25), 10**25)
FEATURES = st.fixed_dictionaries(
    {},
    optional={
        "age": NUMBERS | st.none(),
        "hours": NUMBERS | st.sampled_from([0, -0.0, 1e-300, 5e-324, 1e23, 9007199254740993, 0.1]),
        "member": st.booleans() | st.none(),
        "town": st.sampled_from(["Bern", "Zürich", "", "a,b", 'x"y', "\\", "{}"]) | st.booleans(),
        "größe": st.sampled_from(["S", "M"]),
        "": st.sampled_from(["S", "M"]),
    },
)
SPACING = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:\r\n ")])


@st.composite
def written(draw: st.DrawFn) -> bytes:
    """Features as somebody writes them; perhaps a name twice."""
    x, (comma, colon) = draw(FEATURES), draw(SPACING)
    text = json.dumps(x, separators=(comma, colon), ensure_ascii=draw(st.booleans()))
    if draw(st.integers(0, 9)) == 0 and x:
        text = (
            text[:-1]
            + comma
            + json.dumps(draw(st.sampled_from(list(x))))
            + colon
            + draw(st.sampled_from(["1", "null", '"S"']))
            + "}"
        )
    return text.encode()


@laws
@given(known=st.lists(FEATURES, max_size=4), events=st.lists(written(), max_size=6), most=st.sampled_from([2, 9]))
def test_what_is_read_from_bytes_has_the_codes_and_the_bits_of_what_is_read_from_objects(
    known: list[dict[str, object]], events: list[bytes], most: int
) -> None:
    index = FeatureIndex(100, 9)
    table = FeatureTable(index)
    for x in known:
        try:
            index.codes(x)
        except BadRecord:
            continue
        index.observe(x)
        table.read([])  # it follows in steps
    index.max_features_per_event = most
    read = table.read([Raw(event) for event in events])

    end = 0
    for event, size in zip(events, read.sizes.tolist(), strict=True):
        if size == ODD:
            continue
        codes, values, complete = index.codes(json.loads(event))
        start, end = end, end + size
        assert complete
        assert read.codes[start:end].tolist() == codes
        assert read.values[start:end].tobytes() == np.array(values, np.float64).tobytes()
    assert end == len(read.codes) == len(read.values)


PLAIN = b'{"age": 39, "town": "Bern", "member": true, "hours": -1.5e-3, "nothing": null}'


@pytest.mark.parametrize(
    "odd",
    [
        b'{"age": 39, "age": 40}',  # the last one counts
        b'{"age": "39"}',
        b'{"age": true}',
        b'{"member": 1}',
        b'{"town": "Basel"}',
        b'{"street": 1}',
        b'{"tow\\u006e": "Bern"}',
        b'{"town": "B\\u0065rn"}',
        b'{"age": -0}',
        b'{"age": 123456789012345678901}',
        b'{"age": [39]}',
        b'{"age": {}}',
        b'{"town": "\xff"}',
        b"[]",
        b"null",
        b'"age"',
        b"39",
        b"",
    ],
)
def test_what_is_not_plain_is_left_to_be_looked_at_closely(odd: bytes) -> None:
    index = FeatureIndex(100, 9)
    index.observe({"age": 1, "town": "Bern", "member": False, "hours": 2.0, "nothing": 1})
    read = FeatureTable(index).read([Raw(PLAIN), Raw(odd), Raw(PLAIN)])
    assert read.sizes.tolist() == [4, ODD, 4]
    assert read.values.tolist() == [39.0, 1.0, 1.0, -0.0015] * 2


def test_a_table_follows_an_index_that_grows_and_may_be_full_of_the_same_categories() -> None:
    index = FeatureIndex(2000, 9)
    table = FeatureTable(index)
    for i in range(400):
        x = {f"feature {i}": "yes", "number": i, f"flag {i % 7}": True, f"feature {i // 2}": "yes"}
        index.observe(x)
        event = json.dumps(x).encode()
        assert table.read([Raw(event)]).codes.tolist() == index.codes(x)[0]


@st.composite
def streams(draw: st.DrawFn) -> list[Record]:
    """Events and labels: in the event, later, early, again, of nobody; and what is no event."""
    records = []
    for offset in range(draw(st.integers(1, 14))):
        name = str(draw(st.integers(0, 5)))
        label = draw(st.sampled_from(["low", "high", 3, None]))
        if draw(st.integers(0, 2)) == 0:
            value = {"id": name, "label": label}
            records.append(Record("labels", 0, offset, offset, b"k", json.dumps(value).encode()))
            continue
        event = b'{"id": "%s", "features": %s' % (name.encode(), draw(written()))
        if draw(st.booleans()):
            event += b', "label": ' + json.dumps(label).encode()
        event += draw(st.sampled_from([b"}", b', "ts": 5}', b', "ts": "no"}', b"", b', "groups": ["a"]}']))
        records.append(Record("events", 0, offset, offset, None, event))
    return records


def _digest(task: Predicting) -> str:
    return snapshot.digest(task.freeze()())


def _stage(max_features: int, shadowed: bool) -> Predicting:
    """With a shadow that knows other features."""
    shadow = Model("linear/other", lambda: LinearClassifier(eta=0.5, max_features=2), "b")
    fresh = partial(LinearClassifier, max_features=max_features)
    return Predicting(SETTINGS, fresh, 0, shadows={"other": shadow} if shadowed else {}, model="a")


def _one_by_one(records: Sequence[Record], *, max_features: int, shadowed: bool) -> tuple[list[Taken], str]:
    """Without the table: how it is meant."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "ReadsPlain", ())  # nobody does
        task = _stage(max_features, shadowed)
        return [task.take([record]) for record in records], _digest(task)


@laws
@given(records=streams(), cut=st.integers(1, 14), max_features=st.sampled_from([3, 100]), shadowed=st.booleans())
def test_a_stage_does_the_same_however_its_events_were_taken_in(
    records: list[Record], cut: int, max_features: int, shadowed: bool
) -> None:
    told, digest = _one_by_one(records, max_features=max_features, shadowed=shadowed)
    task = _stage(max_features, shadowed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "FEW", 1)
        taken = [task.take(records[i : i + cut]) for i in range(0, len(records), cut)]

    assert [memo for one in taken for memo in one.memos] == [memo for one in told for memo in one.memos]
    outputs = sorted((one.topic, one.timestamp, one.value) for batch in taken for one in batch.outputs)
    assert outputs == sorted((one.topic, one.timestamp, one.value) for batch in told for one in batch.outputs)
    assert _digest(task) == digest
