"""Decisions per second of each strategy, and the full loop (predict, decide, learn what was asked for).

    python -m tests.bench.active [--events 20000] [--rounds 3] [--peers /tmp/peers/bin/python]

The loop runs `linear` as the daemon does: runs of 500 events predicted in one call, each decided on, the labels
asked for learned in the next run; and once event by event. Peers are measured in the same rounds where they are
installed: river's EntropySampler over LogisticRegression here, and in the Python that `--peers` names (see
`active_peers`) scikit-activeml over GaussianNB (`--peer-events` of them, it is slow) and Vowpal Wabbit in Python.
"""

import argparse
import json
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Raw
from msgspec.json import decode, encode
from numpy.typing import NDArray
from river import active, linear_model, preprocessing
from river.datasets import synth

from streamd.kernels import features, linear, querying
from streamd.learners import Taught
from streamd.learners.linear import LinearClassifier
from streamd.learners.linear_steps import LinearPredictions
from streamd.querying import Asker, Candidate, Keyed, registry, strategy
from streamd.querying.budgets import TokenBucket
from streamd.querying.measures import Measure
from streamd.querying.utilities import worth
from streamd.stages.batch import FEW
from streamd.stages.querying import MANY
from tests.bench.rounds import Contestant, Timed, Watch, interleaved, print_table, speed

BUDGET = 0.1
RUN = 500  # events
Row = tuple[dict[str, float], str]


def candidates(n: int) -> list[Candidate]:
    rng = np.random.default_rng(0)
    p = rng.dirichlet([0.5, 0.5], n).tolist()
    x = rng.normal(size=(n, 32))
    return [Candidate(f"event-{i}", worth(row), i, row, x[i]) for i, row in enumerate(p)]


# --- decisions


def deciding(name: str, events: Sequence[Candidate]) -> Timed:
    """The strategy alone, the hash of the event's id included."""
    made, keyed = strategy(name, TokenBucket(BUDGET)), Keyed(0, "bench")
    watch = Watch()
    for event in events:
        decision = made.decide(event, keyed.of(event.event))
        made.apply(event, decision)
        if decision.ask:
            made.closed()
    return watch.read()


def asking(events: Sequence[Candidate], run: int) -> Timed:
    """`auto` with everything around it: slice, queries, an answer for each, quality, drift."""
    made = Asker(strategy("auto", TokenBucket(BUDGET)), Keyed(0, "bench"), wait=1 << 50)
    watch = Watch()
    for start in range(0, len(events), run):
        for event in asked_of(made, events[start : start + run]):
            made.answer(event.event, "a", event.now, classes=("a", "b"))
    return watch.read()


def asked_of(made: Asker, events: Sequence[Candidate]) -> list[Candidate]:
    """Decide on a run as the query stage does; those whose label is asked for."""
    if len(events) < MANY:
        return [event for event in events if made.apply(event, made.decide(event)) is not None]
    utilities = np.array([event.utility for event in events])
    run = made.decide_run([event.event for event in events], utilities, [event.now for event in events])
    assert run is not None
    run.packed()  # for the journal
    for i, decision in run.asked():
        made.ask(events[i], decision)
    return [events[i] for i, _ in run.asked()]


# --- the full loop


def stream(n: int) -> list[Row]:
    return [
        ({str(name): float(value) for name, value in x.items()}, str(y)) for x, y in islice(synth.SEA(seed=1), n)
    ]


def streamd_runs(rows: Sequence[Row], run: int) -> Timed:
    """From the JSON of the features, as the daemon gets them."""
    learner = LinearClassifier()
    made = Asker(strategy("auto", TokenBucket(BUDGET)), Keyed(0, "bench"), wait=1 << 50)
    given = [Raw(encode(x)) for x, _ in rows]
    asked: list[int] = []
    watch = Watch()
    for start in range(0, len(rows), run):
        labels, weights = [], []
        for i in asked:
            answer = made.answer(str(i), rows[i][1], start, classes=learner.classes)
            labels.append(str(answer.label))
            weights.append(answer.weight)
        events = [*(given[i] for i in asked), *given[start : start + run]]
        predictions = told(learner, events, labels, weights)
        asked = decided(made, predictions.values, predictions.known.tolist(), start)
    return watch.read()


