"""Slices and labels of volumes as grey tiles and numbered objects."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import Image
from skimage.measure import label

from pipeline_lib.data.dataset import Slice
from pipeline_lib.data.readers import open_slices
from pipeline_lib.errors import DataError
from pipeline_lib.settings.datasets import BinaryLabels, Labels, MembraneLabels

OTHER_VALUES = 8  # beside background and foreground, in a slice of binary labels; smoothed ones have dozens


def check_value(path: str, labels: Sequence[da.Array], rule: Labels) -> None:
    """Look for the value that parts objects from the rest; without it a tile would be one object, or none.

    Raises:
        DataError: the value is in none of the slices, or labels that should be binary have many values.
    """
    match rule:
        case BinaryLabels(foreground=value) | MembraneLabels(membrane=value):
            pass
        case _:
            return
    for pixels in labels:  # as a rule the first slice ends the search
        values = np.unique(pixels.compute())
        if value in values:
            _check_binary(path, values, rule)
            return
    raise DataError(f"{path}: expected the value {value} that `labels` calls {rule.kind}, but it never occurs")


def _check_binary(path: str, values: NDArray[Any], rule: Labels) -> None:
    """Refuse binary labels that were smoothed or saved with a loss: their objects shrink and break up."""
    if isinstance(rule, BinaryLabels) and len(values) > OTHER_VALUES + 2:
        raise DataError(
            f"{path}: binary labels have one value for objects ({rule.foreground}) and one for the rest, found "
            f"{len(values)} values from {values[0]} to {values[-1]}. Were they smoothed, resized or saved as JPEG? "
            "Save the original labels, or set every pixel to one of the two values"
        )


def slices_of(volumes: Sequence[Mapping[str, Any]], magnification: float) -> list[Slice]:
    """Return the slices that a manifest's volumes give to a split, in the order of the volumes."""
    return [
        Slice(split, number, index, magnified_size(volume["sizes"][index], magnification))
        for number, volume in enumerate(volumes)
        for index, split in volume["slices"]
    ]


def magnified_size(size: Sequence[int], magnification: float) -> tuple[int, int]:
    """Return the (height, width) that an image of `size` has after magnification."""
    height, width = (max(1, round(side * magnification)) for side in size)
    return height, width


def magnify(pixels: NDArray[np.uint8], magnification: float) -> NDArray[np.uint8]:
    """Resize a grey image YX, bilinearly; when it shrinks, each pixel is a mean over those that it covers."""
    height, width = magnified_size(pixels.shape, magnification)
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def magnify_labels(labels: NDArray[Any], magnification: float) -> NDArray[Any]:
    """Resize a label image YX: each pixel takes the number of the nearest one."""
    sizes = zip(labels.shape, magnified_size(labels.shape, magnification), strict=True)
    rows, columns = (((np.arange(new) + 0.5) * old / new).astype(int) for old, new in sizes)
    resized: NDArray[Any] = labels[rows][:, columns]
    return resized


def tiles_of(pixels: da.Array, tile: tuple[int, int]) -> da.Array:
    """Return a slice YX as a stack 1YX with a chunk per tile."""
    stack: da.Array = pixels[None].rechunk((1, *tile))
    return stack


def grey_slices(path: str, grey_range: Sequence[float] | None) -> list[da.Array]:
    """Open slices of any size as uint8 YX; `grey_range` becomes 0 to 255."""
    slices = open_slices(path)
    if grey_range is not None:  # `raw` requires one unless images are uint8
        slices = [
            _each(pixels, partial(as_grey, path=path, grey_range=grey_range, index=index), np.uint8)
            for index, pixels in enumerate(slices)
        ]
    return slices


def magnified(pixels: da.Array, resize: Callable[..., NDArray[Any]], factor: float) -> da.Array:
    """Return a slice YX that is resized, by `magnify` or `magnify_labels`, when it is computed."""
    if factor == 1:
        return pixels
    return _each(pixels, partial(resize, magnification=factor), pixels.dtype, magnified_size(pixels.shape, factor))


def _each(
    pixels: da.Array, function: Callable[..., NDArray[Any]], dtype: DTypeLike, size: tuple[int, int] | None = None
) -> da.Array:
    """Apply a function to a slice, which is one chunk."""
    chunks = tuple((side,) for side in size or pixels.shape)
    result: da.Array = da.map_blocks(function, pixels, dtype=dtype, chunks=chunks, meta=np.empty((0, 0), dtype))
    return result


def as_grey(pixels: NDArray[Any], path: str, grey_range: Sequence[float], index: int) -> NDArray[np.uint8]:
    """Map `grey_range` to 0–255, values beyond it to its ends; `path` and slice are named in the error.

    If white is the smaller value, the contrast is inverted.

    Raises:
        DataError: a pixel is not a number.
    """
    if np.isnan(pixels).any():
        raise DataError(f"{path}: expected a number in every pixel, but slice {index} holds NaN")
    (low, first), (high, last) = sorted(zip(grey_range, (0, 255), strict=True))  # np.interp wants them ascending
    return np.asarray(np.interp(pixels, (low, high), (first, last)).round(), np.uint8)


def objects_of(labels: da.Array, rule: Labels, minimum_area: int) -> da.Array:
    """Number the objects of label tiles, uint32, as `components` does."""
    blank = np.empty((0, 0, 0), np.uint32)
    objects: da.Array = da.map_blocks(
        components, labels, rule=rule, minimum_area=minimum_area, dtype=np.uint32, meta=blank
    )
    return objects


def components(labels: NDArray[Any], rule: Labels, minimum_area: int) -> NDArray[np.uint32]:
    """Number the objects of one tile: the 4-connected components of what `rule` says is inside an object.

    Args:
        labels: integers, 1YX or YX.
        rule: what the values mean. With `InstanceLabels`, objects that touch stay apart, and an object in two pieces
            becomes two objects.
        minimum_area: pixels; smaller components are erased, and their numbers stay unused.

    Returns:
        uint32 of the labels' shape, which can number every pixel of any tile; 0 is background.
    """
    numbers = label(_regions(labels, rule), connectivity=1)
    large = np.bincount(numbers.ravel()) >= minimum_area
    return np.asarray(np.where(large[numbers], numbers, 0), np.uint32)


def _regions(labels: NDArray[Any], rule: Labels) -> NDArray[Any]:
    """An array whose equal, non-zero neighbours belong to the same object."""
    match rule:
        case BinaryLabels(foreground=value):
            return np.asarray(labels == value)
        case MembraneLabels(membrane=value):
            return np.asarray(labels != value)
        case _:
            return labels
