"""Read box files that belong to a few small images, for tests of their meaning."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.box_writers import write
from pipeline_lib.data.box_checks import checked_boxes
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.table import read_box_files
from pipeline_lib.data.boxes import XYXY

SHAPES = {"a.png": (1, 60, 90), "b.png": (1, 60, 90), "stack.tif": (3, 60, 90)}
IMAGES = Images(SHAPES)
ONE = Images({"a.png": (1, 60, 90)})
BOX = [3.0, 5.0, 20.0, 60.0]
LABELME = {"flags": {}, "imagePath": "a.png", "imageHeight": 60, "imageWidth": 45, "shapes": []}


def read(*paths: Path, images: Images = IMAGES) -> pd.DataFrame:
    """Read the boxes of files."""
    return read_box_files(paths, images, None)


def boxes(path: Path, images: Images = IMAGES) -> list[list[float]]:
    """Return the boxes (XYXY) of a file."""
    numbers: list[list[float]] = read(path, images=images)[XYXY].to_numpy().tolist()
    return numbers


def coco(folder: Path, images: Sequence[Mapping[str, Any]], annotation: Mapping[str, Any] | None = None) -> Path:
    """Write a COCO data set with one annotation, BOX."""
    note = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [3, 5, 17, 55], **(annotation or {})}
    content = {"images": images, "categories": [{"id": 1, "name": "cell"}], "annotations": [note]}
    return write(folder / "boxes.json", json.dumps(content))


def skipped(table: pd.DataFrame) -> list[str]:
    """Return why each box is skipped; empty for a good one."""
    return checked_boxes(table, SHAPES, "stop")["reason"].tolist()


def table(folder: Path, header: str, *rows: str) -> Path:
    """Write a CSV table."""
    return write(folder / "a.csv", "\n".join([header, *rows]) + "\n")
