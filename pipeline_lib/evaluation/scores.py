"""Masks against the labels."""

import numpy as np
import pandas as pd

from pipeline_lib.data.dataset import Store
from pipeline_lib.data.masks import from_rle, iou, together

KEYS = ["tile", "object"]
COLUMNS = [*KEYS, "slice", "area", "iou", "iou_iterated", "iterations", "foreground_iou", "foreground_iou_iterated"]


def score_tile(history: pd.DataFrame, tiles: Store, tile: int) -> pd.DataFrame:
    """One row for each object of one tile, from the iterations of all of them."""
    labels = tiles.objects(tile)
    h, w = labels.shape
    ends = history.groupby("object").first(), history[history["output"]].set_index("object")  # each object's two masks
    first, output = (np.stack([from_rle(counts, (h, w)) for counts in end["mask"]]) for end in ends)
    objects = ends[0].index.to_numpy()
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
