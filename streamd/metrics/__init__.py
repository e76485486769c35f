"""Prometheus metrics: one table of names, one collector that reads the engines' views when it is scraped.

Nothing is counted here. What a shard counted is part of its state, so its `_total`s go on after a restart where
the last commit left them, exactly; what an engine counts of its own work (epochs, restores) starts at 0 with the
process. Ages are not exported, only moments: an age is `time() - streamd_..._timestamp_seconds`, true even when
nothing moves.
"""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import get_args

import msgspec
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from streamd import __version__
from streamd.metrics import groups as group_metrics
from streamd.metrics import matching as metrics_matching
from streamd.metrics import query as metrics_query
from streamd.metrics.rows import PIPELINE, SHARD, Row, Sample
from streamd.views import (
    AlertsView,
    EngineView,
    LagView,
    Phase,
    QualityView,
    ShadowsView,
    ShadowView,
    ShardView,
    SnapshotView,
)

Views = Callable[[], Sequence[EngineView]]

SHADOW = (*SHARD, "shadow")

TABLE: Mapping[str, Row] = {
    "streamd_build": Row("info", (), "The version of streamd and of Python."),
    "streamd_config": Row("info", (), "A digest of the configuration this process runs with."),
    "streamd_pipeline": Row("info", PIPELINE, "Task, model and topics of a pipeline."),
    "streamd_ready": Row("gauge", PIPELINE, "1 if the pipeline serves all its partitions, else 0."),
    "streamd_log_away": Row("gauge", PIPELINE, "1 while the log cannot be reached, else 0."),
    "streamd_epochs": Row("counter", PIPELINE, "Epochs committed by this process."),
    "streamd_epoch_duration_seconds": Row("summary", PIPELINE, "From an epoch's first poll to its commit."),
    "streamd_commit_duration_seconds": Row("summary", PIPELINE, "The part of an epoch spent in its commit."),
    "streamd_epoch_bytes": Row("counter", PIPELINE, "Bytes of outputs and journal that were committed."),
    "streamd_epoch_timestamp_seconds": Row("gauge", PIPELINE, "When the last commit returned."),
    "streamd_progress_timestamp_seconds": Row("gauge", PIPELINE, "When anything last moved, or nothing waited."),
    "streamd_unfinished_transaction_timestamp_seconds": Row(
        "gauge",
        PIPELINE,
        "When the log was last found to have left a transaction open, which was ended; 0: never.",
    ),
    "streamd_voids": Row("counter", PIPELINE, "Epochs given up."),
    "streamd_restore_duration_seconds": Row("summary", PIPELINE, "Restores of a shard."),
    "streamd_offset_gaps": Row("counter", PIPELINE, "Offset gaps passed at the operator's choice."),
    "streamd_missed_records": Row("counter", PIPELINE, "Records in offset gaps, deleted before they were read."),
    "streamd_lost_epochs": Row("counter", PIPELINE, "Epochs whose learning was lost, at the operator's choice."),
    "streamd_lag_records": Row("gauge", ("pipeline", "topic", "partition"), "Records not yet polled."),
    "streamd_lag_seconds": Row("gauge", ("pipeline", "topic", "partition"), "Age of the oldest such record."),
    "streamd_shard_phase": Row("gauge", (*SHARD, "phase"), "1 for the phase the shard is in, 0 for the others."),
    "streamd_shard_sequence": Row("gauge", SHARD, "Epochs committed by the shard since it began."),
    "streamd_event_timestamp_seconds": Row("gauge", SHARD, "Event time; 0 before the first record."),
    "streamd_events": Row("counter", (*SHARD, "outcome"), "Events: applied, or repeated (predicted again only)."),
    "streamd_predictions": Row("counter", SHARD, "Predictions made."),
    "streamd_expired_events": Row("counter", SHARD, "Events that waited too long for their label."),
    "streamd_labels": Row(
        "counter",
        (*SHARD, "outcome"),
        "Labels by outcome. The late are among the learned; the early are counted again when their event comes.",
    ),
    "streamd_dead_letters": Row("counter", (*SHARD, "outcome"), "Dead letters: whole records, or only labels."),
    "streamd_ticks": Row("counter", SHARD, "Moments at which event time moved on without a record."),
    "streamd_other_counts": Row("counter", (*SHARD, "name"), "Counts that have no metric of their own."),
    "streamd_commands": Row("counter", (*SHARD, "command"), "Commands of the operator, carried out."),
    "streamd_pending_events": Row("gauge", SHARD, "Events waiting for their label."),
    "streamd_pending_bytes": Row("gauge", SHARD, "Bytes of the events waiting for their label."),
    "streamd_early_labels": Row("gauge", SHARD, "Labels waiting for their event."),
    "streamd_classes": Row("gauge", SHARD, "Classes the learner knows."),
    "streamd_label_delay_seconds": Row("histogram", SHARD, "Event time from an event to its label."),
    "streamd_quality": Row(
        "gauge",
        (*SHARD, "measure", "window"),
        "Prequential quality by measure, over all labels (total) and over the fading window (fading).",
    ),
    "streamd_judged_labels": Row("counter", SHARD, "Labels that judged a prediction."),
    "streamd_drifts": Row("counter", SHARD, "Drifts detected."),
    "streamd_shard_epoch_timestamp_seconds": Row("gauge", SHARD, "When its last epoch was committed; 0: not yet."),
    "streamd_state_bytes": Row("gauge", SHARD, "Its state in memory, as of the newest snapshot."),
    "streamd_snapshot_failures": Row("counter", PIPELINE, "Snapshots that the store did not take."),
    "streamd_backfill_records": Row("gauge", SHARD, "Offsets of history left to learn from, of a backfill."),
    "streamd_live_model": Row("info", SHARD, "The model that is live, where there are shadows."),
    "streamd_shadow": Row("info", SHADOW, "The model of a shadow."),
    "streamd_shadow_quality": Row(
        "gauge",
        (*SHADOW, "measure", "window"),
        "Quality of a shadow, measured as streamd_quality is.",
    ),
    "streamd_shadow_judged_labels": Row("gauge", SHADOW, "Labels that judged a prediction of the shadow."),
    "streamd_shadow_refused": Row("counter", SHADOW, "Events and labels the shadow could not take."),
    "streamd_snapshots_over_budget": Row(
        "counter", PIPELINE, "Of those, the ones that would have exceeded `snapshot.budget`."
    ),
    "streamd_snapshot_sequence": Row("gauge", SHARD, "The committed epoch the newest snapshot was made of."),
    "streamd_snapshot_bytes": Row("gauge", SHARD, "Its size."),
    "streamd_snapshot_kept_bytes": Row("gauge", SHARD, "All snapshots of the shard that the store keeps."),
    "streamd_snapshot_timestamp_seconds": Row("gauge", SHARD, "When it was written."),
    "streamd_snapshot_pause_seconds": Row("gauge", SHARD, "How long the engine stood still for its copy."),
    "streamd_snapshot_write_seconds": Row("gauge", SHARD, "How long its writing took in the background."),
    "streamd_vocabulary_terms": Row("gauge", SHARD, "Words and n-grams that SS3 stores."),
    "streamd_vocabulary_bound": Row("gauge", SHARD, "How many it may store."),
    "streamd_vocabulary_pairs": Row("gauge", SHARD, "Terms by category that it stores."),
    "streamd_vocabulary_bytes": Row("gauge", SHARD, "Memory of its counts."),
    "streamd_vocabulary_error": Row("gauge", SHARD, "No count is lower than the truth by more; 0: exact."),
    "streamd_vocabulary_evicted": Row("counter", SHARD, "Terms that had to give way to others."),
    "streamd_subjects": Row("gauge", SHARD, "Subjects of whom posts are kept."),
    "streamd_posts": Row("counter", SHARD, "Posts of subjects taken in."),
    "streamd_alerts": Row("counter", SHARD, "Alerts about subjects."),
    "streamd_corrected_alerts": Row("counter", SHARD, "Alerts that a label, or its correction, took back."),
    "streamd_forgotten_subjects": Row("counter", SHARD, "Subjects silent for too long, or for one too many."),
    **group_metrics.TABLE,
    **metrics_matching.TABLE,
    **metrics_query.TABLE,
}

