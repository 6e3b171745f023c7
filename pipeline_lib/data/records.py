"""What files say about how they were made, read without the network that made them."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet
from safetensors import safe_open

from pipeline_lib.data.tables import read_json
from pipeline_lib.errors import WeightsError, intact
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.runtime.hashing import file_digest
from pipeline_lib.runtime.journal import Journal


@dataclass(frozen=True)
class Backbone:
    """A checkpoint that was found to fit its network: what the stage `weights` hands on."""

    name: str
    checkpoint: str  # absolute path
    digest: str  # of the file's bytes
    size: int  # of the file, bytes
    image_size: int  # pixels along the longest side of the network's input
    normalisation: str  # of a tile's grey values, in words

    @classmethod
    def read(cls, path: str | Path) -> "Backbone":
        """The record in the manifest at `path`; DataError if it is damaged."""
        with intact(path):
            return cls(**read_json(path))

    @classmethod
    def of(cls, name: str, checkpoint: Path, image_size: int, normalisation: str) -> "Backbone":
        """The record of a checkpoint, which is hashed for it, once for all jobs."""
        digest, size = file_digest(checkpoint), checkpoint.stat().st_size
        return cls(name, str(checkpoint), digest, size, image_size, normalisation)

    def is_unchanged(self, since: str | Path) -> bool:
        """Whether the checkpoint is still the file that the manifest at `since` records.

        Only one that was touched after the manifest was written is hashed again.
        """
        checkpoint = Path(self.checkpoint)
        if not checkpoint.exists() or checkpoint.stat().st_size != self.size:
            return False
        older = checkpoint.stat().st_mtime_ns <= Path(since).stat().st_mtime_ns
        return older or file_digest(checkpoint) == self.digest


def read_record(path: str | Path) -> Any:
    """What `save_model` wrote about a model: backbone, model_config and training.

    Raises:
        WeightsError: the file is not such a model.
    """
    # "np", as "pt" would import torch, for which the stage audit has no other use
    with intact(path), safe_open(path, "np") as file:
        metadata = file.metadata() or {}
    if "loosebox" not in metadata:
        raise WeightsError(f"{path}: expected a model of the stage train, which records its backbone and config")
    return json.loads(metadata["loosebox"])


RECORD = b"loosebox"  # metadata of a table of iterations, JSON: `model`, the digest of its file; `precision` by stage
SCHEMA = pa.schema(
    {
        "tile": pa.int32(),
        "object": pa.int32(),
        "iteration": pa.int16(),  # 0: the first prediction, of the deviated box
        "x0": pa.float32(),  # the box that was prompted
        "y0": pa.float32(),
        "x1": pa.float32(),
        "y1": pa.float32(),
        "change_rate": pa.float64(),  # NaN of the first prediction
        "predicted_iou": pa.float32(),
        "mask": pa.string(),  # COCO RLE counts
        "output": pa.bool_(),  # this prediction's mask is the iterated output
        "ended": pa.string(),  # of an object's last prediction, why it is that: converged, cycle, empty or cap
    }
)


def record_of(iterations: str) -> dict[str, Any]:
    """What `write_iterations` wrote about a table of iterations; nothing where the table is not its own."""
    with intact(iterations):
        metadata = parquet.read_schema(iterations).metadata or {}
        record: dict[str, Any] = json.loads(metadata.get(RECORD, b"{}"))
    return record


def write_iterations(journal: Journal, iterations: str, timing: str, record: Mapping[str, Any], tiles: int) -> None:
    """The table of iterations and the summed timing of all tiles, from the journal, which is not needed any more.

    The table's schema keeps the record of what made it; `tiles` of the timing is how many there were.
    """
    spent: Counter[str] = Counter(tiles=tiles)
    schema = SCHEMA.with_metadata({RECORD: json.dumps(record)})
    with atomic(iterations) as unfinished, parquet.ParquetWriter(unfinished, schema) as writer:
        for piece in journal:
            writer.write_table(pa.Table.from_pylist(piece["rows"], SCHEMA))
            spent.update(piece["timing"])
    with atomic(timing) as unfinished:
        unfinished.write_text(json.dumps(spent) + "\n")
    journal.delete()
