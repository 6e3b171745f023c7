"""Stacks of slices in the formats microscopists use, opened without reading them."""

import logging
import math
import re
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import imageio.v3 as iio
import numpy as np
import zarr
from numpy.typing import NDArray
from tifffile import PHOTOMETRIC, TiffFile, TiffPageSeries

from pipeline_lib.data.paths import HDF5
from pipeline_lib.errors import DataError

UNDERSTOOD = "a TIFF file, a folder of slices (PNG, JPEG, TIFF), an HDF5 data set (file.h5:dataset) or a Zarr array"
TIFF = {".tif", ".tiff"}
PICTURES = {".png", ".jpg", ".jpeg"}
SLICES = {*PICTURES, *TIFF}
ZARR = ("zarr.json", ".zarray", ".zgroup")  # one of them marks a folder as Zarr, of version 3 or 2


def open_stack(path: str) -> da.Array:
    """Open a stack of grey slices or of labels; only headers are read.

    Args:
        path: A multi-page TIFF file, a folder of PNG, JPEG or TIFF slices (in the order of their names, s2 before s10;
            grey may be saved as RGB or RGBA), one such slice, `file.h5:dataset`, or a Zarr array (of an OME-Zarr group:
            its array "0"). A single YX image is a stack of one slice; leading axes of length 1, as OME-Zarr has for
            time and channel, are dropped.

    Returns:
        The stack, ZYX, in its own dtype, a chunk per slice. A damaged slice raises when it is computed.

    Raises:
        DataError: The path is missing, damaged, in no format listed above, or holds something else than grey slices.
    """
    with _reading(path):
        stack = _open(path)
    if stack.dtype.kind not in "biuf":
        raise DataError(f"{path}: real numbers are expected, found {stack.dtype}")
    while stack.ndim > 3 and stack.shape[0] == 1:
        stack = stack[0]
    if stack.ndim != 3 or stack.shape[-1] in (3, 4):  # a stack 3 or 4 pixels wide is an RGB(A) image
        raise DataError(
            f"{path}: grey slices (ZYX) are expected, not colour; its shape is {stack.shape}. Three or four slices are "
            "taken for colour where tifffile wrote them without photometric='minisblack'"
        )
    if 0 in stack.shape:
        raise DataError(f"{path}: at least one slice is expected; its shape is {stack.shape}")
    return stack


def open_slices(path: str) -> list[da.Array]:
    """Open the slices at `path`, which can differ in size if each is a file of a folder; only headers are read.

    Args:
        path: as in `open_stack`.

    Returns:
        Slices YX, a chunk each, of one dtype.

    Raises:
        DataError: as in `open_stack`, or slices of a folder differ in dtype.
    """
    folder = Path(path)
    if not folder.is_dir() or is_zarr(folder):
        return list(open_stack(path))
    files = _files_of_slices(folder)
    slices = [open_stack(str(file))[0] for file in files]
    kinds = {each.dtype: file.name for each, file in zip(reversed(slices), reversed(files), strict=True)}
    if len(kinds) > 1:
        found = ", ".join(f"{dtype} in {name}" for dtype, name in kinds.items())
        raise DataError(f"{path}: slices of one dtype are expected, found {found}")
    return slices


