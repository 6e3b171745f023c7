"""Open stacks of slices in the formats that microscopists use. Only headers are read."""

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

READABLE = (
    "a TIFF file, a folder of slices (PNG, JPEG, TIFF, BMP), an MRC file, an HDF5 data set (file.h5:dataset) or a Zarr "
    "array"
)
PROGRAMS = {  # programs and formats of images that LooseBox cannot read, by suffix
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
    """Open a stack of grey slices. Only headers are read.

    Args:
        path: A multi-page TIFF file, an MRC file, a folder of PNG, JPEG, BMP or TIFF slices (in the order of their
            names, s2 before s10), one such slice, `file.h5:dataset`, a Zarr array, or an OME-Zarr image. A single YX
            image is a stack of one slice. Grey can be saved as RGB or RGBA, or with a palette of greys.
        channel: Which channel to take, counted from 0, if the file names an axis of channels.

    Returns:
        The stack, ZYX, with the dtype of the file and a chunk for each slice. A damaged slice raises DataError when it
        is computed. PNG and JPEG files are turned as their EXIF orientation says.

    Raises:
        DataError: The path is missing, damaged, has none of these formats, or does not hold grey slices.
    """
    return _stack(path, "grey", channel)


def open_labels(path: str) -> da.Array:
    """Open a stack of label images. Only headers are read.

    Args:
        path: As in `open_stack`. The numbers of a file with a palette are its labels.

    Returns:
        As in `open_stack`.

    Raises:
        DataError: As in `open_stack`, or JPEG has changed the labels.
    """
    return _stack(path, "labels")


def open_slices(path: str) -> list[da.Array]:
    """Open the slices at a path. They can differ in size if they are the files of a folder. Only headers are read.

    Args:
        path: As in `open_stack`.

    Returns:
        Slices YX with one dtype. Each is one chunk.

    Raises:
        DataError: As in `open_stack`, or the slices of a folder differ in dtype.
    """
    return _slices(path, "grey")


def open_label_slices(path: str) -> list[da.Array]:
    """Open label images as `open_slices` does, with the rules of `open_labels`."""
    return _slices(path, "labels")


def _slices(path: str, use: Use) -> list[da.Array]:
    folder = Path(path)
    if not folder.is_dir() or is_zarr(folder):
        return list(_stack(path, use))
    files = _files_of_slices(folder)
    slices = [_stack(str(file), use)[0] for file in files]
    kinds = {each.dtype: file.name for each, file in zip(reversed(slices), reversed(files), strict=True)}
    if len(kinds) > 1:
        listed = ", ".join(f"{dtype} in {name}" for dtype, name in kinds.items())
        raise DataError(
            f"{path}: expected slices with one dtype, found {listed}. Save all with the same number of bits"
        )
    return slices


def _stack(path: str, use: Use, channel: int | None = None) -> da.Array:
    with reading(path):
        stack = _open(path, use, channel)
    if stack.dtype.kind not in "biuf":
        raise DataError(f"{path}: expected integers or real numbers, found {stack.dtype}. Save it as one of these")
    while stack.ndim > 3 and stack.shape[0] == 1:
        stack = stack[0]
    if stack.ndim != 3 or stack.shape[-1] in (3, 4):  # with 3 or 4 columns it is an RGB(A) image
        raise DataError(f"{path}: {GREY_ALONE} Its shape is {stack.shape}")
    if 0 in stack.shape:
        raise DataError(f"{path}: expected at least one slice, found the shape {stack.shape}. Write the image again")
    return stack


def check_whole(path: str) -> None:
    """Refuse a Zarr array with missing chunks, which would read as its fill value: black, or no object.

    Other formats raise an error when a missing part is read.

    Raises:
        DataError: Chunks are missing. The message says how many.
    """
    place = Path(path)
    if not (place.is_dir() and is_zarr(place)):
        return
    with reading(path):
        array, _ = full_resolution(place)
        sides = array.shards or array.chunks
        expected = math.prod(-(-length // side) for length, side in zip(array.shape, sides, strict=True))
        files = (place / array.path).rglob("*")
        present = sum(file.is_file() and file.name != "zarr.json" and not file.name.startswith(".") for file in files)
    if present < expected:
        raise DataError(
            f"{path}: {expected - present} of {expected} chunks are missing and would read as {array.fill_value}. "
            "Copy the array again. If its writer left out chunks that hold only this value, name the part in "
            "`missing_chunks`: for `loosebox predict`, write `segment: {missing_chunks: [images]}` to a file and name "
            "the file with --config"
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
    raise DataError(f"{path}: expected {READABLE}. {convert_advice(suffix)}")


def convert_advice(suffix: str) -> str:
    """Say how the user can convert an image with an unknown suffix."""
    program = PROGRAMS.get(suffix, "")
    return f"{f'This is a file of {program}. ' if program else ''}Open the image in Fiji and save it as TIFF"


def _existing(path: str) -> Path:
    place = Path(path)
    if not place.exists():
        raise DataError(f"{path}: there is no such file or folder; check the path")
    if not (place.is_file() or place.is_dir()):  # reading a pipe could wait forever, reading a device may not end
        raise DataError(f"{path}: expected a file or folder, found a pipe or device. Copy its content to a file")
    return place


def _files_of_slices(folder: Path) -> list[Path]:
    files = slice_files(folder)
    if not files:
        raise DataError(
            f"{folder}: there are no PNG, JPEG, TIFF or BMP slices in this folder; expected {READABLE}. Check the path"
        )
    return files


def _open_hdf5(path: Path, dataset: str | None) -> da.Array:
    file = h5py.File(path, "r")  # h5py closes it with the last array that reads from it
    array = file.get(dataset) if dataset else None
    if not isinstance(array, h5py.Dataset):
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        raise DataError(
            f"{path}:{dataset or ''}: expected the name of a data set after the file and a colon; the file has "
            f"{_listing(names)}"
        )
    elsewhere = array.is_virtual or array.external or array.file.filename != file.filename
    if elsewhere:  # h5py reads missing files as zeros, and LooseBox would not notice their changes
        raise DataError(
            f"{path}:{dataset}: expected the pixels in this file, but they lie in other files. Copy them into one "
            "file, as `h5repack` does"
        )
    return lazy(f"{path}:{dataset}", array)


def _open_zarr(path: Path, channel: int | None) -> da.Array:
    array, axes = full_resolution(path)
    if axes is None:
        check_channel(str(path), 1, channel)
        return lazy(str(path), array)
    return lazy(str(path), slices_by_axes(str(path), array, axes, channel))


def _listing(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
