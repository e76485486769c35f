"""What `send` appends: lines as they are, rows as events, labels behind their events."""

import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import Terminal
from hypothesis import given, settings
from hypothesis import strategies as st

from streamd.cli.sending import Pace, Sender
from streamd.cli.sources import Item
from streamd.config import Config, parse, resolve
from streamd.ports import LogClient
from streamd.wiring import client as log_client


@pytest.fixture
def streamd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STREAMD_CONFIG", raising=False)
    return Terminal(tmp_path, capsys)


def values(streamd: Terminal, topic: str) -> list[Any]:
    return [json.loads(record.value or b"") for record in streamd.records(topic)]


# --- JSON lines


def test_lines_arrive_byte_for_byte_keyed_by_their_id(streamd: Terminal) -> None:
    # given lines with odd spacing, bad JSON, no id, and a Windows line end
    lines = [b'{ "id" : "a" , "x":1.00}', b"not json", b'{"x": 1}', b'{"id": 7}', b"[1]"]
    streamd.file("in.jsonl", b"\n".join(lines) + b"\r\n\n")
    # when they are sent
    done = streamd("send", "events", "in.jsonl", "--json")
    # then they are there as they were
    assert done.json == {
        "topic": "events",
        "records": 5,
        "bytes": sum(map(len, lines)),
        "labels_topic": None,
        "labels": 0,
        "problem": "",
    }
    found = streamd.records("events")
    assert [record.value for record in found] == lines
    assert [record.key for record in found] == [b"a", None, None, b"7", None]


def test_the_key_may_be_another_field(streamd: Terminal) -> None:
    streamd.file("in.jsonl", '{"id": "a", "subject": "s"}\n{"id": "b"}\n')
    assert streamd("send", "events", "in.jsonl", "--key", "subject").code == 0
    assert [record.key for record in streamd.records("events")] == [b"s", None]


def test_a_cut_last_line_is_reported_and_not_sent(streamd: Terminal) -> None:
    streamd.file("in.jsonl", '{"id": "a"}\n{"id": "b"')
    done = streamd("send", "events", "in.jsonl", "--json")
    assert done.code == 1
    assert done.json["records"] == 1
    assert done.json["problem"] == "in.jsonl: line 2, the last, is incomplete and was left out"
    assert done.err == f"streamd: {done.json['problem']}\n"
    assert len(streamd.records("events")) == 1


def test_a_whole_last_line_needs_no_line_end(streamd: Terminal) -> None:
    streamd.file("in.jsonl", '{"id": "a"}\n{"id": "b"}')
    assert streamd("send", "events", "in.jsonl").code == 0
    assert len(streamd.records("events")) == 2


def test_lines_longer_than_a_read_arrive_whole(streamd: Terminal) -> None:
    lines = [json.dumps({"id": str(i), "x": "y" * size}) for i, size in enumerate((100_000, 3, 200_000, 65_536))]
    streamd.file("in.jsonl", "\n".join(lines) + "\n")
    streamd("send", "events", "in.jsonl")
    assert [(record.value or b"").decode() for record in streamd.records("events")] == lines


def test_gzip_is_read_as_what_it_holds(streamd: Terminal) -> None:
    streamd.file("in.jsonl.gz", gzip.compress(b'{"id": "a"}\n'))
    streamd.file("in.csv.gz", gzip.compress(b"id,x\nb,1\n"))
    assert streamd("send", "events", "in.jsonl.gz").code == streamd("send", "events", "in.csv.gz").code == 0
    assert values(streamd, "events") == [{"id": "a"}, {"id": "b", "features": {"x": 1}}]


def test_a_damaged_gzip_file_is_reported(streamd: Terminal) -> None:
    whole = gzip.compress(b"".join(b'{"id": "%d"}\n' % i for i in range(1000)))
    streamd.file("cut.jsonl.gz", whole[:-20])
    streamd.file("no.jsonl.gz", b"plain text")
    for name in ("cut.jsonl.gz", "no.jsonl.gz"):
        done = streamd("send", "events", name)
        assert done.code == 1
        assert f"{name}: reading failed, the rest was not sent" in done.err


def test_stdin(streamd: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"id": "a"}\n')))
    assert streamd("send", "events", "-").code == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"id,x\nb,2.5\n")))
    assert streamd("send", "events", "-", "--format", "csv").code == 0
    assert values(streamd, "events") == [{"id": "a"}, {"id": "b", "features": {"x": 2.5}}]


def test_a_file_that_is_not_there(streamd: Terminal) -> None:
    done = streamd("send", "events", "nothing.jsonl")
    assert (done.code, done.err) == (1, "streamd: nothing.jsonl cannot be read: No such file or directory\n")


