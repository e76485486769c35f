"""What of a changed configuration can change while the daemon runs."""

from pathlib import Path

from streamd import config as configuration
from streamd.config import Config
from streamd.errors import ConfigError, Transient
from streamd.operating.reloading import Reloaded, Reloader, compare

BASE = """
log_level = "info"
[log]
path = "a.db"
[epoch]
interval = "200ms"
[snapshot]
keep = 3
[pipeline.a]
task = "text"
events = "texts"
[pipeline.a.learner]
kind = "ss3"
sigma = 0.45
n_grams = 1
"""


def parsed(text: str) -> Config:
    return configuration.resolve(configuration.parse(text), Path("/nowhere"))


def changed(*pairs: tuple[str, str]) -> Reloaded:
    text = BASE
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return compare(configuration.written(parsed(BASE)), configuration.written(parsed(text)))


def test_what_can_change_live_is_told_from_what_needs_a_restart() -> None:
    assert changed() == Reloaded([], [])
    found = changed(
        ('log_level = "info"', 'log_level = "debug"'),
        ("200ms", "50ms"),
        ("keep = 3", "keep = 9\nhourly = 24"),
        ("sigma = 0.45", "sigma = 0.6"),
        ('events = "texts"', 'events = "texts"\ntop = 3\npending = {max_age = "90m"}'),
    )
    assert found.refused == []
    assert found.applied == [
        "epoch.interval", "log_level", "pipeline.a.learner.sigma", "pipeline.a.pending.max_age", "pipeline.a.top",
        "snapshot.hourly", "snapshot.keep",
    ]  # fmt: skip
    found = changed(("a.db", "b.db"), ("n_grams = 1", "n_grams = 2"), ("sigma = 0.45", "lam = 0.3"))
    assert found.applied == ["pipeline.a.learner.lam", "pipeline.a.learner.sigma"]
    assert found.refused == ["log.path", "pipeline.a.learner.n_grams", "store.path"]


def test_a_pipeline_that_comes_or_goes_needs_a_restart() -> None:
    other = BASE.replace("pipeline.a", "pipeline.b").replace("texts", "others").partition("[pipeline.b]")[2]
    assert changed(("n_grams = 1", f"n_grams = 1\n[pipeline.b]{other}")).refused == ["pipeline.b"]
    assert changed(("pipeline.a", "pipeline.c")).refused == ["pipeline.a", "pipeline.c"]


def test_what_is_written_is_read_back() -> None:
    config = parsed(BASE.replace("200ms", "0.000123s"))
    assert configuration.reread(configuration.written(config)) == config


def test_secrets_are_not_told() -> None:
    told = configuration.without_secrets(
        {"store": {"url": "redis://me:secret@host/0", "password_file": "/run/x"}, "a": {"sasl.password": "x"}}
    )
    assert told["store"] == {"url": "redis://***@host/0", "password_file": "/run/x"}
    assert told["a"] == {"sasl.password": "***"}


def test_a_broken_file_or_a_busy_engine_changes_nothing() -> None:
    good, applied = parsed(BASE), []
    texts = [BASE.replace("sigma = 0.45", "sigma = -1"), "not toml [", BASE.replace("0.45", "0.5")]

    def check(config: Config) -> None:
        if config.pipeline["a"].learner["sigma"] < 0:
            raise ConfigError("pipeline.a.learner.sigma", "must be 0 or more")

    def apply(config: Config) -> None:
        applied.append(config)
        raise Transient("pipeline a is starting")

    reloader = Reloader(good, lambda: parsed(texts.pop(0)), check, apply)
    assert "pipeline.a.learner.sigma: must be 0 or more" in reloader.reload().error
    assert "not TOML" in reloader.reload().error
    assert not applied
    assert reloader.reload().error == "pipeline a is starting"
    assert reloader.config == good
