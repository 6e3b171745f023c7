"""Follow objects through the slices of a volume: which boxes belong to one object, and its mask in each slice."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from pipeline_lib.data.box_checks import file_of
from pipeline_lib.data.boxes import XYXY
from pipeline_lib.data.images import ImageFile
from pipeline_lib.data.instances import Instances
from pipeline_lib.data.masks import Mask, from_rle
from pipeline_lib.data.prompts import PlacedWindow, Prompts
from pipeline_lib.errors import DataError

Row = dict[Any, Any]  # by the columns of `TRACKS`
TRACKS = pa.schema(  # table of the stage `track`: a row for each mask of an object in a slice
    {
        "object": pa.int32(),
        "start": pa.int32(),  # slice of the box from which the object was followed
        "direction": pa.int8(),  # 1 if `slice` is after `start`, -1 if it is before, 0 if they are equal
        "slice": pa.int32(),
        "x0": pa.float32(),  # the prompted box, pixels of the slice
        "y0": pa.float32(),
        "x1": pa.float32(),
        "y1": pa.float32(),
        "window_y": pa.int32(),  # the encoded window, pixels of the slice
        "window_x": pa.int32(),
        "window_side": pa.int32(),
        "mask": pa.string(),  # COCO RLE counts, within the window
        "predicted_iou": pa.float32(),
        "overlap": pa.float32(),  # IoU with the mask in the slice before; NaN at `start`, like the next two
        "confidence": pa.float32(),  # predicted IoU as a share of `mean_iou` in the slice before
        "likeness": pa.float32(),  # likeness of the grey values inside the mask to `mean_greys` before, 0 to 1
        "mean_iou": pa.float32(),  # mean predicted IoU of the masks from `start` to this one
        "mean_greys": pa.list_(pa.float32()),  # mean `grey_distribution` of these masks; null at `start`
        "ended": pa.string(),  # why the object ended before this slice (`ending`); null if it goes on
    }
)


def object_numbers(boxes: pd.DataFrame) -> pd.Series:
    """Return the number of the object of each box, from 1 in the order of the boxes.

    Boxes of one file with the same `track` belong to one object. A box without a track is an object of its own.

    Args:
        boxes: Boxes by number, with `track`, `slice`, `where` and `reason`.

    Raises:
        DataError: One slice has two boxes with the same name, and none of them is skipped.
    """
    names = boxes["where"].map(file_of) + "\n" + boxes["track"]
    keys = names.where(boxes["track"] != "", boxes.index.astype(str))
    used = boxes[boxes["reason"] == ""].assign(key=keys)
    for (_, z), same in used.groupby(["key", "slice"], sort=False):
        if len(same) > 1:
            first, second = same["where"].iloc[:2]
            raise DataError(
                f"{first} and {second}: expected one box for an object on slice {z}, found two with the name "
                f"{same['track'].iloc[0]!r}. Boxes of a file with the same name belong to one object. Give each "
                "object a name of its own, or none"
            )
    return pd.Series(pd.factorize(keys)[0] + 1, boxes.index)


def check_can_be_followed(prompts: Prompts) -> None:
    """Check that a set is one volume, and that no slice has two boxes of one object.

    Raises:
        DataError: There are several images, or a slice has two boxes with the same name.
    """
    if len(prompts.images) != 1:
        names = ", ".join(image.name for image in prompts.images[:2])
        raise DataError(
            f"expected one volume, found {len(prompts.images)} images ({names}, ...). Use one stack. With "
            "`segment.stack: true`, the images of a folder are the slices of one stack"
        )
    object_numbers(prompts.boxes)


@dataclass(frozen=True)
class PlacedMask:
    """A mask of a part of a slice, with the place of the part."""

    mask: Mask  # YX
    y: int  # first row in the slice
    x: int  # first column in the slice

    def overlap(self, other: "PlacedMask") -> float:
        """Return the IoU of this mask and another one in a slice of the same size; 0 if both are empty."""
        top, left = max(self.y, other.y), max(self.x, other.x)
        bottom, right = (
            min(first + side, second + length)
            for first, side, second, length in zip(
                (self.y, self.x), self.mask.shape, (other.y, other.x), other.mask.shape, strict=True
            )
        )
        if top >= bottom or left >= right:
            return 0.0
        a, b = (each.mask[top - each.y : bottom - each.y, left - each.x : right - each.x] for each in (self, other))
        intersection = int(np.count_nonzero(a & b))
        union = int(self.mask.sum()) + int(other.mask.sum()) - intersection
        return intersection / union if union else 0.0


def window_of(row: Row) -> tuple[int, int, int]:
    """Return the first row, first column and side of the window of a row of `TRACKS`, pixels."""
    return row["window_y"], row["window_x"], row["window_side"]


def placed_mask(row: Row, image: ImageFile) -> PlacedMask:
    """Return the mask of a row of `TRACKS`."""
    _, height, width = image.shape
    y, x, side = window_of(row)
    return PlacedMask(from_rle(row["mask"], (min(side, height - y), min(side, width - x))), y, x)


def output_rows(prompts: Prompts, predictions: Iterable[Row]) -> dict[int, Row]:
    """Return the output mask of each prompted box, by the number of the box, with the columns of `TRACKS` for masks.

    Args:
        prompts: Boxes and windows.
        predictions: Rows of `WINDOWS` (`data/predictions.py`).
    """
    rows = {}
    for each in predictions:
        if not each["output"]:
            continue
        window = prompts.windows[each["window"]]
        rows[int(each["box"])] = {
            "slice": int(window.slice),
            **prompts.boxes.loc[each["box"], XYXY].astype(float).to_dict(),
            "window_y": int(window.y),
            "window_x": int(window.x),
            "window_side": int(window.side),
            "mask": each["mask"],
            "predicted_iou": float(each["predicted_iou"]),
        }
    return rows


def first_rows(prompts: Prompts, predictions: pd.DataFrame) -> list[Row]:
    """Return the rows of `TRACKS` for the slices with boxes, sorted by slice and object.

    Args:
        prompts: Boxes and windows of a volume.
        predictions: Rows of the stage `segment`.

    Raises:
        DataError: A slice has two boxes with the same name.
    """
    numbers = object_numbers(prompts.boxes)
    rows = [
        {"object": int(numbers[box]), "start": row["slice"], "direction": 0, **row}
        | {
            "overlap": np.nan,
            "confidence": np.nan,
            "likeness": np.nan,
            "mean_iou": row["predicted_iou"],
            "mean_greys": None,
        }
        | {"ended": None if placed_mask(row, prompts.images[0]).mask.any() else "empty"}
        for box, row in output_rows(prompts, predictions.to_dict("records")).items()
    ]
    return sorted(rows, key=lambda row: (row["slice"], row["object"]))


@dataclass(frozen=True)
class Tracks:
    """The masks of all objects of a volume. They are decoded slice by slice."""

    prompts: Prompts  # prompts of the volume
    rows: pd.DataFrame  # with the columns of `TRACKS`

    @property
    def image(self) -> ImageFile:
        """The volume."""
        return self.prompts.images[0]

    @cached_property
    def masks(self) -> pd.DataFrame:
        """The rows of all masks, sorted by slice and object.

        If two tracks of an object have a mask in one slice, the mask with the higher predicted IoU is used.
        """
        rows = self.rows[self.rows["ended"].isna()].sort_values("predicted_iou", ascending=False, kind="stable")
        return rows.drop_duplicates(["object", "slice"]).sort_values(["slice", "object"], ignore_index=True)

    @cached_property
    def _by_slice(self) -> dict[int, pd.DataFrame]:
        return {int(str(z)): rows for z, rows in self.masks.groupby("slice")}

    def instances(self, z: int) -> Instances:
        """Return the masks of a slice, by the numbers of their objects."""
        rows = self._by_slice.get(z, self.masks.iloc[:0])
        places = list(zip(*(rows[f"window_{key}"].tolist() for key in ("y", "x", "side")), strict=True))
        windows = {place: number for number, place in enumerate(dict.fromkeys(places))}
        placed_windows = tuple(PlacedWindow(self.image.name, z, *place) for place in windows)
        predictions = rows[["object", "mask", "predicted_iou"]].rename(columns={"object": "box"})
        predictions = predictions.assign(window=[windows[place] for place in places], output=True)
        return Instances.of(Prompts(self.prompts.images, self.prompts.boxes.iloc[:0], placed_windows), predictions)


class Numbers:
    """The label image of a volume, read block by block. The masks of the last slice stay in memory."""

    def __init__(self, tracks: Tracks) -> None:
        self._tracks = tracks
        self._slice: tuple[int, Instances] | None = None

    def block(self, z: int, y: slice, x: slice) -> NDArray[np.uint32]:
        """Return the numbers of the objects in a part of a slice, YX; 0 is background."""
        if self._slice is None or self._slice[0] != z:
            self._slice = z, self._tracks.instances(z)
        return self._slice[1].numbers(self._tracks.image.name, z, y, x)
