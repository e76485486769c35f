"""A query that nobody is free for is kept, and is answered once: when somebody comes free, or at its deadline."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamd import snapshot
from streamd.matching.probabilities import Source
from streamd.ports import Output, Record
from streamd.stages.match_settings import Settings
from streamd.stages.matching import Matching
from tests.unit.test_matching_stage import SETTINGS, Stream, digest, on, reasons

DESK = msgspec.structs.replace(SETTINGS, source=Source("beta"), timeout=500, attempts=1)


class Desk:
    """Records one after the other, each at once, each at its own moment."""

    def __init__(self, chosen: Settings = DESK) -> None:
        self.chosen = chosen
        self.task = Matching(chosen, 0)
        self.stream = Stream()
        self.outputs: list[Output] = []

    def take(self, records: list[Record]) -> list[dict[str, Any]]:
        """Returns the matches that they brought about."""
        outputs = self.task.take(records).outputs
        self.outputs.extend(outputs)
        return on("assignments", outputs)

    def send(self, topic: str, told: dict[str, Any], at: int | None = None) -> list[dict[str, Any]]:
        self.stream.add(topic, told | {"pool": "desk"}, at=at)
        return self.take(self.stream.records[-1:])

    def join(self, name: str, **more: Any) -> list[dict[str, Any]]:
        return self.send("annotators", {"id": name, "capacity": 9, "concurrent": 1, **more})

    def ask(self, name: str, at: int | None = None, **more: Any) -> list[dict[str, Any]]:
        return self.send("queries", {"id": name, "reply": {"topic": "labels", "key": name}, **more}, at)

    def tell(self, name: str, success: bool = True, **more: Any) -> list[dict[str, Any]]:
        return self.send("outcomes", {"id": name, "success": success, **more})

    def tick(self, at: int) -> list[dict[str, Any]]:
        return self.take([Record("", 0, 0, at, None, None)])

    @property
    def waiting(self) -> int:
        (pool,) = self.task.show().matching.pools  # type: ignore[union-attr]
        return pool.waiting


def given_to(matches: list[dict[str, Any]]) -> dict[str, str]:
    return {match["id"]: match.get("resource", match.get("unmatched")) for match in matches}


def test_a_query_waits_until_somebody_comes_free() -> None:
    desk = Desk()
    desk.join("ann")
    assert given_to(desk.ask("q1")) == {"q1/1": "ann"}
    assert desk.ask("q2") == desk.ask("q3") == []
    assert desk.waiting == 2
    # the first in line gets whoever comes free, by an outcome or by joining
    first = desk.tell("q1")
    assert given_to(first) == {"q2/1": "ann"}
    assert first[0]["query"]["reply"] == {"topic": "labels", "key": "q2"}
    assert given_to(desk.join("ben")) == {"q3/1": "ben"}
    assert desk.waiting == 0
    counts = desk.task.show().counts
    assert (counts["waited"], counts["waited_matched"], counts["unmatched"]) == (2, 2, 0)
    # asked again, they have their answers
    assert given_to(desk.ask("q2")) == {"q2/1": "ann"}


def test_a_query_that_waits_in_vain_is_told_so_at_its_deadline() -> None:
    desk = Desk()
    desk.ask("q1", deadline=1300, at=1000)
    assert desk.ask("q1", deadline=1300) == []  # repeated while it waits
    desk.ask("q2", at=1001)  # without a deadline: as long as an attempt may take
    assert desk.task.deadline() == 1300
    assert given_to(desk.tick(1300)) == {"q1/1": "nobody came free in time"}
    assert given_to(desk.tick(1501)) == {"q2/1": "nobody came free in time"}
    assert (desk.task.show().counts["waited_in_vain"], desk.waiting) == (2, 0)
    assert desk.task.pools["desk"].reasons == {"nobody came free in time": 2}


def test_time_alone_may_bring_room() -> None:
    desk = Desk(msgspec.structs.replace(DESK, timeout=100_000))
    desk.send("annotators", {"id": "ann", "capacity": 1, "refill": {"amount": 1, "every": 60_000, "reset": True}})
    desk.ask("q1")
    desk.tell("q1")
    assert desk.ask("q2") == []
    matches: list[dict[str, Any]] = []
    while not matches:  # an idle shard gets a tick whenever something is due
        due = desk.task.deadline()
        assert due is not None
        assert due <= 80_000
        matches = desk.tick(due)
    assert given_to(matches) == {"q2/1": "ann"}
    assert matches[0]["ts"] >= 60_000


def test_one_that_nobody_serves_does_not_hold_up_the_others() -> None:
    desk = Desk()
    desk.join("ann")
    desk.ask("q0")
    for i in range(20):
        desk.ask(f"g{i}", needs=["german"])
    desk.ask("q1", exclude=["ben"])
    assert given_to(desk.tell("q0")) == {"q1/1": "ann"}
    assert given_to(desk.join("ben", needs=["german"])) == {"g0/1": "ben"}
    assert desk.waiting == 19


def test_what_waits_is_bounded_and_an_answer_from_elsewhere_ends_it() -> None:
    desk = Desk(msgspec.structs.replace(DESK, waiting=1))
    desk.ask("q1")
    assert given_to(desk.ask("q2")) == {"q2/1": "there are no edges"}
    assert given_to(desk.tell("q1", resource="zoe")) == {"q1/1": "it had its outcome before anybody came free"}
    assert reasons(desk.outputs) == []
    assert (desk.waiting, desk.task.show().counts["withdrawn"]) == (0, 1)


@pytest.mark.parametrize(("wait", "query", "kept"), [("queries", False, 0), ("all", False, 1), ("none", True, 0)])
def test_who_waits_is_configured(wait: Any, query: bool, kept: int) -> None:
    desk = Desk(msgspec.structs.replace(DESK, wait=wait))
    told = {"id": "q1", "edges": [["zoe", 0.5]]} | ({"reply": {}} if query else {})
    desk.send("queries", told)
    assert desk.waiting == kept


HOW = st.sampled_from([{}, {"needs": ["german"]}, {"event": "e"}])
steps = st.lists(
    st.one_of(
        *[st.tuples(st.just("ask"), st.integers(0, 25), HOW)] * 3,
        st.tuples(st.just("tell"), st.integers(0, 25), st.booleans()),
        st.tuples(st.just("join"), st.sampled_from("ab"), st.sampled_from([{}, {"needs": ["german"]}])),
        st.tuples(st.just("tick"), st.integers(1, 300), st.none()),
    ),
    max_size=60,
)


@settings(max_examples=80)
@given(steps, st.integers(0, 60))
def test_every_query_is_answered_exactly_once_whatever_happens(taken: list[Any], crash: int) -> None:
    desk, asked = Desk(), set[str]()
    for i, (kind, what, how) in enumerate(taken):
        if i == crash:  # what was committed goes on in another life
            frozen = desk.task.freeze()
            desk.task = Matching(desk.chosen, 0)
            desk.task.restore(frozen())
            assert digest(desk.task) == snapshot.digest(frozen())
        if kind == "ask":
            asked.add(f"q{what}/1")
            if f"q{what}" not in {query.split("/")[0] for query in given_to(on("assignments", desk.outputs))}:
                desk.ask(f"q{what}", **how)
        elif kind == "tell":
            desk.tell(f"q{what}", how)
        elif kind == "join":
            desk.join(what, **how)
        else:
            desk.tick(desk.task.now + what)
    desk.tick(desk.task.now + 10_000)
    matches = on("assignments", desk.outputs)
    assert sorted(match["id"] for match in matches) == sorted(asked)
    assert all("resource" in match or match["unmatched"] for match in matches)
    assert not desk.task._answers.line
