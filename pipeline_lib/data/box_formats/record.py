"""Define the record that every reader yields for a box."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline_lib.data.boxes import XYXY
from pipeline_lib.errors import DataError


@dataclass(frozen=True)
class BoxRecord:
    """A box as a file describes it, before any check.

    Coordinates are XYXY, half-open, in pixels of the image: a box around the first pixel alone is 0, 0, 1, 1. A
    coordinate that the file does not give as a number is NaN.
    """

    image: str
    """Name of the image; if no image has that name, the text that the file uses."""
    x0: float
    y0: float
    x1: float
    y1: float
    where: str
    """The file, a colon, and the line or entry, for error messages."""
    slice: int | None = None
    """Slice of the image, counted from 0. None if the file names no slice."""
    name: str = ""
    """Name or number of the object in the file."""
    track: str = ""
    """Name that the boxes of one object share on all slices. It is empty if names hold in one image only."""
    label: str = ""
    """Class of the object."""
    score: float = np.nan
    """Confidence of a detector; NaN if the file has none."""
    called: str = ""
    """Name of the image in the file, which can have folders. It is empty if the name of the file names the image."""
    skip: str = ""
    """Why the entry is not a prompt according to the file, such as a point. It is empty for a box."""


def corners(x0: float, y0: float, x1: float, y1: float) -> dict[str, Any]:
    """Return the four coordinates as keyword arguments of `BoxRecord`."""
    return dict(zip(XYXY, map(float, (x0, y0, x1, y1)), strict=True))


def bounds(points: Iterable[Sequence[float]]) -> dict[str, Any]:
    """Return the bounding box of points (x, y) as keyword arguments of `BoxRecord`.

    The coordinates are NaN if there are no points.
    """
    x, y = np.array([[number(x), number(y)] for x, y, *_ in points], float).reshape(-1, 2).T
    if not len(x):
        return corners(np.nan, np.nan, np.nan, np.nan)
    return corners(x.min(), y.min(), x.max(), y.max())


def bounds_of_rectangle(
    x0: float, y0: float, x1: float, y1: float, degrees: float, pivot: tuple[float, float] | None = None
) -> dict[str, Any]:
    """Return the bounding box of a rectangle that is turned clockwise about a pivot, by default its centre."""
    if degrees == 0:
        return corners(x0, y0, x1, y1)
    x, y = pivot or ((x0 + x1) / 2, (y0 + y1) / 2)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    offsets = [(left - x, top - y) for left in (x0, x1) for top in (y0, y1)]
    return bounds([(x + cos * right - sin * down, y + sin * right + cos * down) for right, down in offsets])


def bounds_of_ellipse(x: float, y: float, rx: float, ry: float, degrees: float) -> dict[str, Any]:
    """Return the bounding box of an ellipse with centre (x, y) and radii `rx` and `ry`, turned about its centre."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    half_width, half_height = math.hypot(rx * cos, ry * sin), math.hypot(rx * sin, ry * cos)
    return corners(x - half_width, y - half_height, x + half_width, y + half_height)


NO_BOX = corners(np.nan, np.nan, np.nan, np.nan)  # of an entry that is skipped


def number(value: Any) -> float:
    """Convert a value of a file to a number. Other values become NaN, which the checks report."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


def slice_number(value: str | float, where: str) -> int:
    """Convert a value of a file to the number of a slice.

    Raises:
        DataError: The value is not a whole number.
    """
    z = number(value)
    if not z.is_integer():
        raise DataError(
            f"{where}: expected the number of a slice, found {value!r}; write a whole number, counted from 0"
        )
    return int(z)
