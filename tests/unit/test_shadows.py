"""Shadows learn as if they were live, are not seen, and change places with the live learner without a trace."""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import msgspec
import pytest
from test_predicting import SETTINGS, event, label, tick, written

from streamd import snapshot
from streamd.errors import Refused
from streamd.learners import Learner
from streamd.learners.linear import LinearClassifier, LinearRegressor
from streamd.ports import Record
from streamd.stages.pending import Bounds
from streamd.stages.predicting import Predicting, Taken
from streamd.stages.settings import Settings
from streamd.stages.shadows import Model

BOUNDS = Bounds(max_events=30, max_bytes=1 << 20, max_age=400, remember=40, early=3, early_age=500)
PLAIN = Model("linear/plain", LinearClassifier, "plain")
BOLD = Model("linear/bold", partial(LinearClassifier, eta=0.9), "bold")
NARROW = Model("linear/narrow", partial(LinearClassifier, max_classes=2, max_features_per_event=2), "narrow")


def settings(model: Model, **changes: object) -> Settings:
    return msgspec.structs.replace(SETTINGS, model=model.name, bounds=BOUNDS, **changes)


def stage(live: Model, shadows: Mapping[str, Model] | None = None, **changes: object) -> Predicting:
    return Predicting(settings(live, **changes), live.fresh, 0, None, shadows or {}, live.key)


def stream(n: int, seed: int = 7) -> list[Record]:
    """Events, and their labels: inside, late, repeated, corrected, early, skipped, missing, for nobody."""
    draw, records, due = random.Random(seed), [], []
    for i in range(n):
        at, y = i * 10, draw.choice(["a", "b", "c"])
        features = {"x": {"a": -1.0, "b": 0.0, "c": 1.0}[y] + draw.gauss(0, 1)}
        features |= {"z": 1.0, "w": 2.0} if draw.random() < 0.2 else {}
        fate = draw.random()
        if fate < 0.2:
            records.append(event(f"e{i}", i, at, features=features, label=y))
            continue
        if fate < 0.25:
            records.append(label(f"e{i}", y, i, at))
        records.append(event(f"e{i}", i, at, features=features))
        if fate < 0.85:
            due.append((i + draw.choice([1, 5, 20, 60]), label(f"e{i}", y, i, at)))
        if fate < 0.35:
            due.append((i + 25, label(f"e{i}", draw.choice(["a", "b", "c"]), i, at)))
        if fate > 0.95:
            due.append((i + 3, label(f"e{i}", None, i, at, skip=True)))
        records += [record for when, record in due if when == i]
    return [*records, tick(n * 10 + 200)]


def batches(records: Sequence[Record], seed: int = 3) -> Iterator[Sequence[Record]]:
    draw, start = random.Random(seed), 0
    while start < len(records):
        size = draw.choice([1, 3, 40])
        yield records[start : start + size]
        start += size


def run(task: Predicting, records: Sequence[Record]) -> list[Taken]:
    return [task.take(batch) for batch in batches(records)]


def promote(task: Predicting, name: str) -> None:
    assert task.prepare("promote", name.encode())() == ()


def learned(learner: Learner) -> str:
    return snapshot.digest(learner.state())


def digest(task: Predicting) -> str:
    return snapshot.digest(task.freeze()())


def outputs(taken: Sequence[Taken]) -> list[bytes]:
    return [output.value for one in taken for output in one.outputs]


def test_a_shadow_learns_and_is_judged_as_if_it_were_live_and_nobody_sees_it() -> None:
    records = stream(300)
    alone, other, both = stage(PLAIN), stage(BOLD), stage(PLAIN, {"bold": BOLD})
    seen = run(alone, records)
    run(other, records)
    assert run(both, records) == seen
    shadow = both.shadows.of["bold"]
    assert learned(shadow.learner) == learned(other.learner)
    assert learned(both.learner) == learned(alone.learner)
    assert shadow.quality.measures() == other.quality.measures()
    view = both.show().shadows
    assert view is not None
    assert view.live == "linear/plain"
    assert [(one.shadow, one.model, one.labels) for one in view.shadows] == [
        ("bold", "linear/bold", other.show().quality.labels)
    ]


