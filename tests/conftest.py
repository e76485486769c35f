"""What every test shares."""

import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from streamd.cli.log_lines import JsonLines

settings.register_profile("streamd", derandomize=True, deadline=None, database=None)
settings.load_profile("streamd")

KERNELS = ("from streamd.kernels import ss3; ss3.load()", "from streamd import kernels; kernels.load()")


def pytest_sessionstart(session: pytest.Session) -> None:
    """A failed test shows its log as the daemon's users see it: with the facts of each line."""
    session.config.pluginmanager.get_plugin("logging-plugin").report_handler.setFormatter(JsonLines())
    _compile(session.config)


def _compile(config: pytest.Config) -> None:
    """Compile the kernels into their cache before several processes want them: each would compile them again."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        running = [subprocess.Popen([sys.executable, "-c", code], cwd=config.rootpath) for code in KERNELS]
        codes = [process.wait() for process in running]
        assert codes == [0] * len(codes), "the kernels do not compile"


@pytest.fixture(autouse=True)
def _log_handlers() -> Iterator[None]:
    """A command that ran in a test's own process leaves no handler behind: its stream ends with the test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
