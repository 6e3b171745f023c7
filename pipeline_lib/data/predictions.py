"""Write the tables of the stages `refine` and `segment`, with a row for each prediction of each box."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from pipeline_lib.errors import intact
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.runtime.journal import Journal

# key of the metadata of a table (JSON): digest of the model (`model`), `precision` by stage, `engine` of the encoder
RECORD = b"loosebox"
COLUMNS = {
    "iteration": pa.int16(),  # 0 is the first prediction, from the box of the user or the experiment
    "x0": pa.float32(),  # the prompted box
    "y0": pa.float32(),
    "x1": pa.float32(),
    "y1": pa.float32(),
    "change_rate": pa.float64(),  # NaN for the first prediction
    "predicted_iou": pa.float32(),
    "mask": pa.string(),  # COCO RLE counts
    "output": pa.bool_(),  # whether this mask is the output of the iteration
    "ended": pa.string(),  # why the last prediction of an object is the last: converged, cycle, empty or cap
}
TILES = pa.schema({"tile": pa.int32(), "object": pa.int32(), **COLUMNS})  # table of `refine`, with numbers of a store
WINDOWS = pa.schema({"window": pa.int32(), "box": pa.int32(), **COLUMNS})  # table of `segment`, numbers of `Prompts`


def read_record(path: str | Path) -> dict[str, Any]:
    """Read what `write_predictions` recorded in a table. It is empty if another function wrote the table."""
    with intact(path):
        metadata = parquet.read_schema(path).metadata or {}
        record: dict[str, Any] = json.loads(metadata.get(RECORD, b"{}"))
    return record


def write_predictions(
    journal: Journal, path: str | Path, timing: str | Path, record: Mapping[str, Any], schema: pa.Schema
) -> None:
    """Write a table and the sum of the timing from the pieces of a journal, then delete the journal.

    Args:
        journal: Pieces with `rows`, which have the columns of `schema`, and `timing`, seconds and counts by name.
        path: Parquet file to write.
        timing: JSON file to write. Its `tiles` is the number of tiles or windows in the table.
        record: What the table was made from. It is written to the metadata of the table.
        schema: `TILES` or `WINDOWS`.
    """
    spent: Counter[str] = Counter()
    places: set[int] = set()
    schema_with_record = schema.with_metadata({RECORD: json.dumps(record)})
    with atomic(path) as partial, parquet.ParquetWriter(partial, schema_with_record) as file:
        for piece in journal:
            file.write_table(pa.Table.from_pylist(piece["rows"], schema))
            spent.update(piece["timing"])
            places.update(row[schema.names[0]] for row in piece["rows"])
    with atomic(timing) as partial:
        partial.write_text(json.dumps({"tiles": len(places), **spent}) + "\n")
    journal.delete()
