"""The tables of predictions that the stages `refine` and `segment` write: a row for each prediction of each box."""

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

# key of the table's metadata, JSON: `model`, the digest of its file; `precision` by stage; `engine` of the encoder
RECORD = b"loosebox"
COLUMNS = {
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
TILES = pa.schema({"tile": pa.int32(), "object": pa.int32(), **COLUMNS})  # of `refine`: numbers of a store
WINDOWS = pa.schema({"window": pa.int32(), "box": pa.int32(), **COLUMNS})  # of `segment`: numbers of `Prompts`


def read_record(path: str | Path) -> dict[str, Any]:
    """Read what `write_predictions` wrote about a table; empty if the table is not one of its own."""
    with intact(path):
        metadata = parquet.read_schema(path).metadata or {}
        record: dict[str, Any] = json.loads(metadata.get(RECORD, b"{}"))
    return record


def write_predictions(
    journal: Journal, path: str | Path, timing: str | Path, record: Mapping[str, Any], schema: pa.Schema
) -> None:
    """Write a table and the summed timing from the pieces of a journal, then delete the journal.

    Args:
        journal: pieces with `rows`, columns of `schema`, and `timing`, seconds and counts by name.
        path: Parquet to write.
        timing: JSON to write; its `tiles` is the number of tiles or windows in the table.
        record: what the table was made from; kept among its metadata.
        schema: `TILES` or `WINDOWS`.
    """
    spent: Counter[str] = Counter()
    places: set[int] = set()
    described = schema.with_metadata({RECORD: json.dumps(record)})
    with atomic(path) as partial, parquet.ParquetWriter(partial, described) as file:
        for piece in journal:
            file.write_table(pa.Table.from_pylist(piece["rows"], schema))
            spent.update(piece["timing"])
            places.update(row[schema.names[0]] for row in piece["rows"])
    with atomic(timing) as partial:
        partial.write_text(json.dumps({"tiles": len(places), **spent}) + "\n")
    journal.delete()
