"""Score masks by their IoU with the labels."""

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
    """Return the scores of the objects of a tile, one row for each object, sorted by number.

    Only the masks of one object are in memory at a time.

    Args:
        history: predictions for these objects in any order, with the columns of `TILES`.
        tiles: store of the tiles.
        tile: number of the tile.

    Returns:
        `COLUMNS` without area.
    """
    labels = tiles.objects(tile)
    objects = np.sort(history["object"].unique())
    truths = np.isin(labels, objects)
    first_masks = history[history["iteration"] == 0].sort_values("object")["mask"]
    output_masks = history[history["output"]].sort_values("object")["mask"]
    first, any_first = ious(first_masks, objects, labels)
    output, any_output = ious(output_masks, objects, labels)
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
    """Return the IoU (N) of masks with their objects, and the union (h, w) of all masks.

    Args:
        masks: N masks as run lengths (`to_rle`).
        objects: (N), number of the object of each mask.
        labels: (h, w), numbers of objects.
    """
    h, w = labels.shape
    overlaps, union = np.empty(len(objects)), np.zeros((h, w), bool)
    for place, (counts, number) in enumerate(zip(masks, objects, strict=True)):
        mask = from_rle(counts, (h, w))
        overlaps[place] = iou(mask, labels == number)
        union |= mask
    return overlaps, union