COUNTS: Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "events": (("streamd_events", ("applied",)), ("streamd_predictions", ())),
    "repeated_events": (("streamd_events", ("repeated",)), ("streamd_predictions", ())),
    "expired_events": (("streamd_expired_events", ()),),
    "learned": (("streamd_labels", ("learned",)),),
    "late_labels": (("streamd_labels", ("late",)),),
    "repeated_labels": (("streamd_labels", ("repeated",)),),
    "corrected_labels": (("streamd_labels", ("corrected",)),),
    "early_labels": (("streamd_labels", ("early",)),),
    "skipped_labels": (("streamd_labels", ("skipped",)),),
    "unknown_labels": (("streamd_labels", ("unknown",)), ("streamd_dead_letters", ("unknown_label",))),
    "refused_labels": (("streamd_labels", ("refused",)), ("streamd_dead_letters", ("label",))),
    "dead_letters": (("streamd_dead_letters", ("record",)),),
    "ticks": (("streamd_ticks", ()),),
    **metrics_matching.COUNTS,
}
"""A shard's count -> where it is added. A name that is not here appears under `streamd_other_counts_total`."""

NOT_EXPORTED: Mapping[str, str] = {
    "EngineView.reasons": "sentences: /readyz",
    "ShardView.reason": "a sentence: /readyz",
    "ShardView.positions": "next offsets: /v1/pipelines; the broker has the committed ones",
    "ShardView.digest": "changes with every snapshot: /v1/pipelines",
}
"""What a view holds and no metric shows, and where it is to be found."""


