"""The label loop in a predicting pipeline: what is asked, what comes back, and that nothing depends on the cut."""

import json
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from test_predicting import SETTINGS, counted, digest, event, label, tick, written

from streamd import config as configuration
from streamd import wiring
from streamd.cli.status_querying import annotators_table, querying_lines
from streamd.errors import ConfigError
from streamd.learners.groupwise import GroupwiseClassifier
from streamd.learners.linear import LinearClassifier
from streamd.learners.river_model import RiverClassifier
from streamd.ports import Record
from streamd.querying import registry
from streamd.querying.measures import Measure
from streamd.stages.pending import Bounds
from streamd.stages.predicting import Predicting
from streamd.wiring import query as wiring_query

ROOMY = Bounds(max_events=1000, max_bytes=1 << 20, max_age=10**8, remember=1000, early=10, early_age=10**8)


def pipeline(task: str = "classify", **keys: Any) -> configuration.Pipeline:
    query = {"budget": 1.0, "rho": 0.0, "deadline": "100s", "discount": 0.0, **keys.pop("query", {})}
    table = {"task": task, "events": "events", "labels": "labels", "queries": "queries", "outcomes": "outcomes"}
    return configuration.convert(
        {**table, "learner": {"kind": "linear"}, "query": query, **keys}, configuration.Pipeline, "pipeline.t"
    )


def stage(task: str = "classify", **keys: Any) -> Predicting:
    configured = pipeline(task, **keys)
    asked = wiring_query.build("t", configured, "g", 0, 4)
    settings = msgspec.structs.replace(SETTINGS, task=task, bounds=ROOMY)
    return Predicting(settings, wiring.learner("t", configured), 0, querying=asked)


def told(taken: Any, topic: str = "queries") -> list[dict[str, Any]]:
    return [json.loads(output.value) for output in written(taken, topic)]


def counts(task: Predicting) -> dict[str, int]:
    assert task.querying is not None
    return {name: count for name, count in task.querying.asker.counts.items() if count}


# --- the records


def test_a_query_says_what_is_asked_and_where_the_answer_goes() -> None:
    task = stage(pool="desk", query={"needs": ["legal"]})
    taken = task.take([event("a", at=5000)])
    (query,) = told(taken)
    (output,) = written(taken, "queries")
    assert (output.key, output.partition) == (b"desk", None)
    assert query == {
        "id": "a#1", "event": "a", "pipeline": "t", "pool": "desk", "kind": "label", "ts": 5000,
        "deadline": 105_000, "answers": 1, "utility": query["utility"], "threshold": query["threshold"],
        "p_ask": 1.0, "reply": {"topic": "labels", "key": "a", "partition": 0}, "needs": ["legal"],
        "features": {"x": 1.0},
    }  # fmt: skip


def test_without_a_pool_a_query_goes_where_its_event_is() -> None:
    (output,) = written(stage().take([event("a")]), "queries")
    assert (output.key, output.partition) == (b"a", 0)


def test_the_reply_key_is_the_events_own() -> None:
    record = Record("events", 0, 0, 0, b"user-7", json.dumps({"id": "a", "features": {"x": 1.0}}).encode())
    (query,) = told(stage(pool="desk").take([record]))
    assert query["reply"]["key"] == "user-7"


def test_each_answer_wanted_of_a_pool_is_a_query_of_its_own() -> None:
    queries = told(stage(pool="desk", query={"answers": 3}).take([event("a")]))
    assert [query["id"] for query in queries] == ["a#1", "a#2", "a#3"]
    assert {query["event"] for query in queries} == {"a"}


def test_an_event_with_its_label_or_seen_before_is_no_candidate() -> None:
    task = stage()
    taken = task.take([event("a", label="yes"), event("a"), event("b"), event("b")])
    assert [query["event"] for query in told(taken)] == ["b"]
    assert len(taken.decisions) == len(taken.memos) == 4
    assert [bool(packed) for packed in taken.decisions] == [False, False, True, False]


# --- answers


