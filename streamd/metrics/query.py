"""The metrics of the label loop; what each means is told by `streamd.views.QueryingView`."""

from collections.abc import Iterator, Mapping

from streamd.metrics.rows import SHARD, Row, Sample
from streamd.views import QueryingView

TABLE: Mapping[str, Row] = {
    "streamd_queries": Row("counter", (*SHARD, "outcome"), "Queries and answers by what became of them."),
    "streamd_query_strategy": Row("gauge", (*SHARD, "name"), "1 for the strategy that decides on queries."),
    "streamd_pending_queries": Row("gauge", SHARD, "Queries waiting for their answer."),
    "streamd_query_budget_level": Row("gauge", SHARD, "Labels in the bucket of the query budget."),
    "streamd_query_budget_lost": Row(
        "counter",
        SHARD,
        "Labels' worth of income that a full bucket had no room for: no event came to be asked about.",
    ),
    "streamd_query_budget_share": Row("gauge", SHARD, "Labels per event that the query budget allows."),
    "streamd_query_quality": Row(
        "gauge",
        (*SHARD, "measure"),
        "Quality from the labels asked for: raw, weighted by 1 / P(asked), on the blind slice; their precision.",
    ),
    "streamd_query_answers": Row("counter", (*SHARD, "name"), "Answers judged: all, or those of the blind slice."),
    "streamd_annotator": Row(
        "gauge", (*SHARD, "name", "measure"), "An annotator's accuracy, agreement, speed, cost, load and counts."
    ),
}


def samples(labels: tuple[str, ...], querying: QueryingView) -> Iterator[Sample]:
    for outcome, count in querying.counts.items():
        yield "streamd_queries", (*labels, outcome), count
    yield "streamd_query_strategy", (*labels, querying.strategy), 1
    yield "streamd_pending_queries", labels, querying.pending
    yield "streamd_query_budget_share", labels, querying.share
    if querying.level is not None:
        yield "streamd_query_budget_level", labels, querying.level
    if querying.lost is not None:
        yield "streamd_query_budget_lost", labels, querying.lost
    estimates = querying.estimates
    yield "streamd_query_answers", (*labels, "all"), estimates.answers
    yield "streamd_query_answers", (*labels, "slice"), estimates.drawn
    for measure in ("raw", "weighted", "effective", "holdout", "error"):
        if (value := getattr(estimates, measure)) is not None:
            yield "streamd_query_quality", (*labels, measure), value
    for annotator in querying.annotators:
        for measure in ("accuracy", "agreement", "seconds", "cost", "load", "answers", "skips", "bad"):
            if (value := getattr(annotator, measure)) is not None:
                yield "streamd_annotator", (*labels, annotator.name, measure), value
