"""OME-Zarr 0.5 images and labels with a resolution pyramid, written block by block (https://ngff.openmicroscopy.org/0.5/).

Written here and not by a library: ome-zarr 0.18 cannot be installed beside today's fsspec, and ngff-zarr brings a
WebAssembly runtime; what is left to do is a JSON record and halving. Tests hold it against ome-zarr-models and napari's
reader.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from tqdm import tqdm

AXES = ("z", "y", "x")
VERSION = "0.5"
CHUNK = 1024  # pixels, side of a chunk and of what is held at a time
SMALLEST = 512  # pixels: a level whose longer side is no longer has none below it
OBJECTS = "objects"  # name of the label image

Block = Callable[[int, slice, slice], NDArray[Any]]  # from slice, rows and columns to pixels YX
Halve = Callable[[NDArray[Any]], NDArray[Any]]


def multiscale(name: str, pixel_size: Sequence[float] | None, levels: int = 1) -> dict[str, Any]:
    """The record of an image whose arrays `0`, `1`, … halve y and x each time.

    `pixel_size` is ZYX in nanometres; where it is not known, a pixel is 1 of no unit.
    """
    unit = {} if pixel_size is None else {"unit": "nanometer"}
    z, y, x = (1.0, 1.0, 1.0) if pixel_size is None else map(float, pixel_size)
    datasets = [
        {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": [z, y * 2**level, x * 2**level]}]}
        for level in range(levels)
    ]
    axes = [{"name": axis, "type": "space", **unit} for axis in AXES]
    return {"version": VERSION, "multiscales": [{"name": name, "axes": axes, "datasets": datasets}]}


def write_collection(path: Path, names: Sequence[str]) -> None:
    """Write a group of images that are to come, so that readers of bioformats2raw's layout find all of them."""
    root = zarr.create_group(path, zarr_format=3, attributes={"ome": {"version": VERSION, "bioformats2raw.layout": 3}})
    root.create_group("OME", attributes={"ome": {"version": VERSION, "series": list(names)}})


def write_image(
    path: Path, shape: tuple[int, int, int], image: Block, objects: Block, pixel_size: Sequence[float] | None
) -> None:
    """Write an image (uint8) and the label image `objects` (uint32) in its folder `labels`, each with its pyramid.

    Args:
        path: a folder that does not exist yet.
        shape: of both, ZYX.
        image: the pixels of a block.
        objects: the numbers of a block's objects; 0 is background.
        pixel_size: as of `multiscale`.
    """
    levels = level_count(shape)
    scene = zarr.create_group(path, zarr_format=3, attributes={"ome": multiscale(path.name, pixel_size, levels)})
    labels = scene.create_group("labels", attributes={"ome": {"version": VERSION, "labels": [OBJECTS]}})
    record = multiscale(OBJECTS, pixel_size, levels) | {"image-label": {"source": {"image": "../../"}}}
    numbers = labels.create_group(OBJECTS, attributes={"ome": record})
    _write_levels(scene, shape, levels, np.uint8, image, _mean)
    _write_levels(numbers, shape, levels, np.uint32, objects, _every_second)


def level_count(shape: tuple[int, int, int]) -> int:
    """Levels of an image's pyramid, the whole image among them."""
    return 1 + max(0, int(np.ceil(np.log2(max(shape[1:]) / SMALLEST))))


def blocks(shape: tuple[int, ...]) -> Iterator[tuple[int, slice, slice]]:
    """Slice, rows and columns of each chunk of an image, in reading order."""
    slices, height, width = shape
    for z, y, x in product(range(slices), range(0, height, CHUNK), range(0, width, CHUNK)):
        yield z, slice(y, min(y + CHUNK, height)), slice(x, min(x + CHUNK, width))


def _write_levels(
    group: zarr.Group, shape: tuple[int, ...], levels: int, dtype: DTypeLike, block: Block, halve: Halve
) -> None:
    for level in range(levels):
        array = group.create_array(
            str(level), shape=shape, chunks=(1, CHUNK, CHUNK), dtype=dtype, dimension_names=AXES, fill_value=0
        )
        for z, y, x in tqdm(list(blocks(shape)), f"{group.basename} {level}", mininterval=10):
            array[z, y, x] = block(z, y, x)
        block, shape = _halved(array, halve), (shape[0], *(max(1, side // 2) for side in shape[1:]))


def _halved(array: zarr.Array[Any], halve: Halve) -> Block:
    """Blocks of the level below an array's; an odd last row or column is left out."""

    def block(z: int, y: slice, x: slice) -> NDArray[Any]:
        return halve(np.asarray(array[z, 2 * y.start : 2 * y.stop, 2 * x.start : 2 * x.stop]))

    return block


def _mean(pixels: NDArray[Any]) -> NDArray[Any]:
    """The mean of each square of four pixels, or of the two of a line."""
    height, width = (max(1, side // 2) for side in pixels.shape)
    parts = pixels.reshape(height, -1, width, pixels.shape[1] // width)
    return np.asarray(parts.mean(axis=(1, 3)).round(), pixels.dtype)


def _every_second(pixels: NDArray[Any]) -> NDArray[Any]:
    """One pixel of four: numbers have no mean."""
    return pixels[::2, ::2]
