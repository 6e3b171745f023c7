"""What readers of tables share: how four columns become a box, and from where slices are counted."""

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
IMAGE = (  # columns that name the image of a row, the first that a table has
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
    "Name the columns left,top,width,height if they are the corner, x_center,y_center,width,height if the centre"
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BoxColumns:
    """Four columns that describe a box."""

    names: tuple[str, str, str, str]
    to_box: Callable[[float, float, float, float], dict[str, Any]]
    """Turns their numbers into the corners of a box."""

    def box(self, row: Row) -> dict[str, Any]:
        """Return the corners of a row's box."""
        a, b, c, d = (number(row[name]) for name in self.names)
        return self.to_box(a, b, c, d)


def xywh(x: float, y: float, width: float, height: float) -> dict[str, Any]:
    """Return the box with a corner and a size."""
    return corners(x, y, x + width, y + height)


def centred(x: float, y: float, width: float, height: float) -> dict[str, Any]:
    """Return the box with a centre and a size."""
    return corners(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def check_image_column(file: BoxFile, columns: Iterable[str]) -> None:
    """Refuse a table whose images are named in a column that is not one of `columns`: its rows would lose them.

    Raises:
        DataError: It has none of `columns`, and all texts of another column end as files of images do.
    """
    names, rows = file.table.columns, [row for _, row in file.table.rows]
    if not rows or not set(names).isdisjoint(columns):
        return
    for name in names:
        if all(Path(row[name] or "").suffix.lower() in IMAGE_SUFFIXES for row in rows):
            raise DataError(f"{file.path}: the column {name!r} names images; call it `image`, or leave it out")


def only_columns(file: BoxFile, choices: Sequence[BoxColumns]) -> BoxColumns | None:
    """Return the columns that a table has; None if it has none of them.

    Raises:
        DataError: It has several, or one of them twice.
    """
    matching = [each for each in choices if set(each.names) <= set(file.table.columns)]
    if len(matching) > 1:
        listed = " and ".join(",".join(each.names) for each in matching)
        raise DataError(f"{file.path}: expected one set of columns for boxes, found {listed}; leave out one of them")
    if matching:
        file.check_columns(matching[0].names)
    return matching[0] if matching else None


def corner_or_centre(file: BoxFile, columns: BoxColumns, rows: Sequence[tuple[str, Row]], images: Images) -> BoxColumns:
    """Decide whether x and y are a corner or the centre: the corner, unless many such boxes would leave their image.

    Args:
        file: For messages.
        columns: x, y, width and height, with x and y as the corner.
        rows: The name of the image of each row, and the row.
        images: The images with their sizes.

    Raises:
        DataError: Many boxes leave their image if x and y are a corner, and some do if they are the centre.
    """
    shapes = [(images.shape_of(name), row) for name, row in rows]
    known = [(shape, row) for shape, row in shapes if shape]
    about = BoxColumns(columns.names, centred)
    corner, centre = (
        np.array([_beyond(each.box(row), shape) > SLOPPY for shape, row in known], bool) for each in (columns, about)
    )
    x, y = columns.names[:2]
    if many(corner) and centre.any():
        raise DataError(
            f"{file.path}: boxes leave their image whether {x} and {y} are read as their corner ({corner.sum()} boxes) "
            f"or as their centre ({centre.sum()} boxes). {NAME_COLUMNS}"
        )
    if many(corner):
        log.info("%s: %s and %s are the centre; else boxes would leave their image", file.path, x, y)
        return about
    if many(centre) and not corner.any():
        log.info("%s: %s and %s are the corner; else boxes would leave their image", file.path, x, y)
    elif known:
        log.warning("%s: %s and %s are read as the left upper corner of each box. %s", file.path, x, y, NAME_COLUMNS)
    return columns


def _beyond(box: Mapping[str, float], shape: tuple[int, int, int]) -> float:
    """Return by how many pixels a box leaves its image, 0 if it lies within."""
    _, height, width = shape
    return float(np.nanmax([0.0, -box["x0"], -box["y0"], box["x1"] - width, box["y1"] - height]))


def slices(texts: Sequence[tuple[str, str, str]], images: Images) -> list[int | None]:
    """Convert the texts of a table's column of slices to numbers from 0.

    They are counted from 1 if the file has no slice 0 and has one with the number of slices of its image.

    Args:
        texts: Of each row the name of the image, the text (empty names no slice), and where it stands.
        images: The images with their numbers of slices.

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
            log.warning("%s: slices are counted from 0, and none is 0; were they counted from 1?", texts[0][2])
        return numbers
    log.info("%s: slices are counted from 1, as there is no slice 0, but the last one", texts[0][2])
    return [number if number is None else number - 1 for number in numbers]
