"""Stage analysis: show which objects gain or lose by iteration, and how fast their masks stop changing."""

from pathlib import Path

import pandas as pd

from pipeline_lib.data.dataset import Store
from pipeline_lib.data.paths import Cell
from pipeline_lib.evaluation.breakdowns import CHANGES, change_lines, describe, exact_boxes, group_lines, worst_lines
from pipeline_lib.evaluation.summary import write_csv
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.settings.experiment import TestedObjects


def analysis(
    *,
    scores: list[str],
    iterations: list[str],
    boxes: list[str],
    stores: list[str],
    groups: str,
    changes: str,
    worst: str,
    tested: TestedObjects,
) -> None:
    """Write tables of scores by group of objects, of change rates by iteration, and of the worst objects.

    Args:
        scores: `…/{dataset}/{model}/{seed}/{level}.csv` of the stage score.
        iterations: `…/{dataset}/{model}/{seed}/{level}.parquet` of the stage refine.
        boxes: `…/{dataset}.csv` of the stage boxes.
        stores: `…/{dataset}.zarr` of the stage convert.
        groups: CSV to write, with a row for each group of objects, over all seeds. Columns: dataset, model, level, by
            (all, size, direction, border), group, objects, box_iou (mean IoU of prompted and exact boxes), miou,
            miou_iterated, gain with its interval, shares of objects that iteration makes worse (`worse`) and whose
            iteration ended at its limit (`capped`), mean_iterations. Sizes are quartiles of the data set's areas in
            pixels. Directions compare prompted boxes, cut at the tile's border, with exact ones. Border objects touch
            the border of their tile.
        changes: CSV to write. Columns: dataset, model, level, iteration, objects (with this iteration), quartiles of
            their change rate.
        worst: CSV to write. For each data set and model at its highest level, the objects with the lowest iterated IoU
            (mean over seeds), with their slice and the centre of their box.
        tested: which objects are tested.
    """
    exact = {
        Path(path).stem: exact_boxes(path, tested, Store.open(store)) for path, store in zip(boxes, stores, strict=True)
    }
    cells = [
        describe(score, history, exact[Cell.of(score).dataset])
        for score, history in zip(scores, iterations, strict=True)
    ]
    objects = pd.concat(cells, ignore_index=True)
    for path, lines, columns in (
        (groups, group_lines(objects), None),
        (changes, change_lines(iterations), CHANGES),  # there are no lines if no object has an iteration
        (worst, worst_lines(objects), None),
    ):
        with atomic(path) as partial:
            write_csv(lines, partial, columns)
