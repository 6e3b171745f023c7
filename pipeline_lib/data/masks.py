"""Facts about binary masks (bool, YX): pure numpy, and no network needed to know them."""

import warnings

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco
from scipy import ndimage

Mask = NDArray[np.bool_]


def iou(masks: Mask, truths: Mask) -> NDArray[np.float64]:
    """Intersection over union along the last two axes; 1 where both are empty, for then nothing is wrong."""
    intersection = np.count_nonzero(masks & truths, axis=(-2, -1))
    union = np.count_nonzero(masks | truths, axis=(-2, -1))
    return np.where(union == 0, 1.0, intersection / np.maximum(union, 1))


def bounding_box(mask: Mask) -> NDArray[np.float32]:
    """XYXY half-open box, in pixels, around a mask that is not empty."""
    x, y = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return np.array([x[0], y[0], x[-1] + 1, y[-1] + 1], np.float32)


def largest_component(mask: Mask) -> Mask:
    """The largest 4-connected part of a mask that is not empty; of equal ones, the first in reading order."""
    components, _ = ndimage.label(mask)
    largest: Mask = components == np.bincount(components.ravel())[1:].argmax() + 1
    return largest


def to_rle(mask: Mask) -> str:
    """COCO's run-length encoding ("counts")."""
    columns = np.zeros(mask.shape, np.uint8, order="F")
    if mask.any():  # to transpose all of it takes longer than a GPU takes to make it
        x0, y0, x1, y1 = bounding_box(mask).astype(int)
        columns[y0:y1, x0:x1] = mask[y0:y1, x0:x1]
    counts: bytes = coco.encode(columns)["counts"]
    return counts.decode("ascii")


def from_rle(counts: str, shape: tuple[int, int]) -> Mask:
    """The mask of `shape` (h, w) behind COCO's run-length encoding."""
    # pycocotools 2.0.11 does not know NumPy 2's `copy` keyword, and warns: test_run_lengths_give_the_mask_back
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        mask: NDArray[np.uint8] = coco.decode({"size": list(shape), "counts": counts.encode("ascii")})
    return mask.astype(bool)
