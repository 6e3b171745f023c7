"""Which given boxes cannot be prompts, and why: looked at before any network runs."""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline_lib.data.boxes import XYXY
from pipeline_lib.data.images import Shape
from pipeline_lib.errors import DataError

OnBadBox = Literal["stop", "skip"]
MANY = 0.2  # of a file's boxes: so many that are wrong in one way are no slips but a misread file
FEW = 3  # fewer boxes with such a fault are slips, whatever their share
LISTED = 5  # bad boxes in an error

NO_IMAGE, NO_SLICE = "of an image that is not there", "of a slice that is not there"
NO_NUMBER, INVERTED, EMPTY = "a coordinate is not a number", "ends before it begins", "has no area"
OUTSIDE, DUPLICATE = "lies outside the image", "the same as another box"


def checked_boxes(given: pd.DataFrame, shapes: Mapping[str, Shape], on_bad_box: OnBadBox) -> pd.DataFrame:
    """The table of `read_box_files` with the column `reason`: why a box is skipped, empty for a good one.

    Args:
        given: the boxes, XYXY in pixels of their images.
        shapes: of the images by name, ZYX.
        on_bad_box: whether one bad box is an error. That many boxes of a file are bad in one way is an error at any
            rate, as the file's numbers then mean something else.

    Raises:
        DataError: naming files and lines, and what to do.
    """
    for file, boxes in given.groupby(given["where"].map(file_of), sort=False):
        if advice := misread(boxes, shapes):
            raise DataError(f"{file}: {advice}")
    table = given.assign(reason=reasons(given, shapes))
    bad = table[table["reason"] != ""]
    if len(bad) and on_bad_box == "stop":
        raise DataError(_listing(bad))
    return table


def _listing(bad: pd.DataFrame) -> str:
    told = "; ".join(
        f"{where} {reason}" for where, reason in bad[["where", "reason"]].head(LISTED).itertuples(index=False)
    )
    more = f"; and {len(bad) - LISTED} more" if len(bad) > LISTED else ""
    return f"{len(bad)} bad boxes: {told}{more}. Mend them, or leave them out with `on_bad_box: skip`"


def file_of(where: str) -> str:
    """The file of a box's place, without line or number."""
    return where.rpartition(":")[0]


def reasons(given: pd.DataFrame, shapes: Mapping[str, Shape]) -> pd.Series:
    """Why each box is bad, the first reason that holds; empty for a good one."""
    sizes = sizes_of(given, shapes)
    checks: list[tuple[str, Callable[[], NDArray[np.bool_]]]] = [
        (NO_IMAGE, lambda: np.isnan(sizes[:, 0])),
        (NO_SLICE, lambda: ~((given["slice"] >= 0) & (given["slice"] < sizes[:, 0])).to_numpy()),
        (NO_NUMBER, lambda: ~np.isfinite(given[XYXY].to_numpy()).all(axis=1)),
        (INVERTED, lambda: ((given["x1"] < given["x0"]) | (given["y1"] < given["y0"])).to_numpy()),
        (EMPTY, lambda: ((given["x1"] == given["x0"]) | (given["y1"] == given["y0"])).to_numpy()),
        (OUTSIDE, lambda: _outside(given, sizes)),
        (DUPLICATE, lambda: given.duplicated(["image", "slice", *XYXY]).to_numpy()),
    ]
    conditions = [check() for _, check in checks]
    return pd.Series(np.select(conditions, [reason for reason, _ in checks], ""), given.index)


def sizes_of(given: pd.DataFrame, shapes: Mapping[str, Shape]) -> NDArray[np.float64]:
    """The shape (N, 3), ZYX, of each box's image; NaN where there is none."""
    nothing = (np.nan, np.nan, np.nan)
    return np.array([shapes.get(name, nothing) for name in given["image"]], float).reshape(-1, 3)


def _outside(given: pd.DataFrame, sizes: NDArray[np.float64]) -> NDArray[np.bool_]:
    beyond = (given["x0"] >= sizes[:, 2]) | (given["y0"] >= sizes[:, 1]) | (given["x1"] <= 0) | (given["y1"] <= 0)
    return beyond.to_numpy()


def misread(boxes: pd.DataFrame, shapes: Mapping[str, Shape]) -> str:
    """What is wrong with the boxes of a file as a whole, and what to do; empty where nothing is."""
    sizes, corners = sizes_of(boxes, shapes), boxes[XYXY].to_numpy()
    known = np.isfinite(sizes[:, 0]) & np.isfinite(corners).all(axis=1)
    sizes, corners = sizes[known], corners[known]
    if not len(corners):
        return ""
    sides = corners[:, 2:] - corners[:, :2]
    if (sides < 1).all() and (corners <= 1.5).all() and (corners >= -0.5).all():
        return "all coordinates lie between 0 and 1, as shares of the image do; expected pixels, or YOLO's files (.txt)"
    if _many((sides < 0).any(axis=1)):
        return "many boxes end before they begin; are these x, y, width and height? Name the columns so, or use COCO"
    beyond = corners[:, 2:] - sizes[:, [2, 1]]
    if _many((beyond > sides / 2).any(axis=1)):
        return (
            "many boxes leave their image by more than half of a side; are these corners that were read as widths and "
            "heights, or coordinates of another scale of the image? Expected pixels of the image as it is"
        )
    return ""


def _many(faulty: NDArray[np.bool_]) -> bool:
    return int(faulty.sum()) >= FEW and float(faulty.mean()) >= MANY