def test_topics_are_made_with_the_configured_partitions_and_records_go_by_key(streamd: Terminal) -> None:
    streamd.configure(4)
    streamd.file("in.jsonl", "".join(f'{{"id": "{i}", "label": "x"}}\n' for i in range(50)))
    streamd("send", "events", "in.jsonl", "--labels", "labels")
    # an event and its label share a partition
    places = [
        {json.loads(r.value or b"")["id"]: r.partition for r in streamd.records(t)} for t in ("events", "labels")
    ]
    assert places[0] == places[1]
    assert set(places[0].values()) == {0, 1, 2, 3}


def test_a_topic_nobody_reads_is_remarked_on(streamd: Terminal) -> None:
    streamd.file("in.jsonl", "{}\n")
    assert "no pipeline of this configuration reads evnts" in streamd("send", "evnts", "in.jsonl").err


def test_no_more_than_the_limit(streamd: Terminal) -> None:
    streamd.file("in.jsonl", "{}\n" * 10)
    assert streamd("send", "events", "in.jsonl", "--limit", "3", "--json").json["records"] == 3
    assert streamd("send", "events", "in.jsonl", "--limit", "0", "--json").json["records"] == 0
    assert len(streamd.records("events")) == 3


# --- CSV


def test_columns_get_the_type_all_their_cells_have(streamd: Terminal) -> None:
    streamd.file(
        "in.csv",
        "id,whole,real,flag,word,mixed,big,empty,y\na,39,1.5,true,x,1,1e999,,1\nb,-7,2,False,true,two,2,,0\n",
    )
    assert streamd("send", "events", "in.csv", "--label", "y").code == 0
    assert values(streamd, "events") == [
        {
            "id": "a",
            "features": {"whole": 39, "real": 1.5, "flag": True, "word": "x", "mixed": "1", "big": "1e999"},
            "label": 1,
        },
        {
            "id": "b",
            "features": {"whole": -7, "real": 2, "flag": False, "word": "true", "mixed": "two", "big": "2"},
            "label": 0,
        },
    ]


def test_types_can_be_forced(streamd: Terminal) -> None:
    streamd.file("in.csv", "id,zip,y\na,01234,1\n")
    assert (
        streamd("send", "events", "in.csv", "--label", "y", "--type", "y=string", "--type", "zip=string").code == 0
    )
    assert values(streamd, "events") == [{"id": "a", "features": {"zip": "01234"}, "label": "1"}]


def test_a_cell_against_its_forced_type_sends_nothing(streamd: Terminal) -> None:
    streamd.file("in.csv", "id,x\na,1\nb,secret\n")
    done = streamd("send", "events", "in.csv", "--type", "x=number")
    assert (done.code, done.out) == (1, "sent 0 records to events\n")
    assert "in.csv: row 2, column x: expected a number" in done.err
    assert "secret" not in done.err


@pytest.mark.parametrize("rows", ["a,1\nb\n", "a,1\nb,2,3\n"])
def test_a_ragged_file_sends_nothing(streamd: Terminal, rows: str) -> None:
    streamd.file("in.csv", f"id,x\n{rows}")
    done = streamd("send", "events", "in.csv")
    assert done.code == 1
    assert "in.csv: row 2 has" in done.err
    assert streamd.records("events") == []


def test_a_csv_file_without_its_last_line_end_is_remarked_on(streamd: Terminal) -> None:
    streamd.file("in.csv", "id,x\na,1\nb,2")
    done = streamd("send", "events", "in.csv")
    assert done.code == 0
    assert "in.csv: the last row has no line end; it is sent as it is" in done.err
    assert len(streamd.records("events")) == 2


def test_missing_cells_are_left_out(streamd: Terminal) -> None:
    streamd.file("in.csv", "id,x,z,y\na,?,1,?\nb,2,,yes\n")
    assert streamd("send", "events", "in.csv", "--missing", "?", "--label", "y").code == 0
    assert values(streamd, "events") == [
        {"id": "a", "features": {"z": 1}},
        {"id": "b", "features": {"x": 2}, "label": "yes"},
    ]


def test_text_id_key_and_dropped_columns(streamd: Terminal) -> None:
    streamd.file("in.csv", 'nr;who;said;junk\n1;ann;"so; ""what""\nthen";9\n')
    done = streamd(
        *("send", "events", "in.csv", "--delimiter", ";", "--id", "nr", "--key", "who", "--text", "said"),
        *("--drop", "junk"),
    )
    assert done.code == 0
    (record,) = streamd.records("events")
    assert record.key == b"ann"
    assert values(streamd, "events") == [
        {"id": "1", "features": {"who": "ann"}, "text": 'so; "what"\nthen'},
    ]


