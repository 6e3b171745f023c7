"""Stacks of slices in the formats microscopists use, opened without reading them."""

import logging
import math
import re
import threading
import warnings
import weakref
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import mrcfile
import numpy as np
import zarr
from numpy.typing import NDArray
from PIL import Image, ImageMode, ImageOps
from tifffile import PHOTOMETRIC, TiffFile, TiffPageSeries

from pipeline_lib.data.ome_zarr_images import full_resolution
from pipeline_lib.data.paths import HDF5
from pipeline_lib.data.pixel_rules import (
    GREY_ALONE,
    UPRIGHT,
    Use,
    check_channel,
    check_equal_colours,
    check_lossless,
    check_upright,
    palette_greys,
    slices_by_axes,
)
from pipeline_lib.errors import DataError

UNDERSTOOD = (
    "a TIFF file, a folder of slices (PNG, JPEG, TIFF, BMP), an MRC file, an HDF5 data set (file.h5:dataset) or a Zarr "
    "array"
)
TIFF = {".tif", ".tiff"}
PICTURES = {".png", ".jpg", ".jpeg", ".bmp"}
SLICES = {*PICTURES, *TIFF}
MRC = {".mrc", ".mrcs", ".st", ".rec", ".ali"}
IMOD_STAMP, IMOD_OFFSET, IMOD_SIGNED = 1146047817, 152, 1  # in a header of MRC: number, its place, bit of the next one
SIGNATURES = {"PNG": b"\x89PNG", "JPEG": b"\xff\xd8\xff", "BMP": b"BM"}  # first bytes
ORIENTATION = 274  # number of the tag, in EXIF and TIFF
SIDEWAYS = {5, 6, 7, 8}  # its values if height and width change places
GREY_MODES = {"1", "L", "I", "F", "I;16", "I;16B", "I;16L"}  # of Pillow
COLOUR_MODES = {"LA", "RGB", "RGBA"}
PROGRAMS = {  # that write images which cannot be read here, by suffix
    ".dm3": "DigitalMicrograph",
    ".dm4": "DigitalMicrograph",
    ".ser": "TIA",
    ".emi": "TIA",
    ".emd": "Velox",
    ".czi": "ZEN",
    ".lif": "LAS X",
    ".nd2": "NIS-Elements",
    ".oib": "FluoView",
    ".oif": "FluoView",
    ".ims": "Imaris",
    ".svs": "Aperio",
    ".jp2": "JPEG 2000",
    ".gif": "GIF",
    ".webp": "WebP",
}
ZARR = ("zarr.json", ".zarray", ".zgroup")  # one of them marks a folder as Zarr, of version 3 or 2


def open_stack(path: str, channel: int | None = None) -> da.Array:
    """Open a stack of grey slices; only headers are read.

    Args:
        path: A multi-page TIFF file, an MRC file, a folder of PNG, JPEG, BMP or TIFF slices (in the order of their
            names, s2 before s10), one such slice, `file.h5:dataset`, a Zarr array, or an OME-Zarr image. A single YX
            image is a stack of one slice. Grey can be saved as RGB or RGBA, or with a palette of greys.
        channel: Which channel to take, counted from 0, if the file names an axis of channels.

    Returns:
        The stack, ZYX, in its own dtype, a chunk per slice. A damaged slice raises when it is computed. PNG and JPEG
        files are turned as their EXIF orientation says.

    Raises:
        DataError: The path is missing, damaged, in no format listed above, or holds something else than grey slices.
    """
    return _stack(path, "grey", channel)


def open_labels(path: str) -> da.Array:
    """Open a stack of label images; only headers are read.

    Args:
        path: As in `open_stack`. The numbers of a file with a palette are its labels.

    Returns:
        As in `open_stack`.

    Raises:
        DataError: As in `open_stack`, or JPEG has changed the labels.
    """
    return _stack(path, "labels")


def open_slices(path: str) -> list[da.Array]:
    """Open the slices at `path`, which can differ in size if each is a file of a folder; only headers are read.

    Args:
        path: As in `open_stack`.

    Returns:
        Slices YX, a chunk each, of one dtype.

    Raises:
        DataError: As in `open_stack`, or slices of a folder differ in dtype.
    """
    return _slices(path, "grey")


def open_label_slices(path: str) -> list[da.Array]:
    """Open label images as `open_slices` opens images, with the rules of `open_labels`."""
    return _slices(path, "labels")


