"""Slices in files of their own: PNG, JPEG, BMP, and TIFF of one page."""

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

SIDEWAYS = {5, 6, 7, 8}  # values of the tag Orientation if height and width change places
GREY_MODES = {"1", "L", "I", "F", "I;16", "I;16B", "I;16L"}  # of Pillow
COLOUR_MODES = {"LA", "RGB", "RGBA"}


def open_slice_files(path: Path, files: list[Path], use: Use) -> da.Array:
    """Open slices that are a file each, as one stack ZYX in their order; only headers are read.

    Args:
        path: The folder, for error messages.
        files: A file for each slice.
        use: What the numbers mean.

    Raises:
        DataError: The slices differ in shape or dtype, or one is not grey.
    """
    kinds = {_header(file, use): file for file in reversed(files)}  # with the first file of each kind
    if len(kinds) != 1:
        found = ", ".join(f"{shape} {dtype} in {file.name}" for (shape, dtype), file in kinds.items())
        raise DataError(f"{path}: slices of one shape and dtype are expected, found {found}")
    ((shape, dtype),) = kinds
    return lazy(str(path), _Folder(files, (len(files), *shape), dtype, use))


@dataclass(frozen=True)
class _Folder:
    """Slices in files of their own, as one array: a dask array of each file would be a graph that grows with them."""

    files: list[Path]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    use: Use

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, where: tuple[Any, ...]) -> NDArray[Any]:
        chosen, *within = where
        if isinstance(chosen, slice):
            slices = np.array([_read_slice(file, self.use) for file in self.files[chosen]], self.dtype)
            return slices.reshape(-1, *self.shape[1:])[:, *within]  # none, too, which dask asks for to learn the type
        return np.asarray(_read_slice(self.files[chosen], self.use)[tuple(within)])


def _header(file: Path, use: Use) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape (YX) and dtype of a slice."""
    with reading(file):
        if file.suffix.lower() in TIFF:
            slices = open_tiff(file, use, None)
            if slices.shape[0] > 1:
                raise DataError(f"{file}: a slice of one page is expected in a folder, found {slices.shape[0]} pages")
            return tuple(slices.shape[1:]), np.dtype(slices.dtype)
        with _picture(file) as picture:
            _check_picture(file, picture, use)
            sides = (picture.width, picture.height) if _turned(picture) in SIDEWAYS else (picture.height, picture.width)
            return sides, np.dtype(ImageMode.getmode(picture.mode).typestr)


@contextmanager
def _picture(file: Path) -> Iterator[Image.Image]:
    """Open a picture of any size. Pillow refuses large ones, as a guard for servers that take files from strangers."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        picture = Image.open(file)
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    with picture:
        yield picture


def _turned(picture: Image.Image) -> int:
    return int(picture.getexif().get(ORIENTATION, UPRIGHT))


def _check_picture(file: Path, picture: Image.Image, use: Use) -> None:
    check_lossless(file, picture.format or "", use)
    if picture.mode not in GREY_MODES | COLOUR_MODES | {"P"}:
        raise DataError(f"{file}: {GREY_ALONE} Its mode is {picture.mode}")
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        raise DataError(f"{file}: one image is expected, found {frames}; save each as a file")
    if picture.format == "PNG" and picture.mode != "I;16" and _png_depth(file) == 16:
        raise DataError(f"{file}: 16 bits are read from grey PNG files alone; save it as grey, or as TIFF")


def _png_depth(file: Path) -> int:
    """Return how many bits a sample of a PNG file has."""
    with file.open("rb") as opened:
        return opened.read(25)[24]


def _read_slice(file: Path, use: Use) -> NDArray[Any]:
    """Read an image YX, turned as its EXIF orientation says; of one in colour its red, which is its grey."""
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
