"""Stage convert: raw slices and labels of any format become one OME-Zarr store per data set, tile by tile."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dask.array as da
from dask.system import CPU_COUNT
from tqdm import tqdm

from pipeline_lib.data.dataset import create, record_digests
from pipeline_lib.data.readers import open_stack
from pipeline_lib.data.tiling import check_value, objects_of, open_grey, slices_of, tiles_of
from pipeline_lib.data.volumes import read_volumes
from pipeline_lib.errors import DataError
from pipeline_lib.runtime.atomic import atomic


def convert(*, manifest: str, store: str, dataset: Mapping[str, Any]) -> None:
    """Write the slices that a manifest gives to a split into an OME-Zarr store (layout: `data/dataset.py`).

    Slices keep the order of their volumes. However many there are, one per CPU and its labels are in memory at once.

    Raises:
        DataError: a file has changed since the manifest was written, a tile is larger than a slice, a pixel is not a
            number, or the value that tells objects from the rest never occurs.
        OSError: the disk is full; nothing of the store is left then.
    """
    volumes = read_volumes(manifest)
    images = [open_grey(volume["images"], dataset["grey_range"]) for volume in volumes]
    labels = [open_stack(volume["labels"]) for volume in volumes]
    for volume, stack in zip(volumes, labels, strict=True):
        check_value(volume["labels"], stack, dataset["labels"])
    slices = slices_of(volumes)
    height, width = images[0].shape[1:]
    tile = (dataset["tile"], dataset["tile"]) if dataset["tile"] else (height, width)
    if max(tile) > max(height, width):
        raise DataError(
            f"{volumes[0]['images']}: tiles of {tile[0]} pixels are larger than its slices, {height} × {width}; set "
            f"`tile` to {max(height, width)} or less, or to null for whole slices"
        )
    # A pool of our own is left only when its threads are done: after an error in one of them, the others would go on
    # writing while `atomic` removes the folder: test_a_failed_run_keeps_the_store_of_the_run_before. For the same
    # reason a task writes one chunk.
    with atomic(store) as partial, ThreadPoolExecutor(CPU_COUNT) as pool:
        targets: list[Any] = [*create(partial, (len(slices), height, width), tile, slices, dataset["pixel_size"])]
        # One dask graph for all slices would hold 70 KB for each of them, as much as its pixels may take.
        for start in tqdm(range(0, len(slices), CPU_COUNT), "convert", mininterval=10):
            batch = slices[start : start + CPU_COUNT]
            sources = [tiles_of(images, batch, tile), objects_of(tiles_of(labels, batch, tile), dataset)]
            region = slice(start, start + len(batch)), slice(None), slice(None)
            da.store(sources, targets, regions=region, lock=False, scheduler="threads", pool=pool)
        record_digests(partial)
