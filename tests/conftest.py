"""What every test shares."""

import subprocess
import sys

import pytest
from hypothesis import settings

settings.register_profile("streamd", derandomize=True, deadline=None, database=None)
settings.load_profile("streamd")

KERNELS = ("from streamd.kernels import ss3; ss3.load()", "from streamd import kernels; kernels.load()")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile the kernels into their cache before several processes want them: each would compile them again."""
    config = session.config
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        running = [subprocess.Popen([sys.executable, "-c", code], cwd=config.rootpath) for code in KERNELS]
        codes = [process.wait() for process in running]
        assert codes == [0] * len(codes), "the kernels do not compile"
