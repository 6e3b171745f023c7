"""Describe an output of masks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.data.images import ImageFile
from pipeline_lib.data.instances import Instances

Source = TypeVar("Source")
Part = Callable[[ImageFile, int, slice, slice], NDArray[np.uint8]]  # from image, slice, rows and columns to pixels YX


@dataclass(frozen=True)
class MaskSet:
    """The masks of a set of images, with everything else that a writer can need."""

    instances: Instances
    """The masks, their boxes, and the images that they lie in."""
    pixels: Part
    """Return a part of an image (uint8, YX), as the network saw it."""
    pixel_size: Sequence[float] | None
    """Size of a pixel in nanometres, ZYX; None if it is not known."""


@dataclass(frozen=True)
class MaskFormat(Generic[Source]):
    """An output: its names, and how to write it from a source.

    The source is a `MaskSet`, or the path of the OME-Zarr that was written from one.
    """

    name: str
    """Name of the keyword argument of the stage that writes it, and of the output of the stage's rule."""
    file: str
    """Name of the file or folder in the folder of results."""
    program: str
    """The program that opens it, as docs/outputs.md names it."""
    write: Callable[[Source, Path], None]
    """Write the source to a path that does not exist yet."""
