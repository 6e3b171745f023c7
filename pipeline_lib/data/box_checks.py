"""Find the boxes that cannot be prompts, and say why, before the model runs."""

import logging
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline_lib.data.boxes import XYXY
from pipeline_lib.data.images import Shape
from pipeline_lib.errors import DataError
from pipeline_lib.settings.segment import OnBadBox

MANY = 0.2  # if at least this share of a file's boxes has one fault, the numbers of the file mean something else
FEW = 3  # fewer boxes with one fault are slips, whatever their share
NEARLY_ALL = 0.9  # if this share of a file's boxes is tiny, its numbers have another unit; some specks are real
ROUNDING = 1e-6  # a score can exceed 1 by this much
TINY = 2  # pixels: a box is tiny if no side is longer
LISTED = 5  # number of bad boxes, and of images, that an error names
log = logging.getLogger(__name__)

NO_IMAGE, NO_SLICE = "belongs to an image that is not there", "belongs to a slice that is not there"
NO_NUMBER, INVERTED, EMPTY = "a coordinate is not a number", "ends before it begins", "has no area"
OUTSIDE, DUPLICATE = "lies outside the image", "is the same as another box"
NO_SCORE = "has a score that is not from 0 to 1"
PLACE = ["image", "slice", *XYXY]  # columns that say where a box lies


def checked_boxes(boxes: pd.DataFrame, shapes: Mapping[str, Shape], on_bad_box: OnBadBox) -> pd.DataFrame:
    """Add the column `reason` to the table of `read_box_files`: why a box is skipped, empty for a good one.

    Args:
        boxes: The table, with boxes as XYXY, half-open, in pixels of their images.
        shapes: Shape of each image (ZYX, pixels) by its name.
        on_bad_box: "stop" raises an error for a single bad box. "skip" raises one only if many boxes of a file are bad
            in the same way, so that its numbers must mean something else.

    Raises:
        DataError: A box is bad, or a file is misread. The message names files and lines, and says what to do.
    """
    prompts = boxes[boxes["skip"] == ""]
    for file, rows in prompts.groupby(prompts["where"].map(file_of), sort=False):
        if advice := misread(rows, shapes):
            raise DataError(f"{file}: {advice}")
    table = boxes.assign(reason=reasons(boxes, shapes))
    _log_same_place(table[table["reason"] == ""])
    bad = table[table["reason"] != ""]
    bad = bad[bad["skip"] == ""]
    if len(bad) and on_bad_box == "stop":
        raise DataError(_listing(bad, shapes))
    return table


def _log_same_place(good: pd.DataFrame) -> None:
    """Log how many boxes have the corners of another box, but another class or score."""
    same = good[good.duplicated(PLACE)]
    if len(same):
        log.warning(
            "%d boxes have the corners of another box, but another class or score, such as %s; each is a prompt",
            len(same),
            same["where"].iloc[0],
        )


def _listing(bad: pd.DataFrame, shapes: Mapping[str, Shape]) -> str:
    columns = bad[["where", "reason", "image"]].head(LISTED).itertuples(index=False)
    first = "; ".join(
        f"{where} {reason}{f' ({image!r})' if reason == NO_IMAGE else ''}" for where, reason, image in columns
    )
    more = f"; and {len(bad) - LISTED} more" if len(bad) > LISTED else ""
    names = list(shapes)
    others = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    image_list = f" The images are {', '.join(names[:LISTED])}{others}." if (bad["reason"] == NO_IMAGE).any() else ""
    return (
        f"{len(bad)} bad boxes: {first}{more}.{image_list} Correct them, or leave them out with --on-bad-box skip "
        "(segment.on_bad_box)"
    )


def file_of(where: str) -> str:
    """Return the file in a box's `where`, without line or number."""
    return where.rpartition(":")[0]


