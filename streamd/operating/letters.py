"""Dead letters: what was refused, as it came; each is retried or dropped once, and that is remembered in the log.

A dead letter stays where it is. What was done with it is a record of the topic `<dead letters>-handled`: before a
retry `begun`, with the end of the partition its record goes back to, after it `retried`. So a retry that was cut
short is found, and it is seen whether its record had been written: it is never written twice. Of two who begin at
once, the first in that topic goes on.
"""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from streamd.errors import Refused
from streamd.ports import LogClient, Output, Record
from streamd.records import DEAD_LETTER_HEADER, DeadLetter

RETRY_HEADER = "streamd-retry"
HANDLED = "-handled"
BATCH = 1000  # records read at once
BUSY = 60_000  # milliseconds after which a retry that was begun is taken for cut short

Status = Literal["open", "begun", "retried", "dropped"]


class Letter(Struct, frozen=True):
    """One dead letter. partition, offset: its place in the dead letters' topic. tries: retries before it."""

    pipeline: str
    partition: int
    offset: int
    about: DeadLetter
    status: Status
    tries: int
    record: Record

    @property
    def place(self) -> str:
        return f"{self.partition}/{self.offset}"


class Mark(Struct, frozen=True, omit_defaults=True):
    """What was done with a dead letter; the record's key is its place. by: whoever did it, by a number."""

    action: Literal["begun", "retried", "dropped"]
    by: str
    ts: int
    end: int = 0  # of the partition the record goes back to, before that


class Wanted(Struct, frozen=True):
    """Which dead letters. Times in milliseconds since 1970; place: `partition/offset` in their topic."""

    reason: str = ""
    topic: str = ""
    since: int = 0
    until: int = 1 << 62
    place: str = ""
    handled: bool = False

    def fits(self, letter: Letter) -> bool:
        about = letter.about
        return (
            self.reason in about.reason
            and self.topic in ("", about.topic)
            and self.since <= letter.record.timestamp < self.until
            and self.place in ("", letter.place)
            and (self.handled or letter.status in ("open", "begun"))
        )


class Letters:
    """The dead letters of one pipeline, seen through the log's client."""

    def __init__(self, client: LogClient, pipeline: str, topic: str) -> None:
        self._client = client
        self._pipeline = pipeline
        self._topic = topic
        self._by = uuid.uuid4().hex

    def find(self, wanted: Wanted) -> Iterator[Letter]:
        """Those wanted, partition by partition, the oldest first."""
        if self._topic not in self._client.topics():
            return
        marks = self._marks()
        for partition, (first, end) in enumerate(self._client.ends(self._topic)):
            for record in self._read(self._topic, partition, first, end):
                letter = self._letter(record, marks)
                if letter is not None and wanted.fits(letter):
                    yield letter

    def drop(self, letters: Sequence[Letter]) -> int:
        """Never show these again; a record of it is kept. Returns how many."""
        self._mark((letter, "dropped", 0) for letter in letters)
        return len(letters)

    def retry(self, letters: Sequence[Letter]) -> int:
        """Send these records through their input once more. Returns how many were sent. Raises Refused."""
        there = self._client.topics()
        if gone := sorted({one.about.topic for one in letters} - set(there)):
            raise Refused(f"the topic {gone[0]} no longer exists; drop its dead letters with --topic {gone[0]}")
        begun = self._marks("begun")
        mine = [one for one in letters if one.status == "open"]
        late = [one for one in letters if one.status == "begun"]
        now = int(time.time() * 1000)
        if busy := [one for one in late if now - begun[one.place].ts < BUSY]:
            raise Refused(f"the dead letter {busy[0].place} is being retried by another; look again in a minute")
        written = [one for one in late if self._was_written(one, begun[one.place].end)]
        mine += [one for one in late if one not in written]
        ends = {topic: self._client.ends(topic) for topic in {one.about.topic for one in mine}}
        self._mark(
            (one, "begun", ends[one.about.topic][one.about.partition][1]) for one in mine if one not in late
        )
        first = self._marks("begun")
        mine = [one for one in mine if one in late or first[one.place].by == self._by]
        for topic in sorted(ends):
            self._client.append(topic, [_again(self._topic, one) for one in mine if one.about.topic == topic])
        self._mark((one, "retried", 0) for one in [*mine, *written])
        return len(mine)

    def _was_written(self, letter: Letter, end: int) -> bool:
        """Whether a retry that was cut short had written its record."""
        topic, partition = letter.about.topic, letter.about.partition
        for record in self._read(topic, partition, end, self._client.ends(topic)[partition][1]):
            told = dict(record.headers).get(RETRY_HEADER)
            if told is not None and msgspec.json.decode(told).get("letter") == f"{self._topic}/{letter.place}":
                return True
        return False

    def _letter(self, record: Record, marks: Mapping[str, Mark]) -> Letter | None:
        """A dead letter from its record; None for a record that is none."""
        headers = dict(record.headers)
        try:
            about = msgspec.json.decode(headers[DEAD_LETTER_HEADER], type=DeadLetter)
        except (KeyError, msgspec.MsgspecError):
            return None
        mark = marks.get(f"{record.partition}/{record.offset}")
        tries = msgspec.json.decode(headers[RETRY_HEADER])["times"] if RETRY_HEADER in headers else 0
        status = "open" if mark is None else mark.action
        return Letter(self._pipeline, record.partition, record.offset, about, status, tries, record)

    def _marks(self, action: str = "") -> dict[str, Mark]:
        """Place -> what became of it; of one action: who did it first."""
        topic, found = self._topic + HANDLED, dict[str, Mark]()
        if topic not in self._client.topics():
            return found
        ((first, end),) = self._client.ends(topic)
        for record in self._read(topic, 0, first, end):
            mark = msgspec.json.decode(record.value or b"", type=Mark)
            place = (record.key or b"").decode()
            if not action:
                if place not in found or found[place].action == "begun":  # what is done stays done
                    found[place] = mark
            elif mark.action == action:
                found.setdefault(place, mark)
        return found

    def _mark(self, done: Iterator[tuple[Letter, Literal["begun", "retried", "dropped"], int]]) -> None:
        now = int(time.time() * 1000)
        marks = [
            Output("", letter.place.encode(), msgspec.json.encode(Mark(action, self._by, now, end)), now, 0)
            for letter, action, end in done
        ]
        if marks:
            self._client.create(self._topic + HANDLED, 1)
            self._client.append(self._topic + HANDLED, marks)

    def _read(self, topic: str, partition: int, offset: int, end: int) -> Iterator[Record]:
        while offset < end:
            records = self._client.read(topic, partition, offset, min(BATCH, end - offset))
            if not records:
                return
            yield from records
            offset = records[-1].offset + 1


def _again(topic: str, letter: Letter) -> Output:
    """The record as it came, with a header that says it comes again."""
    told = msgspec.json.encode({"letter": f"{topic}/{letter.place}", "times": letter.tries + 1})
    kept = [pair for pair in letter.record.headers if pair[0] not in (DEAD_LETTER_HEADER, RETRY_HEADER)]
    headers = (*kept, (RETRY_HEADER, told))
    record = letter.record
    return Output("", record.key, record.value or b"", record.timestamp, letter.about.partition, headers)
