"""Store the images, boxes and windows of a set in a folder.

images.json      name, path, shape, grey range and digest of each image
boxes.parquet    a row for each box, numbered from 1: the fields of `BoxRecord` (`data/box_formats/record.py`),
                 `reason` (why the box is skipped) and `window` (-1 if the box is skipped)
windows.parquet  `image`, `slice`, `y`, `x`, `side` of each window, sorted by image, slice and size

A shard of the set is a run of consecutive windows.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline_lib.data.boxes import XYXY
from pipeline_lib.data.images import ImageFile
from pipeline_lib.data.tables import read_json, read_table
from pipeline_lib.runtime.atomic import atomic


class PlacedWindow(NamedTuple):
    """A square part of a slice of an image, in pixels."""

    image: str
    slice: int
    y: int
    x: int
    side: int


@dataclass(frozen=True)
class Prompts:
    """The images, boxes and windows of a set."""

    images: tuple[ImageFile, ...]
    boxes: pd.DataFrame  # by number, from 1
    windows: tuple[PlacedWindow, ...]

    @cached_property
    def by_name(self) -> dict[str, ImageFile]:
        """The images by name."""
        return {image.name: image for image in self.images}

    @classmethod
    def read(cls, folder: str | Path) -> "Prompts":
        """Read a folder that `write` wrote."""
        records = read_json(Path(folder) / "images.json")
        images = [
            ImageFile(
                name=each["name"],
                path=each["path"],
                shape=(each["shape"][0], each["shape"][1], each["shape"][2]),
                grey_range=each["grey_range"] and (each["grey_range"][0], each["grey_range"][1]),
                digest=each["digest"],
                channel=each["channel"],
            )
            for each in records
        ]
        boxes, windows = (read_table(Path(folder) / f"{name}.parquet") for name in ("boxes", "windows"))
        return cls(tuple(images), boxes, tuple(PlacedWindow(*row) for row in windows.itertuples(index=False)))

    def write(self, folder: str | Path) -> None:
        """Write the folder. It appears only when it is complete."""
        with atomic(folder) as unfinished:
            unfinished.mkdir(parents=True)
            records = [asdict(image) for image in self.images]
            (unfinished / "images.json").write_text(json.dumps(records, indent=2) + "\n")
            self.boxes.to_parquet(unfinished / "boxes.parquet")
            windows = pd.DataFrame(self.windows, columns=PlacedWindow._fields)
            windows.to_parquet(unfinished / "windows.parquet")

    def prompted(self, windows: Sequence[int]) -> pd.DataFrame:
        """Return the boxes of some windows, sorted by window."""
        return self.boxes[self.boxes["window"].isin(windows)].sort_values("window", kind="stable")

    def place(self, window: int) -> tuple[ImageFile, int, slice, slice]:
        """Return image, slice, rows and columns of a window, cut at the border of the image."""
        name, z, y, x, side = self.windows[window]
        image = self.by_name[name]
        _, height, width = image.shape
        return image, z, slice(y, min(y + side, height)), slice(x, min(x + side, width))

    def in_window(self, boxes: pd.DataFrame) -> NDArray[np.float32]:
        """Return the prompts (N, 4), XYXY in pixels of their windows, cut at the border of the image."""
        corners = boxes[XYXY].to_numpy(float)
        origins = np.array([(self.windows[number].x, self.windows[number].y) for number in boxes["window"]], float)
        sizes = np.array([self.by_name[name].shape[:0:-1] for name in boxes["image"]], float)  # x, y
        cut = np.clip(corners, 0, np.tile(sizes, 2))
        return np.asarray(cut - np.tile(origins, 2), np.float32)
