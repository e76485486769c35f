"""What each kind of record does in a predicting pipeline: the table in `streamd.stages.predicting`."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from streamd import snapshot
from streamd.errors import StateError
from streamd.learners.linear import LinearClassifier, LinearRegressor
from streamd.ports import Output, Record
from streamd.records import DEAD_LETTER_HEADER
from streamd.stages.pending import Bounds
from streamd.stages.predicting import Predicting, Taken
from streamd.stages.settings import Settings

BOUNDS = Bounds(max_events=5, max_bytes=1 << 20, max_age=1000, remember=5, early=3, early_age=500)
SETTINGS = Settings(
    task="classify",
    events="events",
    labels="labels",
    predictions="predictions",
    dead_letters="dead",
    model="linear/test",
    echo=(),
    top=10,
    bounds=BOUNDS,
    fading=0.9,
    drift_delta=None,
    drift_reset=False,
    record_bytes=4096,
    ahead=10_000,
)


def stage(**changes: object) -> Predicting:
    return Predicting(msgspec.structs.replace(SETTINGS, **changes), LinearClassifier, 0)


def event(id: str, offset: int = 0, at: int = 0, **fields: object) -> Record:
    value = {"id": id, "features": {"x": 1.0}, **fields}
    return Record("events", 0, offset, at, id.encode(), json.dumps(value).encode())


def label(id: str, value: object, offset: int = 0, at: int = 0, **fields: object) -> Record:
    return Record("labels", 0, offset, at, id.encode(), json.dumps({"id": id, "label": value, **fields}).encode())


def raw(value: bytes | None, topic: str = "events") -> Record:
    return Record(topic, 0, 3, 50, b"k", value, (("trace", b"1"),))


def tick(at: int) -> Record:
    return Record("", 0, 0, at, None, None)


def written(taken: Taken, topic: str) -> list[Output]:
    return [output for output in taken.outputs if output.topic == topic]


def reason(output: Output) -> str:
    return str(json.loads(dict(output.headers)[DEAD_LETTER_HEADER])["reason"])


def digest(task: Predicting) -> str:
    return snapshot.digest(task.freeze()())


def counted(task: Predicting) -> dict[str, int]:
    return {name: count for name, count in task.counts.items() if count}


def test_an_event_with_its_label_is_predicted_before_it_is_learned() -> None:
    task = stage()
    taken = task.take([event("a", label="yes"), event("b", label="yes")])
    first, second = (json.loads(output.value) for output in written(taken, "predictions"))
    assert first["label"] is None
    assert first["p"] == {}
    assert second["label"] == "yes"
    assert second["p"] == {"yes": 1.0}
    assert counted(task) == {"events": 2, "learned": 2}


def test_a_label_record_teaches_what_the_event_was_when_predicted() -> None:
    late, inside = stage(), stage()
    late.take([event("a"), label("a", "yes", at=5), event("b", features={"x": 9.0}), label("b", "no", at=6)])
    inside.take([event("a", label="yes"), event("b", features={"x": 9.0}, label="no")])
    x = {"x": 5.0}
    assert late.learner.peek(x)[0].tolist() == inside.learner.peek(x)[0].tolist()
    assert late.show().quality == inside.show().quality
    assert late.show().pending == 0


def test_a_repeated_label_changes_nothing_but_its_count() -> None:
    task = stage()
    task.take([event("a"), label("a", "yes")])
    before = task.learner.peek({"x": 1.0})[0].tolist()
    task.take([label("a", "yes")])
    assert task.learner.peek({"x": 1.0})[0].tolist() == before
    assert counted(task) == {"events": 1, "learned": 1, "repeated_labels": 1}


def test_a_corrected_label_is_learned_but_not_judged_again() -> None:
    task = stage()
    task.take([event("a", label="yes"), label("a", "no")])
    assert list(task.learner.classes) == ["yes", "no"]
    assert task.show().quality.labels == 1
    assert counted(task) == {"events": 1, "learned": 1, "corrected_labels": 1}


def test_a_label_after_expiry_is_late_learned_and_judged() -> None:
    task = stage()
    task.take([event("a", at=0), event("b", at=1000)])
    assert counted(task) == {"events": 2, "expired_events": 1}
    task.take([label("a", "yes", at=1001)])
    assert counted(task) == {"events": 2, "expired_events": 1, "learned": 1, "late_labels": 1}
    assert task.show().quality.labels == 1


def test_more_waiting_events_than_allowed_expire_the_oldest() -> None:
    task = stage()
    task.take([event(f"e{i}", offset=i) for i in range(8)])
    assert task.show().pending == BOUNDS.max_events
    assert counted(task)["expired_events"] == 3
    assert list(task.pending.waiting) == [f"e{i}" for i in range(3, 8)]


def test_the_bytes_that_wait_are_bounded() -> None:
    bounds = msgspec.structs.replace(BOUNDS, max_events=1000, max_bytes=300)
    task = stage(bounds=bounds)
    task.take([event(f"e{i}", offset=i) for i in range(50)])
    assert task.show().pending_bytes <= 300
    assert task.show().pending > 1


def test_a_label_before_its_event_waits_for_it() -> None:
    task = stage()
    taken = task.take([label("a", "yes", at=1), event("a", at=2)])
    assert [json.loads(o.value)["label"] for o in written(taken, "predictions")] == [None]
    assert counted(task) == {"events": 1, "learned": 1, "early_labels": 1}


def test_a_label_whose_event_never_comes_is_a_dead_letter_in_the_end() -> None:
    task = stage()
    taken = task.take([label("ghost", "yes", at=0), tick(499)])
    assert written(taken, "dead") == []
    taken = task.take([tick(500)])
    (letter,) = written(taken, "dead")
    assert reason(letter) == "label: its event is not known"
    assert json.loads(letter.value) == {"id": "ghost", "label": "yes"}
    assert counted(task) == {"early_labels": 1, "unknown_labels": 1, "ticks": 2}


def test_too_many_labels_without_events_give_up_the_oldest() -> None:
    task = stage()
    taken = task.take([label(f"g{i}", "yes", offset=i) for i in range(5)])
    assert [json.loads(o.value)["id"] for o in written(taken, "dead")] == ["g0", "g1"]


def test_a_skip_ends_the_waiting_and_teaches_nothing() -> None:
    task = stage()
    task.take([event("a"), label("a", None, skip=True)])
    assert task.show().pending == 0
    assert counted(task) == {"events": 1, "skipped_labels": 1, "expired_events": 1}
    task.take([label("a", "yes")])
    assert counted(task)["late_labels"] == 1


def test_an_event_sent_twice_is_predicted_twice_and_learned_once() -> None:
    task = stage()
    taken = task.take([event("a", label="yes"), event("a", label="yes"), event("a")])
    assert len(written(taken, "predictions")) == 3
    assert counted(task) == {"events": 1, "learned": 1, "repeated_events": 2, "repeated_labels": 1}


def test_a_label_the_learner_refuses_is_a_dead_letter_and_the_event_waits_on() -> None:
    task = Predicting(SETTINGS, lambda: LinearClassifier(loss="logistic"), 0)
    taken = task.take([event("a", label="x"), event("b", label="y"), event("c", label="z")])
    assert len(written(taken, "predictions")) == 3
    assert len(written(taken, "dead")) == 1
    assert counted(task) == {"events": 3, "learned": 2, "refused_labels": 1}
    assert list(task.pending.waiting) == ["c"]


BAD = {
    "not JSON": (raw(b"{"), "not JSON"),
    "nothing": (raw(b""), "not JSON"),
    "no value": (raw(None), "no value"),
    "not an object": (raw(b"[1]"), "Expected `object`"),
    "no id": (raw(b'{"features":{}}'), "`id`"),
    "empty id": (raw(b'{"id":"","features":{}}'), "`$.id`"),
    "a number as id": (raw(b'{"id":1,"features":{}}'), "`$.id`"),
    "an endless id": (raw(b'{"id":"' + b"x" * 600 + b'","features":{}}'), "`$.id`"),
    "no features": (raw(b'{"id":"a"}'), "`features`"),
    "a list as features": (raw(b'{"id":"a","features":[1]}'), "`$.features`"),
    "a list as a feature": (raw(b'{"id":"a","features":{"x":[1]}}'), "$.features"),
    "NaN": (raw(b'{"id":"a","features":{"x":NaN}}'), "not JSON"),
    "infinity": (raw(b'{"id":"a","features":{"x":1e999}}'), "out of range"),
    "a string where a number was": (raw(b'{"id":"a","features":{"x":"1"}}'), "x"),
    "a number where a string was": (raw(b'{"id":"a","features":{"s":1}}'), "s"),
    "ten thousand features": (
        raw(json.dumps({"id": "a", "features": {f"f{i}": 0 for i in range(200)}}).encode()),
        "features",
    ),
    "too long": (raw(b'{"id":"a","features":{"x":"' + b"y" * 5000 + b'"}}'), "5030 bytes"),
    "deep nesting": (raw(b'{"id":"a","features":' + b'{"x":' * 700), "$.features"),
    "deep nesting elsewhere": (raw(b'{"id":"a","z":' + b"[" * 3000), ""),
    "invalid UTF-8": (raw(b'{"id":"\xff"}'), "not JSON"),
    "a lone surrogate": (raw(b'{"id":"\\ud800"}'), "not JSON"),
    "a time that is none": (raw(b'{"id":"a","ts":"soon","features":{}}'), "ts:"),
    "a time without a zone": (raw(b'{"id":"a","ts":"2026-01-01T00:00:00","features":{}}'), "ts:"),
    "a time before all": (raw(b'{"id":"a","ts":-1,"features":{}}'), "ts:"),
    "a time far ahead": (raw(b'{"id":"a","ts":99999999,"features":{}}'), "limits.ahead"),
    "a list as label": (raw(b'{"id":"a","features":{"new":1},"label":["a"]}'), "label:"),
    "a fraction as label": (raw(b'{"id":"a","features":{"new":1},"label":1.5}'), "label:"),
    "an empty label": (raw(b'{"id":"a","features":{"new":1},"label":""}'), "label:"),
    "a label record without label": (raw(b'{"id":"a"}', "labels"), "`label`"),
    "a label record of the wrong kind": (raw(b'{"id":"a","label":{"e":1}}', "labels"), "label:"),
    "a label record that is null": (raw(b'{"id":"a","label":null}', "labels"), "label:"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_a_dead_letter_and_changes_nothing_but_its_count(name: str) -> None:
    record, expected = BAD[name]
    task = Predicting(SETTINGS, lambda: LinearClassifier(max_features_per_event=100), 0)
    task.take([event("before", features={"x": 1.0, "s": "t"}, label="yes")])
    task.counts["dead_letters"] = 1
    before = digest(task)
    task.counts["dead_letters"] = 0
    taken = task.take([record])
    (letter,) = taken.outputs
    assert letter.topic == "dead"
    assert letter.key == record.key
    assert letter.value == (record.value or b"")
    assert letter.headers[0] == ("trace", b"1")
    about = json.loads(letter.headers[1][1])
    assert (about["topic"], about["partition"], about["offset"]) == (record.topic, 0, 3)
    assert expected in about["reason"]
    assert digest(task) == before


def test_a_number_is_no_class_beyond_integers_and_booleans() -> None:
    task = stage()
    task.take([event("a", label=7), event("b", label=True), event("c", label="seven")])
    assert list(task.learner.classes) == ["7", "true", "seven"]


def test_regress_learns_numbers_and_refuses_the_rest() -> None:
    task = Predicting(msgspec.structs.replace(SETTINGS, task="regress"), LinearRegressor, 0)
    taken = task.take([event("a", label=2), event("b", label=2.5), event("c", label="2"), event("d", label=True)])
    assert [json.loads(o.value)["id"] for o in written(taken, "predictions")] == ["a", "b"]
    assert len(written(taken, "dead")) == 2
    assert set(task.show().quality.total) == {"mae", "rmse", "mean"}


def test_echoed_fields_come_back_as_they_were_written() -> None:
    task = stage(echo=("session", "absent"))
    (output,) = task.take([event("a", session={"n": [1, 2.50]})]).outputs
    assert json.loads(output.value)["echo"] == {"session": {"n": [1, 2.50]}}


def test_only_the_likeliest_classes_are_named() -> None:
    task = stage(top=2)
    task.take([event(f"e{i}", label=f"c{i}") for i in range(5)])
    (output,) = task.take([event("last")]).outputs
    told = json.loads(output.value)
    assert len(told["p"]) == 2
    assert told["label"] == next(iter(told["p"]))


INPUTS = st.lists(
    st.one_of(
        st.builds(
            lambda n, x, y: ("events", {"id": f"e{n}", "features": x, **y}),
            st.integers(0, 12),
            st.dictionaries(
                st.sampled_from("xyz"), st.one_of(st.floats(-5, 5), st.sampled_from("ab")), max_size=3
            ),
            st.one_of(st.just({}), st.builds(lambda y: {"label": y}, st.sampled_from(["yes", "no", 3, 1.5]))),
        ),
        st.builds(
            lambda n, y: ("labels", {"id": f"e{n}", "label": y}),
            st.integers(0, 14),
            st.sampled_from(["yes", "no", 3]),
        ),
        st.just(("labels", {"id": "e1", "skip": True})),
        st.just(("", {})),
        st.just(("events", {"no": "id"})),
    ),
    max_size=40,
)


def records(inputs: list[tuple[str, dict[str, object]]]) -> list[Record]:
    return [
        Record(topic, 0, i, 120 * i, b"k", json.dumps(value).encode()) for i, (topic, value) in enumerate(inputs)
    ]


@given(INPUTS, st.lists(st.integers(1, 10), min_size=1, max_size=6), st.booleans())
@limits(max_examples=150)
def test_the_cut_into_batches_does_not_matter(
    inputs: list[tuple[str, dict[str, object]]], sizes: list[int], drift: bool
) -> None:
    changes = {"drift_delta": 0.5, "drift_reset": True} if drift else {}
    whole, cut = stage(**changes), stage(**changes)
    stream = records(inputs)
    once = whole.take(stream)
    pieces: list[Output] = []
    memos: list[bytes] = []
    start = 0
    while start < len(stream):
        size = sizes[start % len(sizes)]
        taken = cut.take(stream[start : start + size])
        pieces += taken.outputs
        memos += taken.memos
        start += size
    for topic in ("predictions", "dead"):
        assert [o for o in pieces if o.topic == topic] == written(once, topic)
    assert memos == once.memos
    assert digest(cut) == digest(whole)


@given(INPUTS, st.integers(0, 40), st.booleans())
@limits(max_examples=150)
def test_snapshot_and_journal_lead_to_the_same_state(
    inputs: list[tuple[str, dict[str, object]]], at: int, drift: bool
) -> None:
    changes = {"drift_delta": 0.5, "drift_reset": drift} if drift else {}
    stream = records(inputs)
    live = stage(**changes)
    live.take(stream[:at])
    state = live.freeze()
    taken = live.take(stream[at:])
    again = stage(**changes)
    again.restore(state())
    again.replay(stream[at:], taken.refused, taken.memos)
    assert digest(again) == digest(live)
    assert again.show() == live.show()


def test_a_journal_that_does_not_fit_its_records_is_noticed() -> None:
    task = stage()
    taken = task.take([event("a"), event("b")])
    with pytest.raises(StateError, match="no prediction"):
        stage().replay([event("a"), event("b")], {}, taken.memos[:1])
    with pytest.raises(StateError, match="more predictions"):
        stage().replay([event("a")], {}, taken.memos)
    with pytest.raises(StateError, match="refused now"):
        stage().replay([raw(b"{")], {}, [])


def test_a_text_pipeline_reads_the_text_and_says_which_words_decided() -> None:
    from streamd.learners.ss3.model import SS3Classifier

    task = Predicting(msgspec.structs.replace(SETTINGS, task="text"), SS3Classifier, 0)
    texts = [("my card was stolen", "lost"), ("what is the exchange rate", "rate")] * 4
    stream = [
        Record("events", 0, i, 1, b"k", json.dumps({"id": f"t{i}", "text": text, "label": label}).encode())
        for i, (text, label) in enumerate(texts)
    ]
    task.take(stream)
    taken = task.take([Record("events", 0, 9, 1, b"k", b'{"id":"new","text":"stolen card!"}')])
    told = json.loads(written(taken, "predictions")[0].value)
    assert told["label"] == "lost"
    assert {word for word, *_ in told["why"]} & {"stolen", "card"}
    taken = task.take([event("a"), Record("events", 0, 11, 1, b"k", b'{"id":"b","text":null}')])
    assert ["`text`" in reason(letter) for letter in written(taken, "dead")] == [True, True]