def test_a_shadow_of_a_regressor() -> None:
    y = [event(str(i), i, i, features={"x": float(i % 7)}, label=2.0 * (i % 7)) for i in range(60)]
    plain, bold = (
        Model("linear/p", LinearRegressor, "p"),
        Model("linear/b", partial(LinearRegressor, eta=0.9), "b"),
    )
    both, other = stage(plain, {"bold": bold}, task="regress"), stage(bold, task="regress")
    run(both, y)
    run(other, y)
    assert both.shadows.of["bold"].quality.measures() == other.quality.measures()


def test_what_a_shadow_refuses_costs_it_that_and_nothing_else() -> None:
    records = stream(200)
    alone, both = stage(PLAIN), stage(PLAIN, {"narrow": NARROW})
    assert run(both, records) == run(alone, records)
    shadow = both.shadows.of["narrow"]
    assert shadow.refused > 0
    assert len(shadow.learner.classes) == 2
    assert 0 < shadow.judged < both.show().quality.labels


def test_a_replay_brings_the_shadow_back_bit_for_bit() -> None:
    records = stream(200)
    first, second = stage(PLAIN, {"bold": BOLD}), stage(PLAIN, {"bold": BOLD})
    for batch in batches(records):
        taken = first.take(batch)
        second.replay(batch, taken.refused, taken.memos)
    assert digest(second) == digest(first)


def restored(task: Predicting, into: Predicting) -> Predicting:
    into.restore(task.freeze()())
    return into


@pytest.mark.parametrize("cut", [50, 170])
def test_a_snapshot_keeps_the_shadow(cut: int) -> None:
    records = stream(200)
    whole, first = stage(PLAIN, {"bold": BOLD}), stage(PLAIN, {"bold": BOLD})
    run(whole, records[:cut])
    run(first, records[:cut])
    second = restored(first, stage(PLAIN, {"bold": BOLD}))
    assert digest(second) == digest(first)
    assert outputs(run(second, records[cut:])) == outputs(run(whole, records[cut:]))
    assert digest(second) == digest(whole)


def test_a_shadow_added_or_removed_or_changed_leaves_the_live_state_as_it_was() -> None:
    records = stream(200)
    alone = stage(PLAIN)
    seen = outputs(run(alone, records))
    for before, after in (({}, {"bold": BOLD}), ({"bold": BOLD}, {}), ({"bold": BOLD}, {"bold": NARROW})):
        first = stage(PLAIN, before)
        told = outputs(run(first, records[:100]))
        second = restored(first, stage(PLAIN, after))
        assert told + outputs(run(second, records[100:])) == seen
        assert learned(second.learner) == learned(alone.learner)
        assert all(0 < shadow.judged < alone.show().quality.labels for shadow in second.shadows.of.values())


def as_live(model: Model, records: Sequence[Record], cut: int) -> tuple[Predicting, list[bytes]]:
    """What a pipeline answers after `cut` that had this model live all along."""
    task = stage(model)
    run(task, records[:cut])
    return task, outputs(run(task, records[cut:]))


def test_a_promoted_shadow_goes_on_as_if_it_had_been_live_all_along_and_so_does_the_former_live_one() -> None:
    records, cut = stream(300), 151
    task = stage(PLAIN, {"bold": BOLD})
    run(task, records[:cut])
    promote(task, "bold")
    assert task.model == "linear/bold"
    bold, told = as_live(BOLD, records, cut)
    plain, _ = as_live(PLAIN, records, cut)
    # then every answer is the promoted one's, with the labels of events from before joined to its own predictions
    assert outputs(run(task, records[cut:])) == told
    assert learned(task.learner) == learned(bold.learner)
    assert task.quality.measures() == bold.quality.measures()
    assert learned(task.shadows.of["bold"].learner) == learned(plain.learner)
    assert task.shadows.of["bold"].quality.measures() == plain.quality.measures()
    assert task.show().pending == bold.show().pending


def test_promoting_twice_is_as_if_nothing_had_been_done() -> None:
    records, cut = stream(200), 100
    task, still = stage(PLAIN, {"bold": BOLD}), stage(PLAIN, {"bold": BOLD})
    run(task, records[:cut])
    run(still, records[:cut])
    before = digest(task)
    promote(task, "bold")
    assert digest(task) != before
    promote(task, "bold")
    assert digest(task) == before
    assert run(task, records[cut:]) == run(still, records[cut:])


