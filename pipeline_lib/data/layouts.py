"""Generated data sets in the layouts of real ones."""

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
    """The source's slices, numbered from `first`: a slice depends on nothing but the seed and its number.

    Numbers start at 1, as [seed, 0] seeds the look that all slices share.
    """
    look = Look.draw(np.random.default_rng([source.seed, 0]))
    height, width = source.size
    for number in tqdm(range(first, first + source.slices), desc="generating slices", mininterval=10):
        yield generate_slice(np.random.default_rng([source.seed, number]), (height, width), look)


def _write_lab(source: SyntheticSource, folder: Path) -> None:
    """A folder of slices and a folder of instance labels, like a lab's own data."""
    with atomic(folder / "images") as images, atomic(folder / "labels") as labels:
        images.mkdir(parents=True)
        labels.mkdir()
        for index, drawn in enumerate(_slices(source, first=1)):
            iio.imwrite(images / f"{index:04}.png", drawn.image)
            tifffile.imwrite(labels / f"{index:04}.tif", drawn.cells.astype(np.uint16))


def _write_isbi2012(source: SyntheticSource, folder: Path) -> None:
    """The challenge's two stacks; labels are 0 on membranes, 255 in cells."""
    _write_stacks(folder / "train-volume.tif", folder / "train-labels.tif", "cells", _slices(source, first=1))


def _write_epfl(source: SyntheticSource, folder: Path) -> None:
    """The data set's two volumes with their labels: 255 in mitochondria."""
    for name, first in ("training", 1), ("testing", 1 + source.slices):
        labels = folder / f"{name}_groundtruth.tif"
        _write_stacks(folder / f"{name}.tif", labels, "mitochondria", _slices(source, first))


def _write_stacks(images: Path, labels: Path, objects: str, slices: Iterator[GeneratedSlice]) -> None:
    """Two multi-page TIFF files, uint8 ZYX; labels are 255 in the `objects` of the slices, 0 elsewhere."""
    with (
        atomic(images) as partial_images,
        atomic(labels) as partial_labels,
        tifffile.TiffWriter(partial_images) as image_stack,
        tifffile.TiffWriter(partial_labels) as label_stack,
    ):
        for drawn in slices:
            image_stack.write(drawn.image, contiguous=True)
            label_stack.write(np.where(getattr(drawn, objects), np.uint8(255), np.uint8(0)), contiguous=True)


LAYOUTS = {"lab": _write_lab, "isbi2012": _write_isbi2012, "epfl": _write_epfl}