def test_rows_without_an_id_are_numbered(streamd: Terminal) -> None:
    streamd.file("people.csv", "\ufeffx\n1\n2\n")
    streamd("send", "events", "people.csv")
    assert [event["id"] for event in values(streamd, "events")] == ["people:1", "people:2"]


@pytest.mark.parametrize(
    ("content", "options", "problem"),
    [
        ("", (), "empty"),
        ("a,a\n1,2\n", (), "two columns have the same name"),
        ("a,b\n1,2\n", ("--label", "c"), "no column c; there are a, b"),
        ("a,b\n1,2\n", ("--type", "c=number"), "no column c"),
        (b"a\n\xff\n", (), "reading failed"),
    ],
)
def test_csv_files_that_are_none(
    streamd: Terminal, content: str | bytes, options: tuple[str, ...], problem: str
) -> None:
    streamd.file("in.csv", content)
    done = streamd("send", "events", "in.csv", *options)
    assert done.code == 1
    assert problem in done.err


@pytest.mark.parametrize(
    "options", [("--type", "x"), ("--type", "x=date"), ("--delimiter", "ab"), ("--rate", "0")]
)
def test_bad_options_are_usage(streamd: Terminal, options: tuple[str, ...]) -> None:
    streamd.file("in.csv", "x\n1\n")
    assert streamd("send", "events", "in.csv", *options).code == 2


# --- labels of their own, and the pace


def test_labels_are_taken_out_of_lines_and_rows(streamd: Terminal) -> None:
    streamd.file("in.jsonl", '{"id": "a", "x": 1.00, "label": "yes"}\n{"id": "b"}\n')
    streamd.file("in.csv", "id,x,y\nc,1,no\n")
    assert streamd("send", "events", "in.jsonl", "--labels", "labels").code == 0
    done = streamd("send", "events", "in.csv", "--label", "y", "--labels", "labels", "--json")
    assert (done.json["records"], done.json["labels"]) == (1, 1)
    assert values(streamd, "events") == [{"id": "a", "x": 1.0}, {"id": "b"}, {"id": "c", "features": {"x": 1}}]
    assert values(streamd, "labels") == [{"id": "a", "label": "yes"}, {"id": "c", "label": "no"}]


class Watched:
    """A real log's client that notes the order of the appends."""

    def __init__(self, client: LogClient) -> None:
        self.order: list[tuple[str, bytes]] = []
        self._client = client
        self.create = client.create
        self.topics = client.topics
        self.read = client.read
        self.ends = client.ends
        self.close = client.close

    def append(self, topic: str, records: Any) -> int:
        outputs = list(records)
        self.order += [(topic, output.value) for output in outputs]
        return self._client.append(topic, outputs)


def embedded(folder: Path) -> Config:
    text = '[pipeline.a]\ntask = "classify"\nevents = "events"\nlearner = {kind = "linear"}\n'
    return resolve(parse(text), folder)


@settings(max_examples=20)
@given(count=st.integers(0, 300), delay=st.integers(0, 120), cut=st.integers(1, 100))
def test_a_label_follows_its_event_by_the_delay(
    tmp_path_factory: pytest.TempPathFactory, count: int, delay: int, cut: int
) -> None:
    watched = Watched(log_client(embedded(tmp_path_factory.mktemp("log"))))
    for topic in ("events", "labels"):
        watched.create(topic, 1)
    # given events with their labels, in batches
    items = [Item(None, b"%d" % i, b"%d" % i) for i in range(count)]
    sender = Sender(watched, "events", "labels", delay, Pace(None))
    # when they are sent
    for start in range(0, count, cut):
        sender.send(items[start : start + cut])
    before_the_end = len(watched.order)
    sender.finish()
    watched.close()
    # then every event and label is there once, in order, and between an event and its label are at least `delay`
    # further events, at most an append more
    for topic in ("events", "labels"):
        assert [value for name, value in watched.order if name == topic] == [item.value for item in items]
    for place, (topic, value) in enumerate(watched.order[:before_the_end]):
        if topic == "labels":
            events = sum(name == "events" for name, _ in watched.order[:place])
            assert int(value) + 1 + delay <= events <= int(value) + 1 + delay + max(delay, 50)


class Clock:
    """Time passes by sleeping only."""

    def __init__(self) -> None:
        self.now = 100.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("rate", [0.5, 3.0, 20.0, 1000.0])
def test_the_pace_is_kept_on_average(tmp_path: Path, rate: float) -> None:
    clock = Clock()
    client = log_client(embedded(tmp_path))
    client.create("events", 1)
    sender = Sender(client, "events", None, 0, Pace(rate, lambda: clock.now, clock.sleep))
    sender.send([Item(None, b"{}")] * 200)
    client.close()
    assert clock.now - 100.0 == pytest.approx(200 / rate, abs=1.1 * max(1.0, rate / 20) / rate)