FILES: Sequence[Callable[[], Predicting]] = (
    lambda: stage(PLAIN, {"bold": BOLD, "narrow": NARROW}),
    lambda: stage(BOLD, {"bold": PLAIN, "narrow": NARROW}),
)


@pytest.mark.parametrize("file", FILES, ids=["the old file", "the file with the two exchanged"])
def test_a_promotion_outlives_a_restart(file: Callable[[], Predicting]) -> None:
    records, cut = stream(200), 120
    first = FILES[0]()
    run(first, records[:cut])
    promote(first, "bold")
    second = restored(first, file())
    assert second.model == "linear/bold"
    assert digest(second) == digest(first)
    assert outputs(run(second, records[cut:])) == as_live(BOLD, records, cut)[1]
    assert learned(second.shadows.of["bold"].learner) == learned(as_live(PLAIN, records, cut)[0].learner)


def test_a_model_is_recognised_by_what_its_state_means_when_its_live_parameters_changed() -> None:
    # given two models of one meaning, as SS3's are that differ in sigma only
    warm, hot = Model("ss3/same", LinearClassifier, "warm"), Model("ss3/same", LinearClassifier, "hot")
    first = stage(warm, {"hot": hot})
    run(first, stream(100))
    promote(first, "hot")
    # when the file then changes such a parameter of both
    second = restored(first, stage(warm._replace(key="warmer"), {"hot": hot._replace(key="hotter")}))
    # then the live state is what it was, and every prediction that waits is still its learner's
    assert learned(second.learner) == learned(first.learner)
    assert learned(second.shadows.of["hot"].learner) == learned(first.shadows.of["hot"].learner)
    kept = {key for entry in second.pending.waiting.values() for key in entry.beside or {}}
    assert kept == {"hotter"}
    assert run(second, stream(50, seed=9)) == run(first, stream(50, seed=9))


def test_the_file_alone_promotes_nobody() -> None:
    first = FILES[0]()
    run(first, stream(50))
    second = restored(first, FILES[1]())
    assert second.model == "linear/plain"
    assert digest(second) == digest(first)


def test_a_shadow_that_came_later_predicts_what_waits_when_it_is_promoted() -> None:
    records, cut = stream(200), 150
    first = stage(PLAIN)
    run(first, records[:cut])
    second = restored(first, stage(PLAIN, {"bold": BOLD}))
    run(second, records[cut : cut + 20])
    waiting = len(second.pending.waiting)
    promote(second, "bold")
    assert len(second.pending.waiting) == waiting > 5
    run(second, records[cut + 20 :])
    third = restored(second, stage(PLAIN, {"bold": BOLD}))
    assert digest(third) == digest(second)


def test_what_a_promoted_shadow_cannot_take_is_no_longer_waited_for() -> None:
    narrow = Model("linear/narrow", partial(LinearClassifier, max_features_per_event=1), "narrow")
    task = stage(PLAIN, {"narrow": narrow})
    task.take([event("wide", features={"x": 1.0, "y": 2.0}), event("a", label="yes"), event("slim")])
    promote(task, "narrow")
    assert list(task.pending.waiting) == ["slim"]
    taken = task.take([label("wide", "no", at=1), label("slim", "no", at=2), tick(900)])
    assert [json.loads(output.value)["id"] for output in written(taken, "dead")] == ["wide"]
    assert task.show().quality.labels == 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [("bald", "there is no shadow bald; there are: bold"), ("bold", "the shadow bold has seen nothing")],
)
def test_a_promotion_that_makes_no_sense_is_refused_and_changes_nothing(name: str, reason: str) -> None:
    task = stage(PLAIN, {"bold": BOLD})
    task.take([event("a"), event("b")])
    before = digest(task)
    with pytest.raises(Refused, match=reason):
        promote(task, name)
    assert digest(task) == before


def test_the_drift_detector_starts_anew_with_the_promoted_model() -> None:
    task = stage(PLAIN, {"bold": BOLD}, drift_delta=0.002, drift_reset=True)
    run(task, stream(100))
    promote(task, "bold")
    fresh = stage(BOLD, drift_delta=0.002)
    assert task.drift is not None
    assert fresh.drift is not None
    assert snapshot.digest(task.drift.state()) == snapshot.digest(fresh.drift.state())
    run(task, stream(100, seed=8)[:50])