def test_an_answer_is_learned_and_its_outcome_told() -> None:
    task = stage(pool="desk")
    task.take([event("a")])
    taken = task.take([label("a", "yes", query="a#1", annotator="ann", at=7)])
    assert told(taken, "outcomes") == [
        {
            "id": "a#1",
            "success": True,
            "reason": "label",
            "ts": 7,
            "pipeline": "t",
            "pool": "desk",
            "resource": "ann",
        }
    ]
    assert (written(taken, "outcomes")[0].key, written(taken, "outcomes")[0].partition) == (b"desk", None)
    assert counts(task) == {"asked": 1, "answered": 1}
    assert counted(task) == {"events": 1, "learned": 1}


def test_the_consensus_is_learned_once_and_each_annotator_judged() -> None:
    task = stage(pool="desk", query={"answers": 3})
    task.take([event("z", label="no"), event("y", label="yes"), event("a")])
    learned = [
        task.take([label("a", said, query=f"a#{i}", annotator=name)])
        for i, (name, said) in enumerate([("ann", "yes"), ("bob", "no"), ("cyd", "yes")], 1)
    ]
    assert [len(told(taken, "outcomes")) for taken in learned] == [0, 0, 3]
    judged = {one["resource"]: (one["id"], one["reason"]) for one in told(learned[2], "outcomes")}
    assert judged == {"ann": ("a#1", "label"), "bob": ("a#2", "wrong"), "cyd": ("a#3", "label")}
    assert task.pending.closed["a"].label == "yes"
    assert counted(task)["learned"] == 3


def test_a_skip_is_told_and_asked_again_of_the_pool_without_who_passed() -> None:
    task = stage(pool="desk")
    task.take([event("a")])
    passed = Record("labels", 0, 0, 1, b"a", b'{"id":"a","skip":true,"query":"a#1","annotator":"ann"}')
    taken = task.take([passed, passed])
    assert [one["reason"] for one in told(taken, "outcomes")] == ["skip"]
    assert [(query["id"], query["exclude"]) for query in told(taken)] == [("a#2", ["ann"])]
    assert "a" in task.pending.waiting


def test_without_a_pool_a_skip_leaves_the_query_open_until_its_deadline() -> None:
    task = stage()
    task.take([event("a")])
    taken = task.take([Record("labels", 0, 0, 1, b"a", b'{"id":"a","skip":true}'), label("a", "yes", at=2)])
    assert told(taken) == []
    assert counts(task) == {"asked": 1, "skipped": 1, "answered": 1}


def test_an_answer_after_expiry_is_learned_debited_and_told() -> None:
    task = stage(query={"budget": 0.5})
    task.take([event("a")])
    level = task.querying.show().level  # type: ignore[union-attr]
    task.take([tick(100_000)])
    assert task.querying.show().level == level + 1  # type: ignore[union-attr, operator]
    taken = task.take([label("a", "yes", at=100_001)])
    assert task.querying.show().level == level  # type: ignore[union-attr]
    assert counts(task) == {"asked": 1, "expired": 1, "late": 1}
    assert [one["reason"] for one in told(taken, "outcomes")] == ["label"]


def test_the_deadline_of_a_query_passes_on_an_idle_partition() -> None:
    task = stage()
    task.take([event("a", at=50)])
    assert task.deadline() == 100_050


def test_a_repeated_answer_changes_nothing_and_a_correction_corrects() -> None:
    task = stage()
    task.take([event("a"), label("a", "yes"), label("a", "yes"), label("a", "no")])
    assert counts(task) == {"asked": 1, "answered": 1, "repeated": 1, "corrected": 1}
    assert counted(task) == {"events": 1, "learned": 1, "repeated_labels": 1, "corrected_labels": 1}


def test_a_label_never_asked_for_is_learned_and_costs_nothing() -> None:
    task = stage(query={"budget": 0.0})
    task.take([event("a"), label("a", "yes"), label("a", "no")])
    assert counts(task) == {"unasked": 2}
    assert counted(task) == {"events": 1, "learned": 1, "corrected_labels": 1}


