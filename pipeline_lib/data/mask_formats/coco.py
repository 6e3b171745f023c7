"""Write a COCO data set with the mask of each object (https://cocodataset.org/#format-data).

An annotation of COCO has run lengths or polygons, not both. Many programs read only polygons, so there are two files.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco

from pipeline_lib.data.instances import Instances
from pipeline_lib.data.mask_formats.classes import class_name, class_names
from pipeline_lib.data.mask_formats.mask_format import MaskFormat, MaskSet
from pipeline_lib.data.masks import Mask
from pipeline_lib.data.outlines import one_ring

LARGEST = 2**32  # pixels of a slice: here the run lengths of pycocotools overflow

Segmentation = Callable[[Instances, int], Any]  # from the number of an object to the `segmentation` of COCO


def write_coco(masks: MaskSet, path: Path) -> None:
    """Write the masks as one JSON file with run lengths (`coco_file`)."""
    path.write_text(json.dumps(coco_file(masks.instances)) + "\n", encoding="utf-8")


def write_coco_polygons(masks: MaskSet, path: Path) -> None:
    """Write the masks as one JSON file (`coco_file`) with polygons."""
    path.write_text(json.dumps(coco_file(masks.instances, polygons_of)) + "\n", encoding="utf-8")


def run_lengths_of(instances: Instances, number: int) -> dict[str, Any]:
    """Return the compressed run lengths of an object in its slice."""
    mask = instances.masks[number]
    image, *_ = instances.prompts.place(mask.window)
    return run_lengths(instances.crop(number), mask.y0, mask.x0, image.shape[1:])


def polygons_of(instances: Instances, number: int) -> list[list[int]]:
    """Return a polygon x, y, x, y, … for each part of an object. Lines without width join holes to their polygon."""
    return [one_ring([part.exterior, *part.holes]).ravel().tolist() for part in instances.polygons(number)]


def coco_file(instances: Instances, segmentation: Segmentation = run_lengths_of) -> dict[str, Any]:
    """Return the content of a COCO file: images, categories and annotations. Each slice of a stack is an image.

    An annotation has the score of its box, or the predicted IoU if the box has none. `pycocotools.COCO` reads the
    file, and its `loadRes` reads the list of annotations. Slices of 2³² pixels or more are left out, because the run
    lengths of pycocotools overflow there.
    """
    prompts = instances.prompts
    slices = [(image, z) for image in prompts.images for z in range(image.shape[0])]
    ids = {(image.name, z): number for number, (image, z) in enumerate(slices, start=1)}
    labels = class_names(prompts)
    images = [
        {
            "id": ids[image.name, z],
            "file_name": image.name,
            "slice": z,
            "height": image.shape[1],
            "width": image.shape[2],
        }
        for image, z in slices
        if image.shape[1] * image.shape[2] < LARGEST
    ]
    categories = [{"id": number, "name": label} for number, label in enumerate(labels, start=1)]
    annotations = list(_annotations(instances, ids, labels, segmentation))
    return {"images": images, "categories": categories, "annotations": annotations}


def _annotations(
    instances: Instances, ids: dict[tuple[str, int], int], labels: list[str], segmentation: Segmentation
) -> Iterator[dict[str, Any]]:
    prompts = instances.prompts
    for number, mask in instances.masks.items():
        image, z, *_ = prompts.place(mask.window)
        _, height, width = image.shape
        if height * width >= LARGEST:
            continue
        score = float(str(prompts.boxes.at[number, "score"]))
        yield {
            "id": number,
            "image_id": ids[image.name, z],
            "category_id": labels.index(class_name(prompts, number)) + 1,
            "bbox": [mask.x0, mask.y0, mask.x1 - mask.x0, mask.y1 - mask.y0],
            "area": int(instances.crop(number).sum()),
            "iscrowd": 0,
            "segmentation": segmentation(instances, number),
            "score": mask.predicted_iou if np.isnan(score) else score,
        }


def run_lengths(mask: Mask, y: int, x: int, shape: tuple[int, int]) -> dict[str, Any]:
    """Return COCO's compressed run lengths of a mask in a slice, without building the mask of the whole slice.

    Args:
        mask: YX, bool, with at least one pixel.
        y: First row of the mask in the slice.
        x: First column of the mask in the slice.
        shape: Height and width of the slice, pixels.
    """
    height, width = shape
    columns, rows = np.nonzero(mask.T)  # column by column, as COCO counts
    positions = (columns + x) * height + rows + y
    starts = positions[np.diff(positions, prepend=-2) > 1]
    ends = positions[np.diff(positions, append=height * width + 1) > 1] + 1
    edges = np.stack([starts, ends], axis=1).ravel()
    last = [height * width] if edges[-1] < height * width else []  # in COCO, only the first run can have length 0
    counts = np.diff(edges, prepend=0, append=last)
    compressed = coco.frPyObjects({"counts": counts.tolist(), "size": [height, width]}, height, width)
    return {"size": [height, width], "counts": compressed["counts"].decode("ascii")}


COCO = MaskFormat(name="coco", file="coco.json", program="pycocotools", write=write_coco)
COCO_POLYGONS = MaskFormat(
    name="coco_polygons", file="coco_polygons.json", program="pycocotools", write=write_coco_polygons
)
