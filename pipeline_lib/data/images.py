"""Open a set of images to segment. They can differ in size, and be larger than memory."""

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

SAMPLES = 64  # largest number of squares of an image whose percentiles are measured
SAMPLE = 256  # pixels: side of these squares
HELD = 64_000_000  # pixels: slices up to this size are read whole and kept; parts of larger ones are read one by one

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageFile:
    """An image of the set: a stack of one or more slices."""

    name: str  # path in the folder of images, with / between folders; unique in the set
    path: str  # as in `open_stack`
    shape: Shape  # ZYX, pixels
    grey_range: tuple[float, float] | None  # values that become black and white, in this order; None if it is 8-bit
    digest: str  # digest of its files, which shows whether they have changed
    channel: int | None = None  # as in `open_stack`


def open_images(path: str, grey: Grey | None, channel: int | None = None, stack: bool = False) -> list[ImageFile]:
    """Return the images at a path, in the order of their names. Each file is read once, for its digest.

    Args:
        path: A folder or one stack, as in `open_stack`. In a folder and its subfolders, each file with a suffix of
            `IMAGES` and each Zarr folder is an image.
        grey: Grey values that become black and white. None if all images are 8-bit.
        channel: Which channel to take, counted from 0, of images with several channels.
        stack: Whether the images of a folder are the slices of one image, which has the name of the folder.

    Raises:
        DataError: There is no image, an image cannot be read, or `grey` is None and an image is not 8-bit.
    """
    if stack and Path(path).is_dir():
        return [_image(Path(path).resolve().name, path, grey, channel)]
    images = [_image(name, place, grey, channel) for name, place in find_images(path)]
    unread = unread_files(path)
    if not images:
        raise DataError(
            f"{path}: there is no image in this folder; expected TIFF, PNG, JPEG, BMP or MRC files or OME-Zarr folders"
            f"{f', found {unread}. Open them in Fiji and save them as TIFF' if unread else ''}"
        )
    if unread:
        log.warning("%s: LooseBox does not read %s there", path, unread)
    log_folders(path, [image.name for image in images])
    return images


def log_folders(path: str, names: Sequence[str]) -> None:
    """Log how many folders below `path` the images lie in, unless all lie in `path` itself."""
    folders = {Path(name).parent for name in names}
    if folders - {Path()}:
        log.info("%s: %d images in %d folders", path, len(names), len(folders))


def unread_files(path: str) -> str:
    """Say which files in a folder of images are not read, such as "3 .dm4"; empty if there are none."""
    place = Path(path)
    if not place.is_dir() or is_zarr(place):
        return ""
    others = [file for file in files_below(place) if not is_image(file)]
    kinds = Counter(file.suffix.lower() or file.name for file in others)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def find_images(path: str) -> Iterator[tuple[str, str]]:
    """Yield the name and path of each image at a path, as in `open_images`. No file is read."""
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
        stack[0].compute()  # colour is refused here, and only the pixels show it
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
                    f"{path}: expected an 8-bit image, found {stack.dtype} pixels.{unsigned} Choose the grey values "
                    "that become black and white with --range BLACK WHITE or --percentiles 0.5 99.5 (segment.grey)"
                )
            return None
    if black == white:
        raise DataError(
            f"{path}: expected different grey values for black and white, found {black} for both; choose another range"
        )
    return black, white


def _sample(path: str, stack: da.Array) -> NDArray[Any]:
    """Return the pixels of up to `SAMPLES` squares that are evenly spaced over a stack, as one dimension.

    Raises:
        DataError: A pixel is NaN or infinite.
    """
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
        raise DataError(
            f"{path}: expected a finite number in every pixel, found NaN or infinity. Choose a grey range with --range"
        )
    return pixels


class Pixels:
    """Read parts of images as uint8. The last image stays open, and its last slice stays in memory."""

    def __init__(self) -> None:
        self._stack: tuple[str, da.Array] | None = None
        self._slice: tuple[tuple[str, int], NDArray[np.uint8]] | None = None

    def part(self, image: ImageFile, z: int, y: slice, x: slice) -> NDArray[np.uint8]:
        """Return the pixels (YX) of slice `z`, rows `y` and columns `x` of an image.

        Raises:
            DataError: The image has changed its shape, cannot be read, or has a pixel there that is not a number.
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
                raise DataError(
                    f"{image.path}: expected the shape {image.shape}, found {self._stack[1].shape}. The file has "
                    "changed since the run began. Run the command again"
                )
        # Synchronous, because outside the main thread dask starts a thread pool that it does not stop
        pixels: NDArray[Any] = self._stack[1][z, y, x].compute(scheduler="synchronous")
        return pixels if image.grey_range is None else as_grey(pixels, image.path, image.grey_range, z)