def test_a_label_the_learner_refuses_is_a_dead_letter_and_a_failure() -> None:
    keys = {"learner": {"kind": "linear", "max_classes": 2}}
    task = stage(**keys)
    taken = task.take([event("x", label="a"), event("y", label="b"), event("z"), label("z", "c")])
    assert [one["reason"] for one in told(taken, "outcomes")] == ["wrong"]
    assert counted(task)["refused_labels"] == 1
    assert len(written(taken, "dead")) == 1


def test_yes_confirms_and_no_asks_for_the_label_itself() -> None:
    task = stage(query={"kind": "confirm"})
    known = [event(f"k{i}", label=name) for i, name in enumerate("abc")]
    first, _ = told(task.take([*known, event("e"), event("f")]))
    assert (first["kind"], first["proposed"] in "abc") == ("confirm", True)
    taken = task.take([label("e", "yes"), label("f", "no", annotator="ann")])
    assert task.pending.closed["e"].label == first["proposed"]
    (again,) = told(taken)
    assert (again["event"], again["kind"]) == ("f", "label")
    assert [one["success"] for one in told(taken, "outcomes")] == [True, True]
    task.take([label("f", "c")])
    assert task.pending.closed["f"].label == "c"


def test_listed_annotators_are_asked_in_turn_and_seen() -> None:
    task = stage(query={"annotators": ["bob", "ann"], "budget": 1.0})
    queries = told(task.take([event(str(i)) for i in range(4)]))
    assert [query["annotator"] for query in queries] == ["ann", "bob", "ann", "bob"]
    task.take([label("0", "yes", annotator="ann", at=3000)])
    ann, bob = task.show().querying.annotators  # type: ignore[union-attr]
    assert (ann.name, ann.load, ann.answers, ann.seconds) == ("ann", 1, 1, 3.0)
    assert (bob.name, bob.load) == ("bob", 2)


def test_confidence_is_the_weight() -> None:
    sure, unsure, unasked = stage(), stage(), stage(query={"budget": 0.0})
    for task, confidence in ((sure, 1.0), (unsure, 0.1), (unasked, 0.1)):
        task.take([event("n", label="no"), event("y", label="yes", features={"x": 3.0})])
        task.take([event("a", features={"x": 3.0}), label("a", "no", confidence=confidence)])
    p = [task.learner.peek({"x": 3.0})[0].tolist() for task in (sure, unsure, unasked)]
    assert p[0] != p[1]
    assert p[1] == p[2]


def test_regression_asks_by_leverage() -> None:
    task = stage("regress", query={"strategy": "biqf", "budget": 0.2})
    task.take([event(str(i), features={"x": float(i % 3), "z": float(i * i)}) for i in range(50)])
    assert 0 < counts(task)["asked"] <= 50
    task.take([label(str(i), i % 3) for i in range(50)])
    shown = task.show().querying
    assert shown is not None
    assert shown.estimates.answers > 0


@pytest.mark.parametrize("utility", ["vote_entropy", "mean_kl", "variance"])
@pytest.mark.parametrize("kind", ["linear", "river"])
def test_a_committee_asks_where_its_members_disagree(utility: str, kind: str) -> None:
    """Two clouds of labelled events; between them nobody knows."""
    task = "regress" if utility == "variance" else "classify"
    name = "LinearRegression" if task == "regress" else "LogisticRegression"
    learner = {"kind": "linear"} if kind == "linear" else {"kind": "river", "model": f"river.linear_model.{name}"}
    made = stage(task, query={"utility": utility, "committee": 20}, learner=learner)
    said = (0.0, 1.0) if task == "regress" else ("no", "yes")
    known = [event(f"k{i}", features={"x": (i % 2 * 2 - 1) * (1 + i % 7)}, label=said[i % 2]) for i in range(40)]
    made.take(known)
    queries = {q["event"]: q["utility"] for q in told(made.take([_at("far", -9.0), _at("between", 0.1)]))}
    if utility == "vote_entropy":
        assert queries["between"] > queries["far"]
    else:
        assert min(queries.values()) > 0.0
    if utility == "variance":  # members that are lines differ most far out
        assert queries["far"] > queries["between"]


def _at(name: str, x: float) -> Record:
    return event(name, features={"x": x})


