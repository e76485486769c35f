"""The label loop of one shard: which events to ask for, what waits for an answer, what an answer means.

For each event `decide`, then `apply`; for each label `answer`; whenever event time moves on, `expire`. Only
`decide` draws, and it changes nothing; the others change the state and never draw, so a journal of decisions
replays.

The random slice: an event is in it with probability rho b, by hash, before anything else is looked at. It is never
refused; where the strategy had not asked for it, the bucket is overdrawn and the strategy pays it back. So every
event is asked for with a known probability, 1 where the strategy wants it (or what its own draw gave it), else rho
b.

What an answer means, by the state of its query (`Answer.kind`):

    pending     "learn" once all `answers` are there; before that "waiting"; a skip goes to the next annotator
                ("reask"), or closes the query if nobody is left ("closed"); "no" to a proposed label is the other
                one of two classes, else a query for the label itself ("reask")
    expired     "late": learned, and the token that came back is debited again
    answered    "repeated" where nothing changes; "correct" where the consensus does: the learner un-learns `old`
    gold        "gold": the annotator is judged by the truth; nothing is learned
    never asked "unasked": the label is a present; it costs nothing and is none of the strategy's business
"""

import math
from collections.abc import Sequence

from streamd.querying.alarm import Alarm
from streamd.querying.annotators import Annotators
from streamd.querying.answer import COUNTS, Answer, Standings, number_of
from streamd.querying.auto import Auto
from streamd.querying.budgets import UNIT, TokenBucket
from streamd.querying.decision import REFUSED, Candidate, Decision, Floats, Run, Strategy
from streamd.querying.draws import Keyed
from streamd.querying.equitable import Equitable
from streamd.querying.estimates import Estimates
from streamd.querying.queries import ANSWERED, EXPIRED, PENDING, Queries, Query, Said
from streamd.querying.self_labelling import SelfLabelling
from streamd.querying.team import Team
from streamd.snapshot import State, merge, split

HEAVIEST = 1e6  # of a label's weight: what learners take


