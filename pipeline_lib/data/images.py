"""A set of images to be segmented, of any and of different sizes, that need not fit into memory."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from pipeline_lib.data.image_files import PICTURES, files_below, is_image, is_zarr
from pipeline_lib.data.paths import HDF5, files_of
from pipeline_lib.data.readers import open_stack
from pipeline_lib.data.tiling import as_grey
from pipeline_lib.errors import DataError
from pipeline_lib.runtime.hashing import files_digest
from pipeline_lib.settings.segment import FixedGrey, Grey, MeasuredGrey

Shape = tuple[int, int, int]  # of an image: slices, height and width (ZYX), in pixels

SAMPLES, SAMPLE = 64, 256  # of an image, whose percentiles are wanted: so many squares of so many pixels' side at most
HELD = 64_000_000  # pixels of a slice that is read whole and kept for its next part; of a larger one, parts are read

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageFile:
    """An image of the set: a stack of slices, perhaps of one."""

    name: str  # unique in the set: its path in the folder of images, with / between folders
    path: str  # as of `open_stack`
    shape: Shape  # ZYX
    grey_range: tuple[float, float] | None  # what becomes black and white, in this order; None: it is 8-bit
    digest: str  # of its files, by which other pixels are noticed
    channel: int | None = None  # as of `open_stack`


def open_images(path: str, grey: Grey | None, channel: int | None = None, stack: bool = False) -> list[ImageFile]:
    """The images at `path`, in the order of their names; every file is read once for its digest, none is kept.

    Args:
        path: a folder, in which and in whose folders each file of `IMAGES` and each folder of Zarr is an image; or one
            stack as of `open_stack`.
        grey: grey values that become black and white; None if all images are 8-bit.
        channel: which channel to take, counted from 0, of images with several.
        stack: whether the images of a folder are the slices of one image, which has the folder's name.

    Raises:
        DataError: there is no image, one cannot be read, or one is not 8-bit and `grey` is None.
    """
    if stack and Path(path).is_dir():
        return [_image(Path(path).resolve().name, path, grey, channel)]
    images = [_image(name, place, grey, channel) for name, place in find_images(path)]
    unread = unread_files(path)
    if not images:
        raise DataError(
            f"{path}: holds no image; expected TIFF, PNG, JPEG, BMP or MRC files or OME-Zarr folders"
            f"{f', found {unread}. Open them in Fiji and save them as TIFF' if unread else ''}"
        )
    if unread:
        log.warning("%s: LooseBox does not read %s there", path, unread)
    log_folders(path, [image.name for image in images])
    return images


def log_folders(path: str, names: Sequence[str]) -> None:
    """Say how many folders below `path` the images lie in, if they do."""
    folders = {Path(name).parent for name in names}
    if folders - {Path()}:
        log.info("%s: %d images in %d folders", path, len(names), len(folders))


def unread_files(path: str) -> str:
    """Say which files of a folder of images are not read, such as "3 .dm4"; empty if there are none."""
    place = Path(path)
    if not place.is_dir() or is_zarr(place):
        return ""
    others = [file for file in files_below(place) if not is_image(file)]
    kinds = Counter(file.suffix.lower() or file.name for file in others)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def find_images(path: str) -> Iterator[tuple[str, str]]:
    """Yield name and path of each image at `path`, as of `open_images`; no file is read."""
    place = Path(path)
    if not place.is_dir() or is_zarr(place):
        match = HDF5.fullmatch(path)
        yield Path(match["file"] if match else path).name, path
        return
    for file in files_below(place):
        if is_image(file):
            yield file.relative_to(place).as_posix(), str(file)


def _image(name: str, path: str, grey: Grey | None, channel: int | None) -> ImageFile:
    stack = open_stack(path, channel)
    if Path(path).suffix.lower() in PICTURES:
        stack[0].compute()  # only their pixels tell whether they are in colour
    return ImageFile(name, path, stack.shape, _grey_range(path, stack, grey), files_digest(files_of(path)), channel)


def _grey_range(path: str, stack: da.Array, grey: Grey | None) -> tuple[float, float] | None:
    match grey:
        case FixedGrey(range=(black, white)):
            pass
        case MeasuredGrey(percentiles=(low, high)):
            black, white = map(float, np.percentile(_sample(path, stack), [low, high]))
        case _:
            if stack.dtype != np.uint8:
                unsigned = " If its bytes are unsigned, save it as TIFF first." if stack.dtype == np.int8 else ""
                raise DataError(
                    f"{path}: the image has {stack.dtype} pixels.{unsigned} Give --range BLACK WHITE or --percentiles "
                    "0.5 99.5 (segment.grey)"
                )
            return None
    if black == white:
        raise DataError(
            f"{path}: expected different greys for black and white, found {black} for both; give another range"
        )
    return black, white


def _sample(path: str, stack: da.Array) -> NDArray[Any]:
    """The pixels of squares that are evenly spaced over a stack; of all squares, if there are few."""
    slices, height, width = stack.shape
    rows, columns = -(-height // SAMPLE), -(-width // SAMPLE)
    count = slices * rows * columns
    squares = []
    for number in np.unique(np.linspace(0, count - 1, min(count, SAMPLES)).round().astype(int)):
        z, row, column = np.unravel_index(number, (slices, rows, columns))
        y, x = (slice(int(i) * SAMPLE, (int(i) + 1) * SAMPLE) for i in (row, column))
        squares.append(stack[int(z), y, x].compute().ravel())
    pixels = np.concatenate(squares)
    if not np.isfinite(pixels).all():
        raise DataError(f"{path}: expected a number in every pixel, found NaN or infinity; give a grey range")
    return pixels


class Pixels:
    """Parts of images as uint8; the image and the slice that were read last are kept."""

    def __init__(self) -> None:
        self._stack: tuple[str, da.Array] | None = None
        self._slice: tuple[tuple[str, int], NDArray[np.uint8]] | None = None

    def part(self, image: ImageFile, z: int, y: slice, x: slice) -> NDArray[np.uint8]:
        """The pixels of a part of a slice, YX.

        Raises:
            DataError: the image has changed its shape, cannot be read, or has a pixel there that is not a number.
        """
        if image.shape[1] * image.shape[2] > HELD:
            return self._read(image, z, y, x)
        if self._slice is None or self._slice[0] != (image.path, z):
            self._slice = (image.path, z), self._read(image, z, slice(None), slice(None))
        return self._slice[1][y, x]

    def _read(self, image: ImageFile, z: int, y: slice, x: slice) -> NDArray[np.uint8]:
        if self._stack is None or self._stack[0] != image.path:
            self._stack = image.path, open_stack(image.path, image.channel)
            if self._stack[1].shape != image.shape:
                raise DataError(f"{image.path}: expected the shape {image.shape}, found {self._stack[1].shape}")
        # by this thread alone: in any other than the main one dask begins a pool that lives on
        pixels: NDArray[Any] = self._stack[1][z, y, x].compute(scheduler="synchronous")
        return pixels if image.grey_range is None else as_grey(pixels, image.path, image.grey_range, z)
