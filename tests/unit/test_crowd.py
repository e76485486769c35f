"""The simulated crowd: who answers what and when, the same in every run."""

import json
from pathlib import Path
from typing import Any

import pytest

from streamd.crowd import Crowd, Habits
from streamd.errors import ConfigError
from streamd.ports import Output
from tests.unit.command_line import Terminal

TRUTH = {f"e{i}": "ab"[i % 2] for i in range(200)}
TEAM = {name: Habits(accuracy=1.0) for name in ("ann", "bob", "cyd")}


def query(event: str = "e0", **fields: Any) -> bytes:
    asked = {
        "id": f"{event}#1",
        "event": event,
        "reply": {"topic": "labels", "key": event, "partition": 0},
        "ts": 7,
    }
    return json.dumps({**asked, **fields}).encode()


def told(crowd: Crowd, *records: bytes) -> list[dict[str, Any]]:
    return [answer.fields for record in records for answer in crowd.ask(record)]


def test_an_answer_copies_query_and_annotator_and_goes_where_it_is_wanted() -> None:
    (answer,) = Crowd(TRUTH, {"ann": Habits(accuracy=1.0, delay=0.0)}).ask(query("e1"))
    assert answer.fields == {"id": "e1", "query": "e1#1", "annotator": "ann", "label": "b"}
    output = answer.output(now=5)
    assert (output.topic, output.key, output.partition, answer.after) == ("labels", b"e1", 0, 0)


def test_the_same_queries_get_the_same_answers_whatever_their_order() -> None:
    team = {name: Habits(0.7, 0.1, 0.1, 30.0) for name in "abc"}
    queries = [query(f"e{i}") for i in range(200)]
    there = [(a.query, a.annotator, a.after, a.fields) for q in queries for a in Crowd(TRUTH, team, seed=3).ask(q)]
    crowd = Crowd(TRUTH, team, seed=3)
    back = [(a.query, a.annotator, a.after, a.fields) for q in reversed(queries) for a in crowd.ask(q)]
    assert there == back[::-1]


def test_habits_are_kept_in_the_mean() -> None:
    crowd = Crowd(TRUTH, {"a": Habits(accuracy=0.8, skip=0.2, silent=0.25, delay=60.0)})
    answers = [a for i in range(200) for n in range(20) for a in crowd.ask(query(f"e{i}", id=f"e{i}#{n}"))]
    assert crowd.counts["queries"] == 4000
    assert crowd.counts["silent"] / 4000 == pytest.approx(0.25, abs=0.03)
    assert crowd.counts["skipped"] / 3000 == pytest.approx(0.2, abs=0.03)
    assert crowd.counts["wrong"] / crowd.counts["answers"] == pytest.approx(0.2, abs=0.03)
    assert sum(answer.after for answer in answers) / len(answers) == pytest.approx(60_000, rel=0.08)


def test_several_answers_are_of_several_annotators() -> None:
    crowd = Crowd(TRUTH, TEAM)
    assert len({answer["annotator"] for answer in told(crowd, query(answers=3))}) == 3
    pooled = [query(id=f"e0#{k}", pool="desk", answers=3) for k in (1, 2, 3)]
    assert len({answer["annotator"] for answer in told(crowd, *pooled)}) == 3


def test_who_is_named_answers_and_who_passed_does_not() -> None:
    crowd = Crowd(TRUTH, TEAM)
    assert told(crowd, query(annotator="dan"))[0]["annotator"] == "dan"
    left = {told(crowd, query(f"e{i}", exclude=["ann", "bob"]))[0]["annotator"] for i in range(20)}
    assert left == {"cyd"}
    assert told(crowd, query(exclude=["ann", "bob", "cyd"])) == []


def test_a_proposed_label_is_confirmed_or_refuted() -> None:
    crowd = Crowd(TRUTH, TEAM)
    assert told(crowd, query(kind="confirm", proposed="a"))[0]["label"] == "yes"
    assert told(crowd, query(kind="confirm", proposed="b"))[0]["label"] == "no"