def _slices(path: str, use: Use) -> list[da.Array]:
    folder = Path(path)
    if not folder.is_dir() or is_zarr(folder):
        return list(_stack(path, use))
    files = _files_of_slices(folder)
    slices = [_stack(str(file), use)[0] for file in files]
    kinds = {each.dtype: file.name for each, file in zip(reversed(slices), reversed(files), strict=True)}
    if len(kinds) > 1:
        found = ", ".join(f"{dtype} in {name}" for dtype, name in kinds.items())
        raise DataError(f"{path}: slices of one dtype are expected, found {found}")
    return slices


def _stack(path: str, use: Use, channel: int | None = None) -> da.Array:
    with _reading(path):
        stack = _open(path, use, channel)
    if stack.dtype.kind not in "biuf":
        raise DataError(f"{path}: real numbers are expected, found {stack.dtype}")
    while stack.ndim > 3 and stack.shape[0] == 1:
        stack = stack[0]
    if stack.ndim != 3 or stack.shape[-1] in (3, 4):  # a stack 3 or 4 pixels wide is an RGB(A) image
        raise DataError(f"{path}: {GREY_ALONE} Its shape is {stack.shape}")
    if 0 in stack.shape:
        raise DataError(f"{path}: at least one slice is expected; its shape is {stack.shape}")
    return stack


