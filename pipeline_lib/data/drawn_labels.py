"""Draw label images from outlines: COCO annotations or Fiji regions.

In a label image YX, 0 is background, and any other value is the number of an object. If outlines overlap, a pixel
belongs to the smaller object, so that an object within another one stays visible.
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
        images: The images. Those with outlines have one slice.

    Raises:
        DataError: A file cannot be read, has no outlines, or names an image that is not there.
    """
    masks: dict[str, list[Mask]] = {}
    for path in paths:
        count = 0
        for image, mask in (_coco if path.suffix.lower() == ".json" else _fiji)(path, images):
            masks.setdefault(image, []).append(mask)
            count += 1
        if not count:
            raise DataError(
                f"{path}: expected outlines of objects, found none. Boxes and points are not enough. Draw the outlines"
            )
    return {image: label_image(each) for image, each in masks.items()}


def label_image(masks: Iterable[Mask]) -> NDArray[np.uint32]:
    """Return a label image (YX) of masks (YX), which are numbered from 1 in their order. Smaller masks lie on top."""
    masks = list(masks)
    labels = np.zeros(masks[0].shape, np.uint32)
    for number in sorted(range(len(masks)), key=lambda index: -np.count_nonzero(masks[index])):
        labels[masks[number]] = number + 1
    return labels


def _shape(where: str, name: str, images: Images) -> tuple[int, int]:
    if name not in images.shapes:
        listed = ", ".join(sorted(images.shapes)[:3])
        raise DataError(
            f"{where}: expected one of the images ({listed}, …), found {name!r}. Give the outlines the name of their "
            "image"
        )
    _, height, width = images.shapes[name]
    return height, width


def _coco(path: Path, images: Images) -> Iterator[tuple[str, Mask]]:
    """Yield the image and the mask of each annotation. Crowds are left out.

    Raises:
        DataError: The file is not a COCO data set, or an annotation has no polygon or run lengths.
    """
    try:
        file = BoxFile(path)
        files, annotations = image_entries(file, images), file.json["annotations"]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: expected a COCO data set with `images` and `annotations` ({error!r})") from error
    crowds = 0
    for index, annotation in enumerate(annotations):
        where = f"{path}: annotation {index}"
        if annotation.get("image_id") not in files:
            raise DataError(
                f"{where}: expected an image_id that `images` lists, found {annotation.get('image_id')!r}. Export again"
            )
        if annotation.get("iscrowd"):
            crowds += 1
            continue
        name = images.find(str(files[annotation["image_id"]]["file_name"]))
        height, width = _shape(where, name, images)
        if not annotation.get("segmentation"):
            raise DataError(f"{where}: expected a `segmentation`, found none. A box is not enough. Draw the outline")
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
    except Exception as error:  # pycocotools raises exceptions of many kinds
        raise DataError(f"{where}: its `segmentation` cannot be read ({error}). Export the file again") from error
    if mask.shape != (height, width):
        raise DataError(
            f"{where}: expected run lengths for ({height}, {width}) pixels, as the image has; found {mask.shape}. "
            "Export again"
        )
    return mask


def _fiji(path: Path, images: Images) -> Iterator[tuple[str, Mask]]:
    """Yield the image and the mask of each region with an area. Points and lines are logged and left out.

    Raises:
        DataError: The file is damaged, or its image is not there.
    """
    name = images.of_file(path)
    shape = _shape(str(path), name, images)
    try:
        content = roifile.roiread(path)
    except Exception as error:  # a damaged archive or region
        raise DataError(f"{path}: cannot be read as regions of Fiji ({error}). Save them again") from error
    for region in content if isinstance(content, list) else [content]:
        if region.roitype not in AREAS:
            log.warning(
                "%s: region %s is a %s, which has no area. It is left out", path, region.name, region.roitype.name
            )
            continue
        mask = np.zeros(shape, bool)
        for outline in region.coordinates(multi=True):
            # Coordinates are corners of pixels in Fiji, and centres in `polygon2mask`. XOR cuts out holes
            mask ^= polygon2mask(shape, np.asarray(outline, float)[:, ::-1] - 0.5)
        yield name, mask
