"""Slices and labels of volumes as grey tiles and numbered objects."""

from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from pipeline_lib.data.dataset import Slice
from pipeline_lib.data.readers import open_stack
from pipeline_lib.errors import DataError


def check_value(path: str, labels: da.Array, rule: Mapping[str, Any]) -> None:
    """Look for the value that parts objects from the rest; without it a tile would be one object, or none."""
    value = rule.get("membrane", rule.get("foreground"))
    if value is None:
        return
    for found in labels:  # slice by slice: as a rule the first one ends the search
        if (found == value).any().compute():
            return
    raise DataError(f"{path}: expected the value {value} that `labels` calls {rule['kind']}, but it never occurs")


def slices_of(volumes: Sequence[Mapping[str, Any]]) -> list[Slice]:
    """The slices that volumes give to a split, in the order of the volumes; of a range, each `every`-th."""
    return [
        Slice(split, number, index)
        for number, volume in enumerate(volumes)
        for index, split in sorted(
            (i, split)
            for split, bounds in volume["split"].items()
            for i in range(bounds[0], bounds[1], volume.get("every", 1))
        )
    ]


def tiles_of(stacks: Sequence[da.Array], slices: Sequence[Slice], tile: tuple[int, int]) -> da.Array:
    """The pixels of some slices, ZYX, a chunk per tile."""
    chosen: da.Array = da.concatenate([stacks[s.volume][s.index : s.index + 1] for s in slices]).rechunk((1, *tile))
    return chosen


def open_grey(path: str, grey_range: Sequence[float] | None) -> da.Array:
    """A stack of grey slices as uint8, ZYX; `grey_range` becomes 0 to 255."""
    stack = open_stack(path)
    if grey_range is not None:  # `raw` lets only uint8 go without
        blank = np.empty((0, 0, 0), np.uint8)
        stack = da.map_blocks(_to_grey, stack, path=path, grey_range=grey_range, dtype=np.uint8, meta=blank)
    return stack


def _to_grey(
    pixels: NDArray[Any], path: str, grey_range: Sequence[float], block_id: tuple[int, int, int]
) -> NDArray[np.uint8]:
    return as_grey(pixels, path, grey_range, block_id[0])


def as_grey(pixels: NDArray[Any], path: str, grey_range: Sequence[float], index: int) -> NDArray[np.uint8]:
    """Map `grey_range` to 0–255, values beyond it to its ends; `path` and slice are named in the error.

    Raises:
        DataError: a pixel is not a number.
    """
    if np.isnan(pixels).any():
        raise DataError(f"{path}: expected a number in every pixel, but slice {index} holds NaN")
    return np.asarray(np.interp(pixels, grey_range, (0, 255)).round(), np.uint8)


def objects_of(labels: da.Array, dataset: Mapping[str, Any]) -> da.Array:
    """Numbered objects of label tiles, uint32."""
    rule, minimum_area, blank = dataset["labels"], dataset["minimum_area"], np.empty((0, 0, 0), np.uint32)
    objects: da.Array = da.map_blocks(
        components, labels, rule=rule, minimum_area=minimum_area, dtype=np.uint32, meta=blank
    )
    return objects


def components(labels: NDArray[Any], rule: Mapping[str, Any], minimum_area: int) -> NDArray[np.uint32]:
    """Number the objects of one tile: the 4-connected components of what `rule` says is inside an object.

    Args:
        labels: integers, 1YX or YX.
        rule: what the values mean: {"kind": "instances"}, 0 being background and any other value the id of an object,
            so that objects that touch stay apart and one that is in two pieces becomes two;
            {"kind": "binary", "foreground": value}; or {"kind": "membrane", "membrane": value}.
        minimum_area: pixels; smaller components are erased, and their numbers stay unused.

    Returns:
        uint32 of the labels' shape, which can number every pixel of any tile; 0 is background.
    """
    numbers = label(_regions(labels, rule), connectivity=1)
    large = np.bincount(numbers.ravel()) >= minimum_area
    return np.asarray(np.where(large[numbers], numbers, 0), np.uint32)


def _regions(labels: NDArray[Any], rule: Mapping[str, Any]) -> NDArray[Any]:
    """An array whose equal, non-zero neighbours belong to the same object."""
    match rule:
        case {"kind": "binary", "foreground": value}:
            return np.asarray(labels == value)
        case {"kind": "membrane", "membrane": value}:
            return np.asarray(labels != value)
        case _:
            return labels
