"""The record of a box that every reader yields."""

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
    """The file, a colon, and the line or the number of the entry, for error messages."""
    slice: int | None = None
    """Slice of the image, counted from 0. None: the file names no slice."""
    name: str = ""
    """Name or number of the object in the file."""
    label: str = ""
    """Class of the object."""
    score: float = np.nan
    """Confidence of a detector; NaN if the file has none."""


def corners(x0: float, y0: float, x1: float, y1: float) -> dict[str, Any]:
    """Return the four coordinates as keyword arguments of `BoxRecord`."""
    return dict(zip(XYXY, map(float, (x0, y0, x1, y1)), strict=True))


def number(value: Any) -> float:
    """Convert a value of a file to a number; return NaN, which the checks report, if it is not one."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


def slice_number(value: str | float, where: str) -> int:
    """Convert a value of a file to the number of a slice.

    Raises:
        DataError: it is not a whole number.
    """
    z = number(value)
    if not z.is_integer():
        raise DataError(f"{where}: expected a slice's number, found {value!r}; write a whole number, counted from 0")
    return int(z)
