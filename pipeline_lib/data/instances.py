"""Masks of single objects as files that other tools read: label images, and COCO's annotations.

In a label image an object is its number; where objects overlap, the one of the highest predicted IoU has the pixel, of
equal ones that with the lower number. In COCO's file every mask is whole.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pycocotools import mask as coco

from pipeline_lib.data.masks import Mask, bounding_box, from_rle
from pipeline_lib.data.prompts import Prompts

UNNAMED = "object"  # the category of boxes without a class
LONGEST = 2**32  # pixels of a slice: beyond, the run lengths of pycocotools overflow


class Instance(NamedTuple):
    """An object's output mask."""

    window: int
    counts: str  # run lengths of the mask in its window
    predicted_iou: float
    x0: int  # the box around the mask, pixels of the slice
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True)
class Instances:
    """The output masks of a set by the objects' numbers, decoded when they are needed; empty ones are left out."""

    given: Prompts
    masks: Mapping[int, Instance]

    @classmethod
    def of(cls, given: Prompts, iterations: pd.DataFrame) -> "Instances":
        """The output masks among the stage segment's rows."""
        outputs = iterations[iterations["output"].astype(bool)].sort_values("box")
        columns = (outputs[name].tolist() for name in ("box", "window", "mask", "predicted_iou"))
        boxed = (
            (number, window, counts, iou, _box(given, window, counts))
            for number, window, counts, iou in zip(*columns, strict=True)
        )
        return cls(
            given, {number: Instance(window, counts, iou, *box) for number, window, counts, iou, box in boxed if box}
        )

    def crop(self, number: int) -> Mask:
        """An object's mask within the box around it."""
        mask = self.masks[number]
        _, _, y, x = self.given.place(mask.window)
        whole = _in_window(self.given, mask.window, mask.counts)
        return whole[mask.y0 - y.start : mask.y1 - y.start, mask.x0 - x.start : mask.x1 - x.start]

    @cached_property
    def by_slice(self) -> dict[tuple[str, int], tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Of each image and slice with objects, their numbers (N,) and boxes (N, 4) in the order of painting."""
        order = sorted(self.masks, key=lambda number: (self.masks[number].predicted_iou, -number))
        places: dict[tuple[str, int], list[int]] = {}
        for number in order:
            window = self.given.windows[self.masks[number].window]
            places.setdefault((window.image, window.slice), []).append(number)
        return {
            place: (np.array(numbers), np.array([self.masks[number][-4:] for number in numbers]))
            for place, numbers in places.items()
        }

    def numbers(self, image: str, z: int, y: slice, x: slice) -> NDArray[np.uint32]:
        """A block of the label image of an image."""
        block = np.zeros((y.stop - y.start, x.stop - x.start), np.uint32)
        if (image, z) not in self.by_slice:
            return block
        numbers, (x0, y0, x1, y1) = self.by_slice[image, z][0], self.by_slice[image, z][1].T
        for number in numbers[(x0 < x.stop) & (x1 > x.start) & (y0 < y.stop) & (y1 > y.start)].tolist():
            mask, box = self.crop(number), self.masks[number]
            top, bottom = max(box.y0, y.start), min(box.y1, y.stop)
            left, right = max(box.x0, x.start), min(box.x1, x.stop)
            part = mask[top - box.y0 : bottom - box.y0, left - box.x0 : right - box.x0]
            block[top - y.start : bottom - y.start, left - x.start : right - x.start][part] = number
        return block


def _in_window(given: Prompts, window: int, counts: str) -> Mask:
    _, _, y, x = given.place(window)
    return from_rle(counts, (y.stop - y.start, x.stop - x.start))


def _box(given: Prompts, window: int, counts: str) -> tuple[int, int, int, int] | None:
    """XYXY in the slice around a window's mask, or None where it is empty."""
    mask, (_, _, y, x) = _in_window(given, window, counts), given.place(window)
    if not mask.any():
        return None
    x0, y0, x1, y1 = map(int, bounding_box(mask))
    return x0 + x.start, y0 + y.start, x1 + x.start, y1 + y.start


def coco_file(instances: Instances) -> dict[str, Any]:
    """COCO's data set of the masks: images (of a stack each slice), categories, annotations with run lengths and score.

    The score is the given one, or where there is none the predicted IoU. `pycocotools.COCO` reads it, and its `loadRes`
    the list of annotations. Images of 2³² pixels or more are left out: pycocotools cannot count so far.
    """
    given = instances.given
    slices = [(image, z) for image in given.images for z in range(image.shape[0])]
    ids = {(image.name, z): number for number, (image, z) in enumerate(slices, start=1)}
    labels = sorted({label or UNNAMED for label in given.boxes["label"]})
    images = [
        {
            "id": ids[image.name, z],
            "file_name": image.name,
            "slice": z,
            "height": image.shape[1],
            "width": image.shape[2],
        }
        for image, z in slices
        if image.shape[1] * image.shape[2] < LONGEST
    ]
    categories = [{"id": number, "name": label} for number, label in enumerate(labels, start=1)]
    return {"images": images, "categories": categories, "annotations": list(_annotations(instances, ids, labels))}


def _annotations(instances: Instances, ids: dict[tuple[str, int], int], labels: list[str]) -> Iterator[dict[str, Any]]:
    given = instances.given
    for number, mask in instances.masks.items():
        (image, z, *_), crop = given.place(mask.window), instances.crop(number)
        _, height, width = image.shape
        if height * width >= LONGEST:
            continue
        label, score = str(given.boxes.at[number, "label"]) or UNNAMED, float(str(given.boxes.at[number, "score"]))
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
    """COCO's compressed run lengths of a mask that lies at (y, x) of a slice, which is never held itself."""
    height, width = shape
    columns, rows = np.nonzero(mask.T)  # column by column, as COCO counts
    at = (columns + x) * height + rows + y
    starts = at[np.diff(at, prepend=-2) > 1]
    ends = at[np.diff(at, append=height * width + 1) > 1] + 1
    edges = np.stack([starts, ends], axis=1).ravel()
    last = [height * width] if edges[-1] < height * width else []  # COCO writes no run of length 0 but a first one
    counts = np.diff(edges, prepend=0, append=last)
    made = coco.frPyObjects({"counts": counts.tolist(), "size": [height, width]}, height, width)
    return {"size": [height, width], "counts": made["counts"].decode("ascii")}
