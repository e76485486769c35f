"""Arrivals that are decided together get what they would get one by one; numbers are read to the last bit."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamd import snapshot
from streamd.kernels.decimals import number
from streamd.matching.arrivals import Limits
from streamd.matching.rules import Rule
from streamd.ports import Record
from streamd.stages.match_settings import Settings
from streamd.stages.matching import Matching

SETTINGS = Settings(
    "queries", "annotators", "outcomes", "assignments", "dead", "sb/1", timeout=60, ahead=1000, attempts=2,
    limits=Limits(resources=9, open=7, remember=9, edges=4), window=20,
)  # fmt: skip
NAMES = ["ann", "ben", "cyd", "zoe"]
CHANCES = ["0.5", "1", "1.0", "0", "2.5e-1", "0.30000000000000004", "5E-2", "0.1234567890123456789012", "1e-300"]
ODD = [
    "[]", "null", '[["ann"]]', '[["ann",null]]', '[["ann",0.5,2.0]]', '[["\\u0061nn",0.5]]', '[["Å",0.5]]',
    '[["ann",1.5]]', '[["ann",-0.5]]', '["ann"]', "7", '[["",0.5]]',
    '[["ann",0.5],["ben",0.5],["cyd",0.5],["ann",0.1],["ben",0.1]]',
]  # fmt: skip
edge = st.tuples(st.sampled_from(NAMES), st.sampled_from(CHANCES), st.sampled_from(["", " ", "\n "]))
plain = st.lists(edge, min_size=1, max_size=4).map(
    lambda edges: "[" + ",".join(f'{_}[{_}"{name}"{_},{p}{_}]' for name, p, _ in edges) + "]"
)
arrivals = st.tuples(st.integers(0, 40), st.one_of(plain, plain, plain, plain, st.sampled_from(ODD)))
MORE = [
    '"capacity":2', '"capacity":2', '"capacity":2,"needs":["german"]', '"capacity":-1',
    '"capacity":1,"rate":{"count":1,"per":9}',
]  # fmt: skip
steps = st.lists(
    st.one_of(
        *[st.tuples(st.just("arrival"), arrivals, st.sampled_from(["", "", ',"deadline":1050', ',"kind":"k"']))]
        * 4,
        st.tuples(
            st.just("arrival"), arrivals, st.sampled_from([',"attempt":0', ',"exclude":["ann"]', ',"ts":1'])
        ),
        st.tuples(st.just("outcome"), st.integers(0, 40), st.booleans()),
        st.tuples(st.just("leave"), st.sampled_from(NAMES), st.none()),
        st.tuples(st.just("join"), st.integers(0, 5), st.sampled_from(MORE)),
    ),
    max_size=40,
)
RULES = [Rule(), Rule("greedy", hold="optimistic"), Rule("ranking"), Rule(f="k_b", min_score=0.1)]


def records(told: list[Any], gap: int) -> list[Record]:
    """Three annotators join, one with a refill, then the steps."""
    found = []
    for name, more in zip(
        NAMES, ('"capacity":9', '"capacity":3,"refill":{"amount":2,"every":50}', '"capacity":1'), strict=False
    ):
        found.append(("annotators", f'{{"id":"{name}","pool":"desk",{more}}}'))
    for kind, what, how in told:
        if kind == "arrival":
            found.append(("queries", f'{{"id":"q{what[0]}","pool":"desk","edges":{what[1]}{how}}}'))
        elif kind == "join":
            found += [("annotators", f'{{"id":"n{what * i % 13}","pool":"desk",{how}}}') for i in range(4)]
        elif kind == "outcome":
            found.append(("outcomes", f'{{"id":"q{what}","pool":"desk","success":{str(how).lower()}}}'))
        else:
            found.append(("annotators", f'{{"id":"{what}","pool":"desk","op":"leave"}}'))
    return [Record(topic, 0, i, 1000 + gap * i, b"desk", value.encode()) for i, (topic, value) in enumerate(found)]


@settings(max_examples=120)
@given(st.sampled_from(RULES), steps, st.sampled_from([0, 1, 7]))
def test_arrivals_decided_together_are_decided_as_one_by_one(rule: Rule, told: list[Any], gap: int) -> None:
    chosen = msgspec.structs.replace(SETTINGS, rule=rule)
    together, alone = Matching(chosen, 0), Matching(chosen, 0)
    alone._runs.possible = False

    taken = together.take(records(told, gap))
    one_by_one = [alone.take([record]) for record in records(told, gap)]

    assert taken.outputs == [output for one in one_by_one for output in one.outputs]
    assert taken.memos == [memo for one in one_by_one for memo in one.memos]
    assert taken.refused == {i: one.refused[0] for i, one in enumerate(one_by_one) if one.refused}
    assert snapshot.digest(together.freeze()()) == snapshot.digest(alone.freeze()())
    assert together.show() == alone.show()
    windows = [task.pools["desk"].window for task in (together, alone)]
    seen = [[(s.match, *map(np.ndarray.tolist, s.edges), s[2:]) for s in w._seen] for w in windows if w]
    assert seen[0] == seen[1]


def test_resources_join_together() -> None:
    task = Matching(SETTINGS, 0)
    task.take(records([("join", 1, MORE[0])], 0))
    names = task.pools["desk"].resources.names
    assert [names.name(slot) for slot in range(names.size)] == ["ann", "ben", "cyd", "n0", "n1", "n2", "n3"]
    assert names.find(["n3", "n0", "zoe", "cyd"]).tolist() == [6, 3, -1, 2]


def test_arrivals_are_decided_together() -> None:
    task = Matching(SETTINGS, 0)
    asked: list[int] = []
    stream = records([("arrival", (i, '[["ann",0.5],["ben",0.25]]'), "") for i in range(5)], 1)
    task.take(stream[:3])
    run = task.pools["desk"].run
    task.pools["desk"].run = lambda listed: asked.append(len(listed)) or run(listed)  # type: ignore[method-assign]
    task.take(stream[3:])
    assert asked == [5]


numbers = st.one_of(
    st.floats(0.0, 1.0).map(repr),
    st.floats(0.0, 1e6).map(repr),
    st.integers(0, 1 << 70).map(str),
    st.tuples(st.integers(0, 1 << 64), st.integers(-70, 25)).map(lambda pair: f"{pair[0]}e{pair[1]}"),
    # exactly between two floats
    st.integers(1 << 52, (1 << 53) - 1).map(lambda m: str(2 * m + 1)),
    st.integers(1 << 52, (1 << 53) - 1).map(lambda m: f"{(2 * m + 1) // 2}.5"),
)


@settings(max_examples=600)
@given(numbers)
def test_a_number_is_read_to_the_last_bit_or_not_at_all(text: str) -> None:
    raw = np.frombuffer(f"{text}]".encode(), np.uint8)
    value, end = number(raw, 0, len(raw))
    if end >= 0:
        assert (value, end) == (float(text), len(text))
    else:
        assert len(text) > 17 or "e" in text


@pytest.mark.parametrize("text", ["0.1", "0.30000000000000004", "1", "0", "1e-5", "0.12345678901234567", "5e-324"])
def test_what_is_usual_is_read(text: str) -> None:
    value, end = number(np.frombuffer(text.encode(), np.uint8), 0, len(text))
    assert (value, end) == ((float(text), len(text)) if text != "5e-324" else (0.0, -1))
