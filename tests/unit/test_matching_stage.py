"""A matching pipeline, record by record: answers, refusals, replay, the cut of batches, snapshots."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamd import snapshot
from streamd.errors import StateError
from streamd.matching.arrivals import Limits
from streamd.matching.probabilities import Source
from streamd.matching.rules import Rule
from streamd.ports import Output, Record, murmur2
from streamd.records import DEAD_LETTER_HEADER
from streamd.stages.match_settings import Settings
from streamd.stages.matching import Matching

SETTINGS = Settings(
    "queries", "annotators", "outcomes", "assignments", "dead", "sb/1", timeout=100, ahead=1000, attempts=3
)
BETA = msgspec.structs.replace(SETTINGS, source=Source("beta", explore="thompson"))


class Stream:
    """Records one after the other, each at its own moment."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def add(self, topic: str, told: Any, *, at: int | None = None, key: str | None = "desk") -> "Stream":
        value = told if isinstance(told, bytes) or told is None else msgspec.json.encode(told)
        moment = 1000 + len(self.records) if at is None else at
        raw = None if key is None else key.encode()
        self.records.append(Record(topic, 0, len(self.records), moment, raw, value))
        return self

    def annotator(self, name: str, capacity: float = 1.0, **more: Any) -> "Stream":
        return self.add("annotators", {"id": name, "pool": "desk", "capacity": capacity, **more})

    def query(self, name: str, *edges: Any, at: int | None = None, **more: Any) -> "Stream":
        return self.add("queries", {"id": name, "pool": "desk", "edges": edges, **more}, at=at)

    def outcome(self, name: str, success: bool, **more: Any) -> "Stream":
        return self.add("outcomes", {"id": name, "pool": "desk", "success": success, **more})


def run(stream: Stream, chosen: Settings = SETTINGS) -> tuple[Matching, list[Output]]:
    task = Matching(chosen, 0)
    return task, task.take(stream.records).outputs


def on(topic: str, outputs: Sequence[Output]) -> list[dict[str, Any]]:
    return [msgspec.json.decode(output.value) for output in outputs if output.topic == topic]


def reasons(outputs: Sequence[Output]) -> list[str]:
    return [
        msgspec.json.decode(dict(output.headers)[DEAD_LETTER_HEADER])["reason"]
        for output in outputs
        if output.topic == "dead"
    ]


def digest(task: Matching) -> str:
    return snapshot.digest(task.freeze()())


def test_an_arrival_is_answered_with_its_match_and_why() -> None:
    stream = Stream().annotator("ann").annotator("ben").query("q1", ["ann", 0.5], ["ben", 0.25])
    stream.query("q2", ["ann", 0.5]).outcome("q1/1", False).query("q3", ["ann", 0.5])

    task, outputs = run(stream)

    first, second, third = on("assignments", outputs)
    assert (first["id"], first["resource"]) == ("q1/1", "ann")
    assert (first["p"], first["k"], first["open_until"]) == (0.5, pytest.approx(0.61371, abs=1e-5), 1102)
    assert first["best"] == [["ann", pytest.approx(0.5 * first["k"])], ["ben", pytest.approx(0.25 * first["k"])]]
    assert second["unmatched"] == "no resource has room"
    assert (third["resource"], third["load"]) == ("ann", 0.5)
    assert {output.key for output in outputs} == {b"desk"}
    assert task.show().pending == 1


def test_a_query_goes_to_different_annotators_and_is_passed_on_whole() -> None:
    query = {
        "pool": "desk",
        "event": "e1",
        "kind": "bank",
        "text": "where?",
        "reply": {"topic": "labels", "key": "e1"},
    }
    stream = Stream().annotator("ann", 9).annotator("ben", 9)
    stream.add("queries", query | {"id": "e1#1"}).add("queries", query | {"id": "e1#2"})

    _, outputs = run(stream, BETA)

    matches = on("assignments", outputs)
    assert {match["resource"] for match in matches} == {"ann", "ben"}
    assert matches[0]["query"] == query | {"id": "e1#1"}


def test_a_time_out_is_offered_again_without_who_failed() -> None:
    stream = Stream().annotator("ann", 9).annotator("ben", 9).query("q", ["ann", 0.9], ["ben", 0.1], deadline=5000)
    task, _ = run(stream)
    assert task.deadline() == 1102

    taken = task.take([Record("", 0, 0, 1102, None, None)])

    (again,) = on("queries", taken.outputs)
    assert (again["attempt"], again["exclude"]) == (2, ["ann"])
    outputs = task.take(Stream().add("queries", again, at=1103).records).outputs
    (match,) = on("assignments", outputs)
    assert (match["id"], match["resource"]) == ("q/2", "ben")
    assert task.show().counts["timeouts"] == 1


