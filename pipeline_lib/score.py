"""The stage `score`: kept masks against the labels, one row for each test object."""

import numpy as np
import pandas as pd

from pipeline_lib.atomic import atomic
from pipeline_lib.boxes import by_image, read_boxes
from pipeline_lib.errors import DataError
from pipeline_lib.masks import from_rle, iou, together
from pipeline_lib.store import Store

KEYS = ["image", "object"]
COLUMNS = [*KEYS, "area", "iou", "iou_iterated", "iterations", "foreground_iou", "foreground_iou_iterated"]


def score_image(history: pd.DataFrame, tiles: Store, image: int) -> pd.DataFrame:
    """One row for each object of one image, from the passes of all of them."""
    labels = tiles.objects(image)
    h, w = labels.shape
    ends = history.groupby("object").first(), history[history["output"]].set_index("object")  # each object's two masks
    first, output = (np.stack([from_rle(counts, (h, w)) for counts in end["mask"]]) for end in ends)
    objects = ends[0].index.to_numpy()
    truths = labels == objects[:, None, None]
    return pd.DataFrame(
        {
            "image": image,
            "object": objects,
            "iou": iou(first, truths),
            "iou_iterated": iou(output, truths),
            "iterations": np.maximum(1, history.groupby("object").size().to_numpy() - 1),
            "foreground_iou": float(iou(together(first), together(truths))),
            "foreground_iou_iterated": float(iou(together(output), together(truths))),
        }
    )


def score(*, store: str, boxes: str, passes: str, scores: str) -> None:
    """Write a CSV with one row for each test object (`COLUMNS`), sorted by image and object.

    `iou` is of the deviated box's mask, `iou_iterated` of the iterated one, both at the image's own resolution;
    `iterations` counts repeated predictions and is at least 1, as in the paper's tables. The foreground's IoU is of an
    image's masks together with its objects together, the same for all objects of the image.

    Raises:
        DataError: the passes are of other objects than the test split in `boxes`.
    """
    tiles = Store.open(store)
    objects = read_boxes(boxes).query("split == 'test'")[[*KEYS, "area"]]
    history = pd.read_parquet(passes).sort_values([*KEYS, "pass"])
    strays = objects.set_index(KEYS).index.symmetric_difference(history.set_index(KEYS).index)
    if len(strays):
        raise DataError(f"{passes}: expected the test objects of {boxes}; (image, object) {strays[0]} is not in both")
    rows = pd.concat([score_image(part, tiles, image) for image, part in by_image(history)])
    with atomic(scores) as partial:
        objects.merge(rows, on=KEYS)[COLUMNS].to_csv(partial, index=False, float_format="%.6f")
