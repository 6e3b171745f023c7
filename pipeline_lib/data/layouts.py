"""Write generated data sets in the layouts of real ones."""

from collections.abc import Iterator
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import tifffile
from tqdm import tqdm

from pipeline_lib.data.synthetic import GeneratedSlice, Look, generate_slice
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.settings.datasets import SyntheticSource


def _slices(source: SyntheticSource, first: int) -> Iterator[GeneratedSlice]:
    """Generate the slices of a source, with numbers from `first`. A slice depends only on the seed and its number.

    Numbers must start at 1, because [seed, 0] is the seed of the look that all slices share.
    """
    look = Look.draw(np.random.default_rng([source.seed, 0]))
    height, width = source.size
    for number in tqdm(range(first, first + source.slices), desc="generating slices", mininterval=10):
        yield generate_slice(np.random.default_rng([source.seed, number]), (height, width), look)


def _write_lab(source: SyntheticSource, folder: Path) -> None:
    """Write a folder of slices and a folder of instance labels, like the data of a lab."""
    with atomic(folder / "images") as images, atomic(folder / "labels") as labels:
        images.mkdir(parents=True)
        labels.mkdir()
        for index, each in enumerate(_slices(source, first=1)):
            iio.imwrite(images / f"{index:04}.png", each.image)
            tifffile.imwrite(labels / f"{index:04}.tif", each.cells.astype(np.uint16))


def _write_isbi2012(source: SyntheticSource, folder: Path) -> None:
    """Write two stacks like those of ISBI 2012. Labels are 0 on membranes and 255 in cells."""
    _write_stacks(folder / "train-volume.tif", folder / "train-labels.tif", "cells", _slices(source, first=1))


def _write_epfl(source: SyntheticSource, folder: Path) -> None:
    """Write two volumes with their labels, like those of EPFL. Labels are 255 in mitochondria."""
    for name, first in ("training", 1), ("testing", 1 + source.slices):
        labels = folder / f"{name}_groundtruth.tif"
        _write_stacks(folder / f"{name}.tif", labels, "mitochondria", _slices(source, first))


def _write_stacks(images: Path, labels: Path, objects: str, slices: Iterator[GeneratedSlice]) -> None:
    """Write two TIFF files with a page for each slice, uint8. Labels are 255 in the `objects`, and 0 elsewhere."""
    with (
        atomic(images) as partial_images,
        atomic(labels) as partial_labels,
        tifffile.TiffWriter(partial_images) as image_stack,
        tifffile.TiffWriter(partial_labels) as label_stack,
    ):
        for each in slices:
            image_stack.write(each.image, contiguous=True)
            label_stack.write(np.where(getattr(each, objects), np.uint8(255), np.uint8(0)), contiguous=True)


LAYOUTS = {"lab": _write_lab, "isbi2012": _write_isbi2012, "epfl": _write_epfl}
