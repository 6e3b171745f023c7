"""Return the masks of a set of images, one by one and as label images.

In a label image, the pixels of an object have its number as value. If objects overlap, a pixel belongs to the object
with the highest predicted IoU. If these are equal, it belongs to the object with the lowest number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline_lib.data.masks import Mask, bounding_box, from_rle
from pipeline_lib.data.outlines import Polygon, polygons
from pipeline_lib.data.prompts import Prompts


class Instance(NamedTuple):
    """The output mask of an object."""

    window: int
    counts: str  # compressed run lengths of the mask in its window
    predicted_iou: float
    x0: int  # bounding box of the mask, half-open, pixels of the slice
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True)
class Instances:
    """The output masks of a set, by the number of the object.

    Masks are decoded when they are needed. Empty masks are left out.
    """

    prompts: Prompts
    masks: Mapping[int, Instance]

    @classmethod
    def of(cls, prompts: Prompts, iterations: pd.DataFrame) -> "Instances":
        """Select the output masks among the rows that the stage `segment` wrote."""
        outputs = iterations[iterations["output"].astype(bool)].sort_values("box")
        columns = (outputs[name].tolist() for name in ("box", "window", "mask", "predicted_iou"))
        boxed = (
            (number, window, counts, iou, _box(prompts, window, counts))
            for number, window, counts, iou in zip(*columns, strict=True)
        )
        return cls(
            prompts, {number: Instance(window, counts, iou, *box) for number, window, counts, iou, box in boxed if box}
        )

    def crop(self, number: int) -> Mask:
        """Return the mask (YX) of an object within its bounding box."""
        mask = self.masks[number]
        _, _, y, x = self.prompts.place(mask.window)
        whole = _in_window(self.prompts, mask.window, mask.counts)
        return whole[mask.y0 - y.start : mask.y1 - y.start, mask.x0 - x.start : mask.x1 - x.start]

    def polygons(self, number: int) -> list[Polygon]:
        """Return the outlines of an object's mask, in pixels of the slice."""
        mask = self.masks[number]
        return polygons(self.crop(number), mask.x0, mask.y0)

    def in_slice(self, image: str, z: int) -> list[int]:
        """Return the numbers of the objects in a slice of an image, ascending."""
        numbers = self.by_slice[image, z][0] if (image, z) in self.by_slice else np.zeros(0, int)
        return sorted(numbers.tolist())

    @cached_property
    def by_slice(self) -> dict[tuple[str, int], tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Numbers (N,) and bounding boxes (N, 4), XYXY, of the objects in each image and slice.

        They are in the order of painting: later objects cover earlier ones.
        """
        order = sorted(self.masks, key=lambda number: (self.masks[number].predicted_iou, -number))
        places: dict[tuple[str, int], list[int]] = {}
        for number in order:
            window = self.prompts.windows[self.masks[number].window]
            places.setdefault((window.image, window.slice), []).append(number)
        return {
            place: (np.array(numbers), np.array([self.masks[number][-4:] for number in numbers]))
            for place, numbers in places.items()
        }

    def numbers(self, image: str, z: int, y: slice, x: slice) -> NDArray[np.uint32]:
        """Return a block (YX) of the label image of an image, for rows `y` and columns `x` of slice `z`."""
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


def _in_window(prompts: Prompts, window: int, counts: str) -> Mask:
    _, _, y, x = prompts.place(window)
    return from_rle(counts, (y.stop - y.start, x.stop - x.start))


def _box(prompts: Prompts, window: int, counts: str) -> tuple[int, int, int, int] | None:
    """Return the bounding box, XYXY in pixels of the slice, of a mask in a window; None if it is empty."""
    mask, (_, _, y, x) = _in_window(prompts, window, counts), prompts.place(window)
    if not mask.any():
        return None
    x0, y0, x1, y1 = map(int, bounding_box(mask))
    return x0 + x.start, y0 + y.start, x1 + x.start, y1 + y.start
