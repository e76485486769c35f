"""SS3 models from where they are kept: PySS3's model files, and exported snapshots of pipelines."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from streamd import snapshot, wiring
from streamd.config import Config
from streamd.errors import Refused, StreamdError
from streamd.learners.ss3 import model_file
from streamd.learners.ss3.model import SS3Classifier
from streamd.learners.ss3.vocabulary import Entry
from streamd.operating import exported
from streamd.ports import TopicInfo
from streamd.restore import Identity
from streamd.shard import Shard
from streamd.snapshot import Manifest, split
from streamd.stages.predicting import Predicting

ROWS = 65_536  # of a Parquet row group


def read(path: Path, **settings: Any) -> SS3Classifier:
    """The model in a file: PySS3's, or what `streamd snapshot export` wrote. settings: over those of PySS3's.

    Raises StreamdError if it is neither.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise StreamdError(f"{path} cannot be read: {error.strerror}") from None
    return of_snapshot(raw) if raw.startswith(exported.MAGIC) else model_file.read(raw, **settings)


def of_snapshot(packed: bytes) -> SS3Classifier:
    """The learner in an exported snapshot of a pipeline. Raises StreamdError if that is none of SS3."""
    manifest, state = exported.unpack(packed)
    given = dict(manifest.config.get("learner", {}))
    if given.pop("kind", None) != "ss3":
        raise StreamdError(f"the snapshot of {manifest.shard} is none of a pipeline that learns by ss3")
    learner = SS3Classifier(**given)
    learner.restore(split(state)["learner"])
    return learner


def as_snapshot(config: Config, pipeline: str, partition: int, model: Path) -> bytes:
    """A model file as the exported snapshot of a shard that has learned it and nothing else. Raises Refused."""
    if pipeline not in config.pipeline:
        raise Refused(f"there is no pipeline {pipeline}; there are {', '.join(config.pipeline)}")
    identity, fresh = wiring.shards(config, pipeline)
    shard = fresh(partition)
    learner = shard.task.learner if isinstance(shard.task, Predicting) else None
    if not isinstance(learner, SS3Classifier):
        raise Refused(f"pipeline.{pipeline}.learner.kind: expected ss3, to import a model of it")
    found = read(model)
    if found.n_grams > learner.n_grams:
        raise Refused(f"the model has n-grams of {found.n_grams} words, the pipeline of {learner.n_grams}")
    learner.restore(read(model, n_grams=learner.n_grams).state())
    return packed(shard, identity(partition))


def packed(shard: Shard, identity: Identity) -> bytes:
    """A shard's state as an exported file."""
    kept = shard.freeze()
    content = kept.thaw()
    entries, document, chunks = snapshot.encode(content)
    topics = {topic: TopicInfo("", 1) for topic in shard.inputs}
    manifest = Manifest(
        format=snapshot.FORMAT,
        shard=identity.name,
        pipeline=identity.pipeline,
        model=identity.model,
        config=dict(identity.meaning),
        topics={topic: info.id for topic, info in topics.items()},
        partitions=1,
        positions=kept.positions,
        sequence=kept.sequence,
        journal_offset=kept.journal_offset,
        arrays=entries,
        document=document,
        digest=snapshot.digest(content),
    )
    return exported.pack(snapshot.write_manifest(manifest), chunks)


def write_parquet(path: Path, entries: Iterable[Entry]) -> None:
    """A table with the fields of `Entry`. Raises StreamdError without pyarrow."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        raise StreamdError('Parquet needs pyarrow: pip install "streamd[parquet]"') from None
    kinds = {"category": arrow.string(), "term": arrow.string(), "n": arrow.int32()}
    schema = arrow.schema([(name, kinds.get(name, arrow.float64())) for name in Entry.__struct_fields__])
    with parquet.ParquetWriter(path, schema) as writer:
        rows: list[dict[str, Any]] = []
        for entry in entries:
            rows.append(msgspec.structs.asdict(entry))
            if len(rows) == ROWS:
                writer.write_table(arrow.Table.from_pylist(rows, schema))
                rows = []
        writer.write_table(arrow.Table.from_pylist(rows, schema))
