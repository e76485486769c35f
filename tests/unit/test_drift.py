import pytest

from streamd.errors import ConfigError, StateError
from streamd.learners.drift import Adwin
from streamd.snapshot import State, digest

LOSSES = [0.1 * (i % 3) + 0.6 * ((i // 700) % 2) for i in range(3000)]


def test_a_change_of_the_mean_is_seen_soon_and_a_steady_stream_is_none() -> None:
    steady, changing = Adwin(), Adwin()

    assert not any(steady.update(0.1 * (i % 3)) for i in range(3000))
    seen = [i for i, loss in enumerate(LOSSES) if changing.update(loss)]

    assert {i // 700 for i in seen} == {1, 2, 3, 4}
    assert all(i % 700 < 100 for i in seen)
    assert changing.detections == len(seen)


@pytest.mark.parametrize("middle", [0, 1, 650, 701, 735, 736, 2999])
def test_a_snapshot_in_the_middle_continues_identically(middle: int) -> None:
    whole, first, second = Adwin(), Adwin(), Adwin()
    for loss in LOSSES[:middle]:
        first.update(loss)

    second.restore(first.state())
    expected = [whole.update(loss) for loss in LOSSES]
    continued = [second.update(loss) for loss in LOSSES[middle:]]

    assert continued == expected[middle:]
    assert digest(second.state()) == digest(whole.state())


def test_the_state_stays_small() -> None:
    drift = Adwin()
    for i in range(50_000):
        drift.update(0.1 * (i % 3))

    assert drift.state().arrays["window"].nbytes < 10_000


def test_what_is_no_state_of_it_is_refused() -> None:
    drift = Adwin()
    for bad in (
        State({}, {}),
        State(drift.state().arrays, {}),
        State({"window": drift.state().arrays["window"][:9]}, {"detections": 0}),
    ):
        with pytest.raises(StateError):
            drift.restore(bad)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1.0])
def test_delta_is_a_probability(delta: float) -> None:
    with pytest.raises(ConfigError):
        Adwin(delta)
