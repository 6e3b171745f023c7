"""COCO's data set with a whole mask for each object, as run lengths (https://cocodataset.org/#format-data)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco

from pipeline_lib.data.instances import Instances
from pipeline_lib.data.mask_formats.mask_format import MaskFormat, MaskSet
from pipeline_lib.data.masks import Mask

UNNAMED = "object"  # the category of boxes without a class
LARGEST = 2**32  # pixels of a slice: beyond, the run lengths of pycocotools overflow


def write_coco(masks: MaskSet, path: Path) -> None:
    """Write the masks as one JSON file (`coco_file`)."""
    path.write_text(json.dumps(coco_file(masks.instances)) + "\n", encoding="utf-8")


def coco_file(instances: Instances) -> dict[str, Any]:
    """Return the content of COCO's file: images (each slice of a stack is one), categories and annotations.

    An annotation has the score of its box, or the predicted IoU if the box has none. `pycocotools.COCO` reads the
    file, and its `loadRes` reads the list of annotations. Slices of 2³² pixels or more are left out, because the run
    lengths of pycocotools overflow there.
    """
    prompts = instances.given
    slices = [(image, z) for image in prompts.images for z in range(image.shape[0])]
    ids = {(image.name, z): number for number, (image, z) in enumerate(slices, start=1)}
    labels = sorted({label or UNNAMED for label in prompts.boxes["label"]})
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
    return {"images": images, "categories": categories, "annotations": list(_annotations(instances, ids, labels))}


def _annotations(instances: Instances, ids: dict[tuple[str, int], int], labels: list[str]) -> Iterator[dict[str, Any]]:
    prompts = instances.given
    for number, mask in instances.masks.items():
        (image, z, *_), crop = prompts.place(mask.window), instances.crop(number)
        _, height, width = image.shape
        if height * width >= LARGEST:
            continue
        label, score = str(prompts.boxes.at[number, "label"]) or UNNAMED, float(str(prompts.boxes.at[number, "score"]))
        yield {
            "id": number,
            "image_id": ids[image.name, z],
            "category_id": labels.index(label) + 1,
            "bbox": [mask.x0, mask.y0, mask.x1 - mask.x0, mask.y1 - mask.y0],
            "area": int(crop.sum()),
            "iscrowd": 0,
            "segmentation": run_lengths(crop, mask.y0, mask.x0, (height, width)),
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
    at = (columns + x) * height + rows + y
    starts = at[np.diff(at, prepend=-2) > 1]
    ends = at[np.diff(at, append=height * width + 1) > 1] + 1
    edges = np.stack([starts, ends], axis=1).ravel()
    last = [height * width] if edges[-1] < height * width else []  # only the first run of COCO's can have length 0
    counts = np.diff(edges, prepend=0, append=last)
    compressed = coco.frPyObjects({"counts": counts.tolist(), "size": [height, width]}, height, width)
    return {"size": [height, width], "counts": compressed["counts"].decode("ascii")}


COCO = MaskFormat(name="coco", file="coco.json", program="pycocotools", write=write_coco)
