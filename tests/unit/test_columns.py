"""Batches applied by columns: the same comes of them as of one record after the other."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamd import records as codec
from streamd import snapshot
from streamd.learners.linear import LinearClassifier, LinearRegressor
from streamd.learners.linear_steps import LinearPredictions
from streamd.ports import Record
from streamd.stages import batch
from streamd.stages.answers import Answers, Predicted
from streamd.stages.pending import Bounds
from streamd.stages.predicting import Predicting, Taken
from tests.unit.test_predicting import SETTINGS

laws = settings(max_examples=150, deadline=None, derandomize=True, database=None)

TOWNS, CLASSES, VALUES = ("Bern", "Basel"), ("low", "high"), (-1.5, 2, 40.0)


def _event(name: str, offset: int, at: int, **more: object) -> Record:
    features = {"age": 20 + 7 * (offset % 5), "town": TOWNS[offset % 2], "member": offset % 3 == 0}
    value = {"id": name, "features": features, **more}
    return Record("events", 0, offset, at, b"k", json.dumps(value).encode())


def _label(name: str, label: object, offset: int, at: int, **more: object) -> Record:
    return Record("labels", 0, offset, at, b"k", json.dumps({"id": name, "label": label, **more}).encode())


def _beginning(regress: bool) -> list[Record]:
    """After it all features have slots and all classes are known."""
    truths = VALUES if regress else CLASSES
    return [_event(f"first {i}", i, i, label=truths[i % len(truths)]) for i in range(6)]


@st.composite
def streams(draw: st.DrawFn, regress: bool) -> list[Record]:
    """Mostly new events, and labels of those that wait; now and then something else."""
    records: list[Record] = []
    waiting, names, now = list[str](), [f"first {i}" for i in range(6)], 10
    truths = st.sampled_from(VALUES if regress else CLASSES)
    odd = draw(st.sampled_from([0, 0, 0, 1, 4]))  # in twenty
    jump = draw(st.sampled_from([1, 3, 30]))
    for offset in range(10, 10 + draw(st.integers(1, 30))):
        now += draw(st.sampled_from([0, 1, 1, jump]))
        at = now - draw(st.sampled_from([0, 0, 0, 5]))  # records come out of order
        more = draw(st.sampled_from([{}, {}, {}, {"ts": now + 2}]))
        what = draw(st.integers(0, 19))
        if what < odd:
            records.append(draw(_odd(names, truths, offset, at)))
        elif waiting and what < 11:
            name = waiting.pop(draw(st.integers(0, min(2, len(waiting) - 1))))
            sure = draw(st.sampled_from([{}, {"confidence": 0.5}]))
            records.append(_label(name, draw(truths), offset, at, **more, **sure))
        elif what < 17:
            names.append(str(offset))
            waiting.append(names[-1])
            records.append(_event(names[-1], offset, at, **more))
        else:
            names.append(str(offset))
            records.append(_event(names[-1], offset, at, label=draw(truths), **more))
    return records


@st.composite
def _odd(draw: st.DrawFn, names: list[str], truths: st.SearchStrategy[object], offset: int, at: int) -> Record:
    name, truth = draw(st.sampled_from(names[-6:])), draw(truths)
    return draw(
        st.sampled_from(
            [
                _label(name, truth, offset, at),
                _label(name, truth, offset, at, skip=True),
                _label(str(offset + 1), truth, offset, at),  # before its event
                _label("nobody's", truth, offset, at),
                _event(name, offset, at),  # again
                _event(f"odd {offset}", offset, at, ts="1970-01-01T00:00:00.030Z"),
                _event(f"odd {offset}", offset, at, ts=10**12),
                Record("", 0, 0, at, None, None),
                Record("events", 0, offset, at, b"k", b'{"id": "x", "features": {"age": "old"}}'),
            ]
        )
    )


def _stage(regress: bool, bounds: Bounds) -> Predicting:
    task, learner = ("regress", LinearRegressor) if regress else ("classify", LinearClassifier)
    made = Predicting(msgspec.structs.replace(SETTINGS, task=task, bounds=bounds), learner, 0)
    for record in _beginning(regress):
        made.take([record])
    return made


@contextmanager
def counted(refuse: bool = False, rare: int = 1) -> Iterator[list[bool]]:
    """Of each batch, whether it was applied by columns. refuse: none is. rare: see `batch.RARE`."""
    found: list[bool] = []

    def watched(*given: object) -> object:
        planned = None if refuse else columns(*given)  # type: ignore[arg-type]
        found.append(planned is not None)
        return planned

    columns = batch.columns
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "columns", watched)
        patch.setattr(batch, "FEW", 1)
        patch.setattr(batch, "RARE", rare)
        yield found


def _digest(task: Predicting) -> str:
    return snapshot.digest(task.freeze()())


def _outputs(taken: Sequence[Taken]) -> list[tuple[str, int, bytes]]:
    return sorted((one.topic, one.timestamp, one.value) for batch in taken for one in batch.outputs)


@laws
@given(
    data=st.data(),
    regress=st.booleans(),
    cut=st.integers(2, 25),
    room=st.sampled_from([(4, 1 << 20), (100, 1 << 20), (100, 400)]),
    remember=st.sampled_from([3, 12, 200]),
    max_age=st.sampled_from([20, 1000]),
)
def test_the_same_comes_of_columns_as_of_one_record_after_the_other(
    data: st.DataObject, regress: bool, cut: int, room: tuple[int, int], remember: int, max_age: int
) -> None:
    bounds = Bounds(*room, max_age=max_age, remember=remember, early=2, early_age=30)
    _compare(data.draw(streams(regress)), cut, regress, bounds)


def _compare(records: Sequence[Record], cut: int, regress: bool, bounds: Bounds) -> None:
    with counted(refuse=True, rare=1 << 20):
        told = _stage(regress, bounds)
        one_by_one = [told.take([record]) for record in records]
    task = _stage(regress, bounds)
    batches = [records[i : i + cut] for i in range(0, len(records), cut)]
    with counted():
        taken = [task.take(batch) for batch in batches]

    memos = [memo for one in one_by_one for memo in one.memos]
    assert [memo for one in taken for memo in one.memos] == memos
    assert _outputs(taken) == _outputs(one_by_one)
    assert _digest(task) == _digest(told)
    # and a replay of what was journalled
    again = _stage(regress, bounds)
    with counted():
        for one, run in zip(taken, batches, strict=True):
            again.replay(run, one.refused, one.memos)
    assert _digest(again) == _digest(told)


LABELLED = [_event(f"more {i}", i, 100, label="low") for i in range(5)]
WIDE = Bounds(100, 1 << 20, max_age=50, remember=200, early=2, early_age=30)


@pytest.mark.parametrize(
    ("records", "bounds"),
    [
        ([_label("a", "low", 0, 10), _event("a", 1, 10)], WIDE),
        ([_event("a", 0, 10), _label("a", "low", 1, 10), _label("a", "high", 2, 10)], WIDE),
        ([_event("a", 0, 10, label="low"), _label("a", "high", 1, 10)], WIDE),
        ([_event("a", 0, 10), _event("a", 1, 10)], WIDE),
        ([_event("a", 0, 10), *LABELLED, _label("a", "low", 9, 100)], msgspec.structs.replace(WIDE, remember=4)),
        ([_event("a", 0, 10), *LABELLED[:2], _label("a", "low", 9, 100)], WIDE),
        (
            [_event("a", 0, 10), *(_event(f"b{i}", i, 10) for i in range(5)), _label("a", "low", 9, 10)],
            msgspec.structs.replace(WIDE, max_events=1, remember=3),
        ),
        (
            [_event("a", 0, 10), *(_event(f"b{i}", i, 10) for i in range(5)), _label("a", "low", 9, 10)],
            msgspec.structs.replace(WIDE, max_bytes=90, remember=3),
        ),
    ],
    ids=["early", "twice", "again", "repeated", "forgotten", "late", "crowded out", "too large"],
)
@pytest.mark.parametrize("first", [0, 1])
def test_a_label_finds_in_a_batch_what_it_would_find_after_it(
    records: list[Record], bounds: Bounds, first: int
) -> None:
    """first: records that come in a batch of their own."""
    with counted(refuse=True, rare=1 << 20):
        told = _stage(False, bounds)
        for record in records:
            told.take([record])
    task = _stage(False, bounds)
    with counted():
        for run in (records[:first], records[first:]):
            task.take(run)
    assert _digest(task) == _digest(told)
    assert task.counts == told.counts


@pytest.mark.parametrize("later", [False, True])
def test_a_plain_stream_goes_by_columns(later: bool) -> None:
    records = []
    for i in range(300):
        records.append(_event(str(i), i, i, **{} if later else {"label": CLASSES[i % 2]}))
        if later and i >= 20:
            records.append(_label(str(i - 20), CLASSES[i % 2], i, i))
    task = _stage(False, Bounds(100, 1 << 20, max_age=1000, remember=300, early=2, early_age=30))
    with counted() as found:
        for i in range(0, len(records), 50):
            task.take(records[i : i + 50])
    assert found == [True] * len(found)


def test_a_few_odd_records_leave_the_others_to_columns() -> None:
    records = [_event(str(i), i, i, label=CLASSES[i % 2]) for i in range(300)]
    records[100] = Record("events", 0, 100, 100, b"k", b'{"id": "new", "features": {"street": "Main"}}')
    records[200] = Record("events", 0, 200, 200, b"k", b"no JSON")
    task = _stage(False, WIDE)
    with counted(rare=100) as found:
        taken = task.take(records)
    assert found == [False, True, False, True, False, True]
    assert list(taken.refused) == [200]
    assert len(taken.outputs) == 300


NAMES = st.text(max_size=3) | st.sampled_from(["%", 'a"b', "a,b", "ü", "%b", "\n"])


@laws
@given(data=st.data(), classes=st.lists(NAMES.filter(bool), min_size=1, max_size=4, unique=True))
def test_predictions_put_together_say_what_they_say_one_by_one(data: st.DataObject, classes: list[str]) -> None:
    """Byte for byte, whatever classes, events and reasons are called."""
    n, k = data.draw(st.integers(1, 4)), 2
    floats = st.floats(0, 1) | st.sampled_from([1e-300, 1e300, 5e-324, 0.1, 1.0])
    numbers = st.lists(floats, min_size=n * len(classes), max_size=n * len(classes))
    values = np.array(data.draw(numbers)).reshape(n, -1)
    some = data.draw(st.booleans())
    texts = data.draw(st.lists(NAMES | st.none() if some else NAMES, min_size=n * k, max_size=n * k))
    shares = np.array(data.draw(st.lists(st.floats(-5, 5), min_size=n * k, max_size=n * k))).reshape(n, k)
    predictions = _Predictions(values, np.full(n, len(classes)), lambda: texts, shares)
    record = Record("events", 0, 0, 5, b"k", b"{}")
    predicted = [Predicted(data.draw(NAMES), record, 1_700_000_000_000 + i) for i in range(n)]

    answers = Answers(msgspec.structs.replace(SETTINGS, model="a%b"), 0)
    said = [codec.encode(one) for one in answers.describe(predicted, predictions, classes)]
    assert [one.value for one in answers.write(predicted, predictions, classes)] == said


class _Predictions(LinearPredictions):
    """With two reasons each."""

    def whys(self) -> list[list[list[object]]]:
        pairs = [[text, share] for text, share in zip(self.texts(), self.shares.ravel().tolist(), strict=True)]
        return [[pair for pair in pairs[i : i + 2] if pair[0] is not None] for i in range(0, len(pairs), 2)]
