"""The slices of a TIFF file."""

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
    """Open the slices of a TIFF file, ZYX; only its structure is read, or all pixels if they are saved as RGB.

    Args:
        path: The file.
        use: What the numbers mean.
        channel: Which channel to take, counted from 0, if the file names an axis of channels.

    Raises:
        DataError: The file is truncated, has several images, or holds something else than grey slices.
    """
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
    return lazy(str(path), slices if greys is None else _Resolved(slices, greys))


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
