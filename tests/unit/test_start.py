"""What a start does not wait for."""

import subprocess
import sys

CODE = """
import sys
from streamd import config, kernels, wiring
from streamd.cli import command_line
command_line(["run"])
wiring.check(config.parse('[pipeline.p]\\ntask = "classify"\\nevents = "e"\\nlearner = {kind = "linear"}'))
kernels.load({"linear"})
print(*sys.modules)
"""
UNUSED = {
    *("redis", "kafka", "confluent_kafka", "narwhals", "pandas", "sklearn", "river.compose", "river.drift"),
    *("scipy.stats", "scipy.optimize", "scipy.linalg"),
    *("streamd.kernels.groupwise", "streamd.kernels.ss3", "streamd.cli.demo"),
}


def test_a_daemon_imports_no_client_and_no_learner_that_its_configuration_does_not_name() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert UNUSED & set(done.stdout.split()) == set()
