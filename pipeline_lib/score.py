"""The stage `score`: kept masks against the labels, one row for each test object."""

from typing import Any

import pandas as pd

from pipeline_lib.atomic import atomic
from pipeline_lib.boxes import by_image, read_boxes
from pipeline_lib.errors import DataError
from pipeline_lib.masks import Mask, from_rle, iou
from pipeline_lib.store import Store

KEYS = ["image", "object"]
COLUMNS = [*KEYS, "area", "iou", "iou_iterated", "iterations"]


def score_object(history: pd.DataFrame, truth: Mask) -> dict[str, Any]:
    """What the passes of one object, in order, amount to."""
    h, w = truth.shape
    first, output = history["mask"].iloc[0], history.loc[history["output"], "mask"].item()
    return {
        "iou": float(iou(from_rle(first, (h, w)), truth)),
        "iou_iterated": float(iou(from_rle(output, (h, w)), truth)),
        "iterations": max(1, len(history) - 1),
    }


def score_image(history: pd.DataFrame, tiles: Store, image: int) -> list[dict[str, Any]]:
    """One record for each object of one image."""
    labels = tiles.objects(image)
    return [
        {"image": image, "object": label, **score_object(passes, labels == label)}
        for label, passes in history.groupby("object")
    ]


def score(*, store: str, boxes: str, passes: str, scores: str) -> None:
    """Write a CSV with one row for each test object (`COLUMNS`), sorted by image and object.

    `iou` is of the deviated box's mask, `iou_iterated` of the iterated one, both at the image's own resolution;
    `iterations` counts repeated predictions and is at least 1, as in the paper's tables.

    Raises:
        DataError: the passes are of other objects than the test split in `boxes`.
    """
    tiles = Store.open(store)
    objects = read_boxes(boxes).query("split == 'test'")[[*KEYS, "area"]]
    history = pd.read_parquet(passes).sort_values([*KEYS, "pass"])
    strays = objects.set_index(KEYS).index.symmetric_difference(history.set_index(KEYS).index)
    if len(strays):
        raise DataError(f"{passes}: expected the test objects of {boxes}; (image, object) {strays[0]} is not in both")
    records = [record for image, part in by_image(history) for record in score_image(part, tiles, image)]
    with atomic(scores) as partial:
        objects.merge(pd.DataFrame(records), on=KEYS)[COLUMNS].to_csv(partial, index=False, float_format="%.6f")
