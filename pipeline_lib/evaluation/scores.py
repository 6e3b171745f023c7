"""Masks against the labels."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline_lib.data.dataset import Store
from pipeline_lib.data.masks import Mask, from_rle, iou

KEYS = ["tile", "object"]
COLUMNS = [*KEYS, "slice", "area", "iou", "iou_iterated", "iterations", "foreground_iou", "foreground_iou_iterated"]


def score_tile(history: pd.DataFrame, tiles: Store, tile: int) -> pd.DataFrame:
    """One row for each object of one tile, by number, from the iterations of all of them in any order.

    However many there are, the masks of one object are in memory at once.
    """
    labels = tiles.objects(tile)
    objects = np.sort(history["object"].unique())
    truths = np.isin(labels, objects)
    (first, any_first), (output, any_output) = (
        ious(history[which].sort_values("object")["mask"], objects, labels)
        for which in (history["iteration"] == 0, history["output"])
    )
    return pd.DataFrame(
        {
            "tile": tile,
            "object": objects,
            "slice": tiles.origin(tile)[0],
            "iou": first,
            "iou_iterated": output,
            "iterations": np.maximum(1, history.groupby("object").size().to_numpy() - 1),
            "foreground_iou": float(iou(any_first, truths)),
            "foreground_iou_iterated": float(iou(any_output, truths)),
        }
    )


def ious(
    masks: Iterable[str], objects: NDArray[np.integer[Any]], labels: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.float64], Mask]:
    """The IoU (N) of run-length encoded masks with the objects (N) of labels (h, w), and all masks together (h, w)."""
    h, w = labels.shape
    reached, covered = np.empty(len(objects)), np.zeros((h, w), bool)
    for place, (counts, number) in enumerate(zip(masks, objects, strict=True)):
        mask = from_rle(counts, (h, w))
        reached[place] = iou(mask, labels == number)
        covered |= mask
    return reached, covered
