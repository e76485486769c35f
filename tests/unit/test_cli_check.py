"""`check`, `init` and how the command line fails: one line, and an exit code that says what to do."""

from pathlib import Path

import pytest
from command_line import Terminal

from streamd import __version__
from streamd.errors import EXIT_CONFIG, EXIT_FAILURE, EXIT_USAGE


@pytest.fixture
def streamd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STREAMD_CONFIG", raising=False)
    return Terminal(tmp_path, capsys)


def test_check_says_what_would_be_done(streamd: Terminal) -> None:
    done = streamd("check", "--json")
    assert done.code == 0
    plan = done.json
    assert (plan["group"], plan["worker"], plan["http"]) == ("test", "w", "")
    (pipeline,) = plan["pipelines"]
    assert pipeline["inputs"] == ["events", "labels"]
    assert pipeline["predictions"] == "events-predictions"
    # all of the learner's parameters, the defaults among them
    assert pipeline["learner"]["kind"] == "linear"
    assert pipeline["learner"]["eta"] == 0.1
    text = streamd("check").out
    assert "pipeline a would classify" in text
    assert "eta = 0.1" in text


def test_check_says_what_a_matching_rule_is_certified_to_reach(streamd: Terminal) -> None:
    streamd("init", "match", "-o", "match.toml")
    (plan,) = streamd("check", "-c", "match.toml", "--json").json["pipelines"]
    assert (plan["rule"]["kind"], plan["rule"]["hold"]) == ("stochastic_balance", "auto")
    assert plan["certified"][0].startswith("one unit of capacity: 0.613 of the optimum")
    assert "derived here, not published" in plan["certified"][1]
    # per attempt nothing is certified, and check says so
    text = (streamd.folder / "match.toml").read_text()
    streamd.file("match.toml", text.replace("[pipeline.desk.rule]", '[pipeline.desk.rule]\nconsume = "attempt"'))
    assert streamd("check", "-c", "match.toml", "--json").json["pipelines"][0]["certified"] == ["nothing"]


def test_check_touches_nothing(streamd: Terminal) -> None:
    before = sorted(streamd.folder.iterdir())
    assert streamd("check").code == 0
    assert sorted(streamd.folder.iterdir()) == before


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("eta = 1\n", "pipeline.a.eta: no such key"),
        ("[pipeline.b]\ntask = 'x'\n", "pipeline.b.task: invalid enum value 'x'"),
        (
            "[pipeline.b]\ntask='regress'\nevents='x'\nlearner={kind='tree'}\n",
            "pipeline.b.learner.kind: expected one",
        ),
        (
            "[pipeline.b]\ntask='regress'\nevents='x'\nlearner={kind='linear',etta=1}\n",
            "pipeline.b.learner.etta: no such key",
        ),
        (
            "[pipeline.b]\ntask='regress'\nevents='x'\nlearner={kind='linear',eta='1'}\n",
            "pipeline.b.learner.eta: expected `float`",
        ),
    ],
)
def test_what_is_refused_is_one_line_with_the_key_and_exit_78(streamd: Terminal, extra: str, message: str) -> None:
    streamd.configure(1, extra)
    done = streamd("check")
    assert done.code == EXIT_CONFIG
    assert done.out == ""
    assert done.err.startswith(f"streamd: {message}")
    assert done.err.count("\n") == 1


def test_every_verb_refuses_a_bad_configuration_alike(streamd: Terminal) -> None:
    streamd.configure(1, "nonsense = 1\n")
    for arguments in (("run",), ("check",), ("send", "t", "f"), ("tail", "t"), ("status",)):
        assert streamd(*arguments).code == EXIT_CONFIG


def test_the_configuration_is_named_by_option_or_environment(
    streamd: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    (streamd.folder / "streamd.toml").rename(streamd.folder / "other.toml")
    missing = streamd("check")
    assert missing.code == EXIT_CONFIG
    assert "streamd.toml cannot be read" in missing.err
    assert streamd("check", "--config", "other.toml").code == 0
    assert streamd("check", "-c", "other.toml").code == 0
    monkeypatch.setenv("STREAMD_CONFIG", "other.toml")
    assert streamd("check", "--json").json["config"].endswith("other.toml")


@pytest.mark.parametrize("task", ["classify", "regress", "match"])
def test_a_starter_passes_the_check(streamd: Terminal, task: str) -> None:
    assert streamd("init", task, "--output", "new.toml").code == 0
    assert streamd("check", "-c", "new.toml", "--json").json["pipelines"][0]["task"] == task
    text = (streamd.folder / "new.toml").read_text()
    assert streamd("init", task, "-o", "-").out == text


@pytest.mark.parametrize("task", ["classify", "match"])
def test_a_starters_comments_are_keys_that_exist(streamd: Terminal, task: str) -> None:
    # given a starter with its commented defaults switched on
    streamd("init", task, "--output", "new.toml")
    text = (streamd.folder / "new.toml").read_text()
    lines = [
        line.removeprefix("# ") if " = " in line.partition("#")[2][:20] else line for line in text.splitlines()
    ]
    assert len([line for line in lines if line not in text.splitlines()]) > 5
    (streamd.folder / "new.toml").write_text("\n".join(lines))
    # when it is checked, then it is good
    done = streamd("check", "-c", "new.toml")
    assert (done.code, done.err) == (0, "")


def test_init_replaces_nothing_unless_forced(streamd: Terminal) -> None:
    before = (streamd.folder / "streamd.toml").read_text()
    done = streamd("init", "classify")
    assert (done.code, done.err) == (EXIT_FAILURE, "streamd: streamd.toml exists; --force replaces it\n")
    assert (streamd.folder / "streamd.toml").read_text() == before
    assert streamd("init", "classify", "--force", "--json").json == {"written": "streamd.toml", "task": "classify"}
    assert (streamd.folder / "streamd.toml").read_text() != before


def test_init_where_nothing_can_be_written(streamd: Terminal) -> None:
    done = streamd("init", "classify", "-o", "no/such/place.toml")
    assert (done.code, done.out) == (EXIT_FAILURE, "")
    assert "cannot be written" in done.err


@pytest.mark.parametrize("arguments", [("fly",), ("init", "cluster"), ("send", "t"), ("tail",), ("run", "--fast")])
def test_usage_is_exit_2(streamd: Terminal, arguments: tuple[str, ...]) -> None:
    assert streamd(*arguments).code == EXIT_USAGE


def test_version_and_help(streamd: Terminal) -> None:
    assert streamd("--version").out == f"streamd {__version__}\n"
    for verb in ((), ("run",), ("check",), ("init",), ("send",), ("tail",), ("status",)):
        assert "Usage: streamd" in streamd(*verb, "--help").out


def test_a_bug_is_exit_70_with_its_traceback(streamd: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def write(self, text: str) -> int:
            raise ZeroDivisionError("boom")

        def isatty(self) -> bool:
            return False

        def flush(self) -> None: ...

    monkeypatch.setattr("sys.stdout", Broken())
    done = streamd("check", "--json")
    assert done.code == 70
    assert "Traceback" in done.err
    assert done.err.endswith("streamd: this is a bug: ZeroDivisionError: boom\n")
