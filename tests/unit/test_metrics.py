"""The exposition: well formed, named by convention, and complete over what the views hold."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import msgspec
import pytest
from engine_views import ENGINE, SHARD
from msgspec.structs import replace
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from streamd.metrics import COUNTS, NOT_EXPORTED, TABLE, registry
from streamd.stages import matching, predicting
from streamd.views import EngineView, LagView, Phase

LABELS = {"pipeline", "command", "topic", "partition", "outcome", "phase", "measure", "window", "name", "shadow"}
GROUP_LABELS = {"group", "model", "end", "expert", "alarm", "declaration", "reason"}
POOL_LABELS = {"pool", "kind", "against", "assumes", "source", "rule"}


def exposition(*views: EngineView) -> str:
    text = generate_latest(registry(lambda: views, lambda: "c0ffee")).decode()
    return "\n".join(line for line in text.splitlines() if "streamd_" in line)


def samples(*views: EngineView) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(exposition(*views) + "\n")
    found = [sample for family in families for sample in family.samples]
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in found}


def value(name: str, view: EngineView = ENGINE, /, **labels: str) -> float:
    return samples(view)[name, tuple(sorted(labels.items()))]


def test_every_metric_of_the_table_appears_and_no_other() -> None:
    # given a view with something of everything, and a count that nobody knows
    view = replace(ENGINE, shards=(replace(SHARD, counts={**SHARD.counts, "new_count": 1}),))
    # when it is scraped, then what appears is the table
    families = {family.name for family in text_string_to_metric_families(exposition(view) + "\n")}
    assert {name.removesuffix("_info") for name in families} == set(TABLE)


def test_the_process_shows_itself() -> None:
    text = generate_latest(registry(lambda: (), lambda: "c0ffee")).decode()
    assert "process_resident_memory_bytes" in text
    assert 'streamd_config_info{digest="c0ffee"} 1.0' in text


@pytest.mark.parametrize("name", TABLE)
def test_names_follow_the_conventions(name: str) -> None:
    row = TABLE[name]
    assert re.fullmatch(r"streamd(_[a-z]+)+", name)
    assert not name.endswith(("_total", "_count", "_sum", "_info", "_milliseconds", "_ms", "_kb"))
    assert row.help.endswith(".")
    assert set(row.labels) <= LABELS | GROUP_LABELS | POOL_LABELS


def test_no_sample_is_there_twice() -> None:
    lines = [line for line in exposition(ENGINE, replace(ENGINE, pipeline="other")).splitlines() if line[0] != "#"]
    names = [line.rpartition(" ")[0] for line in lines]
    assert len(names) == len(set(names))


def changed(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, Mapping):
        return {key: changed(item) for key, item in value.items()}
    if isinstance(value, tuple) and all(isinstance(item, int | float) for item in value):
        return tuple(item + 1 for item in value)
    raise NotImplementedError(type(value))


def variants(struct: msgspec.Struct, path: str) -> Iterator[tuple[str, msgspec.Struct]]:
    """The struct with one field changed, for each field at any depth."""
    for field in struct.__struct_fields__:
        found = getattr(struct, field)
        where = f"{path}.{field}"
        if where == "ShardView.phase":
            yield from ((where, replace(struct, phase=phase)) for phase in get_args(Phase) if phase != found)
        elif isinstance(found, msgspec.Struct):
            inner = variants(found, type(found).__name__)
            yield from ((name, replace(struct, **{field: variant})) for name, variant in inner)
        elif isinstance(found, tuple) and found and isinstance(found[0], msgspec.Struct):
            inner = variants(found[0], type(found[0]).__name__)
            yield from ((name, replace(struct, **{field: (variant,)})) for name, variant in inner)
        elif where == "GroupView.alarms":
            yield where, replace(struct, alarms=("harm",))
        elif where == "EngineView.reasons":
            yield where, replace(struct, reasons=("because",))
        elif where == "ShardView.counts":
            for name, count in found.items():
                yield f"{where}.{name}", replace(struct, counts={**found, name: count + 1})
        else:
            yield where, replace(struct, **{field: changed(found)})


VARIANTS = list(variants(ENGINE, "EngineView"))


@pytest.mark.parametrize(("field", "view"), VARIANTS, ids=[name for name, _ in VARIANTS])
def test_every_field_of_the_views_is_exported_or_said_not_to_be(field: str, view: EngineView) -> None:
    told = exposition(view) != exposition(ENGINE)
    assert told != (field in NOT_EXPORTED)


def test_what_is_not_exported_exists() -> None:
    assert set(NOT_EXPORTED) <= {name for name, _ in VARIANTS}


def test_every_count_of_the_stage_has_its_metric() -> None:
    assert set(COUNTS) == {*predicting.COUNTS, *matching.COUNTS}


def test_a_count_without_a_metric_is_not_lost() -> None:
    view = replace(ENGINE, shards=(replace(SHARD, counts={"brand_new": 5}),))
    where = {"pipeline": "adult", "partition": "1"}
    assert value("streamd_other_counts_total", view, name="brand_new", **where) == 5


def test_counts_that_belong_together_are_added() -> None:
    view = replace(ENGINE, shards=(replace(SHARD, counts={"events": 10, "repeated_events": 3}),))
    where = {"pipeline": "adult", "partition": "1"}
    assert value("streamd_predictions_total", view, **where) == 13
    assert value("streamd_events_total", view, outcome="repeated", **where) == 3


def test_the_delay_is_a_cumulative_histogram() -> None:
    where = {"pipeline": "adult", "partition": "1"}
    buckets = [value("streamd_label_delay_seconds_bucket", le=le, **where) for le in ("1.0", "10.0", "+Inf")]
    assert buckets == [5, 9, 12]
    assert value("streamd_label_delay_seconds_count", **where) == 12
    assert value("streamd_label_delay_seconds_sum", **where) == 99.5


def test_times_are_in_seconds() -> None:
    where = {"pipeline": "adult", "partition": "1"}
    assert value("streamd_event_timestamp_seconds", **where) == 1_700_000_000
    assert value("streamd_epoch_duration_seconds_sum", pipeline="adult") == 2.5
    assert value("streamd_epoch_duration_seconds_count", pipeline="adult") == 10


def test_a_name_with_quotes_and_newlines_survives() -> None:
    topic = 'odd"\\\nname'
    view = replace(ENGINE, lag=(LagView(topic, 0, 4, 0.0),))
    assert value("streamd_lag_records", view, pipeline="adult", topic=topic, partition="0") == 4