def test_an_arrival_repeated_gets_the_same_match() -> None:
    stream = Stream().annotator("ann", 5).annotator("ben", 5).query("q", ["ann", 0.5], ["ben", 0.4])

    _, outputs = run(stream.query("q", ["ann", 0.5], ["ben", 0.4]))

    first, second = on("assignments", outputs)
    assert first | {"ts": 0} == second | {"ts": 0}


@pytest.mark.parametrize(
    ("topic", "told", "key"),
    [
        ("queries", b"{", "desk"),
        ("queries", None, "desk"),
        ("queries", {"id": "q", "edges": []}, "desk"),
        ("queries", {"id": "q", "pool": "desk"}, "desk"),
        ("queries", {"id": "q", "pool": "desk", "edges": [["ann", 1.5]]}, "desk"),
        ("queries", {"id": "q", "pool": "desk", "edges": [["ann"]]}, "desk"),
        ("queries", {"id": "q", "pool": "desk", "edges": [["ann", 0.5]], "attempt": 0}, "desk"),
        ("queries", {"id": "q", "pool": "desk", "edges": [["ann", 0.5]], "ts": 99999}, "desk"),
        ("queries", {"id": "q", "pool": "desk", "edges": [["ann", 0.5]]}, "other"),
        ("queries", {"id": "q", "pool": "desk", "edges": [["ann", 0.5]]}, None),
        ("annotators", {"id": "ben", "pool": "desk", "capacity": -1}, "desk"),
        ("annotators", {"id": "ben", "pool": "desk"}, "desk"),
        ("annotators", {"id": "ben", "pool": "desk", "op": "sell", "capacity": 1}, "desk"),
        ("annotators", {"id": "all", "pool": "desk", "edges": [["ann", -0.5]]}, "desk"),
        ("outcomes", {"id": "q0", "pool": "desk", "success": True}, "desk"),
        ("outcomes", {"id": "q1", "pool": "desk", "success": 1}, "desk"),
        ("outcomes", {"id": "q1", "pool": "desk", "resource": "ben", "success": True}, "desk"),
    ],
)
def test_a_bad_record_is_a_dead_letter_and_the_rest_goes_on(topic: str, told: Any, key: str | None) -> None:
    stream = (
        Stream().annotator("ann", 5).query("q1", ["ann", 0.5]).add(topic, told, key=key).query("q2", ["ann", 0.5])
    )

    task, outputs = run(stream)

    assert len(reasons(outputs)) == 1
    assert [match["resource"] for match in on("assignments", outputs)] == ["ann", "ann"]
    assert task.show().counts["dead_letters"] == 1


def test_a_pool_on_a_foreign_partition_is_refused() -> None:
    partitions = 7
    chosen = msgspec.structs.replace(SETTINGS, partitions=partitions)
    home = murmur2(b"desk") % partitions
    record = Stream().annotator("ann").records[0]

    for partition in range(partitions):
        placed = msgspec.structs.replace(record, partition=partition)
        assert len(reasons(Matching(chosen, partition).take([placed]).outputs)) == (partition != home)


def test_a_journal_that_does_not_fit_is_refused() -> None:
    stream = Stream().annotator("ann").query("q1", ["ann", 0.5])
    taken = Matching(SETTINGS, 0).take(stream.records)

    with pytest.raises(StateError):
        Matching(SETTINGS, 0).replay(stream.records, {}, [])
    with pytest.raises(StateError):
        Matching(SETTINGS, 0).replay(stream.records, {}, [*taken.memos, b""])
    with pytest.raises(StateError):
        Matching(SETTINGS, 0).replay(Stream().add("queries", b"{").records, {}, [])


NAMES = st.sampled_from(["ann", "ben", "cleo"])
POOLS = st.sampled_from(["desk", "desk", "field"])
EDGES = st.lists(
    st.tuples(st.sampled_from(["ann", "ben", "cleo", "zoe"]), st.sampled_from([0.2, 0.5, 1.0])), max_size=3
)
TOLD = st.one_of(
    st.tuples(
        st.just("annotators"),
        st.fixed_dictionaries(
            {"id": NAMES, "pool": POOLS, "capacity": st.sampled_from([-1, 1, 2, 5])},
            optional={"refill": st.just({"amount": 1, "every": 60}), "needs": st.just(["german"])},
        ),
    ),
    st.tuples(st.just("annotators"), st.fixed_dictionaries({"id": NAMES, "pool": POOLS, "op": st.just("leave")})),
    st.tuples(st.just("annotators"), st.fixed_dictionaries({"id": st.just("s"), "pool": POOLS, "edges": EDGES})),
    *[
        st.tuples(
            st.just("queries"),
            st.fixed_dictionaries(
                {"id": st.sampled_from([f"q{i}" for i in range(12)]), "pool": POOLS, "edges": EDGES},
                optional={
                    "attempt": st.sampled_from([1, 2]),
                    "deadline": st.integers(900, 1200),
                    "needs": st.just(["german"]),
                    "event": st.just("e"),
                },
            ),
        )
    ]
    * 2,
    *[
        st.tuples(
            st.just("outcomes"),
            st.fixed_dictionaries(
                {"id": st.sampled_from([f"q{i}" for i in range(12)]), "pool": POOLS, "success": st.booleans()},
                optional={"reason": st.sampled_from(["skip", "label"])},
            ),
        )
    ]
    * 2,
    st.tuples(st.just("queries"), st.just(b"not JSON")),
    st.tuples(st.just(""), st.none()),
)
RULES = [("correct", Rule()), ("ignore", Rule("greedy", hold="optimistic")), ("accept", Rule("ranking"))]
TIGHT = Limits(resources=3, open=5, remember=6, segments=1)
CHOSEN = st.sampled_from(
    [
        msgspec.structs.replace(base, late=late, rule=rule, limits=TIGHT, wait=wait, waiting=4)
        for base in (SETTINGS, BETA)
        for late, rule in RULES
        for wait in ("none", "all", "all")
    ]
)


