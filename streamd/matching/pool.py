"""A pool: resources, what was promised of them, and the rule that promises. One writer, no clock, no I/O.

    decision = pool.decide(arrival, now)      # pure; for an answered (arrival, attempt) its answer
    pool.apply(arrival, decision, now)        # the only way a decision changes anything; a replay applies, too
    pool.settle(outcome, now)                 # success, failure, skip; late, repeated, contradicting
    pool.advance(now)                         # event time: attempts over their time end as failures

>>> from streamd.matching.arrivals import Arrival, Edge, Outcome
>>> from streamd.matching.resources import Offer
>>> pool = Pool(Rule())
>>> for name in ("ann", "ben"):
...     _ = pool.put(name, Offer(capacity=1), now=0)
>>> def give(name, *edges):
...     arrival = Arrival(name, edges=[Edge(*edge) for edge in edges])
...     decision = pool.decide(arrival, now=0)
...     pool.apply(arrival, decision, now=0)
...     return decision.resource or decision.reason
>>> give("q1", ("ann", 0.5), ("ben", 0.4)), give("q2", ("ann", 0.5), ("ben", 0.4))
('ann', 'ben')
>>> give("q3", ("ann", 0.5))
'no resource has room'
>>> pool.settle(Outcome("q1", success=False), now=0)
'settled'
>>> give("q4", ("ann", 0.5)), round(pool.load("ann"), 2)
('ann', 1.0)
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamd.errors import BadRecord, ConfigError
from streamd.kernels import matching as kernel
from streamd.matching.arrivals import NO_EDGES, Arrival, Edge, Edges, Limits, Outcome, numbers
from streamd.matching.attempts import Attempt, Attempts, Decision, Status
from streamd.matching.choosing import Chooser
from streamd.matching.probabilities import NO_CODES, Chances, Source
from streamd.matching.resources import Offer, Resources
from streamd.matching.rules import Rule
from streamd.matching.run import Listed, Runner
from streamd.matching.segments import Segments
from streamd.matching.window import Seen, Window
from streamd.snapshot import State, merge, split

Late = Literal["ignore", "accept", "correct"]
TOO_LATE = "the deadline has passed"
Settled = Literal["settled", "repeated", "contradicted", "late", "late ignored"]

COUNTS = {
    "arrivals": "arrivals decided",
    "matched": "arrivals matched",
    "unmatched": "arrivals left unmatched, with a reason",
    "repeated_arrivals": "arrivals answered before: the same answer again",
    "successes": "attempts that succeeded in time",
    "failures": "attempts that failed by their outcome",
    "skipped": "attempts answered with a skip: nothing learned",
    "timeouts": "attempts over their time: failures",
    "late_successes": "successes after the time-out that were accepted or corrected",
    "late_ignored": "outcomes after the time-out without effect",
    "repeated_outcomes": "outcomes that said again what was known",
    "contradictions": "outcomes against the one that was applied: the first stands",
    "surplus": "successes beyond their resource's capacity",
    "unknown_edges": "edges to resources the pool does not know",
}


class Pool:
    """The state machine.

    timeout: milliseconds after which an open attempt counts as failed (its arrival's deadline, if earlier);
    late: what a success after that does: nothing; "accept": it takes its unit; "correct": it is learned, too.
    shares: least share of the matches per group. window: keeps the last arrivals.
    ranks: recorded ranks for a replay, see `Resources`.
    Raises ConfigError for parameters out of range.
    """

    def __init__(
        self,
        rule: Rule,
        source: Source | None = None,
        *,
        timeout: int = 86_400_000,
        late: Late = "accept",
        shares: Mapping[str, float] | None = None,
        limits: Limits | None = None,
        ranks: NDArray[np.float64] | None = None,
        window: Window | None = None,
    ) -> None:
        if timeout < 1:
            raise ConfigError("timeout", "must be 1 millisecond or more")
        if late not in ("ignore", "accept", "correct"):
            raise ConfigError("late", "expected ignore, accept or correct")
        self.rule = rule
        self.source = source or Source()
        self.timeout = timeout
        self.late = late
        self.limits = limits or Limits()
        self.resources = Resources(rule, self.limits.resources, shares or {}, ranks)
        self.chances = Chances(self.source, self.resources.names)
        self.segments = Segments(self.resources, self.limits.segments, self.limits.segment_edges)
        self.attempts = Attempts(self.limits.remember)
        self.counts = dict.fromkeys(COUNTS, 0)
        self.reasons: dict[str, int] = {}  # why arrivals were left unmatched -> how many
        self.expected, self.succeeded = 0.0, 0  # successes of the settled attempts: by their p, and in truth
        self.window = window
        self._taken: dict[str, tuple[str, ...]] = {}  # distinct key -> resources that were given
        self._chooser = Chooser(rule, self.source, self.resources, self.chances)
        self._runner = Runner(self.resources, self.limits.edges, window is not None)

    # --- resources

    def put(self, name: str, offer: Offer, now: int) -> None:
        """A resource joins, comes back or changes. Raises BadRecord and changes nothing."""
        self.resources.put(name, offer, now)
        self._clean()

    def join(self, names: Sequence[str], offer: Offer) -> int:
        """New resources join with one offer, see `Resources.join`."""
        return self.resources.join(names, offer)

    def leave(self, name: str) -> bool:
        """No more matches for it; its open attempts still settle. Returns whether it was here."""
        return self.resources.leave(name)

    def put_segment(self, name: str, edges: Sequence[Edge]) -> None:
        """Keep an edge set under a name, or replace it. Raises BadRecord and changes no segment."""
        p, bids = numbers(edges, self.source.kind == "event", self.rule.money)
        self.segments.put(name, [edge.resource for edge in edges], p, bids)
        self._clean()

    def load(self, name: str) -> float:
        """The load of a resource. KeyError if it is unknown."""
        return float(self._row(name)["load"])

    def used(self, name: str) -> float:
        """The units of a resource that are taken. KeyError if it is unknown."""
        return float(self._row(name)["used"])

    # --- arrivals

    def edges(self, arrival: Arrival) -> "Edges | str":
        """The edges of an arrival, or why there are none: `decide` and `apply` need not look them up again.

        Good until the next change. Raises BadRecord for what `decide` would refuse.
        """
        self.chances.codes(arrival.features)
        return self._edges(arrival)

    def choosy(self, arrival: Arrival) -> bool:
        """Whether more than its needs tells whom an arrival may get."""
        return arrival.edges is not None or arrival.segment is not None or bool(self._barred(arrival))

    def decide(self, arrival: Arrival, now: int, edges: "Edges | str | None" = None) -> Decision:
        """The answer to an arrival at this event time; changes nothing. Raises BadRecord for bad edges."""
        known = self.attempts.answer(arrival.id, arrival.attempt)
        if known is not None:
            return known.decision
        edges = self._edges(arrival) if edges is None else edges
        if isinstance(edges, str):
            return Decision(None, edges)
        if arrival.deadline is not None and arrival.deadline <= now:
            return Decision(None, TOO_LATE)
        if len(self.attempts.open) >= self.limits.open:
            return Decision(None, "too many attempts are open")
        return self._chooser.choose(arrival, edges, self._slots(self._barred(arrival)), now, self.timeout)

    def apply(self, arrival: Arrival, decision: Decision, now: int, edges: "Edges | str | None" = None) -> bool:
        """Make a decision true. Returns whether it is new; an (arrival, attempt) has one decision only."""
        if self.attempts.answer(arrival.id, arrival.attempt) is not None:
            self.counts["repeated_arrivals"] += 1
            return False
        if arrival.edges is not None or self.window is not None:
            edges = self._edges(arrival) if edges is None else edges
        if arrival.edges is not None and isinstance(edges, Edges):
            self.counts["unknown_edges"] += int(np.count_nonzero(edges.slots < 0))
        slot = -1 if decision.resource is None else self._chosen(arrival, edges, decision.resource)
        if decision.resource is not None and slot < 0:
            raise BadRecord("the resource of the decision is not known")
        codes = self.chances.codes(arrival.features)
        if self.window is not None and isinstance(edges, Edges):
            needs = self.resources.needs(arrival.needs) if arrival.needs else np.uint64(0)
            told = (arrival.kind, codes, needs, self._barred(arrival), slot, decision.p, decision.units)
            self.window.add(Seen(f"{arrival.id}/{arrival.attempt}", edges, *told))
        match = f"{arrival.id}/{arrival.attempt}"
        self._answered(Attempt(decision, arrival.id, arrival.attempt, now, arrival.kind, codes), match)
        if decision.resource is None:
            return True
        kernel.book(slot, decision.p, decision.units, now, self.resources.state)
        if arrival.distinct is not None:
            self._remember_distinct(arrival.distinct, decision.resource)
        return True

    def run(self, asked: Sequence[Listed]) -> list[Decision]:
        """`decide` and `apply` new arrivals, each at its own time, from the first on until one is not plain, see
        `streamd.matching.run`. Nothing may be due in between."""
        answered = self._runner.decide(asked)
        for one, (decision, slot, unknown, edges) in zip(asked, answered, strict=False):
            self.counts["unknown_edges"] += unknown
            if self.window is not None:
                told = (one.kind, NO_CODES, np.uint64(0), (), slot, decision.p, decision.units)
                self.window.add(Seen(one.match, edges, *told))
            self._answered(Attempt(decision, one.arrival, one.attempt, one.now, one.kind), one.match)
        return [one.decision for one in answered]

    def best(self, arrival: Arrival, now: int) -> Decision:
        """`decide` and `apply` in one."""
        edges = self.edges(arrival)
        decision = self.decide(arrival, now, edges)
        self.apply(arrival, decision, now, edges)
        return decision

    # --- outcomes

    def settle(self, outcome: Outcome, now: int) -> Settled:
        """Apply an outcome. Raises BadRecord for one of an unknown match or another resource."""
        kept = self.attempts.find(outcome.id, outcome.resource)
        if kept is None:
            raise BadRecord("outcome: no such match is known")
        if kept.status == "unmatched":
            raise BadRecord("outcome: its arrival was left unmatched")
        if outcome.resource is not None and outcome.resource != kept.decision.resource:
            raise BadRecord("outcome: the match is with another resource")
        status: Status = "skipped" if outcome.skip else "success" if outcome.success else "failure"
        if kept.status == "open":
            self._end(kept, status, now)
            return "settled"
        if kept.status == "timeout":
            return self._late(kept, status, now)
        if kept.status == status:
            self.counts["repeated_outcomes"] += 1
            return "repeated"
        self.counts["contradictions"] += 1
        return "contradicted"

    def advance(self, now: int) -> list[Attempt]:
        """Let event time pass. Returns the attempts that were over their time, in that order; they failed."""
        ended = []
        while (kept := self.attempts.due(now)) is not None:
            self._end(kept, "timeout", kept.decision.open_until)
            ended.append(kept)
        return ended

    def deadline(self) -> int | None:
        """The next moment of event time at which an attempt is over its time."""
        return self.attempts.deadline()

    # --- state

    def freeze(self) -> Callable[[], State]:
        """A cheap copy now; the function makes the state, in any thread."""
        parts = {
            "resources": self.resources.state_now(),
            "chances": _copied(self.chances.state()),
            "segments": self.segments.state(),
        }
        if self.window is not None:
            parts["window"] = self.window.state()
        attempts = self.attempts.freeze()
        document = {
            "counts": dict(self.counts),
            "reasons": dict(self.reasons),
            "calibration": [self.expected, self.succeeded],
            "distinct": [[key, list(given)] for key, given in self._taken.items()],
        }
        return lambda: merge({**parts, "attempts": attempts(), "pool": State({}, document)})

    def state(self) -> State:
        return self.freeze()()

    def restore(self, state: State) -> None:
        """Become what `state` says; the parameters must be those it was made under."""
        parts = split(state)
        self.resources.restore(parts["resources"])
        self.chances.restore(parts["chances"])
        self.segments.restore(parts["segments"])
        self.attempts.restore(parts["attempts"])
        if self.window is not None and "window" in parts:  # snapshots of before have none
            self.window.restore(parts["window"])
        document = parts["pool"].document
        self.counts = dict.fromkeys(COUNTS, 0) | document["counts"]
        self.reasons = dict(document["reasons"])
        self.expected, self.succeeded = document["calibration"]
        self._taken = {key: tuple(given) for key, given in document["distinct"]}

    # --- deciding

    def _edges(self, arrival: Arrival) -> Edges | str:
        """The edges of an arrival, or why there are none."""
        if arrival.edges is not None:
            if len(arrival.edges) > self.limits.edges:
                raise BadRecord(f"edges: {len(arrival.edges)}, at most {self.limits.edges}")
            p, bids = numbers(arrival.edges, self.source.kind == "event", self.rule.money)
            edges = Edges(self.resources.names.find([edge.resource for edge in arrival.edges]), p, bids)
        elif arrival.segment is not None:
            kept = self.segments.kept.get(arrival.segment)
            if kept is None:
                return "the segment is not known"
            edges = Edges(*kept)
        elif self.source.kind == "event":
            raise BadRecord("Object missing required field `edges`")
        else:
            slots = np.flatnonzero(self.resources.table["present"][: self.resources.names.size])
            if len(slots) > self.limits.edges:
                return "the pool has too many resources for an arrival without edges"
            edges = Edges(slots, np.zeros(len(slots)), NO_EDGES.bids)
        return edges if len(edges.slots) else "there are no edges"

    def _barred(self, arrival: Arrival) -> tuple[str, ...]:
        """Resources an arrival must not get."""
        names = tuple(arrival.exclude)
        return names if arrival.distinct is None else names + self._taken.get(arrival.distinct, ())

    def _slots(self, names: tuple[str, ...]) -> NDArray[np.int64]:
        return self.resources.names.find(names)

    # --- applying

    def _answered(self, kept: Attempt, match: str) -> None:
        """Remember an answer that is new. match: its id."""
        self.counts["arrivals"] += 1
        if kept.decision.resource is not None:
            self.counts["matched"] += 1
        else:
            reason = kept.decision.reason
            self.counts["unmatched"] += 1
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
            kept = msgspec.structs.replace(kept, kind=None, codes=NO_CODES, status="unmatched")
        self.attempts.add(kept, match)

    def _remember_distinct(self, key: str, resource: str) -> None:
        self._taken[key] = (*self._taken.pop(key, ()), resource)
        while len(self._taken) > self.limits.remember:
            del self._taken[next(iter(self._taken))]

    def _end(self, kept: Attempt, status: Status, now: int) -> None:
        """An open attempt ends."""
        self.attempts.close(kept, status)
        count = {"success": "successes", "failure": "failures", "skipped": "skipped", "timeout": "timeouts"}
        self.counts[count[status]] += 1
        slot = self._slot(kept.decision.resource)
        success, judged = status == "success", status != "skipped"
        before, off = self._surplus(slot), self.resources.is_off(slot)
        decision = kept.decision
        kernel.settle(slot, decision.p, decision.units, success, judged, now, self.resources.state)
        self.counts["surplus"] += success and self._surplus(slot) > before
        if judged:
            self.expected += decision.p
            self.succeeded += success
            self.resources.off += self.resources.is_off(slot) - off
            self.chances.learn(slot, kept.kind, kept.codes, success, now)

    def _late(self, kept: Attempt, status: Status, now: int) -> Settled:
        """An outcome after the time-out, which counted as a failure."""
        slot = self._slot(kept.decision.resource)
        if status == "failure":
            self.counts["repeated_outcomes"] += 1
            self.attempts.close(kept, status)
            return "repeated"
        if status == "skipped" or self.late == "ignore" or slot < 0:
            self.counts["late_ignored"] += 1
            return "late ignored"
        self.attempts.close(kept, status)
        self.counts["late_successes"] += 1
        before, off = self._surplus(slot), self.resources.is_off(slot)
        correct = self.late == "correct"
        kernel.deliver_late(slot, kept.decision.units, correct, now, self.resources.state)
        self.counts["surplus"] += self._surplus(slot) > before
        if correct:
            self.succeeded += 1
            self.resources.off += self.resources.is_off(slot) - off
            self.chances.correct(slot, kept.kind, kept.codes, now)
        return "late"

    def _surplus(self, slot: int) -> float:
        row = self.resources.table[slot]
        return max(0.0, float(row["used"]) - float(row["capacity"]))

    def _slot(self, resource: str | None) -> int:
        assert resource is not None
        return int(self.resources.names.find([resource])[0])

    def _chosen(self, arrival: Arrival, edges: Edges | str | None, resource: str) -> int:
        """The slot of a decision's resource: mostly one of the edges, whose slots are known."""
        if arrival.edges is not None and isinstance(edges, Edges):
            for i, edge in enumerate(arrival.edges):
                if edge.resource == resource:
                    return int(edges.slots[i])
        return self._slot(resource)

    def _row(self, name: str) -> Any:
        slot = self._slot(name)
        if slot < 0:
            raise KeyError(name)
        return self.resources.table[slot]

    def _clean(self) -> None:
        while self.resources.forgotten:
            self.chances.forget(self.resources.forgotten.pop())


def _copied(state: State) -> State:
    return State({name: array.copy() for name, array in state.arrays.items()}, state.document)
