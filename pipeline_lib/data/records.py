"""What files say about how they were made, read without the network that made them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from safetensors import safe_open

from pipeline_lib.errors import WeightsError


@dataclass(frozen=True)
class Backbone:
    """A checkpoint that was found to fit its network: what the stage `weights` hands on."""

    name: str
    checkpoint: str  # absolute path
    fingerprint: str  # of the file's bytes
    image_size: int  # pixels along the longest side of the network's input

    @classmethod
    def read(cls, path: str | Path) -> "Backbone":
        """The record in the manifest at `path`."""
        return cls(**json.loads(Path(path).read_text()))


def read_record(path: str | Path) -> Any:
    """What `save_model` wrote about a model: backbone, variant and training.

    Raises:
        WeightsError: the file is not such a model.
    """
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    if "loosebox" not in metadata:
        raise WeightsError(f"{path}: expected a model of the stage train, which records its backbone and variant")
    return json.loads(metadata["loosebox"])


RECORD = b"loosebox"  # metadata of a table of passes, JSON: `model`, the digest of its file; `precision` by stage


SCHEMA = pa.schema(
    {
        "image": pa.int32(),
        "object": pa.int32(),
        "pass": pa.int16(),  # 0: of the deviated box
        "x0": pa.float32(),  # the box that was prompted
        "y0": pa.float32(),
        "x1": pa.float32(),
        "y1": pa.float32(),
        "change_rate": pa.float64(),  # NaN at pass 0
        "predicted_iou": pa.float32(),
        "mask": pa.string(),  # COCO RLE counts
        "output": pa.bool_(),  # this pass's mask is the iterated output
    }
)
