"""What holds for every stream, adversarial ones among them: the study's ten invariants; the plain reference."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamd.kernels import groupwise as kernel
from streamd.learners.groupwise import GroupwiseClassifier, GroupwiseRegressor, metas
from streamd.learners.groupwise.intervals import bound as misses_bound
from streamd.learners.groupwise.view import groups_view
from streamd.snapshot import digest
from streamd.views import GroupsView
from tests.unit.groupwise_data import live
from tests.unit.groupwise_reference import Reference

laws = settings(max_examples=25, deadline=None, derandomize=True, database=None)
NAMES = ("a", "b", "c", "d")

Event = tuple[list[float], list[str], float]
COLUMNS = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=3, max_size=3)
EVENTS = st.lists(
    st.tuples(COLUMNS, st.lists(st.sampled_from(NAMES), unique=True), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])),
    min_size=1,
    max_size=60,
)
KINDS: dict[str, dict[str, Any]] = {
    "anh expected": {"floor": 0.0},
    "anh floor": {},
    "anh mixture": {"accounting": "mixture", "floor": 0.0},
    "anh gradient": {"accounting": "gradient"},
    "anh vaw": {"oracle": "vaw"},
    "anh own+everyone": {"experts": "own+everyone"},
    "anh pairs": {"experts": "pairs"},
    "aa": {"meta": "aa"},
    "aa pairs": {"meta": "aa", "experts": "pairs"},
    "ewa": {"meta": "ewa"},
    "mlpoly": {"meta": "mlpoly"},
    "mlpoly pairs": {"meta": "mlpoly", "experts": "pairs"},
}
every_kind = pytest.mark.parametrize("given_", KINDS.values(), ids=KINDS.keys())


def plain(groups: Any = tuple(f"#{name}" for name in NAMES), **rest: Any) -> GroupwiseRegressor:
    return GroupwiseRegressor((0.0, 1.0), list(groups), standardise=False, intercept=False, **rest)


def features(x: list[float]) -> dict[str, float]:
    return {f"x{j}": v for j, v in enumerate(x)}


def lived(learner: GroupwiseRegressor, events: list[Event]) -> list[bytes]:
    return live(learner, [features(x) for x, _, _ in events], [y for _, _, y in events], [t for _, t, _ in events])


def adversarial(seed: int, T: int, groups: int = 4) -> list[Event]:
    """Rare groups, bursts of sleep, labels against the sign of what was learned, blocks of one group."""
    rng = np.random.default_rng(seed)
    rates = rng.choice([0.02, 0.2, 0.5, 0.95], groups)
    events: list[Event] = []
    for t in range(T):
        block = (t // 40) % (groups + 1)
        tags = [NAMES[g] for g in range(groups) if rng.random() < rates[g] and (block in (g, groups) or t % 3)]
        x = [1.0, *rng.choice([-1.0, 0.0, 1.0], 2).tolist()]
        truth = 0.5 + 0.5 * x[1] * (-1.0) ** (t // 50) if seed % 2 else float(rng.random() < 0.5)
        events.append((x, tags, float(np.clip(truth, 0.0, 1.0))))
    return events


@every_kind
@laws
@given(events=EVENTS)
def test_the_compiled_learner_is_the_plain_one(given_: dict[str, Any], events: list[Event]) -> None:
    learner = plain(**given_)
    accounting = learner.accounting
    assert accounting is not None
    options = {"meta": learner.meta, "accounting": accounting, "experts": learner.experts, "floor": learner.floor}
    reference = Reference(3, [1.0] * 5, vaw=learner.oracle == "vaw", **options)

    memos = lived(learner, events)

    for memo, (x, tags, y) in zip(memos, events, strict=True):
        awake = [0, *(1 + NAMES.index(name) for name in NAMES if name in tags)]
        row = np.array(x)
        played = reference.play(row, awake)
        read = learner.read(memo)
        assert read.z[:, 0] == pytest.approx(played.z, abs=1e-9)
        assert read.p[:, 0] == pytest.approx(played.p, abs=1e-6)
        assert read.numbers[0] == pytest.approx(played.value, abs=1e-6)
        # The compiled weights follow the paper's to rounding; at the edge R = -1 only its own trajectory counts.
        reference.learn(row, awake, y, played._replace(p=read.p[:, 0], value=float(read.numbers[0])))


@laws
@given(events=EVENTS)
def test_weighted_regrets_of_an_event_sum_to_nothing(events: list[Event]) -> None:
    """(1): with w as they were, sum q w r = 0 (expected, floor 0) and at most 0 (mixture)."""
    for accounting in ("expected", "mixture"):
        learner = plain(accounting=accounting, floor=0.0)
        for event in events:
            before = learner.state().arrays["E"].copy()
            memo = lived(learner, [event])[0]
            moved = learner.state().arrays["E"][:, 0, 0, kernel.REGRET] - before[:, 0, 0, kernel.REGRET]
            read = learner.read(memo)
            if read.fallback:
                continue  # there every w is 0
            weights = [
                np.exp(kernel.exponent(R, C)) * kernel.remainder(R, C) / 2 if R > -1 else 0.0
                for R, C in before[:, 0, 0, :2]
            ]
            total = float(np.dot(weights, moved))
            assert total == pytest.approx(0.0, abs=1e-12) if accounting == "expected" else total <= 1e-12


BOUNDED = {**KINDS, "no everyone": {"everyone": False}, "sampled": {"play": "sampled"}}


@pytest.mark.parametrize("given_", BOUNDED.values(), ids=BOUNDED.keys())
@pytest.mark.parametrize("seed", range(4))
def test_no_regret_exceeds_its_bound_at_any_time(given_: dict[str, Any], seed: int) -> None:
    """(2), on adversarial labels and sleep, at every twentieth step."""
    learner = plain(**given_)
    events = adversarial(seed, 400)

    for start in range(0, len(events), 20):
        lived(learner, events[start : start + 20])
        kept = learner.state().arrays
        mass = kept["table"][:, kernel.MASS]
        bounds = metas.bounds(learner.meta, learner.experts, kept["E"], mass, kept["totals"])
        assert (kept["E"][..., kernel.REGRET] <= bounds + 1e-9).all()
        assert not [group.name for group in groups_view(learner).groups if "regret" in group.alarms]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("meta", ["anh", "bayes", "mlpoly"])
def test_classes_keep_their_bounds_too(meta: str, seed: int) -> None:
    learner = GroupwiseClassifier([f"#{name}" for name in NAMES], meta=meta)
    events = adversarial(seed, 300)
    labels = ["yes" if y > 0.5 else "no" for _, _, y in events]

    live(learner, [features(x) for x, _, _ in events], labels, [tags for _, tags, _ in events])

    for group in groups_view(learner).groups:
        assert group.nearest <= group.nearest_bound + 1e-9
        if meta == "bayes" and group.loss is not None and group.own is not None:
            # Bayes: nearly as good as the own oracle, in nats, whatever T (the first event has no classes)
            assert (group.loss - group.own) * group.labels <= np.log(5.0) + 1e-9


@laws
@given(events=EVENTS)
def test_one_group_is_the_bare_oracle_bit_for_bit(events: list[Event]) -> None:
    """(3)."""
    for given_ in KINDS.values():
        learner = plain((), **given_)
        for memo in lived(learner, events):
            read = learner.read(memo)
            assert read.numbers.tobytes() == read.z[0].tobytes()


@laws
@given(events=EVENTS)
def test_disjoint_groups_without_everyone_are_each_groups_own_oracle(events: list[Event]) -> None:
    """(4)."""
    alone = [(x, [tags[0] if tags else "a"], y) for x, tags, y in events]
    learner = plain(everyone=False)
    single = {name: plain((f"#{name}",), everyone=False) for name in NAMES}

    memos = lived(learner, alone)

    for memo, event in zip(memos, alone, strict=True):
        expected = single[event[1][0]].read(lived(single[event[1][0]], [event])[0])
        assert learner.read(memo).numbers == pytest.approx(expected.numbers, abs=1e-12)


@every_kind
@laws
@given(events=EVENTS, event=EVENTS)
def test_groups_asleep_are_untouched(given_: dict[str, Any], events: list[Event], event: list[Event]) -> None:
    """(5)."""
    learner = plain(**given_)
    lived(learner, events)
    before = {name: array.copy() for name, array in learner.state().arrays.items()}

    lived(learner, event[:1])

    asleep = [1 + i for i, name in enumerate(NAMES) if name not in event[0][1]]
    after = learner.state().arrays
    for name in ("P", "W", "E", "table"):
        shape = tuple(slice(0, size) for size in before[name].shape)
        assert np.array_equal(after[name][shape][asleep], before[name][asleep]), name


@every_kind
@laws
@given(events=EVENTS)
def test_the_order_of_groups_is_irrelevant(given_: dict[str, Any], events: list[Event]) -> None:
    """(6), to rounding; with floor 0 rounding may decide at the edge R = -1, so there it is kept away from."""
    options = {**given_, "floor": 1e-3} if given_.get("meta", "anh") == "anh" else given_
    forward, backward = plain(**options), plain([f"#{name}" for name in reversed(NAMES)], **options)

    for one, other in zip(lived(forward, events), lived(backward, events), strict=True):
        assert forward.read(one).numbers == pytest.approx(backward.read(other).numbers, abs=1e-9)


@every_kind
@laws
@given(events=EVENTS)
def test_a_group_born_late_leaves_the_others_relative_weights(given_: dict[str, Any], events: list[Event]) -> None:
    """(8)."""
    learner = plain(("#a", "#*"), **given_)
    lived(learner, [(x, [tag for tag in tags if tag == "a"], y) for x, tags, y in events])
    x = features([1.0, 0.5, -0.5])

    steps = learner.steps()
    steps.predict(steps.row(x, ["a"]))
    steps.observe(steps.row(x, ["a", "fresh"]))
    steps.predict(steps.row(x, ["a", "fresh"]))
    predictions = steps.execute()

    before, after = (learner.shares(learner.read(memo)) for memo in predictions.memos())
    kept = learner.state().arrays["E"][-1]
    assert not kept.any()
    if learner.experts == "own":
        assert after[0] * before[1] == pytest.approx(after[1] * before[0], abs=1e-12)


@laws
@given(events=EVENTS)
def test_a_correction_gives_what_the_right_label_would_have_given(events: list[Event]) -> None:
    """Ridge un-learns; R, C, losses and oracles are those of a stream that had the right label at once."""
    for given_ in ({}, {"meta": "aa"}, {"meta": "ewa", "experts": "pairs"}):
        corrected, right = plain(coverage=0.0, **given_), plain(coverage=0.0, **given_)
        (x, tags, y), rest = events[0], events[1:]
        memo = lived(corrected, [(x, tags, 1.0 - y)])[0]
        lived(right, [(x, tags, y)])

        steps = corrected.steps()
        steps.correct(steps.row(features(x), tags), 1.0 - y, y, memo)
        steps.execute()

        for name in ("P", "W", "E", "table"):
            assert corrected.state().arrays[name] == pytest.approx(right.state().arrays[name], abs=1e-12), name
        for one, other in zip(lived(corrected, rest), lived(right, rest), strict=True):
            assert corrected.read(one).numbers == pytest.approx(right.read(other).numbers, abs=1e-6)


@laws
@given(events=EVENTS)
def test_a_late_label_is_judged_by_the_prediction_as_it_was(events: list[Event]) -> None:
    learner = plain()
    memos = lived(learner, events)
    (x, tags, y), memo = events[0], memos[0]
    read = learner.read(memo)
    losses = (read.z[:, 0] - y) ** 2
    before = learner.state().arrays["E"].copy()

    steps = learner.steps()
    steps.learn(steps.row(features(x), tags), y, memo)
    steps.execute()

    moved = learner.state().arrays["E"] - before
    slots = [learner.groups.slots["everyone" if i == 0 else name] for i, name in enumerate(["", *names_of(tags)])]
    expected = read.p[:, 0] @ losses - losses
    assert moved[slots, 0, 0, kernel.REGRET] == pytest.approx(expected, abs=1e-12)
    assert moved[slots, 0, 0, kernel.SIZE] == pytest.approx(np.abs(expected), abs=1e-12)


def names_of(tags: list[str]) -> list[str]:
    return [f"#{name}" for name in NAMES if name in tags]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "given_", [{}, {"loss": "pinball"}, {"experts": "pairs"}], ids=["value", "quantiles", "pairs"]
)
def test_misses_of_every_group_stay_within_the_coverage_bound(given_: dict[str, Any], seed: int) -> None:
    learner = plain(**given_)
    events = adversarial(seed, 600)

    for start in range(0, len(events), 50):
        lived(learner, events[start : start + 50])
        for group in groups_view(learner).groups:
            assert abs(group.misses) <= group.misses_bound + 1e-9


def test_intervals_cover_as_often_as_declared_on_every_group() -> None:
    rng = np.random.default_rng(3)
    noise = {"a": 0.01, "b": 0.2, "c": 0.05, "d": 0.1}
    events: list[Event] = []
    for _ in range(6000):
        tags = [name for name in NAMES if rng.random() < 0.4] or ["a"]
        x = [1.0, *rng.uniform(-1, 1, 2).tolist()]
        spread = max(noise[name] for name in tags)
        events.append((x, tags, float(np.clip(0.5 + 0.2 * x[1] + spread * rng.normal(), 0.0, 1.0))))
    learner = plain(coverage=0.8)

    lived(learner, events)

    view: GroupsView = groups_view(learner)
    for group in view.groups:
        # a bettor without a rate comes near as sqrt(ln(T) / n)
        assert group.covered == pytest.approx(0.8, abs=0.5 * np.sqrt(np.log(6000) / group.labels)), group.name
    widths = {group.name: group.width for group in view.groups}
    assert widths["#b"] is not None
    assert widths["#c"] is not None
    assert widths["#b"] > widths["#c"]
    assert misses_bound(6000, 6000) < 600


def test_quantiles_never_cross_and_are_near_their_level() -> None:
    rng = np.random.default_rng(5)
    learner = GroupwiseRegressor((0.0, 10.0), ["#a"], loss="pinball", quantiles=[0.1, 0.5, 0.9])
    X = rng.uniform(-1, 1, 4000)
    y = np.clip(5 + 2 * X + rng.normal(size=4000), 0, 10).tolist()

    memos = live(learner, [{"x": v} for v in X.tolist()], y, [["a"] if v > 0 else [] for v in X.tolist()])

    quantiles = np.array([learner.quantiles_of(memo) for memo in memos])
    assert (np.diff(quantiles, axis=1) >= 0).all()
    below = (np.array(y)[:, None] <= quantiles)[2000:].mean(axis=0)
    assert below == pytest.approx([0.1, 0.5, 0.9], abs=0.03)


@laws
@given(events=EVENTS)
def test_sampled_play_plays_one_of_the_awake_models(events: list[Event]) -> None:
    learner, again = plain(play="sampled", seed=9), plain(play="sampled", seed=9)

    for memo, same in zip(lived(learner, events), lived(again, events), strict=True):
        read = learner.read(memo)
        assert read.numbers[0] in read.z[:, 0]
        assert memo == same


@laws
@given(events=EVENTS)
def test_a_snapshot_goes_on_identically_and_predicting_is_pure(events: list[Event]) -> None:
    """(7) and (9), for a learner with births, retirement and pairs; the laws of all learners say it again."""
    learner, other = (plain(("#*",), experts="pairs", max_groups=3) for _ in range(2))
    half = len(events) // 2
    lived(learner, events[:half])
    other.restore(learner.state())
    other.peek(features([1.0, 1.0, 1.0]), ["a", "never seen"])

    assert lived(learner, events[half:]) == lived(other, events[half:])
    assert digest(learner.state()) == digest(other.state())