def test_the_resource_of_a_match_answers() -> None:
    crowd = Crowd(TRUTH, TEAM)
    inside = json.loads(query("e1"))
    matched = {"id": "e1#1/1", "arrival": "e1#1", "pool": "desk", "resource": "ann", "query": inside, "ts": 9}
    (answer,) = crowd.ask(json.dumps(matched).encode())
    assert (answer.fields["query"], answer.annotator, answer.asked) == ("e1#1/1", "ann", 9)
    assert told(crowd, json.dumps({**matched, "resource": None}).encode()) == []
    assert crowd.counts["unmatched"] == 1


def test_what_cannot_be_answered_is_counted() -> None:
    crowd = Crowd(TRUTH, TEAM)
    assert told(crowd, query("stranger"), b"{}", b"no JSON") == []
    assert (crowd.counts["unknown"], crowd.counts["others"]) == (1, 2)


def test_a_wrong_number_is_off_by_about_what_they_differ() -> None:
    crowd = Crowd({f"e{i}": float(i) for i in range(100)}, {"a": Habits(accuracy=0.0)})
    off = [abs(told(crowd, query(f"e{i}"))[0]["label"] - i) for i in range(100)]
    assert 10 < sum(off) / 100 < 50


def test_of_several_labels_a_wrong_set_has_one_too_many_or_one_missing() -> None:
    truth: dict[str, Any] = {f"e{i}": [["card"], ["card", "lost"], []][i % 3] for i in range(30)}
    right = told(Crowd(truth, TEAM), *(query(f"e{i}") for i in range(30)))
    assert [one["label"] for one in right] == list(truth.values())
    wrong = told(Crowd(truth, {"a": Habits(accuracy=0.0)}), *(query(f"e{i}") for i in range(30)))
    assert {len({*one["label"]} ^ {*truth[one["id"]]}) for one in wrong} == {1}


def test_nonsense_is_refused() -> None:
    with pytest.raises(ConfigError, match="annotators"):
        Crowd(TRUTH, {})
    with pytest.raises(ConfigError, match="skip"):
        Habits(skip=1.5)


# --- the verb


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    monkeypatch.chdir(tmp_path)
    return Terminal(tmp_path, capsys)


def test_the_verb_answers_what_is_there_once(terminal: Terminal) -> None:
    truth = terminal.file("truth.csv", "id,x,label\n" + "".join(f"e{i},{i},{'ab'[i % 2]}\n" for i in range(10)))
    terminal.append("queries", [Output("", b"k", query(f"e{i}", ts=1000 * i), 5, 0) for i in range(8)])
    terminal.append("labels", [])
    arguments = ("crowd", "queries", truth, "--accuracy", "1", "--clock", "event", "--delay", "2", "--json")

    first, second = terminal(*arguments), terminal(*arguments)
    assert first.code == 0, first.err

    assert first.json["sent"] == 8
    assert second.json["sent"] == 0
    labels = [json.loads(record.value or b"") for record in terminal.records("labels")]
    assert {label["id"]: label["label"] for label in labels} == {f"e{i}": "ab"[i % 2] for i in range(8)}
    assert all(label["ts"] >= 1000 * int(label["id"][1:]) for label in labels)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "truth.jsonl"], "no topic nowhere"),
        (["queries", "missing.csv"], "cannot be read"),
        (["queries", "empty.jsonl"], "no event with a label"),
        (["queries", "truth.jsonl", "--annotator", "ann=often"], "--annotator"),
    ],
)
def test_the_verb_says_what_is_wrong(terminal: Terminal, arguments: list[str], said: str) -> None:
    terminal.file("truth.jsonl", '{"id": "e0", "label": "a"}\n')
    terminal.file("empty.jsonl", '{"id": "e0"}\n')
    terminal.append("queries", [Output("", b"k", query(), 5, 0)])
    done = terminal("crowd", *arguments)
    assert done.code in (1, 2)
    assert said in done.err
