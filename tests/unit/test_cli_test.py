"""`streamd test`: expectations beside a configuration."""

from pathlib import Path

import pytest
from command_line import Terminal

GOOD = """
[[test]]
name = "what was learned is told"
[[test.given]]
value = { id = "{i}", features = { x = 2.0 }, label = "high" }
repeat = 20
[[test.given]]
value = { id = "late", features = { x = 2.0 } }
[[test.given]]
topic = "labels"
value = { id = "late", label = "low" }
[[test.expect]]
where = { id = "late" }
is = { label = "high", p = { high = ">= 0.5" } }
count = 1
[[test.expect]]
count = 21

[[test]]
name = "what cannot be read is refused"
[[test.given]]
raw = "{"
[[test.given]]
topic = "labels"
value = { id = "nobody", label = "low" }
[[test.given]]
tick = 2000000000000
[[test.expect]]
refused = "not JSON"
count = 1
[[test.expect]]
topic = "events-dead-letters"
where = { id = "nobody" }
is = { refused = "label: its event is not known" }
"""


@pytest.fixture
def terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.chdir(tmp_path)
    return Terminal(tmp_path, capsys)


def test_expectations_that_hold(terminal: Terminal) -> None:
    terminal.file("streamd.tests.toml", GOOD)
    done = terminal("test", "streamd.toml")
    assert (done.code, done.err) == (0, "")
    assert "2 of 2 tests passed" in done.out
    assert not (terminal.folder / "streamd.db").exists()


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ('label = "high", p', 'label = "low", p', 'label expected "low", found "high"'),
        ('">= 0.5"', '"< 0.5"', 'p.high expected "< 0.5", found 1.0'),
        ("count = 21", "count = 22", "of the 21 records there: expected 22, found 21"),
        ('where = { id = "late" }', 'where = { id = "later" }', 'where {"id":"later"}: expected 1, found 0'),
        ('refused = "not JSON"', 'refused = "too big"', "refused for 'too big': expected 1, found 0; there are"),
    ],
)
def test_an_expectation_that_fails_says_what_was_found(
    terminal: Terminal, before: str, after: str, reason: str
) -> None:
    assert before in GOOD
    terminal.file("other.toml", GOOD.replace(before, after))
    done = terminal("test", "streamd.toml", "--tests", "other.toml")
    assert done.code == 1
    assert reason in done.out
    assert "1 of 2 tests passed" in done.out


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[[test", "is not TOML"),
        ("", "test: this key is needed"),
        ("test = []", "test: at least one"),
        ("[[test]]\nname = 'a'\ngiven = []\nexpect = []\nwanted = 1", "no such key"),
        ("[[test]]\nname = 'a'\nexpect = []\ngiven = [{topic = 'x', value = {}}]", "test[0].given[0].topic: "),
        ("[[test]]\nname = 'a'\nexpect = []\ngiven = [{topic = 'labels'}]", "test[0].given[0]: either"),
        ("[[test]]\nname = 'a'\npipeline = 'z'\nexpect = []\ngiven = []", "test[0].pipeline: one of a"),
        ("[[test]]\nname = 'a'\ngiven = []\nexpect = [{topic = 'labels'}]", "test[0].expect[0].topic: a topic"),
    ],
)
def test_a_bad_file_is_refused_with_the_keys_path(terminal: Terminal, text: str, reason: str) -> None:
    terminal.file("streamd.tests.toml", text)
    done = terminal("test", "streamd.toml")
    assert done.code == 78
    assert reason in done.err


def test_a_missing_file_is_refused(terminal: Terminal) -> None:
    assert terminal("test", "streamd.toml").code == 78
