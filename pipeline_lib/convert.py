"""Stage `convert`: raw slices and labels of any format become one OME-Zarr store per data set, tile by tile."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask.system import CPU_COUNT
from numpy.typing import NDArray
from skimage.measure import label
from tqdm import tqdm

from pipeline_lib.atomic import atomic
from pipeline_lib.errors import DataError
from pipeline_lib.formats import open_stack
from pipeline_lib.store import Slice, create


def convert(*, manifest: str, store: str, dataset: Mapping[str, Any]) -> None:
    """Write the slices that a manifest gives to a split into an OME-Zarr store (layout: `store.py`).

    Slices keep the order of their volumes. However many there are, one per CPU and its labels are in memory at once.

    Raises:
        DataError: a pixel is not a number, or the value that tells objects from the rest never occurs.
        OSError: the disk is full; nothing of the store is left then.
    """
    volumes = json.loads(Path(manifest).read_text())["volumes"]
    images = [_open_grey(volume["images"], dataset["grey_range"]) for volume in volumes]
    labels = [open_stack(volume["labels"]) for volume in volumes]
    for volume, stack in zip(volumes, labels, strict=True):
        _check_value(volume["labels"], stack, dataset["labels"])
    slices = _slices_of(volumes)
    height, width = images[0].shape[1:]
    tile = (dataset["tile"], dataset["tile"]) if dataset["tile"] else (height, width)
    # A pool of our own is left only when its threads are done: after an error in one of them, the others would go on
    # writing while `atomic` removes the folder. For the same reason a task writes one chunk.
    with atomic(store) as partial, ThreadPoolExecutor(CPU_COUNT) as pool:
        targets: list[Any] = [*create(partial, (len(slices), height, width), tile, slices, dataset["pixel_size"])]
        # One dask graph for all slices would hold 70 KB for each of them, as much as its pixels may take.
        for start in tqdm(range(0, len(slices), CPU_COUNT), "convert", mininterval=10):
            batch = slices[start : start + CPU_COUNT]
            sources = [_tiles(images, batch, tile), _objects(_tiles(labels, batch, tile), dataset)]
            region = slice(start, start + len(batch)), slice(None), slice(None)
            da.store(sources, targets, regions=region, lock=False, scheduler="threads", pool=pool)


def _check_value(path: str, labels: da.Array, rule: Mapping[str, Any]) -> None:
    """Look for the value that parts objects from the rest; without it a tile would be one object, or none."""
    value = rule.get("membrane", rule.get("foreground"))
    if value is None:
        return
    for found in labels:  # slice by slice: as a rule the first one ends the search
        if (found == value).any().compute():
            return
    raise DataError(f"{path}: expected the value {value} that `labels` calls {rule['kind']}, but it never occurs")


def _slices_of(volumes: Sequence[Mapping[str, Any]]) -> list[Slice]:
    return [
        Slice(split, number, index)
        for number, volume in enumerate(volumes)
        for index, split in sorted((i, split) for split, bounds in volume["split"].items() for i in range(*bounds))
    ]


def _tiles(stacks: Sequence[da.Array], slices: Sequence[Slice], tile: tuple[int, int]) -> da.Array:
    """The pixels of some slices, ZYX, a chunk per tile."""
    chosen: da.Array = da.concatenate([stacks[s.volume][s.index : s.index + 1] for s in slices]).rechunk((1, *tile))
    return chosen


def _open_grey(path: str, grey_range: Sequence[float] | None) -> da.Array:
    stack = open_stack(path)
    if grey_range is not None:  # `raw` lets only uint8 go without
        blank = np.empty((0, 0, 0), np.uint8)
        stack = da.map_blocks(_to_grey, stack, path=path, grey_range=grey_range, dtype=np.uint8, meta=blank)
    return stack


def _to_grey(
    pixels: NDArray[Any], path: str, grey_range: Sequence[float], block_id: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Map `grey_range` to 0–255, values beyond it to its ends."""
    if np.isnan(pixels).any():
        raise DataError(f"{path}: expected a number in every pixel, but slice {block_id[0]} holds NaN")
    return np.asarray(np.interp(pixels, grey_range, (0, 255)).round(), np.uint8)


def _objects(labels: da.Array, dataset: Mapping[str, Any]) -> da.Array:
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