def check_whole(path: str) -> None:
    """Look for chunks that a Zarr array does not have: they would read as its fill value, black or no object.

    Raises:
        DataError: with the number of chunks that are missing. Other formats raise where a part is read.
    """
    place = Path(path)
    if not (place.is_dir() and is_zarr(place)):
        return
    with _reading(path):
        array = _zarr_array(place)
        sides = array.shards or array.chunks
        expected = math.prod(-(-length // side) for length, side in zip(array.shape, sides, strict=True))
        files = (place / array.path).rglob("*")
        found = sum(file.is_file() and file.name != "zarr.json" and not file.name.startswith(".") for file in files)
    if found < expected:
        raise DataError(
            f"{path}: {expected - found} of {expected} chunks are missing and would read as {array.fill_value}. "
            "Writers leave out chunks of nothing but that value; if this one did, name the part in `missing_chunks`"
        )


class _Warnings(logging.Handler):
    """What tifffile warns of in this thread: a missing companion of an OME-TIFF reads as zeros."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.thread, self.messages = threading.get_ident(), list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread:
            self.messages.append(record.getMessage())


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    """Turn what the libraries raise on damaged files, or warn of, into a DataError that names the file."""
    said, logger = _Warnings(), logging.getLogger("tifffile")
    logger.addHandler(said)
    try:
        yield
        if said.messages:
            raise DataError(f"{path}: {'; '.join(said.messages)}")
    except DataError:
        raise
    except Exception as error:  # each library and codec has its own, down to Pillow's SyntaxError
        raise DataError(f"{path}: cannot be read; is it truncated or damaged? ({error})") from error
    finally:
        logger.removeHandler(said)


def _open(path: str) -> da.Array:
    if match := HDF5.fullmatch(path):
        return _open_hdf5(_existing(match["file"]), match["dataset"])
    place = _existing(path)
    if place.is_dir():
        return _open_zarr(place) if is_zarr(place) else _open_slices(place, _files_of_slices(place))
    if place.suffix.lower() in TIFF:
        return _open_tiff(place)
    if place.suffix.lower() in PICTURES:
        return _open_slices(place, [place])
    raise DataError(f"{path}: expected {UNDERSTOOD}")


def is_zarr(folder: Path) -> bool:
    """Whether a folder is a Zarr array or group."""
    return any((folder / mark).exists() for mark in ZARR)


def _existing(path: str) -> Path:
    place = Path(path)
    if not place.exists():
        raise DataError(f"{path}: there is no such file or folder")
    if not (place.is_file() or place.is_dir()):  # a pipe would be waited for, a device may have no end
        raise DataError(f"{path}: a file or folder is expected, this is neither")
    return place


@dataclass(frozen=True)
class _StoredArray:
    """An array on disk as dask takes it, with the file's name for what may go wrong when a slice is read."""

    path: str
    array: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    ndim: int

    def __getitem__(self, where: Any) -> Any:
        with _reading(self.path):
            return self.array[where]


@dataclass(frozen=True)
class _OneSlice:
    """A YX image as a stack ZYX of one slice."""

    image: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, where: tuple[Any, ...]) -> Any:
        chosen, *within = where
        part = np.asarray(self.image[tuple(within)])
        return part[None][chosen] if isinstance(chosen, slice) else part


def _lazy(path: str, array: Any) -> da.Array:
    """A chunk per slice; a single YX image becomes a stack of one."""
    # here and not by `stack[None]`, through which dask reads a whole slice where a part is asked for
    array = _OneSlice(array, (1, *array.shape), array.dtype) if array.ndim == 2 else array
    source = _StoredArray(path, array, array.shape, array.dtype, array.ndim)
    stack: da.Array = da.from_array(source, chunks=(1,) * (source.ndim - 2) + source.shape[-2:])
    return stack


def _open_tiff(path: Path) -> da.Array:
    with ExitStack() as stack:
        tiff = stack.enter_context(TiffFile(path))
        if not _chain_ends(tiff):
            raise DataError(f"{path}: truncated: {len(tiff.pages)} pages can be read, and more are announced")
        series = _only_series(tiff)
        if {"S", "C"} & set(series.axes):
            raise DataError(
                f"{path}: grey slices are expected, not colour or channels; its axes are {series.axes}. Three or four "
                "slices are taken for colour where tifffile wrote them without photometric='minisblack'"
            )
        _check_black(path, series.keyframe.photometric)
        store = series.aszarr(level=0)
        # The file closes with the last array that reads from it. Closed here, the store would open it again and leave
        # it open: tests/data/test_raw.py
        weakref.finalize(store, stack.pop_all().close)
    return _lazy(str(path), zarr.open_array(store, mode="r"))


def _check_black(path: Path, photometric: object) -> None:
    """Zero is black, as everywhere else; libraries differ on whether they turn an image that says otherwise."""
    if photometric == PHOTOMETRIC.MINISWHITE:
        raise DataError(f"{path}: zero is white in it (WhiteIsZero); save it with zero as black (BlackIsZero)")


def _chain_ends(tiff: TiffFile) -> bool:
    """Whether the last page says that it is the last; tifffile reads a cut file as one of fewer pages."""
    position = tiff.pages.next_page_offset
    if position is None:
        return False
    tiff.filehandle.seek(position)
    return tiff.filehandle.read(tiff.tiff.offsetsize) == bytes(tiff.tiff.offsetsize)


def _only_series(tiff: TiffFile) -> TiffPageSeries:
    """The file's series; pages that were written one by one, each a series of its own, are joined."""
    if len(tiff.series) == 1:
        return tiff.series[0]
    pages = list(tiff.pages)
    kinds = {(page.shape, page.dtype) for page in pages}
    if len(kinds) != 1:
        raise DataError(f"{tiff.filename}: pages of one shape and dtype are expected, found {_listing(kinds)}")
    ((shape, dtype),) = kinds
    return TiffPageSeries(pages, shape=(len(pages), *shape), dtype=dtype, axes=f"I{pages[0].axes}")


@dataclass(frozen=True)
class _Folder:
    """Slices in files of their own, as one array: a dask array of each file would be a graph that grows with them."""

    files: list[Path]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, where: tuple[Any, ...]) -> NDArray[Any]:
        chosen, *within = where
        if isinstance(chosen, slice):
            slices = np.array([_read_slice(file) for file in self.files[chosen]], self.dtype)
            return slices.reshape(-1, *self.shape[1:])[:, *within]  # none, too, which dask asks for to learn the type
        return np.asarray(_read_slice(self.files[chosen])[tuple(within)])


