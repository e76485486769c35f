"""What `tail` shows of a topic."""

import base64
import itertools
from pathlib import Path

import pytest
from command_line import Terminal

from streamd import wiring
from streamd.cli.tail import records
from streamd.config import load
from streamd.ports import Output, Record
from streamd.records import dead_letter


@pytest.fixture
def streamd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STREAMD_CONFIG", raising=False)
    return Terminal(tmp_path, capsys)


def number(i: int, partition: int = 0) -> Output:
    return Output("", None, b"%d" % i, 1000 + i, partition)


def test_the_contract(streamd: Terminal) -> None:
    headers = (("h", b'{"a": 1}'), ("b", b"\xff"))
    streamd.append("t", [Output("t", b"k", b'{"x": 1e3}', 5, 0, headers), Output("t", b"\xff", b"\xfe", 6, 0)])
    done = streamd("tail", "t", "--json")
    assert done.code == 0
    assert done.lines == [
        {
            "topic": "t",
            "partition": 0,
            "offset": 0,
            "timestamp": 5,
            "key": "k",
            "value": {"x": 1000.0},
            "headers": [
                {"name": "h", "value": {"a": 1}},
                {"name": "b", "value_base64": base64.b64encode(b"\xff").decode()},
            ],
        },
        {
            "topic": "t",
            "partition": 0,
            "offset": 1,
            "timestamp": 6,
            "key_base64": base64.b64encode(b"\xff").decode(),
            "value_base64": base64.b64encode(b"\xfe").decode(),
            "headers": [],
        },
    ]


def test_partitions_are_merged_by_time(streamd: Terminal) -> None:
    streamd.append("t", [number(i, i % 3) for i in range(2500)])
    assert [line["value"] for line in streamd("tail", "t", "--json").lines] == list(range(2500))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), range(10)),
        (("--from", "start"), range(10)),
        (("--from", "end"), range(0)),
        (("--from", "7"), range(7, 10)),
        (("--from", "70"), range(0)),
        (("--limit", "4"), range(4)),
        (("-n", "0"), range(0)),
        (("--from", "2", "-n", "3"), range(2, 5)),
        (("--from", "7", "--follow", "-n", "3"), range(7, 10)),
    ],
)
def test_where_it_starts_and_stops(streamd: Terminal, options: tuple[str, ...], expected: range) -> None:
    streamd.append("t", [number(i) for i in range(10)])
    assert [line["value"] for line in streamd("tail", "t", "--json", *options).lines] == list(expected)


def test_follow_goes_on_with_what_arrives(streamd: Terminal) -> None:
    streamd.append("t", [number(i, i % 2) for i in range(4)])
    client = wiring.client(load("streamd.toml"))
    coming = iter([[number(4), number(5, 1)], [number(6, 1)]])

    def arrive(_: float) -> None:
        client.append("t", next(coming))

    found = itertools.islice(records(client, "t", "2", True, sleep=arrive), 3)
    assert sorted(int(record.value or b"") for record in found) == [4, 5, 6]
    found = records(client, "t", "end", True, sleep=lambda _: pytest.fail("nothing came"))
    client.append("t", [number(7)])
    client.close()


@pytest.mark.parametrize("bad", ["-1", "yesterday", "1.5"])
def test_a_start_that_is_none_is_usage(streamd: Terminal, bad: str) -> None:
    streamd.append("t", [number(0)])
    assert streamd("tail", "t", "--from", bad).code == 2


def test_an_unknown_topic_names_the_known(streamd: Terminal) -> None:
    streamd.append("t", [number(0)])
    done = streamd("tail", "u")
    assert (done.code, done.err) == (1, "streamd: there is no topic u; there are t\n")


def test_looking_at_a_log_does_not_make_one(streamd: Terminal) -> None:
    done = streamd("tail", "t")
    assert done.code == 1
    assert "there is no log at" in done.err
    assert not (streamd.folder / "streamd.db").exists()


def test_a_dead_letter_shows_its_reason(streamd: Terminal) -> None:
    record = Record("events", 0, 17, 1000, b"k", b"not json")
    streamd.append("dead", [dead_letter("dead", record, "not JSON: it is malformed", 1000, None)])
    assert "refused: not JSON: it is malformed (events/0 17)" in streamd("tail", "dead").out
    (header,) = streamd("tail", "dead", "--json").lines[0]["headers"]
    assert header["value"]["reason"] == "not JSON: it is malformed"


def test_no_control_character_of_a_record_reaches_the_terminal(streamd: Terminal) -> None:
    nasty = "\x1b[31m[bold]\x07"
    record = Record("events", 0, 0, 1000, nasty.encode(), nasty.encode())
    streamd.append(
        "t",
        [
            dead_letter("t", record, nasty, 1000, None),
            Output("t", nasty.encode(), b'{"a": "\\u001b[31m"}', 1, None, ((nasty, nasty.encode()),)),
        ],
    )
    out = streamd("tail", "t").out
    assert "[bold]" in out  # not taken for markup
    assert not any(ord(character) < 32 and character != "\n" for character in out)


def test_a_long_value_stays_on_its_line_when_piped(streamd: Terminal) -> None:
    streamd.append("t", [Output("t", None, b'{"x": "' + b"y " * 500 + b'"}', 1)])
    assert len(streamd("tail", "t").out.splitlines()) == 2