def _stream(told: list[Any], gaps: list[int]) -> list[Record]:
    stream, moment = Stream(), 1000
    for (topic, what), gap in zip(told, gaps, strict=False):
        moment += gap
        stream.add(topic, what, at=moment, key=what["pool"] if isinstance(what, dict) else "desk")
    return stream.records


TOLDS = st.lists(TOLD, max_size=50)
GAPS = st.lists(st.sampled_from([0, 1, 10, 70]), min_size=50, max_size=50)


@settings(max_examples=60)
@given(CHOSEN, TOLDS, GAPS, st.integers(1, 7))
def test_the_cut_of_batches_does_not_matter(chosen: Settings, told: list[Any], gaps: list[int], cut: int) -> None:
    records = _stream(told, gaps)
    whole, parts = Matching(chosen, 0), Matching(chosen, 0)

    outputs = whole.take(records).outputs
    pieces = [output for i in range(0, len(records), cut) for output in parts.take(records[i : i + cut]).outputs]

    assert pieces == outputs
    assert digest(whole) == digest(parts)


@settings(max_examples=60)
@given(CHOSEN, TOLDS, GAPS, st.integers(0, 50))
def test_snapshot_and_journal_restore_the_same(
    chosen: Settings, told: list[Any], gaps: list[int], at: int
) -> None:
    records = _stream(told, gaps)
    live = Matching(chosen, 0)
    live.take(records[:at])
    frozen = live.freeze()
    taken = live.take(records[at:])

    restored = Matching(chosen, 0)
    restored.restore(frozen())
    restored.replay(records[at:], taken.refused, taken.memos)

    assert digest(restored) == digest(live)
    assert restored.deadline() == live.deadline()
    assert restored.show() == live.show()


def test_a_replay_that_priced_nothing_has_the_same_state() -> None:
    stream = Stream()
    for i in range(40):  # more than there is room for from the start
        stream.annotator(f"r{i}")
    stream.query("q1", ["r1"], ["r2"])
    task = Matching(BETA, 0)
    taken = task.take(stream.records)

    replayed = Matching(BETA, 0)
    replayed.replay(stream.records, taken.refused, taken.memos)

    assert digest(replayed) == digest(task)


def test_two_pipelines_that_ask_one_pool_do_not_mix() -> None:
    # given the same question id of two askers
    stream = Stream().annotator("ann", 5.0)
    for pipeline in ("tickets", "people"):
        stream.query("e1#1", ["ann", 0.5], pipeline=pipeline, event="e1", kind="label")
    stream.outcome("e1#1", True, pipeline="people", resource="ann")
    stream.outcome("e1#1/1", False, pipeline="tickets", resource="ann")

    task, outputs = run(stream, msgspec.structs.replace(SETTINGS, source=Source("beta")))

    # then each was matched, and each outcome found its own
    assert [match["id"] for match in on("assignments", outputs)] == ["e1#1/1", "e1#1/1"]
    pool = task.pools["desk"]
    assert (pool.counts["successes"], pool.counts["failures"]) == (1, 1)
    assert list(pool.chances.kinds) == ["people:label", "tickets:label"]


def test_an_outcome_finds_the_attempt_of_its_annotator() -> None:
    # given a question that ann let lie, and that ben has now
    stream = Stream().annotator("ann").annotator("ben").query("q", ["ann", 0.6], ["ben", 0.5], at=2000)
    stream.query("q", ["ann", 0.6], ["ben", 0.5], attempt=2, exclude=["ann"], at=2200)
    # when ann's answer comes late, then ben's
    stream.outcome("q", True, resource="ann").outcome("q", True, resource="ben")
    task, outputs = run(stream)
    # then both are applied, to whom they belong
    assert reasons(outputs) == []
    counts = task.pools["desk"].counts
    assert (counts["timeouts"], counts["late_successes"], counts["successes"]) == (1, 1, 1)
