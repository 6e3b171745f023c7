"""Stage convert: raw slices and labels of any format become one OME-Zarr store per data set, tile by tile."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dask.array as da
from dask.system import CPU_COUNT
from tqdm import tqdm

from pipeline_lib.data.crops import LabelledImage, draw_crops
from pipeline_lib.data.dataset import Slice, create, image_digest, record_digests
from pipeline_lib.data.readers import open_label_slices
from pipeline_lib.data.tiling import (
    check_value,
    components,
    grey_slices,
    magnified,
    magnify,
    magnify_labels,
    objects_of,
    slices_of,
    tiles_of,
)
from pipeline_lib.data.volumes import read_volumes
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.settings.base import GreyRange, PixelSize
from pipeline_lib.settings.datasets import Crops, Labels


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
    crops: Crops | None = None,
    name: str = "",
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
        crops: random crops in place of the slices to train and validate on; these slices are all in memory at once.
        name: of the data set, which decides the draws of the crops.

    Raises:
        DataError: a file has changed since the manifest was written, a pixel is not a number, or the value that tells
            objects from the rest never occurs, or too few crops with objects were found.
        OSError: the disk is full; nothing of the store is left then.
    """
    volumes = read_volumes(manifest)
    images = [grey_slices(volume["images"], grey_range) for volume in volumes]
    numbered = [open_label_slices(volume["labels"]) for volume in volumes]
    for volume, stack in zip(volumes, numbered, strict=True):
        check_value(volume["labels"], stack, labels)
    slices = slices_of(volumes, magnification)
    parts: list[LabelledImage] = []
    originals: dict[tuple[int, int], str] = {}  # digests of cropped images
    if crops and tile:
        cropped = [origin for origin in slices if origin.split != "test"]
        sources = [
            labelled_image(origin, images[origin.volume], numbered[origin.volume], labels, minimum_area)
            for origin in tqdm(cropped, "read", mininterval=10)
        ]
        originals = {(each.origin.volume, each.origin.index): image_digest(each.pixels) for each in sources}
        parts = list(draw_crops(name, sources, crops, tile, minimum_area))
        slices = [origin for origin in slices if origin.split == "test"]
    origins = [*(part.origin for part in parts), *slices]
    whole = (max(each.size[0] for each in origins), max(each.size[1] for each in origins))
    shape = (tile, tile) if tile else whole
    z_size, y_size, x_size = pixel_size
    sizes_of_pixels = (z_size, y_size / magnification, x_size / magnification)
    # A pool of our own is left only when its threads are done: after an error in one of them, the others would go on
    # writing while `atomic` removes the folder: test_a_failed_run_keeps_the_store_of_the_run_before. For the same
    # reason a task writes one chunk.
    with atomic(store) as partial, ThreadPoolExecutor(CPU_COUNT) as pool:
        targets: list[Any] = [*create(partial, shape, origins, sizes_of_pixels)]
        for z, part in enumerate(parts):
            height, width = part.pixels.shape
            for target, pixels in zip(targets, (part.pixels, part.objects), strict=True):
                target[z, :height, :width] = pixels
        digests = [originals[part.origin.volume, part.origin.index] for part in parts]
        # One dask graph for all slices would hold 70 KB for each of them, as much as its pixels may take.
        for start in tqdm(range(0, len(slices), CPU_COUNT), "convert", mininterval=10):
            batch = slices[start : start + CPU_COUNT]
            digests += pool.map(image_digest, (images[each.volume][each.index].compute() for each in batch))
            blocks, arrays, regions = [], [], []
            for z, origin in enumerate(batch, len(parts) + start):
                pixels = magnified(images[origin.volume][origin.index], magnify, magnification)
                numbers = magnified(numbered[origin.volume][origin.index], magnify_labels, magnification)
                blocks += [tiles_of(pixels, shape), objects_of(tiles_of(numbers, shape), labels, minimum_area)]
                arrays += targets
                regions += [(slice(z, z + 1), *map(slice, origin.size))] * 2
            da.store(blocks, arrays, regions=regions, lock=False, scheduler="threads", pool=pool)
        record_digests(partial, digests)


def labelled_image(
    origin: Slice, images: Sequence[da.Array], numbered: Sequence[da.Array], labels: Labels, minimum_area: int
) -> LabelledImage:
    """Read a slice of a volume with its objects."""
    pixels, numbers = images[origin.index].compute(), numbered[origin.index].compute()
    return LabelledImage(origin, pixels, components(numbers, labels, minimum_area))
