"""The annotators of a query: who is asked, what they are paid, what they say together; or one who is not known."""

import statistics
from collections.abc import Sequence

from streamd.querying.annotators import Annotators
from streamd.querying.queries import Query, Said


class Team:
    """annotators: None where nobody is told apart. answers: how many are asked about an event."""

    def __init__(self, annotators: Annotators | None, answers: int) -> None:
        self.annotators = annotators
        self.answers = answers
        self.costed = annotators is not None and bool(annotators.cost)
        """Whether labels are paid for."""

    def assign(self, query: Query) -> str | None:
        """Somebody who was not asked yet; None if nobody is left, or nobody is known."""
        if self.annotators is None:
            return None
        name = self.annotators.pick([*query.open, *query.refused, *query.said])
        if name is not None:
            self.annotators.assign(name)
            query.open = [*query.open, name]
        return name

    def release(self, query: Query, name: str) -> None:
        """An annotator need not answer any more."""
        if self.annotators is not None and name in query.open:
            self.annotators.release(name)
            query.open = [other for other in query.open if other != name]

    def answered(self, query: Query, name: str, now: int) -> float:
        """Note an annotator's first answer. Returns its price where labels are paid for, else 0."""
        if self.annotators is None:
            return 0.0
        self.release(query, name)
        price = self.annotators.answered(name, (now - query.at) / 1000.0)
        return price if self.costed else 0.0

    def price(self) -> float:
        """What a query is debited before it is known who answers."""
        return self.answers * self.annotators.mean_price() if self.costed and self.annotators else 1.0

    def cost(self, query: Query) -> float:
        """What those who answered are paid."""
        return sum(map(self.annotators.price, query.said)) if self.annotators is not None else 0.0

    def consensus(self, query: Query, classes: Sequence[str]) -> tuple[Said, float]:
        """(the label, the chance that it is right): of several the likeliest, of numbers the median, of sets the
        classes that more than half of the annotators name."""
        values = list(query.said.values())
        if len(values) == 1 and self.annotators is None:
            return values[0], 1.0
        if sets := [value for value in values if isinstance(value, list)]:
            named = [name for value in sets for name in value]
            label = sorted({name for name in named if 2 * named.count(name) > len(sets)})
            return label, sets.count(label) / len(sets) if label in sets else 0.5
        if numbers := [value for value in values if isinstance(value, float | int)]:
            return statistics.median(map(float, numbers)), 1.0
        said = {name: str(value) for name, value in query.said.items()}
        if self.annotators is not None:
            return self.annotators.consensus(said, classes)
        ranked = sorted(set(said.values()), key=lambda value: (-values.count(value), values.index(value)))
        return ranked[0], values.count(ranked[0]) / len(values)
