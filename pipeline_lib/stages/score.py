"""Stage score: compare the masks with the labels, with a row for each object."""

import pandas as pd

from pipeline_lib.data.boxes import by_tile, read_objects
from pipeline_lib.data.dataset import Store
from pipeline_lib.data.tables import read_table
from pipeline_lib.errors import DataError
from pipeline_lib.evaluation.scores import COLUMNS, KEYS, score_tile
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.settings.experiment import TestedObjects


def score(*, store: str, boxes: str, iterations: str, scores: str, tested: TestedObjects) -> None:
    """Write a CSV with one row for each tested object (`COLUMNS`), sorted by tile and object.

    `iou` is that of the first mask, `iou_iterated` that of the iterated one, both at the resolution of the tile.
    `iterations` is the number of repeated predictions, at least 1 as in the paper's tables. The foreground's IoU
    compares all masks of a tile together with all of its objects, so it is equal for all objects of a tile.

    Args:
        store: OME-Zarr store of the data set.
        boxes: CSV of the stage boxes.
        iterations: Parquet file of the stage refine.
        scores: CSV to write.
        tested: which objects are tested.

    Raises:
        DataError: the iterations are not of the tested objects in `boxes`.
    """
    tiles = Store.open(store)
    objects = read_objects(boxes, tested.split, tested.objects)[[*KEYS, "area"]]
    history = read_table(iterations).sort_values([*KEYS, "iteration"])
    unmatched = objects.set_index(KEYS).index.symmetric_difference(history.set_index(KEYS).index)
    if len(unmatched):
        raise DataError(
            f"{iterations}: expected the {tested.split} objects of {boxes}, but (tile, object) {unmatched[0]} is not "
            f"in both; delete {iterations} and run again"
        )
    rows = pd.concat([score_tile(steps, tiles, tile) for tile, steps in by_tile(history)])
    with atomic(scores) as partial:
        objects.merge(rows, on=KEYS)[COLUMNS].to_csv(partial, index=False, float_format="%.6f")