def check_whole(path: str) -> None:
    """Look for chunks that a Zarr array does not have: they would read as its fill value, black or no object.

    Raises:
        DataError: with the number of chunks that are missing. Other formats raise where a part is read.
    """
    place = Path(path)
    if not (place.is_dir() and is_zarr(place)):
        return
    with _reading(path):
        array, _ = full_resolution(place)
        sides = array.shards or array.chunks
        expected = math.prod(-(-length // side) for length, side in zip(array.shape, sides, strict=True))
        files = (place / array.path).rglob("*")
        found = sum(file.is_file() and file.name != "zarr.json" and not file.name.startswith(".") for file in files)
    if found < expected:
        raise DataError(
            f"{path}: {expected - found} of {expected} chunks are missing and would read as {array.fill_value}. "
            "Writers leave out chunks of nothing but that value. If this one did, name the part in `missing_chunks`: "
            "for `loosebox predict`, write `segment: {missing_chunks: [images]}` to a file and give it with --config"
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


def _open(path: str, use: Use, channel: int | None) -> da.Array:
    match = HDF5.fullmatch(path)
    place = _existing(match["file"] if match else path)
    suffix = place.suffix.lower()
    if place.is_dir() and is_zarr(place):
        return _open_zarr(place, channel)
    if suffix in TIFF and not place.is_dir():
        return _open_tiff(place, use, channel)
    check_channel(path, 1, channel)  # the other formats name no axes
    if match:
        return _open_hdf5(place, match["dataset"])
    if place.is_dir():
        return _open_folder(place, _files_of_slices(place), use)
    if suffix in MRC:
        return _open_mrc(place)
    if suffix in PICTURES:
        return _open_folder(place, [place], use)
    raise DataError(f"{path}: expected {UNDERSTOOD}. {convert_advice(suffix)}")


def convert_advice(suffix: str) -> str:
    """Say how an image in another format becomes one that can be read."""
    program = PROGRAMS.get(suffix, "")
    return f"{f'This is a file of {program}. ' if program else ''}Open it in Fiji and save it as TIFF"


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


def _open_tiff(path: Path, use: Use, channel: int | None) -> da.Array:
    _check_signature(path)
    with ExitStack() as stack:
        tiff = stack.enter_context(TiffFile(path))
        if not _chain_ends(tiff):
            raise DataError(f"{path}: truncated: {len(tiff.pages)} pages can be read, and more are announced")
        series = _only_series(tiff)
        _check_page(path, series.keyframe, use)
        store = series.aszarr(level=0)
        pixels: Any = zarr.open_array(store, mode="r")
        if (sample := series.axes.find("S")) >= 0:  # as few files hold grey as RGB, all pixels are compared at once
            check_equal_colours(path, pixels[:], sample)
        slices = slices_by_axes(str(path), pixels, series.axes, channel)
        greys = _palette_of(path, series.keyframe, use)
        # The file closes with the last array that reads from it. Closed here, the store would open it again and leave
        # it open: tests/data/test_raw.py
        weakref.finalize(store, stack.pop_all().close)
    return _lazy(str(path), slices if greys is None else _Resolved(slices, greys))


def _check_signature(path: Path) -> None:
    """Name a picture that was given the suffix of TIFF."""
    with path.open("rb") as file:
        start = file.read(8)
    for kind, signature in SIGNATURES.items():
        if start.startswith(signature):
            raise DataError(
                f"{path}: this is a {kind} file with the suffix of TIFF; give it the suffix .{kind.lower()}"
            )


def _check_page(path: Path, page: Any, use: Use) -> None:
    """Refuse a page of TIFF that programs show in different ways, or labels that JPEG has changed.

    Zero is black, as everywhere else; libraries differ on whether they turn an image that says otherwise.
    """
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        raise DataError(f"{path}: zero is white in it (WhiteIsZero); save it with zero as black (BlackIsZero)")
    check_lossless(path, getattr(page.compression, "name", ""), use)
    tag = page.tags.get(ORIENTATION)
    check_upright(path, tag.value if tag else UPRIGHT)


def _palette_of(path: Path, page: Any, use: Use) -> NDArray[np.uint8] | None:
    """Return the greys that the numbers of a page of TIFF stand for; None if they are greys themselves."""
    if page.photometric != PHOTOMETRIC.PALETTE or page.colormap is None:
        return None
    return palette_greys(path, np.asarray(page.colormap).T, use)


@dataclass(frozen=True)
class _Resolved:
    """An array whose numbers stand for greys of a palette."""

    array: Any
    greys: NDArray[np.uint8]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.greys.dtype

    def __getitem__(self, where: tuple[Any, ...]) -> NDArray[np.uint8]:
        return np.asarray(self.greys[np.asarray(self.array[where])])


def _open_mrc(path: Path) -> da.Array:
    """Open an MRC file. Rows stay in the order of the file, of which IMOD shows the first at the bottom."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as of a file that is longer than its header says
        opened = mrcfile.mmap(path, mode="r")
    weakref.finalize(opened.data, opened.close)
    return _lazy(str(path), opened.data.view(np.uint8) if _has_unsigned_bytes(opened.header) else opened.data)


def _has_unsigned_bytes(header: Any) -> bool:
    """Return whether IMOD wrote the bytes of an MRC file unsigned (https://bio3d.colorado.edu/imod/doc/mrc_format.txt).

    Mode 0 is signed by the standard. IMOD says in a flag of its own whether it is.
    """
    stamp, flags = np.frombuffer(header.tobytes(), header.mode.dtype, count=2, offset=IMOD_OFFSET)
    return bool(header.mode == 0 and stamp == IMOD_STAMP and not flags & IMOD_SIGNED)


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
    if len(kinds) != 1 or tiff.is_ome:
        found = ", ".join(f"{each.name or number} {each.shape}" for number, each in enumerate(tiff.series))
        raise DataError(
            f"{tiff.filename}: pages of one shape and dtype are expected, found {len(tiff.series)} images ({found}). "
            "Save the one to be segmented as a file"
        )
    ((shape, dtype),) = kinds
    return TiffPageSeries(pages, shape=(len(pages), *shape), dtype=dtype, axes=f"I{pages[0].axes}")


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


def slice_files(folder: Path) -> list[Path]:
    """The slices in a folder, in their order."""
    slices = (f for f in folder.iterdir() if f.suffix.lower() in SLICES and not f.name.startswith("."))
    return sorted(slices, key=natural_order)


def _files_of_slices(folder: Path) -> list[Path]:
    files = slice_files(folder)
    if not files:
        raise DataError(f"{folder}: holds no PNG, JPEG, TIFF or BMP slices; expected {UNDERSTOOD}")
    return files


def _open_folder(path: Path, files: list[Path], use: Use) -> da.Array:
    kinds = {_header(file, use): file for file in reversed(files)}  # with the first file of each kind
    if len(kinds) != 1:
        found = ", ".join(f"{shape} {dtype} in {file.name}" for (shape, dtype), file in kinds.items())
        raise DataError(f"{path}: slices of one shape and dtype are expected, found {found}")
    ((shape, dtype),) = kinds
    return _lazy(str(path), _Folder(files, (len(files), *shape), dtype, use))


def natural_order(file: Path) -> tuple[list[tuple[int, str]], str]:
    """A key that sorts s2 before s10, as the numbers in a name count as numbers, and s01 before s1."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", file.name)], file.name


def _header(file: Path, use: Use) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape (YX) and dtype of a slice."""
    with _reading(file):
        if file.suffix.lower() in TIFF:
            slices = _open_tiff(file, use, None)
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
    with _reading(file):
        if file.suffix.lower() in TIFF:
            return np.asarray(_open_tiff(file, use, None)[0].compute(scheduler="synchronous"))
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


def _open_zarr(path: Path, channel: int | None) -> da.Array:
    array, axes = full_resolution(path)
    if axes is None:
        check_channel(str(path), 1, channel)
        return _lazy(str(path), array)
    return _lazy(str(path), slices_by_axes(str(path), array, axes, channel))


def _listing(things: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, things))) or "nothing"