class Asker:
    """strategy: with its budget. keyed: the draws. rho: the random slice's share of the budget, in [0, 1].
    wait: milliseconds of event time until a query expires. answers: how many annotators are asked. discount: by
    how much one pending query nearby lowers a utility, u / (1 + discount n). annotators: None: nobody is known.
    """

    def __init__(
        self,
        strategy: Strategy,
        keyed: Keyed,
        rho: float = 0.1,
        wait: int = 7_200_000,
        answers: int = 1,
        discount: float = 1.0,
        annotators: Annotators | None = None,
        queries: Queries | None = None,
        delta: float = 0.001,
        fading: float = 0.999,
    ) -> None:
        self.strategy = strategy
        self.budget = strategy.budget
        self.rho = rho
        self.wait = wait
        self.answers = answers
        self.discount = discount
        self.annotators = annotators
        self._team = Team(annotators, answers)
        self.queries = queries if queries is not None else Queries()
        self.estimates = Estimates(fading)
        self.counts = dict.fromkeys(COUNTS, 0)
        self._keyed = keyed
        self._alarms = (Alarm(delta), Alarm(delta))  # on the random slice, on all that was asked
        self._number = 0
        self._now = 0

    # --- an event

    def decide(self, candidate: Candidate) -> Decision:
        """Whether to ask for the label of this event. Pure. An event already asked for is not asked for again."""
        if candidate.event in self.queries.pending or candidate.event in self.queries.closed:
            return Decision(False, REFUSED, candidate.utility, math.inf, 0.0)
        draws = self._keyed.of(candidate.event)
        chance = self.rho * self.budget.share
        drawn = draws.uniform("slice") < chance
        if candidate.near and self.discount and (nearby := self.queries.nearby(candidate.near)):
            candidate = candidate._replace(utility=candidate.utility / (1 + self.discount * nearby))
        decision = self.strategy.decide(candidate, draws)
        own, branch, utility, threshold, p_ask, _ = decision
        if not drawn and p_ask == 1.0:
            return decision
        return Decision(own, branch, utility, threshold, p_ask + (1 - p_ask) * chance, drawn)

    def apply(self, candidate: Candidate, decision: Decision, proposed: str = "") -> Query | None:
        """Go on to the next event. Returns the query to be written if the label is asked for.

        proposed: the label to be confirmed with yes or no, "" to ask for the label itself.
        """
        if candidate.now > self._now:
            self._now = candidate.now
        payer = self.strategy.apply(candidate, decision)
        if not (decision.own or decision.drawn):
            return None
        if not decision.own:
            self.budget.debit(self._team.price(), payer)
        return self.ask(candidate, decision, proposed, payer)

    def decide_run(self, events: Sequence[str], utilities: Floats, times: Sequence[int]) -> Run | None:
        """As `decide` and `apply` for each, where none has neighbours; what is asked for is then to be given to
        `ask`, and event time, `times`, to `expire`. None, and nothing is changed, where they go one by one."""
        strategy = None if self._team.costed else self.strategy
        if not isinstance(strategy, Auto) or not self.queries.undisturbed(events, times, self.wait):
            return None
        return strategy.decide_run(utilities, self._keyed.of_run(events), self.rho * self.budget.share)

    def ask(self, candidate: Candidate, decision: Decision, proposed: str = "", payer: int = 0) -> Query:
        """The query of an event that was decided on and paid for; the rest as in `apply`."""
        if candidate.now > self._now:
            self._now = candidate.now
        price = self._team.price()
        self.counts["drawn"] += not decision.own
        self.counts["asked"] += 1
        self._number += 1
        query = Query(
            candidate.event,
            self._number,
            self._now,
            self._now + self.wait,
            *(decision.own, decision.drawn, decision.branch, decision.utility, decision.threshold, decision.p_ask),
            p=[float(value) for value in candidate.p],
            near=list(candidate.near),
            groups=list(candidate.groups),
            payer=payer,
            debited=price,
            kind="confirm" if proposed else "label",
            proposed=proposed,
        )
        self.queries.add(query)
        for _ in range(self.answers):
            self._team.assign(query)
        return query

    def decide_gold(self, event: str, share: float) -> Decision:
        """Whether to ask about an event whose label is known: with probability `share`. Pure."""
        drawn = self._keyed.of(event).uniform("gold") < share and not self.knows(event)
        return Decision(False, REFUSED, 0.0, math.inf, share if drawn else 0.0, drawn)

    def ask_gold(self, candidate: Candidate, truth: Said) -> Query:
        """A question to judge annotators by; it is paid for like any other."""
        self._now = max(self._now, candidate.now)
        self._number += 1
        self.counts["gold"] += 1
        price = self._team.price()
        self.budget.debit(price)
        decided = (False, True, REFUSED, 0.0, math.inf, 1.0)
        event, near, groups = candidate.event, list[int](), list(candidate.groups)
        asked = (event, self._number, self._now, self._now + self.wait, *decided)
        query = Query(*asked, [], near, groups, 0, price, truth=truth)
        self.queries.add(query)
        for _ in range(self.answers):
            self._team.assign(query)
        return query

    def issue(self, query: Query) -> str:
        """The id of one more record that asks for the same label; the first has the query's own."""
        self._number += 1
        return f"{query.event}#{self._number}"

    def own_label(self, candidate: Candidate, decision: Decision) -> tuple[int, float] | None:
        """The class to be learned without asking, and its weight: self-labelling. Pure; before `apply`."""
        if isinstance(self.strategy, SelfLabelling):
            return self.strategy.own_label(candidate, decision)
        return None

    # --- an answer

    def knows(self, event: str) -> bool:
        """Whether the event was asked for, as far as is remembered. Then `answer` depends on what was decided
        before it; of any other event it only counts."""
        return self.queries.find(event) is not None

    def unasked(self, skipped: bool = False) -> None:
        """A label, or a skip, of an event that was not asked for."""
        self.counts["skipped" if skipped else "unasked"] += 1

    def answer(
        self,
        event: str,
        label: Said | None,
        now: int,
        annotator: str = "",
        classes: Sequence[str] = (),
        confidence: float = 1.0,
    ) -> Answer:
        """A label, or None for a skip. classes: the learner's, in its order; confidence: the annotator's own.

        "yes" and "no" answer a query that proposed a label.
        """
        self._now = max(self._now, now)
        query = self.queries.find(event)
        if query is None:
            self.unasked(label is None)
            return Answer("unasked", label)
        if label is None:
            return self._skip(query, annotator)
        if query.kind == "confirm" and label in ("yes", "no"):
            told = self._confirmed(query, str(label), classes)
            if told is None:
                return self._refuted(query, annotator)
            label = told
        return self._said(query, label, annotator, classes, confidence)

    def expire(self, now: int) -> list[Query]:
        """The queries whose deadline has passed; each token comes back."""
        self._now = max(self._now, now)
        expired = []
        for query in self.queries.due(self._now):
            self._give_up(query)
            expired.append(query)
        return expired

    def deadline(self) -> int | None:
        """The next moment of event time at which a query expires."""
        return self.queries.deadline()

    def alarm(self) -> None:
        """Drift was noticed, here or by who watches the predictions."""
        self.counts["alarms"] += 1
        self.strategy.alarm()

    def show(self, level: float = math.nan) -> Standings:
        team, counts = [], dict(self.counts)
        if self.annotators is not None:
            team = self.annotators.standings()
            counts["unknown_annotator"] = self.annotators.unknown
        level = getattr(self.budget, "level", level)
        share = self.budget.share
        lost = self.budget.lost / UNIT if isinstance(self.budget, TokenBucket | Equitable) else math.nan
        return Standings(counts, len(self.queries.pending), level, share, self.estimates.view(), team, lost)

    # --- pieces

    def _said(
        self, query: Query, label: Said, annotator: str, classes: Sequence[str], confidence: float
    ) -> Answer:
        before = query.said.get(annotator)
        if before == label:
            self.counts["repeated"] += 1
            return Answer("repeated", query.label, query=query)
        if any(other != label for name, other in query.said.items() if name != annotator):
            self.counts["disagreed"] += 1
        query.said = query.said | {annotator: label}
        paid = self._team.answered(query, annotator, self._now) if before is None else 0.0
        if query.truth is not None:
            return self._judged_by_truth(query, label, annotator, query.truth)
        if query.status == PENDING:
            if len(query.said) < self.answers:
                return Answer("waiting", query=query)
            return self._complete(query, classes, confidence, "learn")
        if query.status == EXPIRED:
            self.counts["late"] += 1
            self.budget.debit(query.debited, query.payer)
            return self._complete(query, classes, confidence, "late")
        self.budget.debit(paid, query.payer)
        return self._corrected(query, classes, confidence)

    def _complete(self, query: Query, classes: Sequence[str], confidence: float, kind: str) -> Answer:
        """All answers are there, or one came after expiry: the consensus is learned."""
        label, certainty = self._team.consensus(query, classes)
        if kind == "learn":
            self.counts["answered"] += 1
            self.strategy.closed()
        for name in list(query.open):
            self._team.release(query, name)
        if self._team.costed:
            self.budget.debit(self._team.cost(query) - query.debited, query.payer)
        query.label = label
        self.queries.close(query, ANSWERED)
        weight = self._judge(query, label, classes)
        if self.annotators is not None and isinstance(label, str):
            self.annotators.learn({name: str(said) for name, said in query.said.items()}, classes)
        return Answer(kind, label, min(weight * certainty * confidence, HEAVIEST), query=query)

    def _judged_by_truth(self, query: Query, label: Said, annotator: str, truth: Said) -> Answer:
        if self.annotators is not None and isinstance(label, str):
            self.annotators.gold(annotator, label, str(truth))
        if query.status == PENDING and len(query.said) >= self.answers:
            for name in list(query.open):
                self._team.release(query, name)
            query.label = truth
            self.queries.close(query, ANSWERED)
        return Answer("gold", truth, query=query)

    def _corrected(self, query: Query, classes: Sequence[str], confidence: float) -> Answer:
        label, certainty = self._team.consensus(query, classes)
        if label == query.label:
            self.counts["repeated"] += 1
            return Answer("repeated", label, query=query)
        old, query.label = query.label, label
        self.counts["corrected"] += 1
        return Answer("correct", label, certainty * confidence, old, query=query)

    def _judge(self, query: Query, label: Said, classes: Sequence[str]) -> float:
        """The prediction made when asking against the label: quality, drift, the strategy. Returns the weight.

        Of several classes the likeliest is to be one.
        """
        if isinstance(label, float | int):
            if query.p:
                self.estimates.add(abs(query.p[0] - label), query.p_ask, query.drawn)
            return self.strategy.taught(query.p, 0, query.decision)
        number = number_of(label, query.p, classes)
        right = float(bool(query.p) and query.p.index(max(query.p)) == number)
        self.estimates.add(right, query.p_ask, query.drawn)
        if isinstance(self.budget, Equitable):
            self.budget.judged(query.groups, 1.0 - right)
        raised = self._alarms[1].update(1.0 - right)
        if query.drawn:
            raised |= self._alarms[0].update(1.0 - right)
        if raised:
            self.alarm()
        return self.strategy.taught(query.p, number, query.decision)

    def _skip(self, query: Query, annotator: str) -> Answer:
        self.counts["skipped"] += 1
        if self.annotators is not None:
            self.annotators.skipped(annotator)
        if query.status != PENDING or annotator in query.refused or annotator in query.said:
            return Answer("repeated", query.label, query=query)
        self._team.release(query, annotator)
        query.refused = [*query.refused, annotator]
        return self._reask(query)

    def _reask(self, query: Query) -> Answer:
        """Somebody else, if there is; without a list of annotators the pool sees to it, until the deadline."""
        if self.annotators is None or not self.annotators.names:
            return Answer("reask", query=query)
        name = self._team.assign(query)
        if name is None and not query.open:
            self._give_up(query)
            return Answer("closed", query=query)
        return Answer("waiting" if name is None else "reask", next=name or "", query=query)

    def _confirmed(self, query: Query, label: str, classes: Sequence[str]) -> str | None:
        """The label that a yes or no stands for; None: only that it is not the proposed one."""
        if label == "yes":
            return query.proposed
        others = [name for name in classes if name != query.proposed]
        return others[0] if len(others) == 1 else None

    def _refuted(self, query: Query, annotator: str) -> Answer:
        """It is none of several: ask again, for the label itself; the same annotator has it before them."""
        self.counts["refuted"] += 1
        if query.status != PENDING:
            return Answer("repeated", query.label, query=query)
        query.kind = "label"
        return Answer("reask", next=annotator, query=query)

    def _give_up(self, query: Query) -> None:
        self.counts["expired"] += 1
        self.budget.refund(query.debited, query.payer)
        if query.truth is None:
            self.strategy.closed()
        for name in list(query.open):
            self._team.release(query, name)
        self.queries.close(query, EXPIRED)

    # --- what is kept

    def state(self) -> State:
        parts = {
            "strategy": self.strategy.state(),
            "budget": self.budget.state(),
            "queries": self.queries.state(),
            "estimates": self.estimates.state(),
            "slice": self._alarms[0].state(),
            "asked": self._alarms[1].state(),
            "asker": State({}, {"counts": dict(self.counts), "number": self._number, "now": self._now}),
        }
        return merge(parts if self.annotators is None else {**parts, "annotators": self.annotators.state()})

    def restore(self, state: State, anew: bool = False) -> None:
        """anew: but for strategy and budget, which are others now."""
        parts = split(state)
        if not anew:
            self.strategy.restore(parts["strategy"])
            self.budget.restore(parts["budget"])
        self.queries.restore(parts["queries"])
        if anew:
            for query in (*self.queries.pending.values(), *self.queries.closed.values()):
                query.payer = 0
        self.estimates.restore(parts["estimates"])
        self._alarms[0].restore(parts["slice"])
        self._alarms[1].restore(parts["asked"])
        if self.annotators is not None and "annotators" in parts:
            self.annotators.restore(parts["annotators"])
        document = parts["asker"].document
        self.counts = dict.fromkeys(COUNTS, 0) | document["counts"]
        self._number, self._now = document["number"], document["now"]
