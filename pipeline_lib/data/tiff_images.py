"""Open the slices of a TIFF file."""

import weakref
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import zarr
from numpy.typing import NDArray
from tifffile import PHOTOMETRIC, TiffFile, TiffPageSeries

from pipeline_lib.data.pixel_rules import (
    ORIENTATION,
    UPRIGHT,
    Use,
    check_equal_colours,
    check_lossless,
    check_upright,
    palette_greys,
    slices_by_axes,
)
from pipeline_lib.data.stored_arrays import lazy
from pipeline_lib.errors import DataError

SIGNATURES = {"PNG": b"\x89PNG", "JPEG": b"\xff\xd8\xff", "BMP": b"BM"}  # first bytes


def open_tiff(path: Path, use: Use, channel: int | None) -> da.Array:
    """Open the slices of a TIFF file, ZYX.

    Only the structure of the file is read. If the pixels are saved as RGB, all of them are read.

    Args:
        path: The file.
        use: Whether the numbers are grey values or labels.
        channel: Which channel to take, counted from 0, if the file names an axis of channels.

    Raises:
        DataError: The file is truncated, has several images, or does not hold grey slices.
    """
    _check_signature(path)
    with ExitStack() as stack:
        tiff = stack.enter_context(TiffFile(path))
        if not _chain_ends(tiff):
            raise DataError(
                f"{path}: truncated: {len(tiff.pages)} pages can be read, but the file announces more. Copy the file "
                "again"
            )
        series = _only_series(tiff)
        _check_page(path, series.keyframe, use)
        store = series.aszarr(level=0)
        pixels: Any = zarr.open_array(store, mode="r")
        if (sample := series.axes.find("S")) >= 0:  # grey saved as RGB is rare, so all pixels are compared at once
            check_equal_colours(path, pixels[:], sample)
        slices = slices_by_axes(str(path), pixels, series.axes, channel)
        greys = _palette_of(path, series.keyframe, use)
        # Close the file when the last array that reads from it is gone. If it were closed here, the store would open
        # it again and leave it open: tests/data/test_raw.py
        weakref.finalize(store, stack.pop_all().close)
    return lazy(str(path), slices if greys is None else _PaletteGreys(slices, greys))


def _check_signature(path: Path) -> None:
    """Refuse a PNG, JPEG or BMP file with the suffix of TIFF."""
    with path.open("rb") as file:
        start = file.read(8)
    for kind, signature in SIGNATURES.items():
        if start.startswith(signature):
            raise DataError(
                f"{path}: expected TIFF, found a {kind} file with the suffix of TIFF. Rename it to .{kind.lower()}"
            )


def _check_page(path: Path, page: Any, use: Use) -> None:
    """Refuse a TIFF page that programs show in different ways, or labels that JPEG has changed.

    Zero must be black. If the file says that zero is white, some libraries invert it and others do not.
    """
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        raise DataError(f"{path}: in this file, zero is white (WhiteIsZero). Save it with zero as black (BlackIsZero)")
    check_lossless(path, getattr(page.compression, "name", ""), use)
    tag = page.tags.get(ORIENTATION)
    check_upright(path, tag.value if tag else UPRIGHT)


def _palette_of(path: Path, page: Any, use: Use) -> NDArray[np.uint8] | None:
    """Return the grey value (N,) of each entry of a TIFF palette; None if the numbers are grey values or labels."""
    if page.photometric != PHOTOMETRIC.PALETTE or page.colormap is None:
        return None
    return palette_greys(path, np.asarray(page.colormap).T, use)


@dataclass(frozen=True)
class _PaletteGreys:
    """An array whose numbers are entries of a palette of greys. It yields the greys."""

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


def _chain_ends(tiff: TiffFile) -> bool:
    """Return whether the last page says that it is the last. tifffile reads a truncated file as a shorter one."""
    position = tiff.pages.next_page_offset
    if position is None:
        return False
    tiff.filehandle.seek(position)
    return tiff.filehandle.read(tiff.tiff.offsetsize) == bytes(tiff.tiff.offsetsize)


def _only_series(tiff: TiffFile) -> TiffPageSeries:
    """Return the series of a file. Pages that were written one by one, as a series each, are joined."""
    if len(tiff.series) == 1:
        return tiff.series[0]
    pages = list(tiff.pages)
    kinds = {(page.shape, page.dtype) for page in pages}
    if len(kinds) != 1 or tiff.is_ome:
        images = ", ".join(f"{each.name or number} {each.shape}" for number, each in enumerate(tiff.series))
        raise DataError(
            f"{tiff.filename}: expected pages with one shape and dtype, found {len(tiff.series)} images ({images}). "
            "Save the image to segment as a file of its own"
        )
    ((shape, dtype),) = kinds
    return TiffPageSeries(pages, shape=(len(pages), *shape), dtype=dtype, axes=f"I{pages[0].axes}")
