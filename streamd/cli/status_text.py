"""What `streamd status` tells of a text pipeline: its vocabulary, its alerts about subjects."""

from collections.abc import Iterator

from streamd.views import AlertsView, VocabularyView


def text_lines(partition: int, vocabulary: VocabularyView | None, alerts: AlertsView | None) -> Iterator[str]:
    if vocabulary is not None:
        wrong = f"counts are too low by {vocabulary.error:.3g} at most" if vocabulary.evicted else "exact"
        yield (
            f"partition {partition} vocabulary: {vocabulary.terms:,} of {vocabulary.bound:,} terms, "
            f"{vocabulary.pairs:,} by category, {vocabulary.bytes / 1024:,.0f} KB, {wrong}"
        )
    if alerts is not None:
        yield (
            f"partition {partition} alerts: {alerts.alerts:,}, {alerts.corrected:,} of them taken back; "
            f"{alerts.posts:,} posts, {alerts.subjects:,} subjects kept, {alerts.forgotten:,} forgotten"
        )