class EngineCollector(Collector):
    """All of TABLE, from what `views` returns at the scrape."""

    def __init__(self, views: Views, config_digest: Callable[[], str]) -> None:
        self._views = views
        self._config_digest = config_digest

    def collect(self) -> Iterator[Metric]:
        families = _Families()
        families.info("streamd_build", (), {"version": __version__, "python": platform.python_version()})
        families.info("streamd_config", (), {"digest": self._config_digest()})
        for engine in self._views():
            _engine(families, engine)
        yield from families.filled()


def registry(views: Views, config_digest: Callable[[], str]) -> CollectorRegistry:
    """Everything `/metrics` shows: the engines, and this process (memory, CPU, open files, start, collections)."""
    found = CollectorRegistry()
    found.register(EngineCollector(views, config_digest))
    ProcessCollector(registry=found)
    GCCollector(registry=found)
    return found


class _Families:
    """The metric families of one scrape."""

    def __init__(self) -> None:
        self._simple: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        self._infos: dict[str, InfoMetricFamily] = {}
        self._summaries: dict[str, SummaryMetricFamily] = {}
        self._histograms: dict[str, HistogramMetricFamily] = {}
        for name, row in TABLE.items():
            if row.kind == "counter":
                self._simple[name] = CounterMetricFamily(name, row.help, labels=row.labels)
            elif row.kind == "gauge":
                self._simple[name] = GaugeMetricFamily(name, row.help, labels=row.labels)
            elif row.kind == "info":
                self._infos[name] = InfoMetricFamily(name, row.help, labels=row.labels)
            elif row.kind == "summary":
                self._summaries[name] = SummaryMetricFamily(name, row.help, labels=row.labels)
            else:
                self._histograms[name] = HistogramMetricFamily(name, row.help, labels=row.labels)

    def add(self, samples: Iterable[Sample]) -> None:
        for name, labels, value in samples:
            self._simple[name].add_metric(labels, value)

    def info(self, name: str, labels: tuple[str, ...], value: dict[str, str]) -> None:
        self._infos[name].add_metric(labels, value)

    def summary(self, name: str, labels: tuple[str, ...], count: int, total: float) -> None:
        self._summaries[name].add_metric(labels, count_value=count, sum_value=total)

    def histogram(
        self, name: str, labels: tuple[str, ...], bounds: Sequence[float], counts: Sequence[int], total: float
    ) -> None:
        """counts: per bucket, one more than bounds; the exposition's are cumulative."""
        edges = [*map(str, bounds), "+Inf"]
        buckets = list(zip(edges, map(float, accumulate(counts)), strict=True))
        self._histograms[name].add_metric(labels, buckets=buckets, sum_value=total)

    def filled(self) -> Iterator[Metric]:
        for families in (self._infos, self._simple, self._summaries, self._histograms):
            yield from (family for family in families.values() if family.samples)


def _engine(families: _Families, engine: EngineView) -> None:
    name = (engine.pipeline,)
    told = {"task": engine.task, "model": engine.model, "events": engine.events, "predictions": engine.predictions}
    families.info("streamd_pipeline", name, told)
    families.add(
        [
            ("streamd_ready", name, engine.ready),
            ("streamd_log_away", name, engine.away),
            ("streamd_epochs", name, engine.epochs),
            ("streamd_epoch_bytes", name, engine.epoch_bytes),
            ("streamd_epoch_timestamp_seconds", name, engine.last_epoch),
            ("streamd_progress_timestamp_seconds", name, engine.last_progress),
            ("streamd_unfinished_transaction_timestamp_seconds", name, engine.last_unfinished),
            ("streamd_voids", name, engine.voids),
            ("streamd_snapshot_failures", name, engine.unwritten),
            ("streamd_snapshots_over_budget", name, engine.over_budget),
            ("streamd_offset_gaps", name, engine.gaps),
            ("streamd_missed_records", name, engine.missed),
            ("streamd_lost_epochs", name, engine.lost_epochs),
        ]
    )
    families.summary("streamd_epoch_duration_seconds", name, engine.epochs, engine.epoch_seconds)
    families.summary("streamd_commit_duration_seconds", name, engine.epochs, engine.commit_seconds)
    families.summary("streamd_restore_duration_seconds", name, engine.restores, engine.restore_seconds)
    for lag in engine.lag:
        families.add(_lag(engine.pipeline, lag))
    for shard in engine.shards:
        _shard(families, (engine.pipeline, str(shard.partition)), shard)


