"""Measure and encode binary masks (bool, YX). This module does not need torch."""

import warnings

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco
from scipy import ndimage

Mask = NDArray[np.bool_]


def iou(masks: Mask, truths: Mask) -> NDArray[np.float64]:
    """Return the intersection over union of masks (..., h, w) and truths (..., h, w), as (...).

    It is 1 if both are empty, because such a mask is right.
    """
    intersection = np.count_nonzero(masks & truths, axis=(-2, -1))
    union = np.count_nonzero(masks | truths, axis=(-2, -1))
    return np.where(union == 0, 1.0, intersection / np.maximum(union, 1))


def bounding_box(mask: Mask) -> NDArray[np.float32]:
    """Return the bounding box (4,) of a mask, XYXY, half-open, in pixels. The mask must not be empty."""
    x, y = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return np.array([x[0], y[0], x[-1] + 1, y[-1] + 1], np.float32)


def largest_component(mask: Mask) -> Mask:
    """Return the largest 4-connected component of a mask; among equal ones, the first in reading order.

    The mask must not be empty.
    """
    components, _ = ndimage.label(mask)
    largest: Mask = components == np.bincount(components.ravel())[1:].argmax() + 1
    return largest


def to_rle(mask: Mask) -> str:
    """Return the compressed run lengths ("counts") of a mask, as COCO encodes them."""
    columns = np.zeros(mask.shape, np.uint8, order="F")
    if mask.any():  # to transpose the whole mask would take longer than to predict it on a GPU
        x0, y0, x1, y1 = bounding_box(mask).astype(int)
        columns[y0:y1, x0:x1] = mask[y0:y1, x0:x1]
    counts: bytes = coco.encode(columns)["counts"]
    return counts.decode("ascii")


def from_rle(counts: str, shape: tuple[int, int]) -> Mask:
    """Return the mask of `shape` (h, w) that `to_rle` encoded."""
    # pycocotools 2.0.11 does not know the keyword `copy` of NumPy 2, and warns: test_run_lengths_give_the_mask_back
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        mask: NDArray[np.uint8] = coco.decode({"size": list(shape), "counts": counts.encode("ascii")})
    return mask.astype(bool)
