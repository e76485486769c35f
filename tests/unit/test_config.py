"""What is accepted, what is refused, and that a refusal names the key and what was expected of it."""

from pathlib import Path

import pytest

from streamd import config, wiring
from streamd.config import Config, Duration, Size
from streamd.errors import EXIT_CONFIG, ConfigError

LEARNER = 'learner = {kind = "linear"}\n'
PIPELINE = f'[pipeline.a]\ntask = "classify"\nevents = "x"\n{LEARNER}'


def parsed(extra: str = "", pipeline: str = "") -> Config:
    return config.parse(f"{extra}\n{PIPELINE}{pipeline}")


def test_a_minimal_file_has_every_default() -> None:
    found = parsed()
    assert found.group == "streamd"
    assert found.epoch.interval == 0.2
    assert found.pipeline["a"].predictions_topic == "x-predictions"
    assert found.pipeline["a"].dead_letters_topic == "x-dead-letters"
    assert found.pipeline["a"].inputs == ("x",)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("200ms", 0.2), ("5s", 5), ("1.5s", 1.5), ("10m", 600), ("2h", 7200), ("7d", 604_800), ("0s", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    interval = parsed(f'[epoch]\ninterval = "{text}"').epoch.interval
    assert isinstance(interval, Duration)
    assert interval == seconds
    assert interval.milliseconds == seconds * 1000


def test_a_duration_that_may_be_missing() -> None:
    assert parsed().log.retention is None
    assert parsed('[log]\nkind = "sqlite"\nretention = "30d"').log.retention == 30 * 86_400


@pytest.mark.parametrize(("text", "size"), [("512B", 512), ("64KB", 65_536), ("1MB", 1 << 20), ("2GB", 2 << 30)])
def test_sizes(text: str, size: int) -> None:
    record = parsed(f'[limits]\nrecord = "{text}"').limits.record
    assert isinstance(record, Size)
    assert record == size


MATCH = '[pipeline.m]\ntask = "match"\nevents = "x"\nresources = "r"\noutcomes = "o"\n'
BAD = {
    "not TOML": ("a = ", "", "not TOML"),
    "no pipeline": ('group = "g"', "pipeline", "at least one table"),
    "pipeline no table": ("pipeline = 3", "pipeline", "at least one table"),
    "pipeline of no table": ("[pipeline]\na = 3", "pipeline.a", "expected `object`"),
    "pipeline name": (PIPELINE.replace("pipeline.a", "pipeline.A"), "pipeline", "matching regex"),
    "unknown top key": (f"grup = 1\n{PIPELINE}", "grup", "no such key"),
    "unknown table": (f"{PIPELINE}[epoc]\n", "epoc", "no such key"),
    "unknown key": (f"{PIPELINE}[epoch]\nintervall = 1", "epoch.intervall", "no such key"),
    "unknown pipeline key": (f"{PIPELINE}labls = 1", "pipeline.a.labls", "no such key"),
    "unknown deep key": (f"{PIPELINE}[pipeline.a.pending]\nmax = 1", "pipeline.a.pending.max", "no such key"),
    "missing events": (f'[pipeline.a]\ntask = "classify"\n{LEARNER}', "pipeline.a.events", "needed"),
    "missing learner": ('[pipeline.a]\ntask = "classify"\nevents = "x"', "pipeline.a.learner", "needed"),
    "missing kind": (
        PIPELINE.replace('{kind = "linear"}', "{eta = 1}"),
        "pipeline.a.learner.kind",
        "the kind of the learner",
    ),
    "task": (PIPELINE.replace("classify", "guess"), "pipeline.a.task", "invalid enum value 'guess'"),
    "topic": (PIPELINE.replace('"x"', '"a b"'), "pipeline.a.events", "matching regex"),
    "same topics": (f'{PIPELINE}labels = "x"', "pipeline.a", "must differ"),
    "same outputs": (f'{PIPELINE}predictions = "y"\ndead_letters = "y"', "pipeline.a", "must differ"),
    "duration as number": (f"{PIPELINE}[epoch]\ninterval = 5", "epoch.interval", '"5s"'),
    "duration without unit": (f'{PIPELINE}[epoch]\ninterval = "5"', "epoch.interval", '"5s"'),
    "duration negative": (f'{PIPELINE}[epoch]\ninterval = "-5s"', "epoch.interval", '"5s"'),
    "retention": (f'{PIPELINE}[log]\nkind = "sqlite"\nretention = "x"', "log.retention", '"7d"'),
    "size": (f'{PIPELINE}[limits]\nrecord = "1mb"', "limits.record", '"1MB"'),
    "log kind": (f'{PIPELINE}[log]\nkind = "rabbit"', "log.kind", "invalid value 'rabbit'"),
    "port": (f"{PIPELINE}[http]\nport = 70000", "http.port", "<= 65535"),
    "port type": (f'{PIPELINE}[http]\nport = "80"', "http.port", "expected `int`, got `str`"),
    "open without a token": (f'{PIPELINE}[http]\nhost = "0.0.0.0"', "http.token_file", "not a loopback address"),
    "fading": (f"{PIPELINE}[pipeline.a.quality]\nfading = 1.0", "pipeline.a.quality.fading", "< 1.0"),
    "group": (f'group = "My Group"\n{PIPELINE}', "group", "matching regex"),
    "worker name": (f'{PIPELINE}[worker]\nname = "a b"', "worker.name", "matching regex"),
    "level": (f'log_level = "loud"\n{PIPELINE}', "log_level", "invalid enum value 'loud'"),
    "echo": (f'{PIPELINE}echo = "one"', "pipeline.a.echo", "expected `array`, got `str`"),
    "match resources": (MATCH.replace('resources = "r"', ""), "pipeline.m.resources", "needed"),
    "match key": (f"{MATCH}labels = 'l'", "pipeline.m.labels", "no such key"),
    "match topics": (f"{MATCH}matches = 'o'", "pipeline.m", "must differ"),
    "match late": (f"{MATCH}late = 'never'", "pipeline.m.late", "invalid enum value 'never'"),
    "match rule": (f"{MATCH}[pipeline.m.rule]\nkind = 'best'", "pipeline.m.rule.kind", "invalid enum value"),
    "match f": (f"{MATCH}[pipeline.m.rule]\nf = 'g'", "pipeline.m.rule.f", "invalid enum value"),
    "match boost": (f"{MATCH}[pipeline.m.rule]\nboost = -1.0", "pipeline.m.rule.boost", ">= 0"),
    "match p": (f"{MATCH}[pipeline.m.probabilities]\nbits = 2", "pipeline.m.probabilities.bits", ">= 4"),
    "match prior": (f"{MATCH}probabilities = {{prior = [1.0]}}", "pipeline.m.probabilities.prior", "length 2"),
    "match limits": (f"{MATCH}limits = {{pools = 0}}", "pipeline.m.limits.pools", ">= 1"),
    "match share": (f"{MATCH}shares = {{a = 2.0}}", "pipeline.m.shares[...]", "<= 1"),
    "match shares": (f"{MATCH}shares = {{a = 0.7, b = 0.7}}", "pipeline.m.shares", "at most 1"),
    "echo item": (f'{PIPELINE}echo = ["a", 1]', "pipeline.a.echo[1]", "expected `str`, got `int`"),
}


@pytest.mark.parametrize(("text", "key", "expected"), BAD.values(), ids=BAD)
def test_a_refusal_names_the_key_and_what_was_expected(text: str, key: str, expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config.parse(text)
    assert refused.value.key == key
    assert expected in refused.value.expected
    assert str(refused.value).startswith(f"{key}: " if key else "")
    assert refused.value.exit_code == EXIT_CONFIG


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.toml", "binary.toml"):
        with pytest.raises(ConfigError, match=name):
            config.load(tmp_path / name)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    file = tmp_path / "sub" / "streamd.toml"
    file.write_text(f'[log]\nkind = "sqlite"\npath = "../x.db"\n[http]\ntoken_file = "t"\n{PIPELINE}')
    found = config.load(file)
    assert found.log.path == str(tmp_path / "x.db")
    assert found.store.path == found.log.path
    assert found.http.token_file == str(tmp_path / "sub" / "t")
    assert found.worker.name.endswith("-0")


def test_a_secret_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("abc\n")
    monkeypatch.setenv("STREAMD_TEST_TOKEN", "def")
    assert config.secret(str(tmp_path / "token")) == "abc"
    assert config.secret("", "STREAMD_TEST_TOKEN") == "def"
    assert config.secret("") is None


def test_a_secret_that_cannot_be_had_names_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAMD_TEST_TOKEN", raising=False)
    (tmp_path / "empty").write_text("\n")
    for file, variable in ((str(tmp_path / "no"), ""), (str(tmp_path / "empty"), ""), ("", "STREAMD_TEST_TOKEN")):
        with pytest.raises(ConfigError) as refused:
            config.secret(file, variable, key="http.token_file")
        assert refused.value.key == "http.token_file"


def test_the_default_file_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAMD_CONFIG", raising=False)
    assert config.default_path() == Path("streamd.toml")
    monkeypatch.setenv("STREAMD_CONFIG", "/etc/streamd.toml")
    assert config.default_path() == Path("/etc/streamd.toml")


def test_the_meaning_changes_with_what_is_learned_and_with_nothing_else() -> None:
    meaning = parsed().pipeline["a"].meaning()
    assert parsed('[epoch]\ninterval = "1s"', 'predictions = "p"').pipeline["a"].meaning() == meaning
    assert config.parse(PIPELINE.replace('"linear"', '"linear", eta = 1')).pipeline["a"].meaning() != meaning
    assert config.digest({"a": 1, "b": 2}) == config.digest({"b": 2, "a": 1}) != config.digest({"a": 1, "b": 3})


def test_what_a_pools_state_means_is_its_loads_and_not_its_rule() -> None:
    meaning = config.parse(MATCH).pipeline["m"].meaning()
    for live in (
        "timeout = '1h'",
        "rule = {f = 'gu', hold = 'block'}",
        "rule = {kind = 'greedy'}",
        "late = 'correct'",
    ):
        assert config.parse(f"{MATCH}{live}").pipeline["m"].meaning() == meaning
    for other in ("rule = {kind = 'msvv'}", "rule = {consume = 'attempt'}", "probabilities = {kind = 'beta'}"):
        assert config.parse(f"{MATCH}{other}").pipeline["m"].meaning() != meaning


def test_plain_data_holds_seconds_and_bytes() -> None:
    plain = config.plain(parsed('[epoch]\ninterval = "2m"\n[limits]\nrecord = "1KB"'))
    assert (plain["epoch"]["interval"], plain["limits"]["record"]) == (120.0, 1024)


def test_what_a_learner_can_change_live_is_no_part_of_the_meaning() -> None:
    def meant(keys: str) -> object:
        text = f'[pipeline.p]\ntask = "text"\nevents = "e"\nlearner = {{ kind = "ss3"{keys} }}\n'
        return wiring.meaning(config.parse(text).pipeline["p"])

    assert meant("") == meant(", sigma = 0.3, lam = 1.2, rho = 2.0, alpha = 0.1") == meant(', default = "unknown"')
    assert meant("") != meant(", n_grams = 2")
