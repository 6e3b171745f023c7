"""The box that a mask prompts next, in iterated inference as in training on its iterations."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.data.masks import Mask, bounding_box, largest_component


def next_box(mask: Mask, only_largest: bool) -> NDArray[np.float32]:
    """The box (4,), XYXY in pixels of the tile, around a mask (h, w) that is not empty, or its largest component."""
    return bounding_box(largest_component(mask) if only_largest else mask)


def next_boxes(masks: Iterable[Mask], only_largest: bool, otherwise: NDArray[np.float32]) -> NDArray[np.float32]:
    """The next box of each of N masks (h, w), or its row of `otherwise` (N, 4) where the mask is empty."""
    pairs = zip(masks, otherwise, strict=True)
    return np.stack([next_box(mask, only_largest) if mask.any() else box for mask, box in pairs])
