"""Stage convert: raw slices and labels of any format become one OME-Zarr store per data set, tile by tile."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dask.array as da
from dask.system import CPU_COUNT
from tqdm import tqdm

from pipeline_lib.data.dataset import create, record_digests
from pipeline_lib.data.tiling import check_value, grey_slices, label_slices, objects_of, slices_of, tiles_of
from pipeline_lib.data.volumes import read_volumes
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.settings.base import GreyRange, PixelSize
from pipeline_lib.settings.datasets import Labels


def convert(
    *,
    manifest: str,
    store: str,
    labels: Labels,
    minimum_area: int,
    pixel_size: PixelSize,
    grey_range: GreyRange | None,
    tile: int | None,
    magnification: float = 1.0,
) -> None:
    """Write the slices that a manifest gives to a split into an OME-Zarr store (layout: `data/dataset.py`).

    Slices keep the order of their volumes. However many there are, one per CPU and its labels are in memory at once.

    Args:
        manifest: JSON of the stage raw.
        store: folder to write.
        labels: what the values of the labels mean.
        minimum_area: pixels of the smallest object.
        pixel_size: ZYX, nm, before magnification.
        grey_range: grey values that become black and white; None if all images are 8-bit.
        tile: side of a tile, pixels; None takes whole slices.
        magnification: factor by which slices and labels are resized.

    Raises:
        DataError: a file has changed since the manifest was written, a pixel is not a number, or the value that tells
            objects from the rest never occurs.
        OSError: the disk is full; nothing of the store is left then.
    """
    volumes = read_volumes(manifest)
    images = [grey_slices(volume["images"], grey_range, magnification) for volume in volumes]
    numbered = [label_slices(volume["labels"], magnification) for volume in volumes]
    for volume, stack in zip(volumes, numbered, strict=True):
        check_value(volume["labels"], stack, labels)
    slices = slices_of(volumes, magnification)
    whole = (max(each.size[0] for each in slices), max(each.size[1] for each in slices))
    shape = (tile, tile) if tile else whole
    z_size, y_size, x_size = pixel_size
    magnified = (z_size, y_size / magnification, x_size / magnification)
    # A pool of our own is left only when its threads are done: after an error in one of them, the others would go on
    # writing while `atomic` removes the folder: test_a_failed_run_keeps_the_store_of_the_run_before. For the same
    # reason a task writes one chunk.
    with atomic(store) as partial, ThreadPoolExecutor(CPU_COUNT) as pool:
        targets: list[Any] = [*create(partial, shape, slices, magnified)]
        # One dask graph for all slices would hold 70 KB for each of them, as much as its pixels may take.
        for start in tqdm(range(0, len(slices), CPU_COUNT), "convert", mininterval=10):
            sources, arrays, regions = [], [], []
            for z, origin in enumerate(slices[start : start + CPU_COUNT], start):
                pixels, numbers = (stacks[origin.volume][origin.index] for stacks in (images, numbered))
                sources += [tiles_of(pixels, shape), objects_of(tiles_of(numbers, shape), labels, minimum_area)]
                arrays += targets
                regions += [(slice(z, z + 1), *map(slice, origin.size))] * 2
            da.store(sources, arrays, regions=regions, lock=False, scheduler="threads", pool=pool)
        record_digests(partial)