def reasons(boxes: pd.DataFrame, shapes: Mapping[str, Shape]) -> pd.Series:
    """Return why each box is bad or is not a prompt.

    Args:
        boxes: The table of `read_box_files`.
        shapes: Shape of each image (ZYX, pixels) by its name.

    Returns:
        The first reason that holds, by row. It is empty for a good box.
    """
    sizes, prompts = sizes_of(boxes, shapes), (boxes["skip"] == "").to_numpy()
    checks: list[tuple[str, Callable[[], NDArray[np.bool_]]]] = [
        (NO_IMAGE, lambda: np.isnan(sizes[:, 0])),
        (NO_SLICE, lambda: ~((boxes["slice"] >= 0) & (boxes["slice"] < sizes[:, 0])).to_numpy()),
        (NO_NUMBER, lambda: ~np.isfinite(boxes[XYXY].to_numpy()).all(axis=1)),
        (INVERTED, lambda: ((boxes["x1"] < boxes["x0"]) | (boxes["y1"] < boxes["y0"])).to_numpy()),
        (EMPTY, lambda: ((boxes["x1"] == boxes["x0"]) | (boxes["y1"] == boxes["y0"])).to_numpy()),
        (OUTSIDE, lambda: _outside(boxes, sizes)),
        (NO_SCORE, lambda: _beyond_score(boxes)),
        # Names are not compared, because many tools number their boxes
        (DUPLICATE, lambda: boxes.assign(prompt=prompts).duplicated([*PLACE, "prompt", "label", "score"]).to_numpy()),
    ]
    conditions = [check() for _, check in checks]
    faults = np.select(conditions, [reason for reason, _ in checks], "")
    return pd.Series(np.where(prompts, faults, boxes["skip"]), boxes.index)


def sizes_of(boxes: pd.DataFrame, shapes: Mapping[str, Shape]) -> NDArray[np.float64]:
    """Return the shape of each box's image: (N, 3), ZYX, in pixels; NaN if there is no such image."""
    nothing = (np.nan, np.nan, np.nan)
    return np.array([shapes.get(name, nothing) for name in boxes["image"]], float).reshape(-1, 3)


def _outside(boxes: pd.DataFrame, sizes: NDArray[np.float64]) -> NDArray[np.bool_]:
    beyond = (boxes["x0"] >= sizes[:, 2]) | (boxes["y0"] >= sizes[:, 1]) | (boxes["x1"] <= 0) | (boxes["y1"] <= 0)
    return beyond.to_numpy()


def _beyond_score(boxes: pd.DataFrame) -> NDArray[np.bool_]:
    scores = boxes["score"].to_numpy(float)
    return (scores < 0) | (scores > 1 + ROUNDING)


def misread(boxes: pd.DataFrame, shapes: Mapping[str, Shape]) -> str:
    """Say what is wrong with all boxes of a file, and what to do.

    Args:
        boxes: The rows of one file that are prompts.
        shapes: Shape of each image (ZYX, pixels) by its name.

    Returns:
        A text for an error message. It is empty if nothing is wrong.
    """
    wrong = _beyond_score(boxes)
    if many(wrong):
        first = boxes["score"].to_numpy(float)[wrong][0]
        return (
            f"expected scores from 0 to 1, found {first:.9g}. Divide per cent by 100. If the column holds something "
            "else, rename it"
        )
    sizes, corners = sizes_of(boxes, shapes), boxes[XYXY].to_numpy()
    is_complete = np.isfinite(sizes[:, 0]) & np.isfinite(corners).all(axis=1)
    sizes, corners = sizes[is_complete], corners[is_complete]
    if not len(corners):
        return ""
    sides = corners[:, 2:] - corners[:, :2]
    if (sides < 1).all() and (corners <= 1.5).all() and (corners >= -0.5).all():
        return (
            "all coordinates lie between 0 and 1, so they seem to be shares of the image; expected pixels. Multiply "
            "them by width and height, or use the format YOLO (.txt)"
        )
    tiny = ((sides > 0) & (sides <= TINY)).all(axis=1)
    if int(tiny.sum()) >= FEW and float(tiny.mean()) >= NEARLY_ALL:
        return (
            f"{'all' if tiny.all() else 'nearly all'} boxes are at most {TINY} pixels wide and high, so they seem "
            "to be in another unit, such as micrometres or shares of the image; expected pixels. Convert them"
        )
    if many((sides < 0).any(axis=1)):
        return (
            "many boxes end before they begin, so their numbers seem to be x, y, width and height. Name the columns "
            "so, or use COCO"
        )
    beyond = corners[:, 2:] - sizes[:, [2, 1]]
    if many((beyond > sides / 2).any(axis=1)):
        return (
            "many boxes leave their image by more than half of their side. Perhaps their corners were read as widths "
            "and heights, or they belong to a scaled copy of the image. Expected pixels of the image at its full size"
        )
    return ""


def many(faulty: NDArray[np.bool_]) -> bool:
    """Return whether enough boxes of a file have a fault (N, bool) to show that its numbers mean something else."""
    return int(faulty.sum()) >= FEW and float(faulty.mean()) >= MANY
