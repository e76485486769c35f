"""`streamd replay --verify`: the journal makes the outputs again, byte for byte, or it says what differs first."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace

from streamd import wiring
from streamd.cli.replay_verify import Verification, verify
from streamd.config import Config
from streamd.operating.mailbox import Command
from streamd.operating.verifying import Verifier
from streamd.ports import LogClient, Record
from tests.integration.test_commands import running, send, skip
from tests.integration.test_engine import fill, run, settings

SHADOW = "[pipeline.p.shadow.bold]\nkind = 'linear'\neta = 0.7\n"


def verified(config: Config) -> list[Verification]:
    return verify(config, "p", lambda done: None)


def stream(folder: Path, more: str = SHADOW, partitions: int = 2) -> Config:
    """A pipeline with commands in its journal: a skipped record, a promotion."""
    config = settings(folder, partitions=partitions, more=more)
    fill(config, 0, 150)
    run(config)
    with running(config) as engine:
        for partition in range(partitions):
            send(engine, skip("labels", 80, partition))
        if more:
            assert all(outcome.done for outcome in send(engine, Command("promote", b"bold")))
    fill(config, 150, 300)
    run(config)
    return config


def test_the_journal_makes_every_output_again(tmp_path: Path) -> None:
    config = stream(tmp_path)
    told = list[int]()
    (found,) = verify(config, "p", told.append)
    assert told == sorted(told)
    assert told[-1] == sum(one.records for one in found.partitions)
    for one in found.partitions:
        assert one.problem == ""
        assert one.after == 0
        assert one.outputs > 100
    assert sum(one.records for one in found.partitions) >= 600


def test_a_journal_whose_beginning_is_gone_is_verified_from_a_snapshot(tmp_path: Path) -> None:
    config = stream(tmp_path, partitions=1)
    store = wiring.store(config)
    oldest = min(info.sequence for info in store.list("streamd.p.0"))
    store.close()
    with sqlite3.connect(tmp_path / "log.db") as db:
        db.execute("DELETE FROM journal WHERE sequence <= ?", (oldest,))
    (found,) = verified(config)
    (one,) = found.partitions
    assert (one.problem, one.after) == ("", oldest)


class Tampered:
    """A real log, in which somebody changed the predictions."""

    def __init__(self, client: LogClient, change: Callable[[Record], Record | None]) -> None:
        self._client = client
        self._change = change

    def __getattr__(self, name: str) -> object:
        return getattr(self._client, name)

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[Record]:
        found = self._client.read(topic, partition, offset, limit)
        if topic != "events-predictions":
            return found
        return [record for one in found if (record := self._change(one)) is not None]


CHANGES: Mapping[str, Callable[[Record], Record | None]] = {
    "partition 0 offset 20 was": lambda r: replace(r, value=b"{}") if r.offset == 20 else r,
    "partition 0 offset 21 was": lambda r: None if r.offset == 20 else r,
    "an output is missing in events-predictions": lambda r: None if r.offset > 250 else r,
}


@pytest.mark.parametrize("reason", CHANGES)
def test_an_output_that_is_not_the_journals_is_named(tmp_path: Path, reason: str) -> None:
    config = stream(tmp_path, partitions=1)
    client, store = wiring.client(config), wiring.store(config)
    tampered = cast(LogClient, Tampered(client, CHANGES[reason]))
    verifier = Verifier(tampered, store, wiring.journal(config, "p"), *wiring.shards(config, "p"), frozenset())
    assert reason in verifier.verify(0, lambda done: None).problem
    store.close()
    client.close()


def test_another_version_that_decides_otherwise_is_found_out(tmp_path: Path) -> None:
    stream(tmp_path, more="", partitions=1)
    other = settings(tmp_path, eta=0.2)
    (found,) = verified(other)
    assert "memos" in found.partitions[0].problem