def test_a_committee_changes_no_prediction_and_may_come_and_go() -> None:
    plain, asked = stage(), stage(query={"utility": "mean_kl", "committee": 3})
    records = [event(f"{i}", i, features={"x": float(i % 5)}) for i in range(20)]
    records += [label(f"{i}", "ab"[i % 2]) for i in range(20)]
    taken = [task.take(records) for task in (plain, asked)]
    assert taken[0].memos == taken[1].memos
    for task, other in ((plain, stage(query={"utility": "mean_kl", "committee": 5})), (asked, stage())):
        other.restore(task.freeze()())
        more = [event(f"n{i}", i, features={"x": float(i % 5)}) for i in range(20)]
        assert other.take(more).memos == task.take(more).memos


def _text(name: str, text: str, at: int = 0, **fields: Any) -> Record:
    value = json.dumps({"id": name, "text": text, "ts": at, **fields}).encode()
    return Record("events", 0, at, at, name.encode(), value)


def _several(**query: Any) -> Predicting:
    return stage("text", learner={"kind": "ss3", "multilabel": True}, query=query)


def test_of_an_event_with_several_labels_their_set_is_asked_for_and_learned() -> None:
    task = _several(answers=3)
    known = [("my card", ["card"]), ("is lost", ["lost"]), ("card lost", ["card", "lost"]), ("hello there", [])]
    task.take([_text(f"k{i}", text, label=said) for i, (text, said) in enumerate(known * 5)])
    (query,) = told(task.take([_text("e", "my card is lost")]))
    assert query["text"] == "my card is lost"
    for name, said in (("ann", ["lost", "card"]), ("bob", ["card"]), ("cyd", ["card", "lost", "lost"])):
        taken = task.take([label("e", said, annotator=name)])
    assert task.pending.closed["e"].label == ["card", "lost"]
    judged = {one["resource"]: one["success"] for one in told(taken, "outcomes")}
    assert judged == {"ann": True, "bob": False, "cyd": True}
    assert counts(task) == {"asked": 1, "answered": 1, "disagreed": 2}
    shown = task.show().querying
    assert shown is not None
    assert shown.estimates.raw == 1.0  # the likeliest class is one of them
    task.take([_text("n", "what is this"), *(label("n", [], annotator=name) for name in "abc")])
    assert task.pending.closed["n"].label == []


def test_of_several_labels_the_utility_is_that_of_the_two_next_to_the_boundary() -> None:
    measure = Measure("ss3")
    assert measure.of([0.45, 0.45, 0.1], chosen=[0, 1]) == pytest.approx(1 - 0.35 / 0.55)
    assert measure.of([0.45, 0.45, 0.1], chosen=[]) == measure.of([0.45, 0.45, 0.1]) == 1.0
    assert measure.of([0.9, 0.1], chosen=[0]) == measure.of([0.9, 0.1])


def test_several_labels_do_not_depend_on_the_cut_and_a_replay_is_the_same() -> None:
    words = ["my", "card", "is", "lost", "where", "are", "you"]
    records: list[Record] = []
    for i in range(60):
        text = " ".join(words[(i * k) % 7] for k in (1, 2, 3))
        said = {"label": [words[i % 7], words[i % 5]]} if i % 3 == 0 else {}
        records.append(_text(f"{i}", text, i, **said))
        if i % 4 == 3:
            records.append(label(f"{i - 2}", [words[i % 3]], at=i))
    whole, cut, replayed = (_several(budget=0.3) for _ in range(3))
    taken = whole.take(records)
    assert 0 < counts(whole)["answered"] < counts(whole)["asked"]
    pieces = [cut.take(records[start : start + 7]) for start in range(0, len(records), 7)]
    assert _outputs(pieces) == _outputs([taken])
    replayed.replay(records, taken.refused, taken.memos, decisions=taken.decisions)
    assert digest(whole) == digest(cut) == digest(replayed)


