"""Task text in a predicting pipeline: its default, several labels, alerts about subjects."""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from test_predicting import SETTINGS, digest, reason, written

from streamd import snapshot
from streamd.learners.ss3.model import SS3Classifier
from streamd.ports import Record
from streamd.stages import alerting
from streamd.stages.early import Policy
from streamd.stages.predicting import Predicting, Taken
from streamd.views import AlertsView

TEXT = msgspec.structs.replace(SETTINGS, task="text")


def stage(**parameters: Any) -> Predicting:
    return Predicting(TEXT, partial(SS3Classifier, **parameters), 0)


def text(id: str, text: str, label: object = None, **fields: object) -> Record:
    event = {"id": id, "text": text, "label": label, **fields}
    return Record("events", 0, 0, 1, id.encode(), json.dumps(event).encode())


def label(id: str, label: object) -> Record:
    return Record("labels", 0, 0, 1, id.encode(), json.dumps({"id": id, "label": label}).encode())


def told(taken: Taken) -> list[dict[str, Any]]:
    return [json.loads(output.value) for output in written(taken, "predictions")]


def replayed(stream: Sequence[Record], taken: Taken, **parameters: Any) -> Predicting:
    task = stage(**parameters)
    task.replay(stream, taken.refused, taken.memos)
    return task


EXAMPLES = [("card stolen", "lost"), ("the rate", "rate")] * 3
LEARNED = [text(f"learned {i}", *example) for i, example in enumerate(EXAMPLES)]


@pytest.mark.parametrize(
    ("default", "expected", "right"),
    [("most-probable", "rate", 1), ("unknown", None, 0), ("lost", "lost", 0), ("nobody", None, 0)],
)
def test_where_no_word_is_known_the_default_decides_and_is_judged(
    default: str, expected: str | None, right: int
) -> None:
    task = stage(default=default)
    task.take([*LEARNED, text("more", "the rate", "rate")])
    before = task.quality.measures()[1]["accuracy"] * 7
    stream = [text("x", "zzz"), label("x", "rate")]
    taken = task.take(stream)

    assert told(taken)[0]["label"] == expected
    assert task.quality.measures()[1]["accuracy"] * 8 == pytest.approx(before + right)


def test_an_event_may_have_several_labels_or_none() -> None:
    stream = [
        text("a", "my card was stolen", ["lost", "card"]),
        text("b", "exchange rate", "rate"),
        text("c", "hello you", []),
        text("d", "stolen card", ["card", "lost", "card"]),
        text("e", "rate of exchange", ["rate"]),
        text("f", "hello", None),
        text("g", "stolen card"),
        label("g", ["lost", "card"]),
        label("g", ["card", "lost"]),
        label("f", []),
        text("h", "rate", ["rate", ""]),
        text("i", "my stolen card", "card"),
        label("i", ["lost", "card"]),
    ]
    task = stage(multilabel=True)
    taken = task.take(stream)
    answers = {one["id"]: one["label"] for one in told(taken)}
    after = told(task.take([text("z", "exchange rate")]))

    assert answers["a"] == []
    assert set(answers["g"]) == {"lost", "card"}
    assert after[0]["label"] == ["rate"]
    assert [reason(letter) for letter in written(taken, "dead")] == [
        "label: expected a string that is not empty, a boolean or an integer"
    ]
    assert task.counts["repeated_labels"] == 1
    assert task.counts["corrected_labels"] == 1
    labels, total, _ = task.quality.measures()
    assert labels == 8
    assert total["accuracy"] == pytest.approx(3 / 8)  # d, g and, with no label told, c
    assert total["jaccard"] > total["majority"] > 0.0
    assert 0.0 < total["f1"] < 1.0
    again = replayed(stream, taken, multilabel=True)
    again.take([text("z", "exchange rate")])
    assert digest(again) == digest(task)


def test_several_labels_survive_a_snapshot() -> None:
    stream = [text("a", "my card", ["lost", "card"]), text("b", "a rate")]
    task, copy = stage(multilabel=True), stage(multilabel=True)
    task.take(stream)
    copy.restore(task.freeze()())
    rest = [label("a", ["card", "lost"]), label("b", ["rate"]), text("c", "rate card")]
    assert task.take(rest) == copy.take(rest)
    assert digest(task) == digest(copy)
    assert task.counts["repeated_labels"] == 1


# --- alerts about subjects

