"""Return the next prompt from a mask, in iterated inference and in training on its iterations."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.data.masks import Mask, bounding_box, largest_component


def next_box(mask: Mask, only_largest: bool) -> NDArray[np.float32]:
    """Return the bounding box (4,) of a mask (h, w) that is not empty, or of its largest component.

    The box is float32, XYXY half-open, in pixels of the mask.
    """
    return bounding_box(largest_component(mask) if only_largest else mask)


def next_boxes(masks: Iterable[Mask], only_largest: bool, otherwise: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the next box (N, 4) of each of N masks (h, w). An empty mask has its row of `otherwise` (N, 4)."""
    pairs = zip(masks, otherwise, strict=True)
    return np.stack([next_box(mask, only_largest) if mask.any() else box for mask, box in pairs])