def told(
    learner: LinearClassifier, events: Sequence[Raw], labels: Sequence[str], weights: Sequence[float]
) -> LinearPredictions:
    """Learn the labels of the first events, then predict the others, as the stage does: by columns where all is
    plain, else one after the other."""
    n, steps = len(labels), learner.steps()
    rows = steps.plain(events) if len(events) >= FEW else [-1]
    if -1 not in rows and (numbers := steps.numbers(labels)) is not None:
        return steps.columns(rows[n:], Taught([0] * n, rows[:n], numbers, weights), predict=True)
    steps = learner.steps()
    for event, label, weight in zip(events, labels, weights, strict=False):
        steps.learn(steps.row(decode(event)), label, 0, weight)
    for event in events[n:]:
        row = steps.row(decode(event))
        steps.predict(row)
        steps.observe(row)
    return steps.execute()


def decided(made: Asker, values: NDArray[np.float64], known: list[int], start: int) -> list[int]:
    """As the query stage does: a run at once, or event by event."""
    if len(known) < MANY:
        p = values[0, : known[0]].tolist()
        candidate = Candidate(str(start), worth(p), start, p)
        return [start] if made.apply(candidate, made.decide(candidate)) is not None else []
    utilities = Measure("least_confident").of_run(values, known)
    assert utilities is not None
    numbers = range(start, start + len(known))
    run = made.decide_run([str(i) for i in numbers], utilities, numbers)
    assert run is not None
    run.packed()  # for the journal
    asked = run.asked()
    for i, decision in asked:
        p = values[i, : known[i]].tolist()
        made.ask(Candidate(str(start + i), decision.utility, start + i, p), decision)
    return [start + i for i, _ in asked]


def river_entropy(rows: Sequence[Row]) -> Timed:
    base = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    sampler = active.EntropySampler(base, seed=1)
    for x, y in rows[:200]:  # cold it asks nothing
        sampler.learn_one(x, y == "True")
    watch = Watch()
    for x, y in rows:
        _, ask = sampler.predict_one(x)
        if ask:
            sampler.learn_one(x, y == "True")
    return watch.read()


def peer(python: str, name: str, rows: Sequence[Row], whole: int) -> Timed:
    """A peer in a Python of its own; it times its loop itself. whole: events to be extrapolated to."""
    script = Path(__file__).parent / "active_peers.py"
    done = subprocess.run(
        [python, str(script), name], input=json.dumps(rows), capture_output=True, text=True, check=True
    )
    seconds, cpu = json.loads(done.stdout.splitlines()[-1])
    return Timed(seconds * whole / len(rows), cpu * whole / len(rows))


def loops(rows: list[Row], peers: str | None, peer_events: int) -> dict[str, Contestant]:
    found: dict[str, Contestant] = {
        f"streamd, auto over linear, runs of {RUN}": partial(streamd_runs, rows, RUN),
        "streamd, the same, event by event": partial(streamd_runs, rows, 1),
        "river, EntropySampler over LogisticRegression": partial(river_entropy, rows),
    }
    if peers is not None:
        part = rows[:peer_events]
        for name in ("VariableUncertainty", "Split", "StreamRandomSampling"):
            title = f"scikit-activeml, {name} over GaussianNB"
            found[title] = partial(peer, peers, name, part, len(rows))
        found["Vowpal Wabbit, --active --simulation"] = partial(peer, peers, "vw", rows, len(rows))
    return found


def show(title: str, runs: Any, events: int) -> None:
    first = next(iter(runs.values()))
    rows = []
    for name, timed in runs.items():
        times = np.median([t.cpu / f.cpu for t, f in zip(timed, first, strict=True)])
        rows.append((name, *speed(timed, events), f"{times:.2f}"))
    print_table(title, ("", "events/s", "µs of processor", "of the first's"), rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--peers", help="a Python that has scikit-activeml and vowpalwabbit")
    parser.add_argument("--peer-events", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    linear.load()
    querying.load()
    features.load()
    events = candidates(given.events)
    deciders: dict[str, Callable[[], Timed]] = {
        f"auto, the whole loop around it, runs of {RUN}": partial(asking, events, RUN),
        "the same, event by event": partial(asking, events, 1),
    }
    deciders |= {name: partial(deciding, name, events) for name in registry()}
    show("\ndecisions", interleaved(deciders, given.rounds), given.events)
    contestants = loops(stream(given.events), given.peers, given.peer_events)
    show("\nfull loop, SEA", interleaved(contestants, given.rounds), given.events)


if __name__ == "__main__":
    main()
