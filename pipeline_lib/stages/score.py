"""Stage score: kept masks against the labels, one row for each object."""

import pandas as pd

from pipeline_lib.data.boxes import by_tile, read_objects
from pipeline_lib.data.dataset import Store
from pipeline_lib.data.tables import read_table
from pipeline_lib.errors import DataError
from pipeline_lib.evaluation.scores import COLUMNS, KEYS, score_tile
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.settings.experiment import TestedObjects


def score(*, store: str, boxes: str, iterations: str, scores: str, tested: TestedObjects) -> None:
    """Write a CSV with one row for each object of a split (`COLUMNS`), sorted by tile and object.

    `iou` is of the deviated box's mask, `iou_iterated` of the iterated one, both at the tile's own resolution;
    `iterations` counts repeated predictions and is at least 1, as in the paper's tables. The foreground's IoU is of a
    tile's masks together with its objects together, the same for all objects of the tile.

    Raises:
        DataError: the iterations are of other objects than the split in `boxes`.
    """
    tiles = Store.open(store)
    objects = read_objects(boxes, tested.split, tested.objects)[[*KEYS, "area"]]
    history = read_table(iterations).sort_values([*KEYS, "iteration"])
    strays = objects.set_index(KEYS).index.symmetric_difference(history.set_index(KEYS).index)
    if len(strays):
        raise DataError(
            f"{iterations}: expected the {tested.split} objects of {boxes}; (tile, object) {strays[0]} is not in both"
        )
    rows = pd.concat([score_tile(steps, tiles, tile) for tile, steps in by_tile(history)])
    with atomic(scores) as partial:
        objects.merge(rows, on=KEYS)[COLUMNS].to_csv(partial, index=False, float_format="%.6f")