EARLY = alerting.Settings("alerts", frozenset({"lost"}), "risk", Policy("above", min_posts=2), 3, 1000)
WATCHING = msgspec.structs.replace(TEXT, early=EARLY)
RISKY, HARMLESS = "card stolen", "the rate"


def watching(**changes: Any) -> Predicting:
    early = msgspec.structs.replace(EARLY, **changes)
    task = Predicting(msgspec.structs.replace(WATCHING, early=early), SS3Classifier, 0)
    task.take(LEARNED)
    return task


def post(id: str, subject: str, said: str, at: int = 1, **fields: object) -> Record:
    event = {"id": id, "text": said, "subject": subject, **fields}
    return Record("events", 0, 0, at, subject.encode(), json.dumps(event).encode())


def alerts(taken: Taken) -> list[dict[str, Any]]:
    return [json.loads(output.value) for output in written(taken, "alerts")]


def test_a_subject_is_alerted_about_once_and_again_only_to_correct_it() -> None:
    task = watching()
    taken = task.take([post("1", "ann", RISKY), post("2", "ann", RISKY, 5), post("3", "ann", RISKY)])

    (alert,) = alerts(taken)
    assert (alert["id"], alert["subject"], alert["category"], alert["ts"]) == ("ann/risk", "ann", "risk", 5)
    assert (alert["posts"], alert["policy"]) == (2, "above")
    assert [id for id, _ in alert["why"]] == ["1", "2"]
    assert alert["score"] == pytest.approx(sum(score for _, score in alert["why"]))
    assert "stands" not in alert
    assert written(taken, "alerts")[0].key == b"ann"

    assert alerts(task.take([label("1", "lost"), label("2", "rate")])) == []  # 2 of 3 still say so
    (corrected,) = alerts(task.take([label("1", "rate")]))
    assert (corrected["id"], corrected["stands"]) == ("ann/risk", False)
    (again,) = alerts(task.take([label("2", "lost")]))
    assert "stands" not in again
    view = task.show().alerts
    assert view is not None
    assert (view.subjects, view.posts, view.alerts, view.corrected) == (1, 3, 2, 1)


def test_only_posts_seen_for_the_first_time_count_and_labels_in_them_count_at_once() -> None:
    task = watching()
    stream = [post("1", "ann", RISKY, label="rate"), post("2", "ann", RISKY), post("2", "ann", RISKY)]
    assert alerts(task.take(stream)) == []
    assert alerts(task.take([text("3", RISKY), post("4", "ann", HARMLESS), post("5", "bob", RISKY)])) == []
    assert len(alerts(task.take([post("6", "bob", HARMLESS, label="lost")]))) == 1


def test_a_subject_that_is_no_name_is_a_dead_letter() -> None:
    task = watching()
    stream = [text("1", RISKY, subject=wrong) for wrong in (7, "", [], "s" * 300)]
    letters = written(task.take(stream), "dead")
    assert [reason(letter).startswith("subject") for letter in letters] == [True] * 4
    assert task.show().alerts == AlertsView(0, 0, 0, 0, 0)


def test_subjects_are_forgotten_by_event_time_and_a_label_after_that_changes_nothing() -> None:
    task = watching()
    task.take([post("1", "ann", RISKY), post("2", "ann", RISKY)])
    assert task.deadline() == 1001

    task.take([Record("", 0, 0, 1001, None, None)])
    assert task.show().alerts == AlertsView(0, 2, 1, 0, 1)
    task.take([post("3", "ann", RISKY, 1002)])
    assert alerts(task.take([label("1", "rate"), label("2", "rate")])) == []
    assert len(alerts(task.take([post("4", "ann", RISKY, 1003)]))) == 1


STREAMS = st.lists(
    st.one_of(
        st.builds(
            post,
            st.sampled_from("123456"),
            st.sampled_from(["ann", "bob", "cy", "di"]),
            st.sampled_from([RISKY, HARMLESS, "zzz", "stolen rate"]),
            st.integers(1, 3000),
            label=st.sampled_from([None, None, "lost", "rate"]),
        ),
        st.builds(label, st.sampled_from("123456"), st.sampled_from(["lost", "rate", "new"])),
        st.builds(lambda at: Record("", 0, 0, at, None, None), st.integers(1, 5000)),
    ),
    max_size=25,
)


