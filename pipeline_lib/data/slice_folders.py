"""Read slices that are a file each: PNG, JPEG, BMP, or TIFF with one page."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageMode, ImageOps

from pipeline_lib.data.image_files import TIFF
from pipeline_lib.data.pixel_rules import (
    GREY_ALONE,
    ORIENTATION,
    UPRIGHT,
    Use,
    check_equal_colours,
    check_lossless,
    palette_greys,
)
from pipeline_lib.data.stored_arrays import lazy, reading
from pipeline_lib.data.tiff_images import open_tiff
from pipeline_lib.errors import DataError

SIDEWAYS = {5, 6, 7, 8}  # values of the tag Orientation that exchange height and width
GREY_MODES = {"1", "L", "I", "F", "I;16", "I;16B", "I;16L"}  # modes of Pillow
COLOUR_MODES = {"LA", "RGB", "RGBA"}


def open_slice_files(path: Path, files: list[Path], use: Use) -> da.Array:
    """Open files of slices as one stack ZYX, in their order. Only headers are read.

    Args:
        path: The folder, for error messages.
        files: A file for each slice.
        use: Whether the numbers are grey values or labels.

    Raises:
        DataError: The slices differ in shape or dtype, or one is not grey.
    """
    kinds = {_header(file, use): file for file in reversed(files)}  # reversed, to keep the first file of each kind
    if len(kinds) != 1:
        listed = ", ".join(f"{shape} {dtype} in {file.name}" for (shape, dtype), file in kinds.items())
        raise DataError(
            f"{path}: expected slices with one shape and dtype, found {listed}. Remove the files that do not belong "
            "to the stack"
        )
    ((shape, dtype),) = kinds
    return lazy(str(path), _Folder(files, (len(files), *shape), dtype, use))


@dataclass(frozen=True)
class _Folder:
    """The files of slices as one array. With an array for each file, the graph of dask would grow with the stack."""

    files: list[Path]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    use: Use

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, where: tuple[Any, ...]) -> NDArray[Any]:
        z, *within = where
        if isinstance(z, slice):
            slices = np.array([_read_slice(file, self.use) for file in self.files[z]], self.dtype)
            return slices.reshape(-1, *self.shape[1:])[:, *within]  # dask reads an empty part to learn the type
        return np.asarray(_read_slice(self.files[z], self.use)[tuple(within)])


def _header(file: Path, use: Use) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape (YX) and dtype of a slice."""
    with reading(file):
        if file.suffix.lower() in TIFF:
            slices = open_tiff(file, use, None)
            if slices.shape[0] > 1:
                raise DataError(
                    f"{file}: expected one page, because the file lies in a folder of slices; found {slices.shape[0]} "
                    "pages. Save each page as a file"
                )
            return tuple(slices.shape[1:]), np.dtype(slices.dtype)
        with _picture(file) as picture:
            _check_picture(file, picture, use)
            sides = (
                (picture.width, picture.height)
                if _orientation(picture) in SIDEWAYS
                else (picture.height, picture.width)
            )
            return sides, np.dtype(ImageMode.getmode(picture.mode).typestr)


@contextmanager
def _picture(file: Path) -> Iterator[Image.Image]:
    """Open a picture of any size. Pillow refuses large ones by default, to protect servers."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        picture = Image.open(file)
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    with picture:
        yield picture


def _orientation(picture: Image.Image) -> int:
    return int(picture.getexif().get(ORIENTATION, UPRIGHT))


def _check_picture(file: Path, picture: Image.Image, use: Use) -> None:
    check_lossless(file, picture.format or "", use)
    if picture.mode not in GREY_MODES | COLOUR_MODES | {"P"}:
        raise DataError(f"{file}: {GREY_ALONE} Its mode is {picture.mode}")
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        raise DataError(f"{file}: expected one image, found {frames}. Save each image as a file")
    if picture.format == "PNG" and picture.mode != "I;16" and _png_depth(file) == 16:
        raise DataError(
            f"{file}: expected a grey PNG file, because LooseBox does not read 16 bits from colour PNG files. Save it "
            "as grey, or as TIFF"
        )


def _png_depth(file: Path) -> int:
    """Return the number of bits of a sample in a PNG file."""
    with file.open("rb") as stream:
        return stream.read(25)[24]


def _read_slice(file: Path, use: Use) -> NDArray[Any]:
    """Read an image YX, turned as its EXIF orientation says. RGB with equal channels becomes grey."""
    with reading(file):
        if file.suffix.lower() in TIFF:
            return np.asarray(open_tiff(file, use, None)[0].compute(scheduler="synchronous"))
        with _picture(file) as picture:
            palette = picture.getpalette() if picture.mode == "P" else None
            pixels = np.asarray(ImageOps.exif_transpose(picture))
        if palette is not None:
            greys = palette_greys(file, np.asarray(palette, np.uint8).reshape(-1, 3), use)
            return pixels if greys is None else np.asarray(greys[pixels])
        if pixels.ndim == 2:
            return pixels
        check_equal_colours(file, pixels, axis=-1)
        return np.ascontiguousarray(pixels[..., 0])
