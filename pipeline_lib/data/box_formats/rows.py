"""Convert rows of tables to boxes, and decide how a table counts slices."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline_lib.data.box_checks import many
from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.images_by_name import IMAGE_SUFFIXES, Images
from pipeline_lib.data.box_formats.record import corners, number, slice_number
from pipeline_lib.errors import DataError

Row = Mapping[str, str | None]
IMAGE = (  # columns that can name the image of a row; the first one that a table has is used
    "image",
    "filename",
    "file",
    "image_name",
    "file_name",
    "image_path",
    "filepath",
    "path",
    "image_id",
)
SLOPPY = 3  # pixels by which a hand-drawn box can leave its image
NAME_COLUMNS = (
    "Name the columns left,top,width,height if they are the corner, or x_center,y_center,width,height if they are the "
    "centre"
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BoxColumns:
    """Four columns that describe a box."""

    names: tuple[str, str, str, str]
    to_box: Callable[[float, float, float, float], dict[str, Any]]
    """Convert the four numbers to the corners of a box."""

    def box(self, row: Row) -> dict[str, Any]:
        """Return the corners of a row's box."""
        a, b, c, d = (number(row[name]) for name in self.names)
        return self.to_box(a, b, c, d)


def xywh(x: float, y: float, width: float, height: float) -> dict[str, Any]:
    """Return the box with the left upper corner (x, y) and a size, as keyword arguments of `BoxRecord`."""
    return corners(x, y, x + width, y + height)


def from_centre(x: float, y: float, width: float, height: float) -> dict[str, Any]:
    """Return the box with the centre (x, y) and a size, as keyword arguments of `BoxRecord`."""
    return corners(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def check_image_column(file: BoxFile, columns: Iterable[str]) -> None:
    """Refuse a table that names its images in an unknown column, because its boxes would lose their images.

    Args:
        file: The table.
        columns: Known columns for the image.

    Raises:
        DataError: The table has no known column, and all texts of another column have the suffix of an image.
    """
    names, rows = file.table.columns, [row for _, row in file.table.rows]
    if not rows or not set(names).isdisjoint(columns):
        return
    for name in names:
        if all(Path(row[name] or "").suffix.lower() in IMAGE_SUFFIXES for row in rows):
            raise DataError(f"{file.path}: the column {name!r} names images; call it `image`, or leave it out")


def only_columns(file: BoxFile, choices: Sequence[BoxColumns]) -> BoxColumns | None:
    """Return the columns that describe the boxes of a table; None if it has none of `choices`.

    Raises:
        DataError: The table has several of `choices`, or one column twice.
    """
    matches = [each for each in choices if set(each.names) <= set(file.table.columns)]
    if len(matches) > 1:
        listed = " and ".join(",".join(each.names) for each in matches)
        raise DataError(f"{file.path}: expected one set of columns for boxes, found {listed}; leave out one of them")
    if matches:
        file.check_columns(matches[0].names)
    return matches[0] if matches else None


def corner_or_centre(file: BoxFile, columns: BoxColumns, rows: Sequence[tuple[str, Row]], images: Images) -> BoxColumns:
    """Decide whether x and y are the left upper corner or the centre of boxes.

    They are the corner, unless many boxes would then leave their image.

    Args:
        file: The table, for messages.
        columns: The columns x, y, width and height, which read x and y as the corner.
        rows: The name of the image of each row, and the row.
        images: The images with their sizes.

    Raises:
        DataError: Many boxes leave their image if x and y are a corner, and some do if they are the centre.
    """
    shapes = [(images.shape_of(name), row) for name, row in rows]
    with_shape = [(shape, row) for shape, row in shapes if shape]
    about = BoxColumns(columns.names, from_centre)
    corner, centre = (
        np.array([_beyond(each.box(row), shape) > SLOPPY for shape, row in with_shape], bool)
        for each in (columns, about)
    )
    x, y = columns.names[:2]
    if many(corner) and centre.any():
        raise DataError(
            f"{file.path}: {corner.sum()} boxes leave their image if {x} and {y} are their left upper corner, and "
            f"{centre.sum()} boxes if they are their centre. {NAME_COLUMNS}, and correct the boxes"
        )
    if many(corner):
        log.info("%s: %s and %s are the centre, otherwise boxes would leave their image", file.path, x, y)
        return about
    if many(centre) and not corner.any():
        log.info("%s: %s and %s are the corner, otherwise boxes would leave their image", file.path, x, y)
    elif with_shape:
        log.warning("%s: %s and %s are read as the left upper corner of each box. %s", file.path, x, y, NAME_COLUMNS)
    return columns


def _beyond(box: Mapping[str, float], shape: tuple[int, int, int]) -> float:
    """Return by how many pixels a box leaves its image; 0 if it lies within."""
    _, height, width = shape
    return float(np.nanmax([0.0, -box["x0"], -box["y0"], box["x1"] - width, box["y1"] - height]))


def slices(texts: Sequence[tuple[str, str, str]], images: Images) -> list[int | None]:
    """Convert the column of slices of a table to numbers counted from 0.

    A table counts slices from 1 if it has no slice 0, but a slice with the number of slices of its image.

    Args:
        texts: For each row the name of the image, the text in the column (empty if it names no slice), and the place of
            the row, for messages.
        images: The images with their shapes.

    Returns:
        The slice of each row; None if the row names none.

    Raises:
        DataError: A text is not a whole number.
    """
    numbers = [slice_number(text, where) if text else None for _, text, where in texts]
    if not any(text for _, text, _ in texts):
        return numbers
    last = any(
        name in images.shapes and number == images.shapes[name][0]
        for (name, _, _), number in zip(texts, numbers, strict=True)
    )
    if 0 in numbers or not last:
        if 0 not in numbers:
            log.warning("%s: slices are counted from 0, but no row has slice 0. Check the numbers", texts[0][2])
        return numbers
    log.info("%s: slices are counted from 1, because a row has the last slice and none has slice 0", texts[0][2])
    return [number if number is None else number - 1 for number in numbers]
