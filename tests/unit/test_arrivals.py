"""The table of arrivals against its model: a plain dictionary, whose first key is the oldest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd.stages.pending import Arrivals, Remembered

STEPS = st.lists(st.tuples(st.sampled_from(["add", "add", "remove", "pop"]), st.integers(0, 30)), max_size=300)


@given(STEPS)
def test_it_is_a_dictionary_that_knows_its_oldest_entry(steps: list[tuple[str, int]]) -> None:
    table: Arrivals[Remembered] = Arrivals()
    model: dict[str, Remembered] = {}
    for moment, (what, number) in enumerate(steps):
        event = f"e{number}"
        if what == "add" and event not in model:
            model[event] = Remembered(b"", b"", moment, 0)
            table.add(event, model[event])
        elif what == "remove":
            assert table.pop(event, None) is model.pop(event, None)
        elif what == "pop" and model:
            first = next(iter(model))
            assert table.pop_oldest() == (first, model.pop(first))
        assert list(table.items()) == list(model.items())
        assert table.oldest() == next(iter(model.items()), None)


def test_an_empty_table_has_no_oldest_entry() -> None:
    table: Arrivals[Remembered] = Arrivals()
    assert table.oldest() is None
    with pytest.raises(KeyError):
        table.pop_oldest()