@pytest.mark.parametrize(
    ("keys", "key"),
    [({"utility": "entropy"}, "utility"), ({"kind": "confirm"}, "kind"), ({"gold": 0.1}, "gold")],
)
def test_what_needs_one_label_per_event_is_refused_where_there_are_several(keys: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        wiring_query.check_several("t", configuration.convert(keys, configuration.Query, "query"))
    assert refused.value.key == f"pipeline.t.query.{key}"


def test_gold_questions_judge_annotators_and_teach_nothing() -> None:
    task = stage(query={"budget": 0.0, "gold": 1.0, "annotators": ["ann", "bob"], "capacity": 50.0})
    events = [event(f"{i}", label="yes" if i % 2 else "no", features={"x": float(i % 2)}) for i in range(40)]
    taken = task.take(events)
    queries = told(taken)
    assert [query["kind"] for query in queries] == ["label"] * 40
    assert {query["annotator"] for query in queries} == {"ann", "bob"}
    before = task.learner.peek({"x": 1.0})[0].tolist()
    said = {"ann": "no", "bob": "no"}  # ann has the even ones
    answers = [label(q["event"], said[q["annotator"]], annotator=q["annotator"]) for q in queries]
    taken = task.take(answers)
    ann, bob = task.show().querying.annotators  # type: ignore[union-attr]
    assert ann.accuracy > 0.9
    assert bob.accuracy < ann.accuracy
    assert task.learner.peek({"x": 1.0})[0].tolist() == before
    assert {one["resource"] for one in told(taken, "outcomes") if not one["success"]} <= {"bob"}
    assert counts(task)["gold"] == 40
    assert task.show().querying.pending == 0  # type: ignore[union-attr]


# --- bad input, and what the peers do wrong as a whole


@pytest.mark.parametrize("strategy", sorted(registry()))
def test_every_strategy_comes_out_of_the_configuration_and_decides_on_the_first_event(strategy: str) -> None:
    """CapyMOA: the active learner that its wrapper makes raises NullPointerException."""
    task = stage(query={"strategy": strategy, "budget": 0.5})
    task.take([event(f"{i}", i, features={"x": float(i % 5), "z": float(i % 3)}) for i in range(40)])
    task.take([label(f"{i}", "ab"[i % 2]) for i in range(40)])
    task.take([event(f"n{i}", i, features={"x": float(i % 5), "z": float(i % 3)}) for i in range(40)])
    asked = counts(task)
    assert 0 < asked["asked"] <= 40 + 5
    assert asked.get("answered", 0) <= asked["asked"]


def test_an_event_without_an_id_is_a_dead_letter_and_no_candidate() -> None:
    """Vowpal Wabbit: an unlabelled example without a tag ends the process."""
    task = stage()
    taken = task.take([Record("events", 0, 0, 0, None, b'{"features":{"x":1.0}}'), event("a")])
    assert len(written(taken, "dead")) == 1
    assert [query["event"] for query in told(taken)] == ["a"]
    assert counts(task) == {"asked": 1}


DIVERGING = {
    "path": "river.linear_model.SoftmaxRegression",
    "params": {"optimizer": {"path": "river.optim.SGD", "params": {"lr": 1e308}}},
}


@pytest.mark.parametrize("strategy", ["auto", "calmid", "iwal", "self_labelling", "variable"])
def test_a_model_that_says_nonsense_is_repaired_counted_and_asked_about(strategy: str) -> None:
    asked = wiring_query.build("t", pipeline(query={"strategy": strategy, "budget": 0.5}), "g", 0, 4)
    settings = msgspec.structs.replace(SETTINGS, bounds=ROOMY)
    task = Predicting(settings, lambda: RiverClassifier(DIVERGING), 0, querying=asked)
    with np.errstate(all="ignore"):
        for i in range(30):
            taken = task.take([event(f"{i}", i, features={"x": 10.0 ** (i % 5)}), label(f"{i}", "abc"[i % 3])])
            (prediction,) = told(taken, "predictions")
            p = prediction["p"].values()
            assert not p or (min(p) >= 0.0 and sum(p) == pytest.approx(1.0))
    assert task.show().counts["repaired_predictions"] > 0
    shown = task.show().querying
    assert shown is not None
    assert 0 < shown.counts["asked"] <= 0.5 * 30 + 5
    assert shown.estimates.answers == shown.counts["answered"]


def test_a_regressor_that_diverges_stops_nothing_and_spoils_no_measure() -> None:
    large = {"path": "river.optim.SGD", "params": {"lr": 1e200}}
    model = {"path": "river.linear_model.LinearRegression", "params": {"optimizer": large, "clip_gradient": 1e300}}
    query = {"utility": "variance", "committee": 3}
    task = stage("regress", learner={"kind": "river", "model": model}, query=query, quality={"drift": "adwin"})
    with np.errstate(all="ignore"):
        for i in range(20):
            task.take([event(f"{i}", i, features={"x": float(i)}), label(f"{i}", float(i))])
    shown = task.show()
    assert shown.quality.labels + shown.counts["non_finite_predictions"] == shown.counts["learned"] == 20
    assert shown.counts["non_finite_predictions"] > 5
    assert all(np.isfinite(value) for value in shown.quality.total.values())
    assert shown.querying is not None
    assert shown.querying.estimates.raw is None or shown.querying.estimates.raw < 1e150
    again = stage("regress", learner={"kind": "river", "model": model}, query=query, quality={"drift": "adwin"})
    again.restore(task.freeze()())
    assert again.show().counts == shown.counts


def test_a_model_that_knows_no_class_or_only_one_is_ignorant() -> None:
    """river: a tree that knows no class has entropy 0 and is never asked about."""
    asked = wiring_query.build("t", pipeline(query={"budget": 0.1}), "g", 0, 4)
    settings = msgspec.structs.replace(SETTINGS, bounds=ROOMY)
    tree = "river.tree.HoeffdingTreeClassifier"
    task = Predicting(settings, lambda: RiverClassifier(tree), 0, querying=asked)
    queries = told(task.take([event(f"{i}", i) for i in range(100)]))
    queries += told(task.take([label(queries[0]["event"], "only"), *(event(f"n{i}", i) for i in range(100))]))
    assert min(query["utility"] for query in queries) >= 1.0  # and what breaks ties
    assert len(queries) == pytest.approx(20, abs=6)


def test_an_unknown_class_and_an_unknown_annotator_are_heard_and_counted() -> None:
    task = stage(query={"annotators": ["ann"]})
    task.take([event("k", label="yes"), event("a"), event("b")])
    task.take([label("a", "zebra", annotator="mallory")])
    task.take([Record("labels", 0, 0, 1, b"b", b'{"id":"b","skip":true,"annotator":"mallory"}')])
    shown = task.show().querying
    assert shown is not None
    assert task.learner.classes == ["yes", "zebra"]
    told_of = {name: count for name, count in shown.counts.items() if count}
    assert told_of == {"asked": 2, "answered": 1, "skipped": 1, "unknown_annotator": 2}
    assert [(one.name, one.load) for one in shown.annotators] == [("ann", 1), ("mallory", 0)]


def test_a_prediction_says_why_its_label_was_asked_for() -> None:
    task = stage(query={"budget": 0.5})
    taken = task.take([event(f"{i}") for i in range(20)] + [event("l", label="yes")])
    asked = {query["event"]: query for query in told(taken)}
    assert 0 < len(asked) < 20
    for prediction in told(taken, "predictions"):
        query = asked.get(prediction["id"])
        why = None if query is None else {name: query[name] for name in ("utility", "threshold", "p_ask")}
        assert prediction.get("asked") == why


# --- laws

NAMES = [f"e{i}" for i in range(8)]


def stream(draws: list[tuple[int, int, int, int]]) -> list[Record]:
    """Events, labels, skips, ticks, in an order that never goes back in time."""
    records, now = [], 0
    for offset, (what, which, value, later) in enumerate(draws):
        now += later * 10_000
        name, said = NAMES[which], "abc"[value]
        if what <= 3:
            fields = {"label": said} if what == 3 else {}
            found = event(name, offset, now, features={"x": float(which), "y": float(value)}, **fields)
        elif what <= 5:
            found = label(name, said, offset, now, annotator="ann" if what == 4 else "bob")
        elif what == 6:
            found = Record("labels", 0, offset, now, None, json.dumps({"id": name, "skip": True}).encode())
        else:
            found = tick(now)
        records.append(found)
    return records


QUERIES: list[dict[str, Any]] = [
    {"budget": 0.4, "rho": 0.3, "discount": 1.0},
    {"strategy": "self_labelling", "parameters": {"tau": 0.5, "ratio": 1.0}, "budget": 0.3},
    {"strategy": "calmid", "per_hour": 400.0, "answers": 2, "costs": {"ann": 1.5, "bob": 0.5}},
    {"strategy": "dbalstream", "groups": "worst", "budget": 0.5, "annotators": ["ann", "bob"], "gold": 0.5},
    {"strategy": "biqf", "utility": "vote_entropy", "committee": 3, "budget": 0.4},
    {"strategy": "iwal", "utility": "expected_gain", "density": 0.5, "accounting": "count", "budget": 0.5},
]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.get("strategy", "auto"))
@given(
    draws=st.lists(
        st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, 2), st.integers(0, 2)), max_size=60
    ),
    cuts=st.sets(st.integers(0, 60)),
    stop=st.integers(0, 60),
)
@limits(max_examples=12, deadline=None)
def test_nothing_depends_on_the_cut_and_a_replay_is_the_same(
    query: dict[str, Any], draws: list[tuple[int, int, int, int]], cuts: set[int], stop: int
) -> None:
    records = stream(draws)
    keys: dict[str, Any] = {"query": query, "quality": {"drift": "adwin"}}
    if "annotators" not in query:
        keys["pool"] = "desk"
    whole, cut, replayed = stage(**keys), stage(**keys), stage(**keys)
    taken = whole.take(records)

    places = [0, *sorted(place for place in cuts if 0 < place < len(records)), len(records)]
    pieces = [cut.take(records[a:b]) for a, b in pairwise(places)]
    assert _outputs(pieces) == _outputs([taken])
    assert [packed for piece in pieces for packed in piece.decisions] == taken.decisions
    assert digest(cut) == digest(whole)

    # replayed in two parts, with a snapshot between them
    stop = min(stop, len(records))
    first = stage(**keys).take(records[:stop])
    n = len(first.memos)
    replayed.replay(records[:stop], first.refused, taken.memos[:n], decisions=taken.decisions[:n])
    again = stage(**keys)
    again.restore(replayed.freeze()())
    refused = {i - stop: refusal for i, refusal in taken.refused.items() if i >= stop}
    again.replay(records[stop:], refused, taken.memos[n:], decisions=taken.decisions[n:])
    assert digest(again) == digest(whole)