@limits(max_examples=60, deadline=None)
@given(STREAMS, st.integers(0, 25), st.sampled_from(["above", "slope", "threshold", "history", "global"]))
def test_alerts_do_not_depend_on_the_cut_nor_a_replay_on_the_policy(
    stream: list[Record], cut: int, kind: str
) -> None:
    policy = Policy(kind, min_posts=2, window=2)
    whole, halves, other = watching(policy=policy), watching(policy=policy), watching()
    taken = whole.take(stream)
    first = halves.take(stream[:cut])
    restored = watching(policy=policy)
    restored.restore(halves.freeze()())
    second = restored.take(stream[cut:])

    assert alerts(taken) == alerts(first) + alerts(second)
    assert digest(restored) == digest(whole)
    for subject in ["ann", "bob", "cy", "di"]:
        of_subject = [alert.get("stands", True) for alert in alerts(taken) if alert["subject"] == subject]
        assert whole.show().alerts.forgotten or of_subject == [i % 2 == 0 for i in range(len(of_subject))]  # type: ignore[union-attr]

    again = watching(policy=policy)
    again.replay(stream, taken.refused, taken.memos, bytes(taken.turns))
    assert digest(again) == digest(whole)
    other.replay(stream, taken.refused, taken.memos, bytes(taken.turns))
    assert standing(other) == standing(whole)


def standing(task: Predicting) -> dict[str, bool]:
    assert task.alerting is not None
    return {name: subject.alerted for name, subject in task.alerting._early.subjects.items()}


def test_other_categories_watched_start_the_subjects_anew_and_alerts_may_begin_later() -> None:
    task, other, silent = watching(), watching(watch=frozenset({"rate"})), stage()
    task.take([post("1", "ann", RISKY), post("2", "ann", RISKY)])
    other.restore(task.freeze()())
    assert other.show().alerts == AlertsView(0, 0, 0, 0, 0)
    silent.take([*LEARNED, text("3", RISKY)])
    task.restore(silent.freeze()())
    assert task.learner.classes == ["lost", "rate"]


# --- texts of every kind

TEXTS = {
    "empty": ("", None),
    "only separators": (" .,;\n\n..!?", None),
    "one long word": ("a" * 3000, None),
    "control characters": ("stolen\x00\x07 card\u2028", None),
    "mixed scripts": ("stolen карта 卡 بطاقة", None),
    "right to left": ("\u202eبطاقة\u202c stolen", None),
    "emoji": ("stolen 💳🏴\u200d☠️", None),
    "null": (None, "`text`"),
    "a number": (7, "`str"),
    "a list": (["stolen"], "`str"),
    "a lone surrogate": ("\ud800", "JSON"),
}


@pytest.mark.parametrize(("said", "refusal"), TEXTS.values(), ids=TEXTS.keys())
def test_a_text_of_any_kind_has_its_result_and_changes_nothing_silently(said: object, refusal: str | None) -> None:
    task = stage()
    task.take(LEARNED)
    before = snapshot.digest(task.learner.state())
    record = Record("events", 0, 0, 1, b"k", json.dumps({"id": "x", "text": said}).encode())

    taken = task.take([record])

    assert snapshot.digest(task.learner.state()) == before
    if refusal is None:
        assert told(taken)[0]["id"] == "x"
        assert len(told(taken)) == 1
        assert taken.refused == {}
    else:
        assert refusal in reason(written(taken, "dead")[0])
        assert told(taken) == []


@pytest.mark.parametrize(
    ("given", "name"), [("never seen", "never seen"), (7, "7"), (True, "true"), (7.5, None), ({"a": 1.0}, None)]
)
def test_a_label_of_any_kind_is_a_category_or_refused(given: object, name: str | None) -> None:
    task = stage()
    task.take([*LEARNED, text("x", "a new word", None)])
    taken = task.take([label("x", given)])
    assert task.learner.classes == ["lost", "rate", *([name] if name else [])]
    assert len(written(taken, "dead")) == (name is None)


def test_a_bounded_vocabulary_says_how_wrong_it_may_be() -> None:
    task = stage(max_terms=16)
    task.take(LEARNED)
    exact = task.show().vocabulary
    task.take([text(f"w{i}", f"{'abcdefghij'[i % 10]}{'klmn'[i // 10]} card", "lost") for i in range(40)])
    bounded = task.show().vocabulary
    assert exact is not None
    assert bounded is not None
    assert (exact.terms, exact.evicted, exact.error) == (4, 0, 0.0)
    assert bounded.terms <= bounded.bound == 16
    assert bounded.evicted > 0
    assert bounded.error > 0.0
