"""Stacks of slices in the formats microscopists use, opened without reading them."""

import math
from collections.abc import Iterable
from pathlib import Path

import dask.array as da
import h5py

from pipeline_lib.data.image_files import MRC, PICTURES, TIFF, is_zarr, slice_files
from pipeline_lib.data.mrc_images import open_mrc
from pipeline_lib.data.ome_zarr_images import full_resolution
from pipeline_lib.data.paths import HDF5
from pipeline_lib.data.pixel_rules import GREY_ALONE, Use, check_channel, slices_by_axes
from pipeline_lib.data.slice_folders import open_slice_files
from pipeline_lib.data.stored_arrays import lazy, reading
from pipeline_lib.data.tiff_images import open_tiff
from pipeline_lib.errors import DataError

UNDERSTOOD = (
    "a TIFF file, a folder of slices (PNG, JPEG, TIFF, BMP), an MRC file, an HDF5 data set (file.h5:dataset) or a Zarr "
    "array"
)
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
    with reading(path):
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
    with reading(path):
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


def _open(path: str, use: Use, channel: int | None) -> da.Array:
    match = HDF5.fullmatch(path)
    place = _existing(match["file"] if match else path)
    suffix = place.suffix.lower()
    if place.is_dir() and is_zarr(place):
        return _open_zarr(place, channel)
    if suffix in TIFF and not place.is_dir():
        return open_tiff(place, use, channel)
    check_channel(path, 1, channel)  # the other formats name no axes
    if match:
        return _open_hdf5(place, match["dataset"])
    if place.is_dir():
        return open_slice_files(place, _files_of_slices(place), use)
    if suffix in MRC:
        return open_mrc(place)
    if suffix in PICTURES:
        return open_slice_files(place, [place], use)
    raise DataError(f"{path}: expected {UNDERSTOOD}. {convert_advice(suffix)}")


def convert_advice(suffix: str) -> str:
    """Say how an image in another format becomes one that can be read."""
    program = PROGRAMS.get(suffix, "")
    return f"{f'This is a file of {program}. ' if program else ''}Open it in Fiji and save it as TIFF"


def _existing(path: str) -> Path:
    place = Path(path)
    if not place.exists():
        raise DataError(f"{path}: there is no such file or folder")
    if not (place.is_file() or place.is_dir()):  # a pipe would be waited for, a device may have no end
        raise DataError(f"{path}: a file or folder is expected, this is neither")
    return place


def _files_of_slices(folder: Path) -> list[Path]:
    files = slice_files(folder)
    if not files:
        raise DataError(f"{folder}: holds no PNG, JPEG, TIFF or BMP slices; expected {UNDERSTOOD}")
    return files


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
    return lazy(f"{path}:{dataset}", array)


def _open_zarr(path: Path, channel: int | None) -> da.Array:
    array, axes = full_resolution(path)
    if axes is None:
        check_channel(str(path), 1, channel)
        return lazy(str(path), array)
    return lazy(str(path), slices_by_axes(str(path), array, axes, channel))


def _listing(things: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, things))) or "nothing"