def _outputs(pieces: list[Any]) -> list[tuple[str, bytes]]:
    return sorted((output.topic, output.value) for piece in pieces for output in piece.outputs)


def test_a_snapshot_and_a_journal_made_without_a_query_stage_are_taken() -> None:
    plain = Predicting(msgspec.structs.replace(SETTINGS, bounds=ROOMY), LinearClassifier, 0)
    plain.take([event("a")])
    before = plain.freeze()()
    taken = plain.take([event("b"), label("b", "yes")])
    task = stage()
    task.restore(before)
    task.replay([event("b"), label("b", "yes")], taken.refused, taken.memos, decisions=taken.decisions)
    assert counts(task) == {"unasked": 1}
    assert told(task.take([event("c")]))


def test_another_strategy_starts_anew_and_the_queries_stay() -> None:
    task = stage()
    task.take([event("a")])
    other = stage(query={"strategy": "split", "groups": "equal"})
    other.restore(task.freeze()())
    other.take([label("a", "yes")])
    assert counts(other) == {"asked": 1, "answered": 1}


# --- configuration


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"query": {"strategy": "clever"}}, "query.strategy"),
        ({"query": {"parameters": {"w": 0.5}}}, "query.parameters.w"),
        ({"query": {"parameters": {"patience": 0.0}}}, "query.parameters.patience"),
        ({"query": {"parameters": {"nonsense": 1}}}, "query.parameters.nonsense"),
        ({"query": {"budget": 1.5}}, "query.budget"),
        ({"query": {"utility": "d_optimal"}}, "query.utility"),
        ({"task": "text", "learner": {"kind": "ss3"}, "query": {"utility": "mean_kl"}}, "query.utility"),
        ({"query": {"answers": 20, "costs": {"ann": 5.0}}}, "query.costs"),
    ],
)
def test_a_wrong_key_is_refused_with_its_path(keys: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        stage(**keys)
    assert refused.value.key == f"pipeline.t.{key}"


BASE = """
[pipeline.t]
task = "classify"
events = "e"
{keys}
[pipeline.t.learner]
kind = "linear"
"""
QUERY = '\nqueries = "q"\nlabels = "l"'


@pytest.mark.parametrize(
    ("keys", "table", "key"),
    [
        ('queries = "q"', "", "query"),
        ('labels = "l"', "budget = 0.1", "queries"),
        ('queries = "q"', "budget = 0.1", "labels"),
        (QUERY + '\noutcomes = "q"', "budget = 0.1", ""),
        (QUERY, 'deadline = "30d"', "query.deadline"),
        (QUERY, "budget = 0.1\nper_hour = 3.0", "query.per_hour"),
        (QUERY, 'per_hour = 3.0\naccounting = "window"', "query.per_hour"),
        (QUERY, 'groups = "worst"\nper_hour = 1.0', "query.groups"),
        (QUERY + '\npool = "p"', 'annotators = ["a"]', "query.annotators"),
        (QUERY, 'answers = 2\nkind = "confirm"', "query.answers"),
        (QUERY, "costs = {a = 0.0}", "query.costs"),
        (QUERY, "budgte = 1", "query.budgte"),
    ],
)
def test_keys_that_do_not_fit_together_are_refused(keys: str, table: str, key: str) -> None:
    text = BASE.format(keys=keys) + (f"[pipeline.t.query]\n{table}\n" if table else "")
    with pytest.raises(ConfigError) as refused:
        configuration.parse(text)
    assert refused.value.key == f"pipeline.t.{key}".rstrip(".")


def test_labels_per_hour_are_divided_over_the_partitions() -> None:
    asked = wiring_query.build("t", pipeline(query={"budget": None, "per_hour": 8.0}), "g", 0, 4)
    budget = asked.asker.budget
    bucket = wiring_query.TokenBucket(0.0, per_hour=2.0)
    assert budget._per_ms == bucket._per_ms  # type: ignore[attr-defined]


# --- what people see


def test_status_tells_the_loop_and_the_annotators() -> None:
    task = stage(query={"annotators": ["ann", "bob"], "budget": 1.0})
    task.take([event(str(i)) for i in range(4)] + [label("0", "yes", annotator="ann", at=3000)])
    shown = task.show().querying
    assert shown is not None
    text = "\n".join(querying_lines(0, shown))
    assert "asked 4, answered 1" in text
    assert "3 pending" in text
    assert "of 1 answers: raw 0" in text
    assert annotators_table(shown).row_count == 2


# --- groups


def test_of_a_groupwise_learner_losses_weigh_by_the_chance_of_the_query_and_regrets_do_not() -> None:
    """The same answers, asked for with probability 1 and by chance: R, C and labels count each label once."""
    asked = wiring_query.build("t", pipeline(query={"strategy": "random", "budget": 0.3, "rho": 1.0}), "g", 0, 4)
    settings = msgspec.structs.replace(SETTINGS, bounds=ROOMY)
    task = Predicting(settings, lambda: GroupwiseClassifier(["x=*"]), 0, querying=asked)
    chances = []
    for i in range(200):
        for query in told(task.take([event(f"e{i}", i, features={"x": float(i % 2)})])):
            chances.append(query["p_ask"])
            task.take([label(query["event"], "yes" if i % 4 else "no", query=query["id"])])

    groups = task.show().groups
    assert groups is not None
    everyone = groups.groups[0]
    assert min(chances) < 0.6
    assert groups.judged == everyone.labels == len(chances) - 1  # no class was known at the first
    weights = [1 / p for p in chances[1:]]
    assert everyone.effective == pytest.approx(sum(weights) ** 2 / sum(w * w for w in weights))
    assert everyone.bound >= everyone.R
    assert everyone.labels >= everyone.C