def slice_files(folder: Path) -> list[Path]:
    """The slices in a folder, in their order."""
    slices = (f for f in folder.iterdir() if f.suffix.lower() in SLICES and not f.name.startswith("."))
    return sorted(slices, key=natural_order)


def _files_of_slices(folder: Path) -> list[Path]:
    files = slice_files(folder)
    if not files:
        raise DataError(f"{folder}: holds no PNG, JPEG or TIFF slices; expected {UNDERSTOOD}")
    return files


def _open_slices(path: Path, files: list[Path]) -> da.Array:
    kinds = {_header(file): file for file in reversed(files)}  # with the first file of each kind
    if len(kinds) != 1:
        found = ", ".join(f"{shape} {dtype} in {file.name}" for (shape, dtype), file in kinds.items())
        raise DataError(f"{path}: slices of one shape and dtype are expected, found {found}")
    ((shape, dtype),) = kinds
    return _lazy(str(path), _Folder(files, (len(files), *shape), dtype))


def natural_order(file: Path) -> tuple[list[tuple[int, str]], str]:
    """A key that sorts s2 before s10, as the numbers in a name count as numbers, and s01 before s1."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", file.name)], file.name


def _header(file: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with _reading(file):
        if file.suffix.lower() in TIFF:
            with TiffFile(file) as tiff:
                if len(tiff.pages) > 1:
                    raise DataError(
                        f"{file}: a slice of one page is expected in a folder, found {len(tiff.pages)} pages"
                    )
                _check_black(file, tiff.pages.first.photometric)
        with file.open("rb") as opened, iio.imopen(opened, "r", extension=file.suffix) as image:
            if image.metadata().get("mode") == "P":
                raise DataError(
                    f"{file}: its numbers stand for colours of a palette; save them as plain grey values: "
                    "`Image.fromarray(numpy.array(Image.open(FILE)))` keeps the numbers"
                )
            properties = image.properties()
        shape = tuple(properties.shape)
        return shape[:2] if _in_colour(shape) else shape, np.dtype(properties.dtype)


def _in_colour(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[-1] in (2, 3, 4)  # grey with alpha, RGB, RGBA


def _read_slice(file: Path) -> NDArray[Any]:
    """An image YX; of one in colour its red, if that is its green and blue as well; of one with alpha its grey."""
    with _reading(file), file.open("rb") as opened:
        pixels = iio.imread(opened, extension=file.suffix)
    if not _in_colour(pixels.shape):
        return pixels
    red, *others = np.moveaxis(pixels[..., : 1 if pixels.shape[-1] == 2 else 3], -1, 0)
    if not all(np.array_equal(red, other) for other in others):
        raise DataError(f"{file}: grey slices are expected, not colour")
    return np.ascontiguousarray(red)


def _open_hdf5(path: Path, dataset: str | None) -> da.Array:
    file = h5py.File(path, "r")  # closed by h5py with the last array that reads from it
    array = file.get(dataset) if dataset else None
    if not isinstance(array, h5py.Dataset):
        found: list[str] = []
        file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
        raise DataError(f"{path}:{dataset or ''}: name one of its data sets after a colon: {_listing(found)}")
    elsewhere = array.is_virtual or array.external or array.file.filename != file.filename
    if elsewhere:  # what is missing there reads as zeros, and a change would not be noticed
        raise DataError(f"{path}:{dataset}: its pixels lie in other files; copy it into one, as `h5repack` does")
    return _lazy(f"{path}:{dataset}", array)


def _open_zarr(path: Path) -> da.Array:
    return _lazy(str(path), _zarr_array(path))


def _zarr_array(path: Path) -> Any:
    node = zarr.open(path, mode="r")
    if isinstance(node, zarr.Group):
        if "0" not in node:
            raise DataError(f"{path}: expected a Zarr array or an OME-Zarr image, found a group of {_listing(node)}")
        node = node["0"]
    return node


def _listing(things: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, things))) or "nothing"
