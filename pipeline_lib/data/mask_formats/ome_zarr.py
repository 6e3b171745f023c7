"""Write label images as OME-Zarr 0.5 with a resolution pyramid, block by block.

Specification: https://ngff.openmicroscopy.org/0.5/
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from PIL import Image
from tqdm import tqdm

from pipeline_lib.data.images import Shape
from pipeline_lib.data.mask_formats.mask_format import MaskFormat, MaskSet
from pipeline_lib.data.ome_zarr import AXES, VERSION, multiscale

CHUNK = 1024  # pixels: side of a chunk, and of the block that is in memory at a time
SMALLEST = 512  # pixels: the last level is the first whose longer side is at most this
OBJECTS = "objects"  # name of the label image

Block = Callable[[int, slice, slice], NDArray[Any]]  # from slice, rows and columns to pixels YX
Halve = Callable[[NDArray[Any]], NDArray[Any]]


class Scene(NamedTuple):
    """An image and its label image."""

    shape: Shape
    image: Block  # uint8
    objects: Block  # uint32, the numbers of the objects; 0 is background


def write_label_images(masks: MaskSet, path: Path) -> None:
    """Write all images of the set and their label images."""
    scenes = {
        image.name: Scene(image.shape, partial(masks.pixels, image), partial(masks.instances.numbers, image.name))
        for image in masks.instances.prompts.images
    }
    write_scenes(path, scenes, masks.pixel_size)


def write_scenes(path: Path, scenes: Mapping[str, Scene], pixel_size: Sequence[float] | None) -> None:
    """Write a collection of images with their label images, and show the progress.

    Args:
        path: A folder that does not exist yet.
        scenes: The images by name.
        pixel_size: ZYX, nanometres; None if it is not known.
    """
    write_collection(path, {name: scene.shape for name, scene in scenes.items()})
    total = 2 * sum(len(list(blocks(scene.shape))) for scene in scenes.values())  # of full resolution
    with tqdm(desc="label images", total=total, unit=" blocks", mininterval=10) as progress:
        for name, scene in scenes.items():
            image, objects = (_counted(block, progress) for block in (scene.image, scene.objects))
            write_image(path / name, scene.shape, image, objects, pixel_size)


def _counted(block: Block, progress: "tqdm[Any]") -> Block:
    """Return the function with a step of the progress bar for each call."""

    def counted(z: int, y: slice, x: slice) -> NDArray[Any]:
        pixels = block(z, y, x)
        progress.update()
        return pixels

    return counted


def write_collection(path: Path, shapes: Mapping[str, Shape]) -> None:
    """Write the group that lists all images, in the layout of bioformats2raw.

    It has the list twice: as `series`, by the specification, and as OME-XML, which napari's reader uses.

    Args:
        path: A folder that does not exist yet.
        shapes: Shape of each image (ZYX, pixels) by its name. `write_image` writes the images afterwards.
    """
    root = zarr.create_group(path, zarr_format=3, attributes={"ome": {"version": VERSION, "bioformats2raw.layout": 3}})
    root.create_group("OME", attributes={"ome": {"version": VERSION, "series": list(shapes)}})
    for folder in sorted({str(parent) for name in shapes for parent in PurePosixPath(name).parents} - {"."}):
        root.require_group(folder)
    ElementTree.ElementTree(_ome_xml(shapes)).write(
        path / "OME" / "METADATA.ome.xml", encoding="utf-8", xml_declaration=True
    )


def _ome_xml(shapes: Mapping[str, Shape]) -> ElementTree.Element:
    """Return the list of images as OME-XML.

    napari's reader uses the part of an ID after `Image:` as the path of the image. OME's schema forbids spaces there,
    but some images have spaces in their names.
    """
    root = ElementTree.Element("OME", xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06")
    for number, (name, shape) in enumerate(shapes.items()):
        image = ElementTree.SubElement(root, "Image", ID=f"Image:{name}", Name=name)
        sizes = dict(zip(("SizeZ", "SizeY", "SizeX"), map(str, shape), strict=True)) | {"SizeC": "1", "SizeT": "1"}
        pixels = ElementTree.SubElement(
            image, "Pixels", sizes, ID=f"Pixels:{number}", DimensionOrder="XYZCT", Type="uint8"
        )
        ElementTree.SubElement(pixels, "Channel", ID=f"Channel:{number}:0", SamplesPerPixel="1")
        ElementTree.SubElement(pixels, "MetadataOnly")
    return root


def write_image(path: Path, shape: Shape, image: Block, objects: Block, pixel_size: Sequence[float] | None) -> None:
    """Write an image (uint8) and its label image (uint32), each with a pyramid. The label image lies in `labels`.

    Args:
        path: A folder that does not exist yet.
        shape: Shape of both, ZYX.
        image: Returns the pixels of a block.
        objects: Returns the numbers of the objects in a block; 0 is background.
        pixel_size: ZYX, nanometres; None if it is not known.
    """
    levels = level_count(shape)
    scene = zarr.create_group(path, zarr_format=3, attributes={"ome": multiscale(path.name, pixel_size, levels)})
    labels = scene.create_group("labels", attributes={"ome": {"version": VERSION, "labels": [OBJECTS]}})
    record = multiscale(OBJECTS, pixel_size, levels) | {"image-label": {"source": {"image": "../../"}}}
    numbers = labels.create_group(OBJECTS, attributes={"ome": record})
    _write_levels(scene, shape, levels, np.uint8, image, _mean)
    _write_levels(numbers, shape, levels, np.uint32, objects, _every_second)


def picture(path: Path, z: int, side: int) -> NDArray[np.uint8]:
    """Return a slice of an image that `write_image` wrote, YX, with at most `side` pixels along its longer side."""
    scene: Any = zarr.open_group(path, mode="r")
    arrays = [scene[dataset["path"]] for dataset in scene.attrs["ome"]["multiscales"][0]["datasets"]]
    # The smallest level that is large enough, or else the first
    array = [arrays[0], *(each for each in arrays if max(each.shape[1:]) >= side)][-1]
    _, height, width = arrays[0].shape
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(np.asarray(array[z])).resize(size, Image.Resampling.BOX))


def level_count(shape: Shape) -> int:
    """Return the number of levels in an image's pyramid, including the full resolution."""
    return 1 + max(0, int(np.ceil(np.log2(max(shape[1:]) / SMALLEST))))


