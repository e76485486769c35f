"""The benchmarks run, with tiny sizes. What they measure is never asserted."""

import sys

import pytest

from tests.bench import asking, epoch_cost, memory, recovery, replay, throughput


def test_throughput_runs(capsys: pytest.CaptureFixture[str]) -> None:
    throughput.main(["--events", "400", "--rounds", "1"])
    printed = capsys.readouterr().out
    assert printed.count("of its speed") == 2
    assert printed.count("streamd is") == 4


def test_epoch_cost_runs(capsys: pytest.CaptureFixture[str]) -> None:
    epoch_cost.main(["--sizes", "100,200", "--epochs", "2"])
    assert capsys.readouterr().out.count("2x the") == 2


def test_recovery_runs(capsys: pytest.CaptureFixture[str]) -> None:
    recovery.main(["--sizes", "1", "--events", "400", "--rounds", "1"])
    printed = capsys.readouterr().out
    assert "first prediction" in printed
    assert "1 MB" in printed
    assert "replay is" in printed


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_runs(capsys: pytest.CaptureFixture[str]) -> None:
    memory.main(["--events", "2000"])
    assert "resident at the end" in capsys.readouterr().out


def test_replay_runs(capsys: pytest.CaptureFixture[str]) -> None:
    replay.main(["--events", "400", "--rounds", "1"])
    assert "a shadow costs" in capsys.readouterr().out


def test_asking_runs(capsys: pytest.CaptureFixture[str]) -> None:
    asking.main(["--events", "2000", "--rate", "1000"])
    assert "p99" in capsys.readouterr().out