def _lag(pipeline: str, lag: LagView) -> Iterator[Sample]:
    labels = (pipeline, lag.topic, str(lag.partition))
    yield "streamd_lag_records", labels, lag.records
    yield "streamd_lag_seconds", labels, lag.seconds


def _shard(families: _Families, labels: tuple[str, ...], shard: ShardView) -> None:
    families.add(
        [
            ("streamd_shard_sequence", labels, shard.sequence),
            ("streamd_event_timestamp_seconds", labels, shard.event_time / 1000),
            ("streamd_pending_events", labels, shard.pending),
            ("streamd_pending_bytes", labels, shard.pending_bytes),
            ("streamd_early_labels", labels, shard.early),
            ("streamd_classes", labels, shard.classes),
            ("streamd_judged_labels", labels, shard.quality.labels),
            ("streamd_drifts", labels, shard.quality.drifts),
            ("streamd_shard_epoch_timestamp_seconds", labels, shard.last_epoch),
            ("streamd_backfill_records", labels, shard.history),
        ]
    )
    families.add(("streamd_shard_phase", (*labels, phase), phase == shard.phase) for phase in get_args(Phase))
    families.add(_counts(labels, shard.counts))
    families.add(("streamd_commands", (*labels, name), count) for name, count in shard.commands.items())
    families.add(_quality("streamd_quality", labels, shard.quality))
    if shard.shadows is not None:
        _shadows(families, labels, shard.shadows)
    delay = shard.delay
    families.histogram("streamd_label_delay_seconds", labels, delay.bounds, delay.counts, delay.sum)
    if shard.groups is not None:
        families.add(group_metrics.group_samples(labels, shard.groups))
    if shard.vocabulary is not None:
        kept = msgspec.structs.asdict(shard.vocabulary)
        families.add((f"streamd_vocabulary_{name}", labels, value) for name, value in kept.items())
    if shard.alerts is not None:
        families.add(_alerts(labels, shard.alerts))
    if shard.snapshot is not None:
        families.add(_snapshot(labels, shard.snapshot))
    if shard.matching is not None:
        families.add(metrics_matching.samples(labels, shard.matching))
    if shard.querying is not None:
        families.add(metrics_query.samples(labels, shard.querying))


def _counts(labels: tuple[str, ...], counts: Mapping[str, int]) -> Iterator[Sample]:
    sums: dict[tuple[str, tuple[str, ...]], int] = {}
    for name, count in counts.items():
        for metric, outcome in COUNTS.get(name, (("streamd_other_counts", (name,)),)):
            place = (metric, (*labels, *outcome))
            sums[place] = sums.get(place, 0) + count
    return ((metric, place, total) for (metric, place), total in sums.items())


def _quality(metric: str, labels: tuple[str, ...], judged: QualityView | ShadowView) -> Iterator[Sample]:
    for window, measures in (("total", judged.total), ("fading", judged.fading)):
        for measure, value in measures.items():
            yield metric, (*labels, measure, window), value


def _shadows(families: _Families, labels: tuple[str, ...], shadows: ShadowsView) -> None:
    families.info("streamd_live_model", labels, {"model": shadows.live})
    for shadow in shadows.shadows:
        named = (*labels, shadow.shadow)
        families.info("streamd_shadow", named, {"model": shadow.model})
        families.add(_quality("streamd_shadow_quality", named, shadow))
        families.add(
            [
                ("streamd_shadow_judged_labels", named, shadow.labels),
                ("streamd_shadow_refused", named, shadow.refused),
            ]
        )


def _alerts(labels: tuple[str, ...], alerts: AlertsView) -> Iterator[Sample]:
    yield "streamd_subjects", labels, alerts.subjects
    yield "streamd_posts", labels, alerts.posts
    yield "streamd_alerts", labels, alerts.alerts
    yield "streamd_corrected_alerts", labels, alerts.corrected
    yield "streamd_forgotten_subjects", labels, alerts.forgotten


def _snapshot(labels: tuple[str, ...], snapshot: SnapshotView) -> Iterator[Sample]:
    yield "streamd_snapshot_sequence", labels, snapshot.sequence
    yield "streamd_snapshot_bytes", labels, snapshot.bytes
    yield "streamd_snapshot_kept_bytes", labels, snapshot.kept
    yield "streamd_state_bytes", labels, snapshot.memory
    yield "streamd_snapshot_timestamp_seconds", labels, snapshot.written
    yield "streamd_snapshot_pause_seconds", labels, snapshot.pause
    yield "streamd_snapshot_write_seconds", labels, snapshot.seconds