def blocks(shape: tuple[int, ...]) -> Iterator[tuple[int, slice, slice]]:
    """Yield the slice, rows and columns of each chunk of an image, in reading order."""
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
        for z, y, x in blocks(shape):
            array[z, y, x] = block(z, y, x)
        block, shape = _halve_blocks(array, halve), (shape[0], *(max(1, side // 2) for side in shape[1:]))


def _halve_blocks(array: zarr.Array[Any], halve: Halve) -> Block:
    """Return a function for the blocks of an array at half its resolution. An odd last row or column is left out."""

    def block(z: int, y: slice, x: slice) -> NDArray[Any]:
        return halve(np.asarray(array[z, 2 * y.start : 2 * y.stop, 2 * x.start : 2 * x.stop]))

    return block


def _mean(pixels: NDArray[Any]) -> NDArray[Any]:
    """Average each square of four pixels, or each pair of pixels if the image has a single row or column."""
    height, width = (max(1, side // 2) for side in pixels.shape)
    parts = pixels.reshape(height, -1, width, pixels.shape[1] // width)
    return np.asarray(parts.mean(axis=(1, 3)).round(), pixels.dtype)


def _every_second(pixels: NDArray[Any]) -> NDArray[Any]:
    """Keep one pixel of four, because numbers of objects have no mean."""
    return pixels[::2, ::2]


OME_ZARR = MaskFormat(name="labels", file="labels.zarr", program="napari", write=write_label_images)
