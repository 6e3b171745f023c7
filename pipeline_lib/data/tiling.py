"""Convert slices and labels of volumes to grey tiles and numbered objects."""

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

OTHER_VALUES = 8  # largest number of other values in a slice of binary labels; smoothed labels have dozens


def check_value(path: str, labels: Sequence[da.Array], rule: Labels) -> None:
    """Check that labels contain the value that `rule` names. Without it, a tile would be one object or none.

    Args:
        path: Path of the labels, for messages.
        labels: Slices YX. They are read until one has the value.
        rule: What the values mean.

    Raises:
        DataError: No slice has the value, or binary labels have too many values.
    """
    match rule:
        case BinaryLabels(foreground=value) | MembraneLabels(membrane=value):
            pass
        case _:
            return
    for pixels in labels:  # usually the first slice has it
        values = np.unique(pixels.compute())
        if value in values:
            _check_binary(path, values, rule)
            return
    raise DataError(
        f"{path}: expected the value {value} in {rule.kind} labels, but no slice has it. Correct `labels` in the data "
        "set"
    )


def _check_binary(path: str, values: NDArray[Any], rule: Labels) -> None:
    """Refuse binary labels that were smoothed or compressed with loss, because their objects would shrink and break."""
    if isinstance(rule, BinaryLabels) and len(values) > OTHER_VALUES + 2:
        raise DataError(
            f"{path}: expected binary labels, with one value for objects ({rule.foreground}) and one for the rest; "
            f"found {len(values)} values from {values[0]} to {values[-1]}. Perhaps they were smoothed, resized or "
            "saved as JPEG. Save the original labels, or set each pixel to one of the two values"
        )


def slices_of(volumes: Sequence[Mapping[str, Any]], magnification: float) -> list[Slice]:
    """Return the slices of a manifest's volumes that are in a split, in the order of the volumes."""
    return [
        Slice(split, number, index, magnified_size(volume["sizes"][index], magnification))
        for number, volume in enumerate(volumes)
        for index, split in volume["slices"]
    ]


def magnified_size(size: Sequence[int], magnification: float) -> tuple[int, int]:
    """Return the (height, width) of an image after magnification, pixels.

    Args:
        size: (height, width) before it.
        magnification: Factor of both sides.
    """
    height, width = (max(1, round(side * magnification)) for side in size)
    return height, width


def magnify(pixels: NDArray[np.uint8], magnification: float) -> NDArray[np.uint8]:
    """Resize a grey image YX bilinearly. If it shrinks, each new pixel is a mean over the pixels that it covers."""
    height, width = magnified_size(pixels.shape, magnification)
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def magnify_labels(labels: NDArray[Any], magnification: float) -> NDArray[Any]:
    """Resize a label image YX. Each new pixel gets the number of the nearest pixel."""
    sizes = zip(labels.shape, magnified_size(labels.shape, magnification), strict=True)
    rows, columns = (((np.arange(new) + 0.5) * old / new).astype(int) for old, new in sizes)
    resized: NDArray[Any] = labels[rows][:, columns]
    return resized


def tiles_of(pixels: da.Array, tile: tuple[int, int]) -> da.Array:
    """Return a slice YX as a stack 1YX with a chunk for each tile.

    Args:
        pixels: YX.
        tile: (height, width) of a tile, pixels.
    """
    stack: da.Array = pixels[None].rechunk((1, *tile))
    return stack


def grey_slices(path: str, grey_range: Sequence[float] | None) -> list[da.Array]:
    """Open slices of any sizes as uint8 YX.

    Args:
        path: As in `open_stack`.
        grey_range: Values that become 0 and 255. None if the slices are uint8.
    """
    slices = open_slices(path)
    if grey_range is not None:  # the stage `raw` requires it unless images are uint8
        slices = [
            _each(pixels, partial(as_grey, path=path, grey_range=grey_range, index=index), np.uint8)
            for index, pixels in enumerate(slices)
        ]
    return slices


def magnified(pixels: da.Array, resize: Callable[..., NDArray[Any]], factor: float) -> da.Array:
    """Return a slice YX that `resize` magnifies when it is computed.

    Args:
        pixels: YX.
        resize: `magnify` or `magnify_labels`.
        factor: Factor of both sides.
    """
    if factor == 1:
        return pixels
    return _each(pixels, partial(resize, magnification=factor), pixels.dtype, magnified_size(pixels.shape, factor))


def _each(
    pixels: da.Array, function: Callable[..., NDArray[Any]], dtype: DTypeLike, size: tuple[int, int] | None = None
) -> da.Array:
    """Apply a function to a slice, which is one chunk. The result has the (height, width) `size`."""
    chunks = tuple((side,) for side in size or pixels.shape)
    result: da.Array = da.map_blocks(function, pixels, dtype=dtype, chunks=chunks, meta=np.empty((0, 0), dtype))
    return result


def as_grey(pixels: NDArray[Any], path: str, grey_range: Sequence[float], index: int) -> NDArray[np.uint8]:
    """Map grey values linearly to 0 to 255, as uint8. Values beyond the range become 0 or 255.

    Args:
        pixels: Grey values of any shape.
        path: Path of the image, for messages.
        grey_range: Values that become black and white. If white is the smaller one, the contrast is inverted.
        index: Number of the slice, for messages.

    Raises:
        DataError: A pixel is not a number.
    """
    if np.isnan(pixels).any():
        raise DataError(
            f"{path}: expected a number in every pixel, but slice {index} has NaN. Replace it by a grey value"
        )
    (low, first), (high, last) = sorted(zip(grey_range, (0, 255), strict=True))  # np.interp needs ascending values
    return np.asarray(np.interp(pixels, (low, high), (first, last)).round(), np.uint8)


def objects_of(labels: da.Array, rule: Labels, minimum_area: int) -> da.Array:
    """Number the objects of label tiles as `components` does, when they are computed."""
    blank = np.empty((0, 0, 0), np.uint32)
    objects: da.Array = da.map_blocks(
        components, labels, rule=rule, minimum_area=minimum_area, dtype=np.uint32, meta=blank
    )
    return objects


def components(labels: NDArray[Any], rule: Labels, minimum_area: int) -> NDArray[np.uint32]:
    """Number the objects of one tile: 4-connected components of the pixels that are inside objects.

    Args:
        labels: Integers, 1YX or YX.
        rule: What the values mean. With `InstanceLabels`, objects that touch stay apart, and an object in two pieces
            becomes two objects.
        minimum_area: Smallest area of an object, pixels. Smaller components are erased, and their numbers stay unused.

    Returns:
        uint32, with the shape of the labels. 0 is background.
    """
    numbers = label(_regions(labels, rule), connectivity=1)
    large = np.bincount(numbers.ravel()) >= minimum_area
    return np.asarray(np.where(large[numbers], numbers, 0), np.uint32)


def _regions(labels: NDArray[Any], rule: Labels) -> NDArray[Any]:
    """Return an array in which equal neighbours belong to the same object, unless they are 0."""
    match rule:
        case BinaryLabels(foreground=value):
            return np.asarray(labels == value)
        case MembraneLabels(membrane=value):
            return np.asarray(labels != value)
        case _:
            return labels
