"""Labels that people drew as outlines, COCO annotations or Fiji regions, as label images.

In a label image YX, 0 is background and any other value the number of an object. Where outlines overlap, the smaller
object has the pixel, so that an object within another one stays visible.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import roifile
from numpy.typing import NDArray
from pycocotools import mask as coco
from skimage.draw import polygon2mask

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.coco import image_entries
from pipeline_lib.data.box_formats.fiji import AREAS
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.masks import Mask, from_rle
from pipeline_lib.errors import DataError

log = logging.getLogger(__name__)


def drawn_labels(paths: Sequence[Path], images: Images) -> dict[str, NDArray[np.uint32]]:
    """Return the label image of each image that has outlines, by the image's name.

    Args:
        paths: COCO data sets (.json), or Fiji regions (.roi, or .zip with the name of its image).
        images: that the outlines are of; each has one slice.

    Raises:
        DataError: a file cannot be read, has no outlines, or names an image that is not there.
    """
    masks: dict[str, list[Mask]] = {}
    for path in paths:
        count = 0
        for image, mask in (_coco if path.suffix.lower() == ".json" else _fiji)(path, images):
            masks.setdefault(image, []).append(mask)
            count += 1
        if not count:
            raise DataError(f"{path}: expected outlines of objects, found none; boxes and points alone are no labels")
    return {image: label_image(each) for image, each in masks.items()}


def label_image(masks: Iterable[Mask]) -> NDArray[np.uint32]:
    """Return masks YX as one label image, numbered from 1 in their order; smaller ones lie on top."""
    masks = list(masks)
    labels = np.zeros(masks[0].shape, np.uint32)
    for number in sorted(range(len(masks)), key=lambda index: -np.count_nonzero(masks[index])):
        labels[masks[number]] = number + 1
    return labels


def _shape(where: str, name: str, images: Images) -> tuple[int, int]:
    if name not in images.shapes:
        listed = ", ".join(sorted(images.shapes)[:3])
        raise DataError(f"{where}: is of the image {name!r}, but the images are {listed}, …")
    _, height, width = images.shapes[name]
    return height, width


def _coco(path: Path, images: Images) -> Iterator[tuple[str, Mask]]:
    """Yield image and mask of each annotation with a polygon or run lengths; crowds are left out."""
    try:
        file = BoxFile(path)
        files, annotations = image_entries(file, images), file.json["annotations"]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: expected a COCO data set with `images` and `annotations` ({error!r})") from error
    crowds = 0
    for index, annotation in enumerate(annotations):
        where = f"{path}: annotation {index}"
        if annotation.get("image_id") not in files:
            raise DataError(f"{where}: image_id {annotation.get('image_id')!r} is none of the file's images")
        if annotation.get("iscrowd"):
            crowds += 1
            continue
        name = images.find(str(files[annotation["image_id"]]["file_name"]))
        height, width = _shape(where, name, images)
        if not annotation.get("segmentation"):
            raise DataError(f"{where}: expected a `segmentation`, found none; a box alone is no label")
        yield name, _coco_mask(where, annotation["segmentation"], height, width)
    if crowds:
        log.info("%s: %d annotations of crowds were left out", path, crowds)


def _coco_mask(where: str, segmentation: Any, height: int, width: int) -> Mask:
    try:
        if isinstance(segmentation, list):
            runs = coco.merge(coco.frPyObjects(segmentation, height, width))
        elif isinstance(segmentation["counts"], list):
            runs = coco.frPyObjects(segmentation, height, width)
        else:
            runs = segmentation
        (rows, columns), counts = runs["size"], runs["counts"]
        mask = from_rle(counts if isinstance(counts, str) else counts.decode("ascii"), (rows, columns))
    except Exception as error:  # pycocotools raises what its C code comes to
        raise DataError(f"{where}: cannot read its `segmentation` ({error})") from error
    if mask.shape != (height, width):
        raise DataError(f"{where}: run lengths of {mask.shape} pixels, but the image has ({height}, {width})")
    return mask


def _fiji(path: Path, images: Images) -> Iterator[tuple[str, Mask]]:
    """Yield the mask of each region that encloses an area; points and lines are left out, with a message."""
    name = images.of_file(path)
    shape = _shape(str(path), name, images)
    try:
        content = roifile.roiread(path)
    except Exception as error:  # a damaged archive or region
        raise DataError(f"{path}: cannot be read as regions of Fiji ({error})") from error
    for region in content if isinstance(content, list) else [content]:
        if region.roitype not in AREAS:
            log.warning(
                "%s: region %s is a %s, which is no area, and is left out", path, region.name, region.roitype.name
            )
            continue
        mask = np.zeros(shape, bool)
        for outline in region.coordinates(multi=True):
            # a region's coordinates are corners of pixels, which `polygon2mask` takes for centres; parts are holes
            mask ^= polygon2mask(shape, np.asarray(outline, float)[:, ::-1] - 0.5)
        yield name, mask
