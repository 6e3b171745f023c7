"""Masks against the labels."""

import numpy as np
import pandas as pd

from pipeline_lib.data.dataset import Store
from pipeline_lib.data.masks import from_rle, iou, together

KEYS = ["tile", "object"]
COLUMNS = [*KEYS, "slice", "area", "iou", "iou_iterated", "iterations", "foreground_iou", "foreground_iou_iterated"]


def score_tile(history: pd.DataFrame, tiles: Store, tile: int) -> pd.DataFrame:
    """One row for each object of one tile, by number, from the iterations of all of them in any order."""
    labels = tiles.objects(tile)
    h, w = labels.shape
    chosen = history["iteration"] == 0, history["output"]
    first, output = (
        np.stack([from_rle(counts, (h, w)) for counts in history[which].sort_values("object")["mask"]])
        for which in chosen
    )
    objects = np.sort(history["object"].unique())
    truths = labels == objects[:, None, None]
    return pd.DataFrame(
        {
            "tile": tile,
            "object": objects,
            "slice": tiles.origin(tile)[0],
            "iou": iou(first, truths),
            "iou_iterated": iou(output, truths),
            "iterations": np.maximum(1, history.groupby("object").size().to_numpy() - 1),
            "foreground_iou": float(iou(together(first), together(truths))),
            "foreground_iou_iterated": float(iou(together(output), together(truths))),
        }
    )
