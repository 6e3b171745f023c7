"""Stage convert: write slices and labels of any format as one OME-Zarr store per data set, tile by tile."""

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
    """Write all slices of a manifest that belong to a split to an OME-Zarr store (layout: `data/dataset.py`).

    Slices keep the order of their volumes. At any time, memory holds one slice with its labels per CPU.

    Args:
        manifest: JSON of the stage raw.
        store: folder to write.
        labels: meaning of the label values.
        minimum_area: area of the smallest object, pixels.
        pixel_size: ZYX, nm, before magnification.
        grey_range: grey values that become black and white; None: all images are 8-bit.
        tile: side of a tile, pixels; None: whole slices.
        magnification: factor by which slices and labels are resized.
        crops: settings of random crops, which replace the slices of train and validation; None: no crops. With crops,
            all of these slices are in memory together.
        name: name of the data set, which seeds the random crops.

    Raises:
        DataError: a file has changed since the manifest was written, a pixel is not a number, the label value of
            objects never occurs, or there are too few crops with objects.
        OSError: the disk is full; then nothing of the store is left.
    """
    # Open the volumes.
    volumes = read_volumes(manifest)
    images = [grey_slices(volume["images"], grey_range) for volume in volumes]
    label_stacks = [open_label_slices(volume["labels"]) for volume in volumes]
    for volume, stack in zip(volumes, label_stacks, strict=True):
        check_value(volume["labels"], stack, labels)
    slices = slices_of(volumes, magnification)

    # Draw random crops in place of the slices of train and validation.
    random_crops: list[LabelledImage] = []
    image_digests: dict[tuple[int, int], str] = {}  # of cropped images, by volume and slice
    if crops and tile:
        sources = [
            labelled_image(origin, images[origin.volume], label_stacks[origin.volume], labels, minimum_area)
            for origin in tqdm([each for each in slices if each.split != "test"], "read", mininterval=10)
        ]
        image_digests = {(each.origin.volume, each.origin.index): image_digest(each.pixels) for each in sources}
        random_crops = list(draw_crops(name, sources, crops, tile, minimum_area))
        slices = [origin for origin in slices if origin.split == "test"]

    # Choose the shape of tiles and the size of pixels after magnification.
    origins = [*(crop.origin for crop in random_crops), *slices]
    largest = (max(each.size[0] for each in origins), max(each.size[1] for each in origins))
    shape = (tile, tile) if tile else largest
    z_size, y_size, x_size = pixel_size
    sizes_of_pixels = (z_size, y_size / magnification, x_size / magnification)

    # Leaving our own pool waits for all of its threads. With dask's pool, after an error in one thread, others would go
    # on writing while `atomic` removes the folder (test_a_failed_run_keeps_the_store_of_the_run_before). For the same
    # reason, each task writes one chunk.
    with atomic(store) as partial, ThreadPoolExecutor(CPU_COUNT) as pool:
        targets: list[Any] = [*create(partial, shape, origins, sizes_of_pixels)]

        # Write the crops.
        for z, crop in enumerate(random_crops):
            height, width = crop.pixels.shape
            for target, pixels in zip(targets, (crop.pixels, crop.objects), strict=True):
                target[z, :height, :width] = pixels
        digests = [image_digests[crop.origin.volume, crop.origin.index] for crop in random_crops]

        # Write the slices in batches: a dask graph takes 70 KB per slice, which can be as much as its pixels.
        for start in tqdm(range(0, len(slices), CPU_COUNT), "convert", mininterval=10):
            batch = slices[start : start + CPU_COUNT]
            digests += pool.map(image_digest, (images[each.volume][each.index].compute() for each in batch))
            blocks, arrays, regions = [], [], []
            for z, origin in enumerate(batch, len(random_crops) + start):
                pixels = magnified(images[origin.volume][origin.index], magnify, magnification)
                numbers = magnified(label_stacks[origin.volume][origin.index], magnify_labels, magnification)
                blocks += [tiles_of(pixels, shape), objects_of(tiles_of(numbers, shape), labels, minimum_area)]
                arrays += targets
                regions += [(slice(z, z + 1), *map(slice, origin.size))] * 2
            da.store(blocks, arrays, regions=regions, lock=False, scheduler="threads", pool=pool)
        record_digests(partial, digests)


def labelled_image(
    origin: Slice, images: Sequence[da.Array], label_slices: Sequence[da.Array], labels: Labels, minimum_area: int
) -> LabelledImage:
    """Read a slice of a volume with its objects."""
    pixels, numbers = images[origin.index].compute(), label_slices[origin.index].compute()
    return LabelledImage(origin, pixels, components(numbers, labels, minimum_area))
