"""What `run` writes: one JSON object a line, repetitions held back."""

import json
import logging
import sys
from typing import Any

import pytest

from streamd.cli.log_lines import PERIOD, REMEMBERED, JsonLines, Repeated


def record(event: str, created: float = 0.0, name: str = "streamd", **extra: Any) -> logging.LogRecord:
    given = {"msg": event, "name": name, "levelno": logging.INFO, "levelname": "INFO", "created": created, **extra}
    return logging.makeLogRecord(given)


def line(given: logging.LogRecord) -> Any:
    text = JsonLines().format(given)
    assert "\n" not in text
    return json.loads(text)


def test_a_line_has_time_level_event_and_facts() -> None:
    assert line(record("started", 1_700_000_000.25, facts={"worker": "w0", "n": 1}, pipeline="a")) == {
        "ts": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "event": "started",
        "pipeline": "a",
        "worker": "w0",
        "n": 1,
    }


def test_other_libraries_are_named() -> None:
    assert line(record("hm %s", args=("x",), name="river.tree"))["logger"] == "river.tree"
    assert line(record("hm %s", args=("x",), name="river.tree"))["event"] == "hm x"
    assert "logger" not in line(record("hm", name="streamd.engine"))


def test_any_fact_can_be_written() -> None:
    assert line(record("x", facts={"e": ValueError("no"), "n": float("nan")})) | {"ts": 0} == {
        "ts": 0,
        "level": "info",
        "event": "x",
        "e": "no",
        "n": None,
    }


def test_a_traceback_stays_on_its_line() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        told = line(record("stopped", exc_info=sys.exc_info()))
    assert "ValueError: two\nlines" in told["traceback"]


def test_a_repeated_line_is_shown_once_a_period_with_a_count() -> None:
    # given the same fact every second for two and a half minutes
    repeated = Repeated()
    given = [record("log away", float(second), facts={"reason": "refused"}) for second in range(150)]
    # when it passes the filter
    shown = [one for one in given if repeated.filter(one)]
    # then it is shown at once, and then once a period
    assert [one.created for one in shown] == [0, PERIOD, 2 * PERIOD]
    assert [line(one).get("repeated") for one in shown] == [None, PERIOD - 1, PERIOD - 1]


def test_lines_that_differ_are_all_shown() -> None:
    repeated = Repeated()
    facts = [{"p": 0}, {"p": 1}, None]
    assert all(repeated.filter(record("a", facts=fact)) for fact in facts)
    assert repeated.filter(record("b"))
    assert repeated.filter(record("a", levelno=logging.ERROR, levelname="ERROR"))


def test_what_is_remembered_is_bounded() -> None:
    repeated = Repeated()
    for i in range(REMEMBERED + 1):
        assert repeated.filter(record("x", facts={"i": i}))
    assert repeated.filter(record("x", facts={"i": 0}))
    assert not repeated.filter(record("x", facts={"i": REMEMBERED}))


@pytest.mark.parametrize("level", ["debug", "warning"])
def test_levels_have_their_names(level: str) -> None:
    number = logging.getLevelNamesMapping()[level.upper()]
    assert line(record("x", levelno=number, levelname=level.upper()))["level"] == level
